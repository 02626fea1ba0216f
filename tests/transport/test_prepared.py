"""A socket is set up only when it is used for more than the send that ends its connection."""

from __future__ import annotations

import os
import socket
from typing import Any
from unittest import mock

from twisted.python.failure import Failure

from tests.shells import is_open, received
from tests.transport.cases import ConnectionCase, Inner, inner
from txsticky.transport.movable import DONE


def bye(protocol: Inner, data: bytes) -> None:
    """Answer, and close."""
    protocol.transport.setTcpNoDelay(True)
    protocol.transport.write(data)
    protocol.transport.loseConnection()


class PreparedTests(ConnectionCase):
    """When the socket of a TCP connection gets its settings."""

    def connected(self) -> tuple[socket.socket, socket.socket]:
        """A connection as accept(2) returns it: it blocks."""
        server, client = super().connected()
        server.setblocking(True)
        return server, client

    def settings(self, sock: Any) -> tuple[bool, bool]:
        """Whether a socket blocks, and whether it delays what is sent."""
        delays = not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        return bool(os.get_blocking(sock.fileno())), delays

    def short(self, data: bytes) -> tuple[bool, bool]:
        """Adopt a connection that ends with the answer to its first bytes; how its socket was."""
        server, client = self.connected()
        copy = self.owned(socket.socket(fileno=os.dup(server.fileno())))
        self.adopt(inner(on_data=bye), data, server, client)
        return self.settings(copy)

    def test_short(self) -> None:
        """A connection that ends with the answer to its first bytes needs no settings."""
        self.assertEqual(self.short(b"hello"), (True, True))
        self.assertEqual((received(self.client), len(self.protocol.lost)), (b"hello", 1))

    def test_short_and_large(self) -> None:
        """A short connection is set up if the kernel does not take its whole answer at once."""
        data = os.urandom(8_000_000)
        self.assertEqual(self.short(data), (False, False))
        self.client.settimeout(60)
        came = b""
        while len(came) < len(data):
            self.reactor.iterate(0)
            came += self.client.recv(1 << 20)
        self.assertTrue(came == data)
        self.until(lambda: self.protocol.lost)

    def test_one_that_stays(self) -> None:
        """A connection that is watched is set up as its protocol wants."""
        self.adopt(inner(on_made=lambda self: self.transport.setTcpNoDelay(True)))
        self.assertEqual(self.settings(self.transport.socket), (False, False))

    def test_nothing_wanted(self) -> None:
        """What no protocol wanted is not set."""
        self.adopt()
        self.assertEqual(self.settings(self.transport.socket), (False, True))

    def test_one_that_pauses(self) -> None:
        """A connection that is not read is set up when it is written to."""
        self.adopt(inner(on_made=lambda self: self.transport.stopReading()))
        self.assertEqual(self.settings(self.transport.socket), (True, True))
        self.transport.setTcpNoDelay(True)
        self.transport.write(b"x")
        self.assertEqual(self.settings(self.transport.socket), (False, False))

    def test_one_that_is_taken_away(self) -> None:
        """A socket that is taken away is set up."""
        taken: list[socket.socket] = []

        def take(protocol: Inner, data: bytes) -> None:
            protocol.transport.setTcpNoDelay(True)
            taken.append(protocol.transport.detach()[0])

        self.adopt(inner(on_data=take), b"hello")
        self.assertEqual(self.settings(self.owned(taken[0])), (False, False))

    def test_one_that_is_asked_for(self) -> None:
        """A socket that the application asks for is set up."""
        asked: list[bool] = []

        def ask(protocol: Inner) -> None:
            protocol.transport.setTcpNoDelay(True)
            asked.append(protocol.transport.getTcpNoDelay())
            asked.append(os.get_blocking(protocol.transport.getHandle().fileno()))

        self.adopt(inner(on_made=ask))
        self.assertEqual(asked, [True, False])


class LostUnwatchedTests(ConnectionCase):
    """A connection that ends before the reactor has heard of it."""

    def test_end(self) -> None:
        """The protocol is told once, and nothing of the connection is left."""
        server, client = self.connected()
        number = server.fileno()
        transport = self.adopt(inner(on_data=bye), b"hello", server, client)
        self.assertEqual((len(self.protocol.lost), transport.closings), (1, 1))
        self.assertFalse(is_open(number))
        self.assertEqual((transport.connected, transport.disconnected), (0, 1))
        for call in (transport.loseConnection, transport.abortConnection, transport.doRead):
            call()
        transport.write(b"lost")
        transport.connectionLost(Failure(OSError()))
        self.run_a_bit()
        self.assertEqual((len(self.protocol.lost), transport.closings), (1, 1))

    def test_end_again(self) -> None:
        """A connection that has ended by itself can be ended again, and nothing happens."""
        transport = self.adopt(inner(on_data=bye), b"hello")
        transport.connectionLost(DONE)
        self.assertEqual((len(self.protocol.lost), transport.closings), (1, 1))

    def test_watched(self) -> None:
        """A connection that the reactor watches is watched no more when it has ended."""
        reading = self.adopt()
        reading.connectionLost(DONE)
        writing = self.adopt()
        writing.stopReading()
        writing.startWriting()
        writing.connectionLost(DONE)
        self.assertNotIn(reading, self.reactor.getReaders())
        self.assertNotIn(writing, self.reactor.getWriters())

    def test_producer(self) -> None:
        """A producer is stopped when its connection has ended."""
        producer = mock.Mock()

        def answer(protocol: Inner, data: bytes) -> None:
            protocol.transport.registerProducer(producer, True)
            bye(protocol, data)

        transport = self.adopt(inner(on_data=answer), b"hello")
        self.assertFalse(transport.connected)
        self.assertEqual(producer.mock_calls, [mock.call.stopProducing()])

    def test_end_for_all(self) -> None:
        """A connection ends too where a process that the application has forked has a copy."""
        server, client = self.connected()
        self.owned(socket.socket(fileno=os.dup(server.fileno())))
        self.adopt(inner(on_data=bye), b"hello", server, client)
        client.settimeout(60)
        self.assertEqual((client.recv(100), client.recv(100)), (b"hello", b""))

    def test_reset(self) -> None:
        """A client that has reset its connection is one that is lost."""
        server, client = self.connected()
        self.reset_by(client)
        self.adopt(inner(on_data=bye), b"hello", server, client)
        self.until(lambda: self.protocol.lost)

    def test_log(self) -> None:
        """The log has one name for it before and after its end."""
        transport = self.adopt()
        self.assertEqual(transport.logPrefix(), "Inner,1,192.0.2.7")
        transport.connectionLost(Failure(OSError()))
        self.assertEqual(transport.logPrefix(), "Inner,1,192.0.2.7")
        self.assertIn("#1 from 192.0.2.7", repr(transport))
