"""What comes to a gate from outside while something else is under way."""

from __future__ import annotations

from unittest import mock

from tests.transport.cases import GET, OK, SWITCHING, UPGRADE, GateCase, to
from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.steps import known
from txsticky.transport.nowhere import NOWHERE

ANSWER = b"HTTP/1.1 408 Request Timeout\r\n\r\n"


class KnownCase(GateCase):
    """A known request may come."""

    def know(self) -> None:
        """Know a request, and answer the first request."""
        head = parse_head(GET, 65536)
        assert isinstance(head, Head)
        memo = known(head, self.host.how)
        assert memo is not None
        self.policy.known[GET] = memo
        self.arrive(to(1))
        self.answer()
        self.host.delivered = []


class KnownTests(KnownCase):
    """A known request is delivered."""

    def test_more_comes_meanwhile(self) -> None:
        """What comes while a known request is delivered follows it."""
        self.know()

        def react(data: bytes) -> None:
            if data == GET:
                self.gate.arrived(to(1, 7))
                self.write(OK)

        self.host.react = react
        self.arrive(GET)
        self.assertEqual(self.host.delivered, [GET, to(1, 7)])

    def test_answered_while_it_is_delivered(self) -> None:
        """The connection of a known request leaves in the same turn if the worker does."""
        self.know()
        self.host.react = lambda data: self.write(OK)
        self.policy.draining = True
        self.host.buffered = 1000
        self.gate.arrived(GET)
        self.assertEqual((self.gate.leaving, self.clock.getDelayedCalls()), (True, []))

    def test_counted(self) -> None:
        """All bytes that come are counted, except those of a known request."""
        self.know()
        self.arrive(GET)
        self.answer()
        self.assertEqual(self.gate.come, len(to(1)))
        self.arrive(to(1)[:5])
        self.arrive(to(1)[5:])
        self.assertEqual(self.gate.come, 2 * len(to(1)))


class PausedTests(KnownCase):
    """The protocol inside wants no more input."""

    def test_known_request(self) -> None:
        """A known request that was read already waits until the protocol goes on."""
        self.know()
        self.gate.pause()
        self.gate.arrived(GET)
        self.assertEqual(self.got, b"")
        self.gate.resume()
        self.turn()
        self.assertEqual(self.got, GET)

    def test_reads(self) -> None:
        """The client's bytes are read, unless the protocol has paused or closes."""
        seen = [self.gate.reads]
        for change in (self.gate.pause, self.gate.resume, self.gate.may_close):
            change()
            seen.append(self.gate.reads)
        self.assertEqual(seen, [True, False, True, False])


class ClientEndsTests(GateCase):
    """The client closes its sending side."""

    def test_tunnel(self) -> None:
        """A tunnel owes no response: with its client's side it is over."""
        self.arrive(UPGRADE)
        self.answer(SWITCHING)
        self.assertTrue(self.end())

    def test_while_closing(self) -> None:
        """A connection that is being closed is not closed once more."""
        self.arrive(to(1))
        self.host.buffered = 1000
        self.answer()
        with mock.patch.object(self.host, "hang_up", wraps=self.host.hang_up) as hang_up:
            self.close()
            self.assertIs(self.gate.ended(), False)
        self.assertEqual(hang_up.call_count, 1)

    def test_grace(self) -> None:
        """A response that does not come is awaited for 3 s from a client that cannot be asked."""
        self.arrive(b"GET / HTTP/1.0\r\n\r\n")
        self.assertFalse(self.end())
        self.clock.pump([0.25] * 11)
        self.assertFalse(self.host.lost)
        self.clock.advance(0.25)
        self.assertTrue(self.host.lost)


