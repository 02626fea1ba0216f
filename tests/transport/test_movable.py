"""Connections that are taken away and adopted, on real sockets and real reactors."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any
from unittest import mock

from twisted.internet import error
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from tests.shells import ended, is_open, received
from tests.transport.cases import ConnectionCase, Inner, inner
from txsticky.transport.adopt import adopt, begin
from txsticky.transport.movable import MovableUNIXServer


class DetachTests(ConnectionCase):
    """A connection is taken away."""

    def detach(self, **options: Any) -> socket.socket:
        """Adopt a connection and take it away again."""
        sock, unread = self.adopt(**options).detach()
        self.assertEqual(unread, b"")
        return self.owned(sock)

    def test_another_holder(self) -> None:
        """The next holder of the socket talks to the client, which has noticed nothing."""
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
        """A connection taken away in dataReceived was read once; the rest is in the kernel."""
        taken = []
        server, client = self.connected()
        data = os.urandom(400_000)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        client.settimeout(60)
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
        """A connection taken away by the read half of an event gets no write half."""
        taken = []
        self.adopt(inner(on_data=lambda self, data: taken.append(self.transport.detach()[0])))
        self.transport.startWriting()
        self.client.sendall(b"x")
        self.until(lambda: taken)
        self.owned(taken[0])
        self.run_a_bit()
        self.assertFalse(ended(self.client))

    def test_with_unsent_output(self) -> None:
        """A connection with output that is not in the kernel cannot leave."""
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

    def test_producer_that_comes_later(self) -> None:
        """A producer that is registered with a transport that was taken away is stopped."""
        producer = mock.Mock()
        self.detach()
        self.transport.registerProducer(producer, True)
        self.assertEqual(producer.mock_calls, [mock.call.stopProducing()])

    def test_undelivered_prefix(self) -> None:
        """Bytes that the protocol has not seen yet leave with the connection."""
        self.adopt(inner(on_made=lambda self: self.transport.pauseProducing()), b"prefix")
        sock, unread = self.transport.detach()
        self.owned(sock)
        self.assertEqual((unread, self.protocol.pieces), (b"prefix", []))
        self.assertEqual(self.transport.unread, b"")

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
        """A connection can be adopted again with more bytes read elsewhere, and taken away."""
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
    """Connections that are taken away, on Twisted's asyncio reactor."""

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
        """With nothing to send the call comes at once."""
        self.adopt()
        self.flush()
        self.assertEqual(self.flushed, [0])

    def test_pulled(self) -> None:
        """With nothing to send, no producer is asked for more."""
        producer = mock.Mock()
        self.adopt().registerProducer(producer, False)
        producer.reset_mock()
        self.flush()
        self.assertEqual((self.flushed, producer.mock_calls), ([0], []))

    def test_a_little(self) -> None:
        """What one send takes is sent at once, without the reactor."""
        self.adopt()
        self.transport.write(b"hello")
        self.flush()
        self.assertEqual((self.flushed, received(self.client)), ([0], b"hello"))

    def test_a_lot(self) -> None:
        """What one send does not take is told of when its last byte is in the kernel."""
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
        """The call never comes if the connection is lost before."""
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
        """The call never comes if the connection is being closed: it is lost when all is sent."""
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
        """Bytes of a producer that has not finished do not wait."""
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


class UNIXTests(ConnectionCase):
    """Connections over UNIX sockets, whose transport reads and writes in its own way."""

    def adopt_pair(self, prefix: bytes = b"", protocol: type[Inner] = Inner) -> Any:
        """Adopt one end of a pair."""
        server, self.client = self.pair()
        factory = Factory.forProtocol(protocol)
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

    def test_descriptors(self) -> None:
        """A descriptor goes with what is written, also with the last before a close."""

        def answer(protocol: Inner, data: bytes) -> None:
            protocol.transport.sendFileDescriptor(0)
            protocol.transport.write(data)
            if data == b"last":
                protocol.transport.loseConnection()

        for data in (b"some", b"last"):
            self.adopt_pair(data, inner(on_data=answer))
            self.run_a_bit()
            got, descriptors, _, _ = socket.recv_fds(self.client, 100, 4)
            self.assertTrue(data.startswith(got) and got)
            self.assertEqual(len(descriptors), 1)
            os.close(descriptors[0])

    def test_detach(self) -> None:
        """The other end notices nothing of a connection that is taken away."""
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
