"""Connections that are taken away and adopted, on real sockets and real reactors."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import abstract, error, main, tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory
from zope.interface import implementer

from tests.shells import ReactorCase, ended, is_open, received
from txsticky.system.descriptors import open_socket
from txsticky.transport.movable import (
    MovableServer,
    MovableUNIXServer,
    adopt,
    allow_heads,
    begin,
    peer_address,
    spare,
)

PEER = ("192.0.2.7", 50000)


class Inner(Protocol):
    """
    Records what it is told.

    :ivar on_made: called with the protocol when it is connected.
    :ivar on_data: called with the protocol and each piece.
    """

    on_made: Callable[[Inner], object] = lambda self: None
    on_data: Callable[[Inner, bytes], object] = lambda self, data: None

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.lost: list[type] = []

    @property
    def data(self) -> bytes:
        """All that has come."""
        return b"".join(self.pieces)

    def connectionMade(self) -> None:
        type(self).on_made(self)

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        type(self).on_data(self, data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost.append(reason.type)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Inner):
    """One that goes on when the client has closed its side."""

    half = False

    def readConnectionLost(self) -> None:
        """The client sends no more."""
        self.half = True

    def writeConnectionLost(self) -> None:
        """Our side is closed."""


def inner(
    on_made: Callable[[Inner], object] = lambda self: None,
    on_data: Callable[[Inner, bytes], object] = lambda self, data: None,
    base: type[Inner] = Inner,
) -> type[Inner]:
    """A class of protocols that do something."""
    return type("Doing", (base,), {"on_made": on_made, "on_data": on_data})


class RecordingServer(MovableServer):
    """Counts how often it was closed."""

    closings = 0

    def closed(self) -> None:
        self.closings += 1


class ConnectionCase(ReactorCase):
    """An adopted connection and its client."""

    def run_a_bit(self) -> None:
        """Run the reactor long enough for whatever is under way on this machine to happen."""
        for _ in range(5):
            self.reactor.iterate(0)

    def adopt(
        self,
        protocol: type[Inner] = Inner,
        prefix: bytes = b"",
        server: socket.socket | None = None,
        client: socket.socket | None = None,
    ) -> Any:
        """Adopt a connection, or the given one; sets protocol, transport, and client."""
        if server is None:
            server, client = self.connected()
        self.client = client
        self.transport = adopt(
            self.reactor, server, PEER, Factory.forProtocol(protocol), RecordingServer, 1
        )
        self.protocol = self.transport.protocol
        begin(self.transport, prefix)
        return self.transport

    def registered(self) -> set[int]:
        """The descriptors that the kernel watches for the reactor (proc(5), fdinfo)."""
        with open(f"/proc/self/fdinfo/{self.reactor._poller.fileno()}") as info:
            return {int(line.split()[1]) for line in info if line.startswith("tfd:")}

    def events(self) -> list[Any]:
        """What the kernel has to tell the reactor."""
        return list(self.reactor._poller.poll(0))

    def reset_by(self, client: socket.socket) -> None:
        """Have a client reset its connection."""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


class DetachTests(ConnectionCase):
    """A connection is taken away."""

    def detach(self, **options: Any) -> socket.socket:
        """Adopt a connection and take it away again."""
        sock, unread = self.adopt(**options).detach()
        self.assertEqual(unread, b"")
        return self.owned(sock)

    def test_another_holder(self) -> None:
        """Whoever holds the socket then talks to the client, who has noticed nothing."""
        sock = self.detach()
        self.run_a_bit()
        self.assertFalse(ended(self.client))
        self.client.sendall(b"question")
        self.assertEqual(sock.recv(100), b"question")
        sock.send(b"answer")
        self.assertEqual(self.client.recv(100), b"answer")

    def test_nobody_is_told(self) -> None:
        """The protocol's connectionLost is not called, nor the hook for a closed connection."""
        self.detach()
        self.run_a_bit()
        self.assertEqual((self.protocol.lost, self.transport.closings), ([], 0))

    def test_another_process(self) -> None:
        """The connection outlives every descriptor of the process that let go of it."""
        sock = self.detach()
        copy = self.owned(socket.socket(fileno=os.dup(sock.fileno())))
        sock.close()
        self.run_a_bit()
        copy.send(b"still here")
        self.assertEqual(self.client.recv(100), b"still here")

    def test_harmless_calls(self) -> None:
        """What the protocol may still call on its transport does nothing to the connection."""
        sock = self.detach()
        transport = self.transport
        transport.write(b"lost")
        transport.writeSequence([b"lost", b"too"])
        transport.pauseProducing()
        transport.resumeProducing()
        transport.stopProducing()
        transport.loseConnection()
        transport.abortConnection()
        transport.connectionLost(Failure(error.ConnectionDone()))
        transport.doRead()
        transport.doWrite()
        transport.flush(lambda: self.fail("flushed"))
        self.run_a_bit()
        sock.send(b"alone")
        self.assertEqual(received(self.client), b"alone")
        self.assertEqual((self.protocol.lost, transport.closings), ([], 0))

    def test_unregistered(self) -> None:
        """The kernel's registration has gone when detach returns, though the socket is open."""
        self.adopt()
        self.transport.write(b"x")
        self.assertIn(self.transport.fileno(), self.registered())
        self.until(lambda: not self.transport.unsent())
        number = self.transport.fileno()
        sock = self.owned(self.transport.detach()[0])
        self.assertNotIn(number, self.registered())
        self.assertTrue(is_open(sock.fileno()))
        self.assertNotIn(self.transport, self.reactor.getReaders() + self.reactor.getWriters())

    def test_no_ghost(self) -> None:
        """The kernel has no event for the reactor any more, however much the client sends."""
        self.detach()
        self.client.sendall(b"x" * 100)
        self.run_a_bit()
        self.assertEqual(self.events(), [])

    def test_in_data_received(self) -> None:
        """Taken away in dataReceived: one read was made, the rest is in the kernel, in order."""
        taken = []
        server, client = self.connected()
        data = os.urandom(400_000)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.settimeout(10)
        self.adopt(
            inner(on_data=lambda self, data: taken.append(self.transport.detach())),
            server=server,
            client=client,
        )
        client.setblocking(False)
        sent = client.send(data)
        self.until(lambda: taken)
        ((sock, unread),) = taken
        self.owned(sock)
        self.assertEqual((len(self.protocol.pieces), unread), (1, b""))
        rest = b""
        while len(rest) + len(self.protocol.data) < sent:
            rest += received(sock) or b""
        self.assertEqual(self.protocol.data + rest, data[:sent])

    def test_readable_and_writable(self) -> None:
        """Taken away by the read half of an event, it does not get the write half."""
        taken = []
        self.adopt(inner(on_data=lambda self, data: taken.append(self.transport.detach()[0])))
        self.transport.startWriting()
        self.client.sendall(b"x")
        self.until(lambda: taken)
        self.owned(taken[0])
        self.run_a_bit()
        self.assertFalse(ended(self.client))

    def test_with_unsent_output(self) -> None:
        """With output that is not in the kernel it cannot leave."""
        self.adopt()
        self.transport.write(b"x")
        self.assertFalse(self.transport.can_leave())
        self.assertRaises(RuntimeError, self.transport.detach)
        self.until(lambda: self.transport.can_leave())

    def test_while_closing(self) -> None:
        """A connection that is being closed cannot leave."""
        self.adopt()
        self.transport.loseConnection()
        self.assertFalse(self.transport.can_leave())
        self.assertRaises(RuntimeError, self.transport.detach)

    def test_while_half_closing(self) -> None:
        """A connection whose sending side is being closed cannot leave."""
        self.adopt()
        self.transport.loseWriteConnection()
        self.assertFalse(self.transport.can_leave())

    def test_while_aborting(self) -> None:
        """A connection that is being aborted cannot leave."""
        self.adopt()
        self.transport.abortConnection()
        self.assertFalse(self.transport.can_leave())
        self.assertRaises(RuntimeError, self.transport.detach)
        self.until(lambda: self.protocol.lost)
        self.assertEqual(self.protocol.lost, [error.ConnectionAborted])

    def test_after_the_end(self) -> None:
        """A connection that was lost cannot leave."""
        self.adopt()
        self.client.close()
        self.until(lambda: self.protocol.lost)
        self.assertFalse(self.transport.can_leave())

    def test_producer(self) -> None:
        """A producer is let go of, not stopped."""
        producer = mock.Mock()
        self.adopt()
        self.transport.registerProducer(producer, True)
        self.owned(self.transport.detach()[0])
        self.transport.connectionLost(Failure(error.ConnectionDone()))
        self.assertEqual(producer.method_calls, [])

    def test_undelivered_prefix(self) -> None:
        """Bytes that the protocol has not seen yet leave with the connection."""
        self.adopt(inner(on_made=lambda self: self.transport.pauseProducing()), b"prefix")
        sock, unread = self.transport.detach()
        self.owned(sock)
        self.assertEqual((unread, self.protocol.pieces), (b"prefix", []))

    def test_number_is_used_again(self) -> None:
        """A new connection under the same descriptor number gets its own events."""
        number = self.detach().fileno()
        first = self.protocol
        server, client = self.connected()
        os.dup2(server.fileno(), number)
        server.close()
        self.adopt(server=socket.socket(fileno=os.dup(number)), client=client)
        client.sendall(b"mine")
        self.until(lambda: self.protocol.data)
        self.assertEqual((first.data, self.protocol.data), (b"", b"mine"))

    def test_and_adopted_again(self) -> None:
        """It can be adopted again, with more bytes read elsewhere, and taken away again."""
        sock, _ = self.adopt(prefix=b"one ").detach()
        self.assertEqual(self.protocol.data, b"one ")
        self.client.sendall(b"three")
        self.adopt(prefix=b"two ", server=sock, client=self.client)
        self.until(lambda: self.protocol.data == b"two three")
        self.transport.write(b"answer")
        self.until(lambda: not self.transport.unsent())
        self.assertEqual(self.client.recv(100), b"answer")
        self.owned(self.transport.detach()[0])


