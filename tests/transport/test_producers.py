"""A gated transport and the producers, pauses and ends of the protocol in it."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.shells import ended, received
from tests.transport.cases import GET, OK, Inner
from tests.transport.test_gated import TransportCase
from txsticky.transport.gated import SentFile
from txsticky.transport.nowhere import NOWHERE


@implementer(IPushProducer)
class Producer:
    """Produces nothing."""

    def pauseProducing(self) -> None:
        """Pause."""

    def resumeProducing(self) -> None:
        """Go on."""

    def stopProducing(self) -> None:
        """Stop."""


class ProducerCase(TransportCase):
    """A protocol that keeps what it gets."""

    def connect(self, prefix: bytes = b"", protocol: type[Protocol] = Inner) -> None:
        """Connect the protocol."""
        self.transport = self.serve(Factory.forProtocol(protocol), prefix)
        self.protocol = self.transport.protocol


class ProducerTests(ProducerCase):
    """Which producers keep the connection open."""

    def closes(self, streaming: bool) -> bool:
        """Whether the connection is closed although a producer is registered that was paused."""
        self.transport.registerProducer(Producer(), streaming)
        self.transport.producerPaused = True
        self.transport.loseConnection()
        self.reactor.settle()
        return not self.transport.connected

    def test_keeps_pace(self) -> None:
        """A producer that was there before the first request does not keep the connection open."""
        self.connect()
        self.assertTrue(self.closes(True))

    def test_response(self) -> None:
        """A producer that was registered for a response keeps the connection open."""
        self.connect(GET)
        self.assertFalse(self.closes(True))

    def test_pulled(self) -> None:
        """A producer that is pulled keeps the connection open."""
        self.connect()
        self.assertFalse(self.closes(False))


class PauseTests(ProducerCase):
    """The protocol pauses, and goes on."""

    def test_paused(self) -> None:
        """The gate knows of the pause, and what the client sends waits in the kernel meanwhile."""
        self.connect(GET)
        self.transport.write(OK)
        self.transport.pauseProducing()
        self.assertFalse(self.transport.gate.reads)
        self.client.sendall(GET)
        self.reactor.settle()
        self.assertEqual(self.protocol.data, GET)
        self.transport.resumeProducing()
        self.assertTrue(self.transport.gate.reads)
        self.until(lambda: self.protocol.data == 2 * GET)

    def test_stopped_and_started(self) -> None:
        """The gate has the client read again after it had it not read."""
        self.connect()
        self.transport.stop_reading()
        self.client.sendall(GET)
        self.reactor.settle()
        self.assertEqual(self.protocol.data, b"")
        self.transport.start_reading()
        self.until(lambda: self.protocol.data == GET)


class EndTests(ProducerCase):
    """The connection is over."""

    def test_gate_is_told(self) -> None:
        """The gate lets go of a connection that its client has left."""
        self.connect(GET)
        self.transport.write(OK)
        gate = self.transport.gate
        self.client.close()
        self.until(lambda: bool(self.kept.closings))
        self.assertIs(gate.host, NOWHERE)

    def test_dismissed(self) -> None:
        """A connection that is dismissed is closed, and its protocol told."""
        self.connect(GET)
        self.transport.write(b"last words")
        self.transport.doWrite()
        self.transport.dismiss()
        self.assertEqual((len(self.protocol.lost), self.transport.connected), (1, 0))
        self.until(lambda: received(self.client) == b"last words")

    def test_half_closed(self) -> None:
        """The client hears that nothing follows, and is read on, though a producer has paused."""
        self.connect()
        self.transport.registerProducer(Producer(), True)
        self.transport.producerPaused = True
        self.transport.half_close()
        self.until(lambda: ended(self.client))
        self.assertEqual((self.transport.producer, self.transport.connected), (None, 1))

    def test_asked_afterwards(self) -> None:
        """For what is to be sent when the connection is lost the reactor watches nothing."""
        self.connect(GET)
        self.transport.connectionLost(Failure(ConnectionDone()))
        part = SentFile(0, 0, 10, self.fail, self.fail)
        self.transport.together(lambda: self.transport.send_file(part))
        self.assertEqual(self.reactor.getWriters(), [])

    def test_later(self) -> None:
        """What is to be called later can be called off."""
        self.connect()
        called: list[int] = []
        self.transport.later(0, lambda: called.append(1)).cancel()
        self.transport.later(0, lambda: called.append(2))
        self.until(lambda: bool(called))
        self.assertEqual(called, [2])
