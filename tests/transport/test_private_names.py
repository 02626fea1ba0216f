"""The private names of Twisted that transport.movable needs mean what it takes them for."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any
from unittest import mock

from twisted.internet import abstract, error, main, tcp, unix
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory

from tests.shells import is_open, received
from tests.transport.cases import ConnectionCase, Inner
from txsticky.serve.web.site import allow_heads
from txsticky.transport.movable import DONE, MovableServer, spare


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
        """FileDescriptor.dataBuffer, offset, _tempDataBuffer, _tempDataLen: what is not sent."""
        transport, client = self.bare()
        waiting = lambda: len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # noqa: E731
        self.assertEqual(waiting(), 0)
        transport.write(b"abc")
        self.assertEqual((transport._tempDataBuffer, transport.dataBuffer), ([b"abc"], b""))
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
        client.settimeout(60)
        got = 0
        while got < 6 + size + 4:
            got += len(client.recv(1 << 20))
            transport.doWrite()
        self.assertEqual(waiting(), 0)

    def test_descriptors(self) -> None:
        """_SendmsgMixin._sendmsgQueue has the descriptors that go with the output."""
        transport = unix.Server(self.pair()[0], Inner(), "", None, 1, self.reactor)
        self.assertEqual(transport._sendmsgQueue, [])
        transport.sendFileDescriptor(0)
        self.assertEqual(transport._sendmsgQueue, [0])
        transport.connectionLost(Failure(main.CONNECTION_DONE))

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

    def test_constructors(self) -> None:
        """What tcp.Server's constructors set, ours sets, but for what the log calls it."""
        given: Any = (Inner(), ("192.0.2.7", 1), None, 1, self.reactor)
        theirs, ours = (
            tcp.Server(self.connected()[0], *given),
            MovableServer(self.connected()[0], *given),
        )
        theirs.stopReading()
        named = {"logstr"}
        self.assertEqual(set(vars(theirs)) - named, set(vars(ours)) - {"_reading"})
        same = set(vars(theirs)) - named - {"socket", "fileno"}
        for name in same:
            self.assertEqual(getattr(theirs, name), getattr(ours, name), name)
        for transport in (theirs, ours):
            transport.socket.close()

    def test_connection_lost(self) -> None:
        """What Connection.connectionLost does to a transport, ours does to an unwatched one."""
        ended = []
        for kind in (tcp.Server, MovableServer):
            protocol = Inner()
            sock, client = self.connected()
            transport: Any = kind(sock, protocol, ("192.0.2.7", 1), None, 1, self.reactor)
            protocol.makeConnection(transport)
            transport.stopReading()
            transport.connectionLost(DONE)
            self.assertEqual((protocol.lost, client.recv(1)), ([error.ConnectionDone], b""))
            kept = {key for key in vars(transport) if key[0] != "_" and key != "logstr"}
            ended.append((kept, transport.connected, transport.disconnected, sock.fileno()))
        self.assertEqual(*ended)

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