class AsyncioDetachTests(DetachTests):
    """The same on Twisted's asyncio reactor."""

    def make_reactor(self) -> Any:
        self.loop = asyncio.new_event_loop()
        self.addCleanup(self.loop.close)
        return AsyncioSelectorReactor(self.loop)

    def unmake_reactor(self) -> None:
        self.reactor.disconnectAll()
        for internal in list(self.reactor._internalReaders):
            self.reactor._internalReaders.remove(internal)
            self.reactor.removeReader(internal)
            internal.connectionLost(None)

    def registered(self) -> set[int]:
        return set(self.loop._selector.get_map())  # type: ignore[attr-defined]

    def events(self) -> list[Any]:
        return list(self.loop._selector.select(0))  # type: ignore[attr-defined]


class FlushTests(ConnectionCase):
    """Waiting until all output is in the kernel."""

    def setUp(self) -> None:
        super().setUp()
        self.flushed: list[int] = []

    def flush(self) -> None:
        """Ask to be told."""
        self.transport.flush(lambda: self.flushed.append(self.transport.unsent()))

    def fill(self) -> bytes:
        """Write more than the kernel takes."""
        data = os.urandom(1 << 20) * 8
        self.transport.write(data)
        for _ in range(20):
            self.transport.doWrite()
        self.assertGreater(self.transport.unsent(), 0)
        return data

    def test_nothing(self) -> None:
        """With nothing to send, at once."""
        self.adopt()
        self.flush()
        self.assertEqual(self.flushed, [0])

    def test_a_little(self) -> None:
        """What one send takes is sent at once, without the reactor."""
        self.adopt()
        self.transport.write(b"hello")
        self.flush()
        self.assertEqual((self.flushed, received(self.client)), ([0], b"hello"))

    def test_a_lot(self) -> None:
        """More than that: when the last byte is in the kernel, and not before."""
        self.adopt()
        data = self.fill()
        self.flush()
        self.run_a_bit()
        self.assertEqual(self.flushed, [])
        self.client.setblocking(False)
        got = bytearray()
        while len(got) < len(data):
            self.reactor.iterate(0.001)
            got += received(self.client) or b""
            if not self.flushed:
                self.assertGreater(self.transport.unsent(), 0)
        self.assertEqual(self.flushed, [0])
        self.assertTrue(got == data)

    def test_passed(self) -> None:
        """What has entered the kernel is counted, with or without the reactor, and at the end."""
        self.adopt()
        self.transport.write(b"hello")
        self.flush()
        self.assertEqual(self.transport.passed(), 5)
        data = self.fill()
        self.assertEqual(self.transport.passed(), 5 + len(data) - self.transport.unsent())
        self.client.setblocking(False)
        got = bytearray()
        while len(got) < 5 + len(data):
            self.reactor.iterate(0.001)
            got += received(self.client) or b""
        self.assertEqual((self.transport.passed(), self.transport.unsent()), (5 + len(data), 0))
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.transport.doWrite()
        self.assertEqual(self.transport.passed(), 8 + len(data))

    def test_detach_when_flushed(self) -> None:
        """The connection can leave from within the call, and all output reaches the client."""
        self.adopt()
        data = self.fill()
        taken: list[socket.socket] = []
        self.transport.flush(lambda: taken.append(self.transport.detach()[0]))
        self.client.setblocking(False)
        got = bytearray()
        while len(got) < len(data):
            self.reactor.iterate(0.001)
            got += received(self.client) or b""
        self.owned(taken[0])
        self.assertTrue(got == data)
        self.run_a_bit()
        self.assertEqual(self.protocol.lost, [])
        self.assertFalse(ended(self.client))

    def test_lost_meanwhile(self) -> None:
        """Never, if the connection is lost before."""
        self.adopt()
        self.fill()
        self.flush()
        self.reset_by(self.client)
        self.until(lambda: self.protocol.lost)
        self.run_a_bit()
        self.assertEqual(self.flushed, [])

    def test_lost_already(self) -> None:
        """A connection that turns out to be lost is ended as the reactor does it."""
        self.adopt()
        self.transport.write(b"x")
        self.reset_by(self.client)
        self.flush()
        self.assertEqual((self.flushed, self.protocol.lost), ([], [error.ConnectionLost]))

    def test_closing(self) -> None:
        """Never, if the connection is being closed: it is lost when all is sent."""
        self.adopt()
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.flush()
        self.until(lambda: self.protocol.lost)
        self.assertEqual((self.flushed, received(self.client)), ([], b"bye"))


