"""What a transport was given to send and has not sent, and what a gate does with output."""

from __future__ import annotations

import gc
import weakref
from unittest import mock

from tests.core.http.websocket.test_handshake import request, response
from tests.transport.cases import OK, ConnectionCase, GateCase, to
from tests.transport.websockets.test_moves import ASKED, REPLY, RESTART, MovesCase
from txsticky.core.replay import Replay


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


class UpgradeTests(MovesCase):
    """Output around the handshake of a WebSocket that may move."""

    def moved(self) -> None:
        """Have a WebSocket move here whose handshake is not answered yet."""
        self.gate.exchange.replay = Replay(head=request().raw, moves=1)
        self.arrive(request().raw)

    def test_followed(self) -> None:
        """The response passes without the word of the application, and then its messages pass."""
        self.open()
        self.write(REPLY)
        self.assertEqual(self.host.sent, response() + REPLY)

    def test_closed(self) -> None:
        """A client whose WebSocket has moved here in vain is told to come anew."""
        self.moved()
        self.close()
        self.assertEqual((self.host.sent, self.host.lost), (RESTART, True))

    def test_aborted(self) -> None:
        """Nothing is written to a connection that is being aborted."""
        self.moved()
        self.host.closing = True
        self.assertTrue(self.gate.may_close())
        self.assertEqual(self.host.sent, b"")

    def test_closed_first(self) -> None:
        """A WebSocket that did not move has no frame before its response."""
        self.arrive(request().raw)
        self.close()
        self.assertEqual(self.host.sent, b"")
        self.make()
        self.open(ASKED)
        self.close()
        self.assertEqual(self.host.sent, response())


class GateOutputTests(GateCase):
    """What a gate does with output."""

    def test_last_request(self) -> None:
        """Behind what a client calls its last request nothing is done but by the protocol."""
        self.arrive(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.write(OK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stalled_while_closing(self) -> None:
        """A client that pauses while its connection is closed is told nothing more."""
        self.arrive(to(1, 1, b"body")[:-1])
        self.host.buffered = 10
        self.close()
        self.gate.stalled(b"answer")
        self.assertEqual((self.host.sent, self.host.lost), (b"", True))

    def test_let_go(self) -> None:
        """A gate whose client had closed its side keeps no transport alive behind the end."""
        self.arrive(to(1))
        self.end()
        kept, host = self.gate, weakref.ref(self.host)
        gc.disable()
        self.addCleanup(gc.enable)
        self.host.end()
        del self.host
        self.assertIsNone(host())
        self.assertFalse(kept.host.live())
