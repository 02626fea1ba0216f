"""The transport of a protocol over TLS, on a connection that is played."""

from __future__ import annotations

from unittest import mock

from twisted.internet.interfaces import ISSLTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txsticky.core.http.conversation import Conversation
from txsticky.tls.transport import SecureTransport
from txsticky.transport.nowhere import NOWHERE


class TransportTests(SynchronousTestCase):
    """The transport, as the protocol asks it."""

    def setUp(self) -> None:
        self.connection = mock.Mock(draining=False)
        self.connection.bindings.unconfirmed = 0
        self.layer = mock.Mock()
        self.outer = self.layer.transport
        self.transport = SecureTransport(self.connection, self.layer, Conversation(), "192.0.2.7")

    def test_client(self) -> None:
        """The gate of a transport knows the client's address, and that the connection is secure."""
        gate = self.transport.gate
        self.assertEqual((gate.client, gate.secure), ("192.0.2.7", True))

    def test_interface(self) -> None:
        """The protocol finds on it what it finds on Twisted's own transport for TLS."""
        verifyObject(ISSLTransport, self.transport, tentative=True)
        self.transport.setTcpKeepAlive(True)
        self.outer.setTcpKeepAlive.assert_called_once_with(True)
        self.outer.getTcpKeepAlive.return_value = 1
        self.assertEqual((self.transport.getTcpKeepAlive(), self.transport.getTcpNoDelay()), (1, 1))

    def test_write_sequence(self) -> None:
        """Pieces are written as one, with nothing between."""
        self.transport.writeSequence([b"a", b"b"])
        self.layer.write.assert_called_once_with(b"ab")

    def test_unsent(self) -> None:
        """What is unsent is what the connection has not sent."""
        self.outer.unsent.return_value = 42
        self.assertEqual(self.transport.unsent(), 42)

    def test_severed(self) -> None:
        """A client is gone if the kernel says so of its connection."""
        for gone in (True, False):
            self.outer.severed.return_value = gone
            self.assertIs(self.transport.severed(), gone)

    def test_settled(self) -> None:
        """No message keeps a WebSocket here, for none moves."""
        self.assertIs(self.transport.settled(1), True)

    def test_later(self) -> None:
        """What is to be called later may be cancelled."""
        call = self.transport.later(5, mock.Mock())
        self.assertIs(call, self.outer.reactor.callLater.return_value)

    def test_lost(self) -> None:
        """A transport lets a connection go that is lost, so that its memory is free."""
        self.transport.lost(None)
        self.assertIsNone(self.transport._connection)

    def test_unregister_once(self) -> None:
        """A producer is unregistered once, however often it ends."""
        self.transport.registerProducer(mock.Mock(), True)
        self.transport.unregisterProducer()
        self.transport.unregisterProducer()
        self.layer.unregisterProducer.assert_called_once_with()

    def test_unfinished(self) -> None:
        """A response without an end of its own is complete if its sender has closed."""
        conversation = self.transport.gate.exchange
        conversation.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        conversation.next()
        conversation.keep()
        conversation.next()
        conversation.wrote(b"HTTP/1.1 200 OK\r\n\r\nsome")
        self.assertTrue(self.transport.unfinished(cleanly=False))
        self.assertFalse(self.transport.unfinished(cleanly=True))

    def test_hang_up(self) -> None:
        """A producer is waited for only while its response is open and may come to its end."""
        for begun, last, unregistered in ((0, 0, True), (1, 0, False), (1, 1, True), (0, 1, True)):
            self.setUp()
            self.connection.last = bool(last)
            if begun:
                self.transport.gate.exchange.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                self.transport.gate.exchange.next()
                self.transport.gate.exchange.keep()
            self.transport.registerProducer(mock.Mock(), False)
            self.transport.hang_up()
            self.assertEqual(self.layer.unregisterProducer.called, unregistered, (begun, last))
            self.connection.hang_up.assert_called_once_with()

    def test_end(self) -> None:
        """When nothing more is served, the gate lets go."""
        self.transport.protocol = mock.Mock()
        gate = self.transport.gate
        self.transport.end()
        self.assertIs(gate.host, NOWHERE)
