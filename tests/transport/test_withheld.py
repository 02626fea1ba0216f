"""Responses that wait until a binding is known everywhere."""

from __future__ import annotations

import weakref
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.transport.cases import OK, SWITCHING, UPGRADE, GateCase, to
from txsticky.transport.withheld import hold_producer


class ConfirmTests(GateCase):
    """Responses wait until what was bound before them is known everywhere."""

    def bind(self, data: bytes = b"") -> None:
        """Have the application bind a key."""
        self.policy.unconfirmed += 1

    def test_withheld(self) -> None:
        """A response that is written behind a binding leaves when that is confirmed, whole."""
        self.arrive(to(1))
        self.bind()
        self.answer(OK[:10])
        self.answer(OK[10:])
        self.assertEqual(self.host.sent, b"")
        self.policy.confirm()
        self.assertEqual(self.host.sent, OK)

    def test_size(self) -> None:
        """How much waits is told with each piece, and that nothing does once all is sent."""
        self.arrive(to(1))
        self.bind()
        self.answer(OK[:10])
        self.answer(OK[10:])
        self.assertEqual((self.host.withheld, self.gate.withheld), ([10, len(OK)], len(OK)))
        self.policy.confirm()
        self.assertEqual((self.host.withheld[2:], self.gate.withheld), ([0], 0))

    def test_over(self) -> None:
        """A connection that is over is not kept in memory by a binding that is not confirmed."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.close()
        self.gate.closed()
        host = weakref.ref(self.host)
        del self.host
        self.assertIsNone(host())

    def test_written_before(self) -> None:
        """What was written before the binding has left."""
        self.arrive(to(1))
        self.answer(OK[:10])
        self.bind()
        self.answer(OK[10:])
        self.assertEqual(self.host.sent, OK[:10])
        self.policy.confirm()
        self.assertEqual(self.host.sent, OK)

    def test_several(self) -> None:
        """A response waits for all bindings made before it."""
        self.arrive(to(1))
        self.bind()
        self.answer(OK[:10])
        self.bind()
        self.policy.confirm()
        self.answer(OK[10:])
        self.assertEqual(self.host.sent, b"")
        self.policy.confirm()
        self.assertEqual(self.host.sent, OK)

    def test_afterwards(self) -> None:
        """Once all is confirmed output passes as it comes."""
        self.arrive(to(1))
        self.bind()
        self.answer(OK[:10])
        self.policy.confirm()
        self.answer(OK[10:20])
        self.assertEqual(self.host.sent, OK[:20])

    def test_of_another_connection(self) -> None:
        """A binding made on another connection holds this one back as well."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.assertEqual(self.host.sent, b"")

    def test_tunnel(self) -> None:
        """A WebSocket's output waits for a binding as well."""
        self.arrive(UPGRADE)
        self.answer(SWITCHING)
        self.bind()
        self.answer(b"frame")
        self.assertEqual(self.host.sent, SWITCHING)
        self.policy.confirm()
        self.assertEqual(self.host.sent, SWITCHING + b"frame")

    def test_close(self) -> None:
        """A protocol that closes behind a withheld response is closed once that is sent."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.close()
        self.assertEqual((self.host.closing, self.host.reading), (False, False))
        self.policy.confirm()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_close_with_more_held(self) -> None:
        """A protocol that has closed behind a withheld response gets no further request."""
        self.arrive(to(1, 1) + to(1, 2))
        self.bind()
        self.answer()
        self.host.delivered = []
        self.make()
        self.host.react = lambda data: (self.bind(), self.write(OK), self.close())
        self.arrive(to(1, 1) + to(1, 2))
        self.assertEqual(self.got, to(1, 1))
        self.policy.confirm()
        self.clock.advance(10)
        self.assertEqual((self.got, self.host.sent), (to(1, 1), OK))

    def test_not_read_again(self) -> None:
        """A protocol that has closed is not read again, though its turn to get more had come."""
        self.arrive(to(1, 1) + to(1, 2))
        self.bind()
        self.write(OK)
        self.close()
        self.turn()
        self.assertEqual((self.got, self.host.reading), (to(1, 1), False))

    def test_half_close(self) -> None:
        """A client that has closed its side still gets a withheld response."""
        self.arrive(to(1))
        self.end()
        self.bind()
        self.answer()
        self.assertFalse(self.host.lost)
        self.policy.confirm()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_half_close_afterwards(self) -> None:
        """A client that closes its side while a response is withheld still gets it."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.assertFalse(self.end())
        self.policy.confirm()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_lost(self) -> None:
        """If the connection is lost while a response is withheld, nothing more happens."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.host.end()
        self.policy.confirm()
        self.assertEqual(self.host.sent, b"")

    def test_leaves_afterwards(self) -> None:
        """A connection whose next request is foreign leaves when the withheld response is sent."""
        self.arrive(to(1, 1) + to(3, 2))
        self.bind()
        self.answer()
        self.assertIsNone(self.host.departed)
        self.policy.confirm()
        self.assertEqual((self.host.sent, self.host.departed), (OK, (3, to(3, 2))))

    def test_drained_afterwards(self) -> None:
        """A connection of a worker that leaves is given away when the response is sent."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.policy.draining = True
        self.assertTrue(self.gate.drain())
        self.assertIsNone(self.host.departed)
        self.policy.confirm()
        self.assertEqual((self.host.sent, self.host.departed), (OK, (0, b"")))

    def test_nothing_is_read_until_it_leaves(self) -> None:
        """While a connection waits to leave nothing is read: no request can begin then."""
        self.arrive(to(1))
        self.bind()
        self.policy.draining = True
        self.answer()
        self.assertFalse(self.host.reading)
        self.gate.resume()
        self.assertFalse(self.host.reading)
        self.policy.confirm()
        self.assertEqual(self.host.departed, (0, b""))

    def test_lost_before_it_leaves(self) -> None:
        """If the connection is lost while a response is withheld, it does not leave."""
        self.arrive(to(1, 1) + to(3, 2))
        self.bind()
        self.answer()
        self.host.end()
        self.policy.confirm()
        self.assertEqual((self.host.sent, self.host.departed), (b"", None))


class ProducerTests(SynchronousTestCase):
    """What a transport of Twisted's does with its producer."""

    def hold(self, size: int, **attributes: object) -> mock.Mock:
        """A transport with a buffer of ten bytes, in whose gate so many are withheld."""
        transport = mock.Mock(bufferSize=10, streamingProducer=True, producerPaused=False)
        transport.configure_mock(**attributes)
        hold_producer(transport, size)
        return transport

    def test_paused(self) -> None:
        """More than the buffer holds pauses a producer that pushes; Twisted is to resume it."""
        transport = self.hold(11)
        self.assertEqual(transport.producer.mock_calls, [mock.call.pauseProducing()])
        self.assertIs(transport.producerPaused, True)

    def test_not_paused(self) -> None:
        """As much as the buffer holds, and a producer that waits to be asked, need no pause."""
        for transport in (self.hold(10), self.hold(11, streamingProducer=False)):
            self.assertEqual(transport.producer.mock_calls, [])
            self.assertIs(transport.producerPaused, False)

    def test_none(self) -> None:
        """A transport without a producer has none to pause."""
        self.assertIs(self.hold(11, producer=None).producerPaused, False)