class _Sends:
    """A socket whose sends are recorded: how many bytes, and whether more was to follow."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.sends: list[tuple[int, bool]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send, and record."""
        self.sends.append((len(data), bool(flags & socket.MSG_MORE)))
        return self._sock.send(data, flags)


class LastBytesTests(ConnectionCase):
    """What is written before the close leaves in one packet with it."""

    def sends(self, *pieces: bytes, close: bool = True, producer: bool = False) -> Any:
        """Write the pieces and close; how they were sent."""
        self.adopt()
        recorded = self.transport.socket = _Sends(self.transport.socket)
        if producer:
            self.transport.registerProducer(mock.Mock(), True)
        for piece in pieces:
            self.transport.write(piece)
        if close:
            self.transport.loseConnection()
        return recorded.sends

    def test_with_the_end(self) -> None:
        """The last bytes wait for the end of the connection that follows them."""
        sends = self.sends(b"good", b"bye")
        self.until(lambda: self.protocol.lost)
        self.assertEqual(sends, [(7, True)])
        self.assertEqual(received(self.client), b"goodbye")

    def test_without_an_end(self) -> None:
        """Bytes that no close follows do not wait."""
        sends = self.sends(b"hello", close=False)
        self.until(lambda: sends)
        self.assertEqual(sends, [(5, False)])

    def test_more_to_come(self) -> None:
        """Nor do those of a producer that has not finished."""
        sends = self.sends(b"hello", producer=True)
        self.until(lambda: sends)
        self.assertEqual(sends, [(5, False)])

    def test_a_lot(self) -> None:
        """A long farewell arrives whole, though the client takes its time."""
        data = os.urandom(3_000_000)
        self.sends(data)
        came = b""
        while not self.protocol.lost:
            self.reactor.iterate(0.001)
            came += received(self.client) or b""
        self.client.setblocking(True)
        while piece := self.client.recv(1 << 20):
            came += piece
        self.assertTrue(came == data)

    def test_reset(self) -> None:
        """A client that has reset its connection is one that is lost."""
        self.adopt()
        self.transport.write(b"bye")
        self.transport.loseConnection()
        self.reset_by(self.client)
        self.until(lambda: self.protocol.lost)
        self.assertEqual(self.protocol.lost, [error.ConnectionLost])