class LeavingTests(GateCase):
    """The connection goes elsewhere."""

    def test_not_read(self) -> None:
        """A client whose bytes were left in the kernel is not read while its connection leaves."""
        self.make(hold_limit=100)
        self.arrive(to(1))
        self.gate.arrived(to(1, 1) + to(1, 2) + to(1, 3))
        self.assertFalse(self.host.reading)
        self.host.react = lambda data: self.write(OK)
        self.policy.draining = True
        self.host.buffered = 1000
        self.answer()
        self.assertEqual((self.gate.leaving, self.host.reading), (True, False))

    def test_read_already(self) -> None:
        """What was read already goes with the connection, and is not delivered here."""
        self.arrive(to(1))
        self.host.buffered = 1000
        self.answer()
        self.assertTrue(self.gate.drain())
        self.gate.arrived(to(1, 7))
        self.host.drained()
        self.assertEqual((self.got, self.host.departed), (to(1), (0, to(1, 7))))

    def test_drained_when_lost(self) -> None:
        """A connection that is lost is not given away."""
        self.arrive(to(1))
        self.answer()
        self.host.closing = True
        self.assertEqual((self.gate.drain(), self.gate.leaving), (False, False))

    def test_closes_meanwhile(self) -> None:
        """A connection that its protocol closes is closed, even if its last output has to wait."""
        self.arrive(to(1))
        self.host.buffered = 1000
        self.answer()
        self.arrive(to(3))
        self.policy.unconfirmed = 1
        self.write(b"unasked")
        self.close()
        self.host.drained()
        self.assertIsNone(self.host.departed)
        self.policy.confirm()
        self.assertTrue(self.host.lost)


class StalledTests(GateCase):
    """The client has paused for too long."""

    BODY = to(1, 1, b"x" * 50)[:-10]

    def test_told(self) -> None:
        """A client that stalls in a request is told, read no more, and given 1 s for the answer."""
        self.arrive(self.BODY)
        self.gate.stalled(ANSWER)
        self.assertEqual((self.host.sent, self.host.reading), (ANSWER, False))
        self.assertFalse(self.gate.reads)
        self.clock.advance(0.75)
        self.assertFalse(self.host.lost)
        self.clock.advance(0.25)
        self.assertTrue(self.host.lost)

    def test_read_already(self) -> None:
        """What was read of a stalled request already is not delivered any more."""
        self.arrive(self.BODY)
        self.gate.stalled(ANSWER)
        self.gate.arrived(b"more")
        self.assertEqual(self.got, self.BODY)

    def test_answered(self) -> None:
        """If the response has begun, nothing is added to it, and the connection is lost at once."""
        self.arrive(self.BODY)
        self.answer(OK[:-1])
        self.gate.stalled(ANSWER)
        self.assertEqual((self.host.sent, self.host.lost), (OK[:-1], True))

    def test_between_requests(self) -> None:
        """A stalled client whose request is here is lost at once."""
        self.arrive(GET)
        self.gate.stalled(ANSWER)
        self.assertEqual((self.host.sent, self.host.lost), (b"", True))

    def test_withheld(self) -> None:
        """A client is not told behind a response that has to wait."""
        self.arrive(self.BODY)
        self.policy.unconfirmed = 1
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.gate.stalled(ANSWER)
        self.assertEqual((self.host.sent, self.host.lost), (b"", True))

    def test_half_closed(self) -> None:
        """A stalled client that was being looked at is looked at no more."""
        self.arrive(self.BODY)
        self.gate.pause()
        self.gate.arrived(b"held")
        self.assertIs(self.gate.ended(), False)
        self.gate.stalled(ANSWER)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.assertEqual((self.host.lost, self.clock.getDelayedCalls()), (True, []))


class WithheldTests(GateCase):
    """A response waits for a binding."""

    def test_order(self) -> None:
        """What is written between confirmation and release of a response follows the response."""
        self.arrive(GET)
        self.policy.unconfirmed = 1
        self.write(OK[:10])
        self.policy.unconfirmed = 0
        self.write(OK[10:])
        self.assertEqual(self.host.sent, b"")
        self.policy.unconfirmed = 1
        self.policy.confirm()
        self.assertEqual(self.host.sent, OK)


class OverTests(GateCase):
    """The connection is over."""

    def test_let_go(self) -> None:
        """A gate that is over lets go of host and policy, which only the collector would free."""
        self.host.end()
        self.assertEqual((self.gate.host, self.gate.policy), (NOWHERE, NOWHERE))
