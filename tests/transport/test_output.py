"""What a transport was given to send, and has not sent."""

from __future__ import annotations

from unittest import mock

from tests.transport.cases import ConnectionCase


class UnsentTests(ConnectionCase):
    """How many bytes are unsent."""

    def test_just_written(self) -> None:
        """All that was written since the reactor last sent counts."""
        transport = self.adopt()
        transport.write(b"hello")
        transport.write(b"you")
        self.assertEqual(transport.unsent(), 8)


class DetachTests(ConnectionCase):
    """A connection is taken away from a transport that was to send."""

    def test_lets_go(self) -> None:
        """The reactor watches the transport for nothing, and the protocol's producer is let go."""
        transport = self.adopt()
        transport.registerProducer(object(), True)
        transport.write(b"hello")
        transport.doWrite()
        transport.startWriting()
        self.assertIn(transport, self.reactor.getWriters())
        sock, _ = transport.detach()
        self.addCleanup(sock.close)
        self.assertNotIn(transport, self.reactor.getWriters() + self.reactor.getReaders())
        self.assertIsNone(transport.producer)

    def test_protocol(self) -> None:
        """What still holds the transport does not keep the protocol alive."""
        transport = self.adopt()
        sock, _ = transport.detach()
        self.addCleanup(sock.close)
        self.assertIsNone(transport.protocol)


class WriterTests(ConnectionCase):
    """What the reactor is asked for."""

    def test_removed_once(self) -> None:
        """A transport that the reactor does not watch any more is not removed again."""
        transport = self.adopt()
        transport.startWriting()
        transport.stopWriting()
        with mock.patch.object(self.reactor, "removeWriter") as removed:
            transport.stopWriting()
        self.assertEqual(removed.mock_calls, [])