class AdoptTests(ConnectionCase):
    """A connection that was accepted elsewhere is served."""

    def test_prefix_first(self) -> None:
        """The bytes read elsewhere come before those that the socket has."""
        server, client = self.connected()
        client.sendall(b"later")
        self.adopt(prefix=b"first ", server=server, client=client)
        self.assertEqual(self.protocol.data, b"first ")
        self.until(lambda: self.protocol.data == b"first later")

    def test_no_prefix(self) -> None:
        """Without any, nothing is delivered until the client sends."""
        self.adopt()
        self.run_a_bit()
        self.assertEqual(self.protocol.pieces, [])
        self.client.sendall(b"hello")
        self.until(lambda: self.protocol.data)
        self.assertEqual(self.protocol.data, b"hello")

    def test_output(self) -> None:
        """What the protocol writes, in connectionMade and later, reaches the client."""
        self.adopt(
            inner(
                on_made=lambda self: self.transport.write(b"welcome "),
                on_data=lambda self, data: self.transport.write(data.upper()),
            ),
            b"echo",
        )
        self.until(lambda: not self.transport.unsent())
        self.assertEqual(self.client.recv(100), b"welcome ECHO")

    def test_paused_in_connection_made(self) -> None:
        """A protocol that pauses at once gets nothing, and then the prefix first."""
        self.adopt(inner(on_made=lambda self: self.transport.pauseProducing()), b"first ")
        self.client.sendall(b"later")
        self.run_a_bit()
        self.assertEqual(self.protocol.pieces, [])
        self.transport.resumeProducing()
        self.assertEqual(self.protocol.pieces, [])  # not inside the protocol's own call
        self.until(lambda: self.protocol.data == b"first later")

    def test_paused_and_resumed_in_connection_made(self) -> None:
        """A protocol that pauses and resumes at once gets the prefix once, and first."""

        def made(self: Inner) -> None:
            self.transport.pauseProducing()
            self.transport.resumeProducing()

        self.adopt(inner(on_made=made), b"first ")
        self.client.sendall(b"later")
        self.until(lambda: self.protocol.data == b"first later")

    def test_paused_again(self) -> None:
        """A resume that is taken back before the reactor ran delivers nothing."""
        self.adopt(inner(on_made=lambda self: self.transport.pauseProducing()), b"first")
        self.transport.resumeProducing()
        self.transport.pauseProducing()
        self.run_a_bit()
        self.assertEqual(self.protocol.pieces, [])

    def test_paused_after_each_piece(self) -> None:
        """A protocol that pauses after each piece gets one for each resume."""
        self.adopt(inner(on_data=lambda self, data: self.transport.pauseProducing()), b"first ")
        self.client.sendall(b"later")
        self.run_a_bit()
        self.assertEqual(self.protocol.pieces, [b"first "])
        self.transport.resumeProducing()
        self.until(lambda: self.protocol.data == b"first later")

    def test_loses_in_connection_made(self) -> None:
        """A protocol that closes at once gets no bytes, and connectionLost once."""
        self.adopt(inner(on_made=lambda self: self.transport.loseConnection()), b"prefix")
        self.until(lambda: self.protocol.lost)
        self.run_a_bit()
        self.assertEqual((self.protocol.pieces, len(self.protocol.lost)), ([], 1))
        self.assertTrue(ended(self.client))

    def test_aborts_in_connection_made(self) -> None:
        """A protocol that aborts at once gets no bytes."""
        self.adopt(inner(on_made=lambda self: self.transport.abortConnection()), b"prefix")
        self.until(lambda: self.protocol.lost)
        self.assertEqual(
            (self.protocol.pieces, self.protocol.lost), ([], [error.ConnectionAborted])
        )

    def test_fails_in_connection_made(self) -> None:
        """A protocol that fails when it is connected ends its connection, and only that."""
        self.adopt(inner(on_made=lambda self: 1 / 0), b"prefix")
        self.assertEqual((self.protocol.pieces, self.protocol.lost), ([], [ZeroDivisionError]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(ended(self.client))

    def test_fails_in_data_received(self) -> None:
        """A protocol that fails over the prefix ends its connection, as over any bytes."""
        self.adopt(inner(on_data=lambda self, data: 1 / 0), b"prefix")
        self.assertEqual(self.protocol.lost, [ZeroDivisionError])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.transport.closings, 1)

    def test_fails_over_a_late_prefix(self) -> None:
        """The same when the prefix was delivered later."""
        self.adopt(
            inner(lambda self: self.transport.pauseProducing(), lambda self, data: 1 / 0), b"prefix"
        )
        self.transport.resumeProducing()
        self.until(lambda: self.protocol.lost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_reset_before(self) -> None:
        """A client that has reset already is a connection that is lost, not an error."""
        server, client = self.connected()
        self.reset_by(client)
        self.adopt(prefix=b"GET", server=server)
        self.until(lambda: self.protocol.lost)
        self.assertEqual(self.protocol.data, b"GET")
        self.assertEqual((len(self.protocol.lost), self.transport.closings), (1, 1))

    def test_closed_before(self) -> None:
        """Of a client that has closed already, all that it sent is delivered."""
        server, client = self.connected()
        client.sendall(b" the rest")
        client.close()
        self.adopt(prefix=b"first,", server=server)
        self.until(lambda: self.protocol.lost)
        self.assertEqual(self.protocol.data, b"first, the rest")
        self.assertEqual(self.protocol.lost, [error.ConnectionDone])

    def test_half_close(self) -> None:
        """A half-closeable protocol is told that the client sends no more, and may answer."""
        self.adopt(HalfCloseable)
        self.client.shutdown(socket.SHUT_WR)
        self.until(lambda: self.protocol.half)
        self.transport.write(b"answer")
        self.until(lambda: not self.transport.unsent())
        self.assertEqual((self.client.recv(100), self.protocol.lost), (b"answer", []))

    def test_closed_once(self) -> None:
        """The hook for a closed connection is called once."""
        self.adopt()
        self.transport.abortConnection()
        self.client.close()
        self.until(lambda: self.transport.closings)
        self.transport.connectionLost(Failure(error.ConnectionDone()))
        self.run_a_bit()
        self.assertEqual(self.transport.closings, 1)

    def test_not_duplicated(self) -> None:
        """The socket itself is served: when the transport closes, nothing stays open."""
        server, client = self.connected()
        self.adopt(server=server, client=client)
        self.assertEqual(self.transport.fileno(), server.fileno())
        self.transport.loseConnection()
        self.until(lambda: self.protocol.lost)
        self.assertEqual(server.fileno(), -1)

    def test_refused(self) -> None:
        """A connection that the factory does not want is closed."""
        server, client = self.connected()
        factory = mock.Mock(**{"buildProtocol.return_value": None})
        self.assertIsNone(adopt(self.reactor, server, PEER, factory, MovableServer, 1))
        self.assertTrue(ended(client))

    def test_factory_fails(self) -> None:
        """A factory that fails leaves no socket open."""
        server, client = self.connected()
        factory = mock.Mock(**{"buildProtocol.side_effect": ZeroDivisionError})
        self.assertRaises(
            ZeroDivisionError, adopt, self.reactor, server, PEER, factory, MovableServer, 1
        )
        self.assertTrue(ended(client))

    @settings(deadline=None, max_examples=25)
    @given(data=st.binary(min_size=1, max_size=300), split=st.integers(0, 300), big=st.booleans())
    def test_any_split(self, data: bytes, split: int, big: bool) -> None:
        """However the stream is cut into prefix and rest, the protocol sees it as it was sent."""
        if big:
            data, split = data * 300, split * 300
        server, client = self.connected()
        client.sendall(data[split:])
        self.adopt(prefix=data[:split], server=server, client=client)
        self.until(lambda: len(self.protocol.data) == len(data))
        self.assertEqual(self.protocol.data, data)
        client.close()
        self.until(lambda: self.protocol.lost)


class AddressTests(ConnectionCase):
    """Who is at the two ends."""

    def addresses(
        self, server: socket.socket, peer: tuple[str, int], make: Any = MovableServer
    ) -> tuple[Any, Any, Any]:
        """What the factory was told, and the transport says: peer, peer, host."""
        factory = mock.Mock(**{"buildProtocol.return_value": Inner()})
        transport = adopt(self.reactor, server, peer, factory, make, 7)
        begin(transport, b"")
        return factory.buildProtocol.call_args.args[0], transport.getPeer(), transport.getHost()

    def test_ipv4(self) -> None:
        """Over IPv4: the peer as it was named, the host as the socket has it."""
        server, client = self.connected()
        peer = IPv4Address("TCP", *client.getsockname())
        host = IPv4Address("TCP", *client.getpeername())
        self.assertEqual(self.addresses(server, client.getsockname()), (peer, peer, host))

    def test_ipv6(self) -> None:
        """Over IPv6 likewise."""
        server, client = self.connected(socket.AF_INET6)
        peer = IPv6Address("TCP", *client.getsockname()[:2])
        built, said, host = self.addresses(server, client.getsockname()[:2])
        self.assertEqual((built, said), (peer, peer))
        self.assertEqual((type(host), host.host), (IPv6Address, "::1"))
        self.assertEqual(host.port, client.getpeername()[1])

    def test_mapped(self) -> None:
        """The host of an IPv4 connection to a socket that listens on `::` has its IPv4 name."""
        listener = self.owned(socket.socket(socket.AF_INET6))
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
        listener.listen()
        port = listener.getsockname()[1]
        client = self.owned(socket.create_connection(("127.0.0.1", port)))
        server = self.owned(listener.accept()[0])
        _, _, host = self.addresses(server, client.getsockname())
        self.assertEqual(host, IPv4Address("TCP", "127.0.0.1", port))

    def test_unix(self) -> None:
        """Over a UNIX socket: no name for the peer, the socket's path for the host."""
        path = self.mktemp()
        listener = self.owned(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen()
        client = self.owned(socket.socket(socket.AF_UNIX))
        client.connect(path)
        server = self.owned(listener.accept()[0])
        nameless = UNIXAddress(None)
        self.assertEqual(
            self.addresses(server, ("", 0), MovableUNIXServer),
            (nameless, nameless, UNIXAddress(path)),
        )

    def test_unix_pair(self) -> None:
        """One end of a pair has no name at all."""
        server, _ = self.pair()
        nameless = UNIXAddress(None)
        self.assertEqual(
            self.addresses(server, ("", 0), MovableUNIXServer), (nameless, nameless, nameless)
        )

    def test_named_of_another_family(self) -> None:
        """A proxy may name an IPv6 client on an IPv4 connection, or over a UNIX socket."""
        peer = IPv6Address("TCP", "2001:db8::7", 50000)
        server, client = self.connected()
        self.assertEqual(
            self.addresses(server, ("2001:db8::7", 50000)),
            (peer, peer, IPv4Address("TCP", *client.getpeername())),
        )
        server, _ = self.pair()
        self.assertEqual(
            self.addresses(server, ("2001:db8::7", 50000), MovableUNIXServer),
            (peer, peer, UNIXAddress(None)),
        )

    def test_peer_address(self) -> None:
        """The class of an address follows from its text."""
        self.assertEqual(peer_address("192.0.2.7", 1), IPv4Address("TCP", "192.0.2.7", 1))
        self.assertEqual(peer_address("::ffff:192.0.2.7", 1).type, "TCP")
        self.assertIsInstance(peer_address("::ffff:192.0.2.7", 1), IPv6Address)

    def test_repr(self) -> None:
        """A transport names its protocol, its number and its peer."""
        self.adopt()
        self.assertEqual(repr(self.transport), "<Inner #1 from 192.0.2.7>")

    def test_open_socket(self) -> None:
        """A descriptor that arrived becomes a socket that says it is TCP, without a copy of it."""
        server, _ = self.connected()
        number = server.detach()
        sock = self.owned(open_socket(number, socket.AF_INET))
        self.assertEqual(
            (sock.fileno(), sock.family, sock.proto),
            (number, socket.AF_INET, socket.IPPROTO_TCP),
        )

    def test_open_unix_socket(self) -> None:
        """One over a UNIX socket names no protocol."""
        server, _ = self.pair()
        sock = self.owned(open_socket(server.detach(), socket.AF_UNIX))
        self.assertEqual((sock.family, sock.proto), (socket.AF_UNIX, 0))


class UNIXTests(ConnectionCase):
    """The same over UNIX sockets, whose transport reads and writes in its own way."""

    def adopt_pair(self, prefix: bytes = b"") -> Any:
        """Adopt one end of a pair."""
        server, self.client = self.pair()
        factory = Factory.forProtocol(Inner)
        self.transport = adopt(self.reactor, server, ("", 0), factory, MovableUNIXServer, 1)
        self.protocol = self.transport.protocol
        begin(self.transport, prefix)
        return self.transport

    def test_both_ways(self) -> None:
        """Prefix, input and output pass."""
        self.adopt_pair(b"first ")
        self.client.send(b"later")
        self.until(lambda: self.protocol.data == b"first later")
        self.transport.write(b"answer")
        self.until(lambda: not self.transport.unsent())
        self.assertEqual(received(self.client), b"answer")

    def test_detach(self) -> None:
        """Taken away, the other end notices nothing."""
        sock, _ = self.adopt_pair().detach()
        self.owned(sock)
        self.run_a_bit()
        sock.send(b"alone")
        self.assertEqual(received(self.client), b"alone")
        self.assertEqual(self.protocol.lost, [])

    def test_flush(self) -> None:
        """Output is flushed at once if the kernel takes it."""
        self.adopt_pair()
        self.transport.write(b"x")
        flushed = []
        self.transport.flush(lambda: flushed.append(True))
        self.assertEqual((flushed, received(self.client)), ([True], b"x"))

    def test_end(self) -> None:
        """When the other end closes, the protocol is told."""
        self.adopt_pair()
        self.client.close()
        self.until(lambda: self.protocol.lost)
        self.assertEqual(self.protocol.lost, [error.ConnectionDone])


class TwistedTests(ConnectionCase):
    """
    The private names of Twisted that the module builds on, each with the behaviour it needs.

    If one of these fails, this Twisted is another one than the module was written for.
    """

    def bare(self) -> tuple[Any, socket.socket]:
        """Twisted's own transport, with a client."""
        server, client = self.connected()
        protocol = Inner()
        transport = tcp.Server(server, protocol, ("192.0.2.7", 1), None, 1, self.reactor)
        transport.repstr = "<bare>"
        protocol.makeConnection(transport)
        return transport, client

    def test_output_buffers(self) -> None:
        """FileDescriptor.dataBuffer, offset and _tempDataLen tell what is not in the kernel."""
        transport, client = self.bare()
        waiting = lambda: len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # noqa: E731
        self.assertEqual(waiting(), 0)
        transport.write(b"abc")
        transport.writeSequence([b"de", b"f"])
        self.assertEqual(waiting(), 6)
        transport.doWrite()
        self.assertEqual(waiting(), 0)
        size = 8 << 20
        transport.write(bytes(size))
        for _ in range(100):
            transport.doWrite()
        transport.write(b"tail")
        left = waiting()
        self.assertGreater(left, 0)
        client.settimeout(10)
        got = 0
        while got < 6 + size + 4:
            got += len(client.recv(1 << 20))
            transport.doWrite()
        self.assertEqual(waiting(), 0)

    def test_write_disconnecting(self) -> None:
        """FileDescriptor._writeDisconnecting says that a half-close is pending."""
        transport, _ = self.bare()
        self.assertIs(transport._writeDisconnecting, False)
        transport.loseWriteConnection()
        self.assertIs(transport._writeDisconnecting, True)

    def test_aborting(self) -> None:
        """Connection._aborting says that the connection is about to be aborted."""
        transport, _ = self.bare()
        self.assertIs(transport._aborting, False)
        transport.abortConnection()
        self.assertIs(transport._aborting, True)

    def test_data_received(self) -> None:
        """Connection._dataReceived is the one door for input, b"" the end, TCP and UNIX alike."""
        for module, (server, client) in ((tcp, self.connected()), (unix, self.pair())):
            transport = module.Server(server, Inner(), ("192.0.2.7", 1), None, 1, self.reactor)
            transport.stopReading()
            with mock.patch.object(transport, "_dataReceived", return_value="result") as door:
                client.send(b"hello")
                self.assertEqual(transport.doRead(), "result")
                client.close()
                transport.doRead()
            self.assertEqual([call.args for call in door.call_args_list], [(b"hello",), (b"",)])
            transport.connectionLost(Failure(main.CONNECTION_DONE))

    def test_end_of_input(self) -> None:
        """A doRead that returns ConnectionDone makes the reactor end the connection cleanly."""
        transport, client = self.bare()
        transport.doRead = lambda: error.ConnectionDone()
        client.send(b"x")
        protocol = transport.protocol
        self.until(lambda: protocol.lost)
        self.assertEqual(protocol.lost, [error.ConnectionDone])

    def test_what_connection_lost_takes_away(self) -> None:
        """A transport without `socket` is dead to connectionLost; socket, fileno are its own."""
        transport, _ = self.bare()
        protocol = transport.protocol
        transport.stopReading()
        sock = transport.socket
        self.assertIn("socket", vars(transport))
        self.assertIn("fileno", vars(transport))
        del transport.socket, transport.fileno
        self.assertEqual(transport.fileno(), -1)
        transport.connectionLost(Failure(main.CONNECTION_DONE))
        self.assertEqual(protocol.lost, [])
        self.assertTrue(is_open(sock.fileno()))

    def test_guards(self) -> None:
        """connected = 0, disconnected = 1 make write, loseConnection, abortConnection no-ops."""
        transport, client = self.bare()
        transport.stopReading()
        transport.connected, transport.disconnected = 0, 1
        transport.write(b"x")
        transport.loseConnection()
        transport.abortConnection()
        self.run_a_bit()
        self.assertEqual((transport._tempDataLen, received(client)), (0, None))
        self.assertFalse(transport.disconnecting)
        transport.socket.close()

    def test_reading_starts_in_the_constructor(self) -> None:
        """tcp.Server registers itself for reading through startReading."""
        server, _ = self.connected()
        with mock.patch.object(tcp.Server, "startReading") as start:
            tcp.Server(server, Inner(), ("192.0.2.7", 1), None, 1, self.reactor)
        self.assertEqual(start.call_count, 1)

    def test_disconnect_selectable(self) -> None:
        """_disconnectSelectable(selectable, why, isRead) ends a connection as a bad read does."""
        transport, _ = self.bare()
        protocol = transport.protocol
        self.assertTrue(callable(PosixReactorBase._disconnectSelectable))
        self.reactor._disconnectSelectable(transport, ZeroDivisionError(), True)
        self.assertEqual(protocol.lost, [ZeroDivisionError])
        self.assertNotIn(transport, self.reactor.getReaders())

    def test_port(self) -> None:
        """Port._shouldShutdown says whether a port ends for all who hold its socket."""
        for spared in (True, False):
            port: Any = tcp.Port(0, Factory(), interface="127.0.0.1", reactor=self.reactor)
            port.startListening()
            other = self.owned(socket.socket(fileno=os.dup(port.fileno())))
            if spared:
                spare(port)
            port.connectionLost(Failure(error.ConnectionDone()))
            listens = other.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            self.assertEqual(bool(listens), spared)

    def test_channel(self) -> None:
        """_GenericHTTPChannelProtocol._channel has the limits on heads, and they can be set."""
        protocol: Any = HTTPFactory(reactor=self.reactor).buildProtocol(None)
        for channel, wrapped in ((protocol._channel, protocol), (HTTPChannel(), None)):
            self.assertEqual((channel.MAX_LENGTH, channel.totalHeadersSize), (16384, 16384))
            self.assertEqual(channel.maxHeaders, 500)
            self.assertIs(allow_heads(wrapped or channel, 100_000), wrapped or channel)
            for limit in (channel.MAX_LENGTH, channel.totalHeadersSize, channel.maxHeaders):
                self.assertGreater(limit, 100_000)

    def test_no_channel(self) -> None:
        """What is no channel of twisted.web is left alone."""
        inner = Inner()
        before = dict(vars(inner))
        self.assertIs(allow_heads(inner, 100_000), inner)
        self.assertEqual(vars(inner), before)
        self.assertIsNone(allow_heads(None, 100_000))

    def test_class_attributes(self) -> None:
        """FileDescriptor.fileno, without the instance's own, is -1."""
        self.assertEqual(abstract.FileDescriptor.fileno(mock.Mock()), -1)

    def test_reset_is_no_error_to_construct(self) -> None:
        """tcp.Server asks the kernel for no name, so that a reset connection can be adopted."""
        server, client = self.connected()
        self.reset_by(client)
        with self.assertRaises(OSError) as raised:
            server.getpeername()
        self.assertEqual(raised.exception.errno, errno.ENOTCONN)
        tcp.Server(server, Inner(), ("192.0.2.7", 1), None, 1, self.reactor).stopReading()
