"""
What is written while bytes are delivered is sent at the end of the turn, and otherwise nothing is
different.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.shells import ended, received
from tests.transport.cases import ConnectionCase, Inner, inner
from txsticky.transport.movable import MovableServer
from txsticky.transport.write_batch import WriteBatch

LARGE = 8 * 1024 * 1024


class CorkTests(ConnectionCase):
    """The short way: sent without registering a writer."""

    def setUp(self) -> None:
        super().setUp()
        # A turn that takes long ends early; here none does, however slow the machine is.
        self.turn = WriteBatch(lambda end: self.reactor.callLater(0, end), lambda: 100.0)

    def adopt(self, protocol: Any, *ends: Any, prefix: bytes = b"") -> Any:
        """Adopt a connection whose transport sends at the end of a turn."""
        with mock.patch.object(MovableServer, "turn", self.turn):  # the first bytes are read there
            transport = super().adopt(protocol, prefix, *ends)
        transport.turn = self.turn
        return transport

    def end_turn(self) -> None:
        """Come to the end of the turn, before the next look at the descriptors."""
        self.reactor.runUntilCurrent()

    def test_answer_to_the_prefix(self) -> None:
        """An answer to the first bytes is sent before the reactor looks at descriptors again."""
        self.adopt(inner(on_data=lambda self, data: self.transport.write(data)), prefix=b"hello")
        self.assertEqual(received(self.client), None)
        self.end_turn()
        self.assertEqual(received(self.client), b"hello")
        self.assertEqual(self.reactor.getWriters(), [])

    def test_from_the_beginning(self) -> None:
        """What is written when the protocol is connected leaves with the answer to the prefix."""
        greeting = inner(
            lambda self: self.transport.write(b"welcome "),
            lambda self, data: self.transport.write(data),
        )
        with mock.patch.object(self.reactor, "addWriter") as writer:
            self.adopt(greeting, prefix=b"hello")
            self.assertEqual(received(self.client), None)
            self.end_turn()
        self.assertEqual((received(self.client), writer.call_count), (b"welcome hello", 0))

    def test_half_closed(self) -> None:
        """A sending side that is closed behind the answer is closed with it."""

        def answer(protocol: Inner, data: bytes) -> None:
            protocol.transport.write(data)
            protocol.transport.loseWriteConnection()

        self.adopt(inner(on_data=answer), prefix=b"bye")
        self.end_turn()
        self.assertEqual(received(self.client), b"bye")
        self.assertTrue(ended(self.client))

    def test_lost_before_the_end(self) -> None:
        """A connection that is lost before its output is sent is not watched any more."""
        transport = self.adopt(inner(on_data=lambda self, data: self.transport.write(data)))
        self.client.send(b"hello")
        transport.doRead()
        self.assertIn(transport, self.reactor.getReaders())
        transport.connectionLost(Failure(ConnectionLost()))
        self.assertNotIn(transport, self.reactor.getReaders())
        self.end_turn()
        self.assertEqual((self.protocol.lost, transport.closings), ([ConnectionLost], 1))

    def test_over_tls(self) -> None:
        """Over TLS it is the layer of TLS that closes the connection, not the cork."""
        asked = []

        def close(protocol: Inner, data: bytes) -> None:
            protocol.transport.TLS = True
            protocol.transport.loseConnection()
            protocol.transport.TLS = False

        layer = inner(on_data=close)
        layer.loseConnection = lambda protocol: asked.append(protocol)  # type: ignore[attr-defined]
        transport = self.adopt(layer, prefix=b"x")
        self.end_turn()
        self.assertEqual((asked, transport.disconnecting), ([self.protocol], False))

    def test_pull_producer(self) -> None:
        """A producer that is pulled is asked for more when its first piece is sent."""
        producer = mock.Mock()

        def answer(protocol: Inner, data: bytes) -> None:
            protocol.transport.registerProducer(producer, False)
            producer.reset_mock()
            protocol.transport.write(data)

        self.adopt(inner(on_data=answer), prefix=b"x")
        self.end_turn()
        self.assertEqual(producer.mock_calls, [mock.call.resumeProducing()])

    def test_together(self) -> None:
        """No answer is sent before the bytes of all connections are delivered."""
        seen = []

        def answer(protocol: Inner, data: bytes) -> None:
            seen.append([received(client) for client in clients])
            protocol.transport.write(data)

        clients = []
        for _ in range(2):
            self.adopt(inner(on_data=answer))
            clients.append(self.client)
        for client in clients:
            client.send(b"hello")
        self.reactor.doIteration(1)
        self.assertEqual(seen, [[None, None]] * 2)
        self.end_turn()
        self.assertEqual([received(client) for client in clients], [b"hello"] * 2)

    def test_one_that_fails(self) -> None:
        """A connection that cannot send keeps no other from sending."""
        echo = inner(on_data=lambda self, data: self.transport.write(data))
        failing = self.adopt(echo, prefix=b"hello")
        protocol = self.protocol
        self.adopt(echo, prefix=b"hello")
        with mock.patch.object(failing, "sent_at_once", side_effect=ZeroDivisionError):
            self.end_turn()
        self.assertEqual(protocol.lost, [ZeroDivisionError])
        self.assertEqual(received(self.client), b"hello")
        self.flushLoggedErrors(ZeroDivisionError)

    def test_paused_in_this_turn(self) -> None:
        """A protocol that has paused is given nothing more, though the reactor watches still."""

        def answer(protocol: Inner, data: bytes) -> None:
            protocol.transport.write(data)
            protocol.transport.pauseProducing()

        transport = self.adopt(inner(on_data=answer), prefix=b"hello")
        self.client.send(b"more")
        transport.doRead()
        self.assertEqual(self.protocol.data, b"hello")

    def test_ends_at_once(self) -> None:
        """A connection that ends in its first delivery was never registered with the reactor."""

        def answer(protocol: Inner, data: bytes) -> None:
            protocol.transport.write(data)
            protocol.transport.loseConnection()

        with mock.patch.object(self.reactor, "addReader") as reader:
            self.adopt(inner(on_data=answer), prefix=b"bye")
            self.end_turn()
        self.assertEqual(reader.call_count, 0)
        self.assertEqual((len(self.protocol.lost), self.transport.closings), (1, 1))
        self.assertEqual(received(self.client), b"bye")
        self.assertTrue(ended(self.client))

    def test_paused_at_once(self) -> None:
        """A protocol that pauses when it is connected is given nothing, and nothing is watched."""
        transport = self.adopt(
            inner(on_made=lambda self: self.transport.pauseProducing()), prefix=b"prefix"
        )
        self.run_a_bit()
        self.assertEqual(self.protocol.pieces, [])
        self.assertNotIn(transport.fileno(), self.registered())
        transport.resumeProducing()
        self.until(lambda: self.protocol.data == b"prefix")

    def test_what_does_not_fit(self) -> None:
        """What the kernel does not take at once, the reactor sends; then the connection closes."""

        def answer(protocol: Inner, data: bytes) -> None:
            protocol.transport.write(bytes(LARGE))
            protocol.transport.loseConnection()

        self.adopt(inner(on_data=answer), prefix=b"x")
        self.end_turn()
        self.assertIn(self.transport, self.reactor.getWriters())
        self.assertEqual(self.protocol.lost, [])
        self.assertEqual(self.drained(), LARGE)
        self.assertEqual(len(self.protocol.lost), 1)

    def test_rest(self) -> None:
        """What a small buffer takes a part of, the reactor sends; the connection is kept."""
        server, client = self.connected()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        answer = inner(on_data=lambda self, data: self.transport.write(bytes(100_000)))
        self.adopt(answer, server, client, prefix=b"x")
        self.end_turn()
        self.assertIn(self.transport, self.reactor.getWriters())
        got = 0
        while got < 100_000:
            got += len(received(client) or b"")
            self.run_a_bit()
        self.assertEqual((self.transport.unsent(), self.transport.passed()), (0, 100_000))

    def test_behind_a_rest(self) -> None:
        """What is written while a rest waits follows that rest, though there is room by then."""
        server, client = self.connected()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        answer = inner(on_data=lambda self, data: self.transport.write(100_000 * data))
        transport = self.adopt(answer, server, client, prefix=b"a")
        self.end_turn()
        got = bytearray(received(client) or b"")
        self.assertLess(len(got), 100_000)
        client.send(b"b")
        transport.doRead()
        self.end_turn()
        transport.loseConnection()
        self.until(lambda: got.extend(received(client) or b"") or self.protocol.lost)
        client.setblocking(True)
        while piece := client.recv(1 << 20):
            got += piece
        self.assertTrue(got == 100_000 * b"a" + 100_000 * b"b")

    def test_paused_producer(self) -> None:
        """A producer that was paused goes on once all is sent."""
        producer = mock.Mock()

        def answer(protocol: Inner, data: bytes) -> None:
            protocol.transport.registerProducer(producer, True)
            protocol.transport.write(bytes(100_000))

        server, client = self.connected()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.adopt(inner(on_data=answer), server, client, prefix=b"x")
        self.assertEqual(producer.mock_calls, [mock.call.pauseProducing()])
        self.end_turn()
        self.assertEqual(producer.mock_calls[1:], [mock.call.resumeProducing()])

    def test_flushed_before(self) -> None:
        """What was flushed while it was delivered does not wait for the end of the turn."""

        def answer(protocol: Inner, data: bytes) -> None:
            protocol.transport.write(data)
            protocol.transport.flush(lambda: None)

        transport = self.adopt(inner(on_data=answer))
        self.client.send(b"hello")
        with mock.patch.object(self.turn, "add") as added:
            transport.doRead()
        self.assertEqual((added.mock_calls, received(self.client)), ([], b"hello"))

    def test_failure(self) -> None:
        """A protocol that fails loses its connection, and what it wrote is not sent."""

        def fail(protocol: Inner, data: bytes) -> None:
            protocol.transport.write(b"half")
            raise ZeroDivisionError

        self.adopt(inner(on_data=fail), prefix=b"x")
        self.assertEqual(self.protocol.lost, [ZeroDivisionError])
        self.assertEqual(received(self.client), b"")
        self.flushLoggedErrors(ZeroDivisionError)

    def test_without_a_turn(self) -> None:
        """Without a turn to wait for, what is written is sent at once."""
        transport = self.adopt(inner(on_data=lambda self, data: self.transport.write(data)))
        transport.turn = None
        self.client.send(b"hello")
        self.reactor.doIteration(1)
        self.assertEqual(received(self.client), b"hello")

    def test_agree(self) -> None:
        """Corked or not, clients and protocols see the same."""
        courses: tuple[Callable[[Inner, bytes], Any], ...] = (
            lambda protocol, data: protocol.transport.write(data),
            lambda protocol, data: protocol.transport.loseConnection(),
            lambda protocol, data: (
                protocol.transport.write(data),
                protocol.transport.write(bytes(LARGE)),
                protocol.transport.loseConnection(),
            ),
            lambda protocol, data: protocol.transport.abortConnection(),
            lambda protocol, data: (
                protocol.transport.pauseProducing(),
                protocol.transport.write(data),
                protocol.transport.resumeProducing(),
            ),
        )
        for course in courses:
            corked = self.course(course)
            with mock.patch.multiple(MovableServer, startWriting=_start, startReading=_read):
                plain = self.course(course)
            self.assertEqual(corked, plain)
            with mock.patch.object(self.turn, "add", MovableServer.end_turn):
                at_once = self.course(course)
            self.assertEqual(at_once, plain)

    def course(self, on_data: Callable[[Inner, bytes], Any]) -> tuple[object, ...]:
        """What is seen of a connection on which `on_data` is called."""
        self.adopt(inner(on_data=on_data))
        self.client.send(b"request")
        self.until(lambda: self.protocol.pieces)
        size = self.drained()
        if not self.protocol.lost:
            self.client.send(b"more")
            self.until(lambda: self.protocol.data == b"requestmore")
        return size, self.protocol.pieces, self.protocol.lost, self.transport.closings

    def drained(self) -> int:
        """How many bytes the client gets until nothing comes any more."""
        size = quiet = 0
        while quiet < 5:
            self.reactor.iterate(0.01)
            try:
                data = received(self.client)
            except ConnectionResetError:
                return size
            size += len(data or b"")
            quiet = 0 if data else quiet + 1
        return size


def _start(transport: Any) -> None:
    """Start writing as `MovableServer.startWriting` does without a cork."""
    transport.reactor.addWriter(transport)


def _read(transport: Any) -> None:
    """Start reading as `MovableServer.startReading` does without a cork."""
    transport._reading = transport._watched = True
    transport.reactor.addReader(transport)
