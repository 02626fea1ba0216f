"""Connections that were accepted elsewhere: their first bytes, their end, their addresses."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.python.failure import Failure

from tests.shells import ended
from tests.transport.cases import PEER, ConnectionCase, HalfCloseable, Inner, inner
from txsticky.transport.adopt import adopt, begin, host_address, peer_address
from txsticky.transport.movable import MovableServer, MovableUNIXServer


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
        """Without bytes read elsewhere nothing is delivered until the client sends."""
        self.adopt()
        self.run_a_bit()
        self.assertEqual(self.protocol.pieces, [])
        self.client.sendall(b"hello")
        self.until(lambda: self.protocol.data)
        self.assertEqual(self.protocol.data, b"hello")

    def test_nothing_to_do(self) -> None:
        """A connection that brought no bytes has the reactor call nothing."""
        with mock.patch.object(self.reactor, "callLater") as later:
            self.adopt()
        self.assertEqual(later.mock_calls, [])

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
        self.assertEqual(self.reactor.getDelayedCalls(), [])
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
        """A protocol that fails over a prefix that came later ends its connection as well."""
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
    """The addresses at the two ends."""

    def addresses(
        self, server: socket.socket, peer: tuple[str, int], make: Any = MovableServer
    ) -> tuple[Any, Any, Any]:
        """What the factory was told, and the transport says: peer, peer, host."""
        factory = mock.Mock(**{"buildProtocol.return_value": Inner()})
        transport = adopt(self.reactor, server, peer, factory, make, 7)
        begin(transport, b"")
        return factory.buildProtocol.call_args.args[0], transport.getPeer(), transport.getHost()

    def test_ipv4(self) -> None:
        """Over IPv4 the peer has the name that it was given, the host that of the socket."""
        server, client = self.connected()
        peer = IPv4Address("TCP", *client.getsockname())
        host = IPv4Address("TCP", *client.getpeername())
        self.assertEqual(self.addresses(server, client.getsockname()), (peer, peer, host))

    def test_ipv6(self) -> None:
        """Over IPv6 the peer has the name that it was given, the host that of the socket."""
        server, client = self.connected(socket.AF_INET6)
        peer = IPv6Address("TCP", *client.getsockname()[:2])
        built, said, host = self.addresses(server, client.getsockname()[:2])
        self.assertEqual((built, said), (peer, peer))
        self.assertEqual((type(host), host.host), (IPv6Address, "::1"))
        self.assertEqual(host.port, client.getpeername()[1])

    def test_unnamed(self) -> None:
        """A peer that was not named has the address that its transport was made with."""
        for family, kind in ((socket.AF_INET, IPv4Address), (socket.AF_INET6, IPv6Address)):
            server, client = self.connected(family)
            peer = client.getsockname()[:2]
            made = adopt(self.reactor, server, peer, mock.Mock(), MovableServer, 1)
            self.addCleanup(server.close)
            made.named_peer = None
            self.assertEqual((type(made.getPeer()), made.getPeer().port), (kind, peer[1]))

    def test_host_that_is_known(self) -> None:
        """The host is the one that came with the connection, if one did."""
        for name, kind in (("192.0.2.1", IPv4Address), ("2001:db8::1", IPv6Address)):
            self.adopt()
            self.transport.own_name = name, 80
            self.assertEqual(self.transport.getHost(), kind("TCP", name, 80))

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
        """Over a UNIX socket the peer has no name, and the host the socket's path."""
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
        """An end of a socket pair has no name at all."""
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

    def test_own_end(self) -> None:
        """A connection's own end is named in full, and an IPv4-mapped one as of IPv4."""
        for name, expected in (
            (("192.0.2.1", 80), IPv4Address("TCP", "192.0.2.1", 80)),
            (("::ffff:192.0.2.1", 80, 0, 0), IPv4Address("TCP", "192.0.2.1", 80)),
            (("::1", 80, 1, 2), IPv6Address("TCP", "::1", 80, 1, 2)),
        ):
            self.assertEqual(host_address(name), expected)

    def test_client(self) -> None:
        """The transport is told the client as accept(2) would name it."""
        for peer, client in (
            (("192.0.2.1", 7), ("192.0.2.1", 7)),
            (("2001:db8::1", 7), ("2001:db8::1", 7, 0, 0)),
        ):
            make, server = mock.Mock(), self.connected()[0]
            adopt(self.reactor, server, peer, mock.Mock(), make, 1)
            self.assertIn(client, make.call_args.args)
