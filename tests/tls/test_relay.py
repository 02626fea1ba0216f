"""The pipe between the worker that ends TLS and the one that serves a request."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.shells import ShellCase, ended, no_descriptors_left, received
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.tls.relay import Relay, RelayedServer

BIG = b"x" * (4 << 20)


class Near:
    """The client's side of a relay: a transport that writes down what it is told."""

    def __init__(self) -> None:
        self.written = b""
        self.calls: list[str] = []
        self.producer: Any = None
        self.open_response = self.to_the_end = False

    def write(self, data: bytes) -> None:
        self.written += data

    def unfinished(self, cleanly: bool) -> bool:
        return self.open_response and not (cleanly and self.to_the_end)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


class RelayTests(ShellCase):
    """The end of a pipe in the worker that ends TLS."""

    def setUp(self) -> None:
        """A relay that is not open yet."""
        super().setUp()
        self.near = Near()
        self.given: list[bytes] = []
        self.far: socket.socket
        self.relay = Relay(self.reactor, self.give)
        self.relay.makeConnection(self.near)  # type: ignore[arg-type]

    def give(self, sock: socket.socket, data: bytes) -> None:
        """Take the other end."""
        self.far = self.owned(sock)
        self.given.append(data)

    def opened(self) -> socket.socket:
        """The other end, after the first bytes."""
        self.relay.dataReceived(b"first")
        return self.far

    def test_first_bytes(self) -> None:
        """The first bytes go along with the other end, later ones through the pipe, in order."""
        far = self.opened()
        self.relay.dataReceived(b"second ")
        self.relay.dataReceived(b"third")
        self.reactor.settle()
        self.assertEqual(self.given, [b"first"])
        self.assertEqual(received(far), b"second third")
        self.leave(ConnectionDone())

    def leave(self, error: Exception) -> None:
        """Have the client leave."""
        self.relay.connectionLost(Failure(error))
        self.reactor.settle()

    def test_does_not_block(self) -> None:
        """A pipe that is full does not keep the reactor waiting."""
        self.opened()
        self.assertFalse(self.near.producer.socket.getblocking())
        self.leave(ConnectionDone())

    def test_not_opened(self) -> None:
        """A client that leaves without a byte costs no pipe."""
        self.leave(ConnectionDone())
        self.assertEqual(self.given, [])

    def test_answers(self) -> None:
        """What the other worker writes goes to the client."""
        far = self.opened()
        far.send(b"answer")
        self.reactor.settle()
        self.assertEqual(self.near.written, b"answer")
        self.leave(ConnectionDone())

    def test_the_other_worker_is_behind(self) -> None:
        """The client is not read while the pipe is full, and read again when it is not."""
        far = self.opened()
        self.relay.dataReceived(BIG)
        self.assertEqual(self.near.calls, ["pauseProducing"])
        got = 0
        while got < len(BIG):
            got += len(received(far) or b"")
            self.reactor.turn()
        self.assertEqual((got, self.near.calls), (len(BIG), ["pauseProducing", "resumeProducing"]))
        self.leave(ConnectionDone())

    def test_the_client_is_behind(self) -> None:
        """The pipe is not read while the client takes nothing, and read again when it does."""
        far = self.opened()
        self.near.producer.pauseProducing()
        far.send(b"answer")
        self.reactor.settle()
        self.assertEqual(self.near.written, b"")
        self.near.producer.resumeProducing()
        self.reactor.settle()
        self.assertEqual(self.near.written, b"answer")
        self.leave(ConnectionDone())

    def test_the_client_leaves(self) -> None:
        """The other worker gets what the client has sent, and then the end."""
        far = self.opened()
        self.relay.dataReceived(b"last")
        self.leave(ConnectionDone())
        self.assertEqual(far.recv(100), b"last")
        self.assertTrue(ended(far))
        self.assertEqual(self.near.calls, [], "nothing more is told of it")

    def test_the_client_leaves_early(self) -> None:
        """Another worker that is behind gets all that the client has sent, and then the end."""
        far = self.opened()
        self.relay.dataReceived(BIG)
        self.leave(ConnectionDone())
        got = 0
        while got < len(BIG):
            got += len(received(far) or b"")
            self.reactor.turn()
        self.assertTrue(ended(far))

    def test_the_client_vanishes(self) -> None:
        """The other worker gets the end at once when the client vanishes."""
        far = self.opened()
        self.relay.dataReceived(BIG)
        self.leave(ConnectionLost())
        self.assertLess(len(received(far) or b""), len(BIG))
        self.assertTrue(ended(far))

    def test_the_other_worker_closes(self) -> None:
        """After a whole response the connection is closed."""
        self.opened().close()
        self.reactor.settle()
        self.assertEqual(self.near.calls, ["loseConnection"])
        self.assertIsNone(self.near.producer)

    def test_the_other_worker_closes_early(self) -> None:
        """A client whose response stops short gets no close of TLS, and knows by that."""
        far = self.opened()
        far.send(b"part")
        self.near.open_response = True
        far.close()
        self.reactor.settle()
        self.assertEqual((self.near.written, self.near.calls), (b"part", ["cut"]))

    def reset(self) -> None:
        """Close the other end with bytes unread, which is an error to this one."""
        far = self.opened()
        self.relay.dataReceived(b"unread")
        self.reactor.settle()
        far.send(b"answer")
        far.close()
        self.reactor.settle()
        self.assertEqual(self.near.written, b"answer")

    def test_the_other_worker_does_not_read(self) -> None:
        """A whole response ends the connection, even if what the client sent was not read."""
        self.reset()
        self.assertEqual(self.near.calls, ["loseConnection"])

    def test_the_end_is_the_close(self) -> None:
        """A response that lasts until the close is whole if that is a clean one."""
        self.near.open_response = self.near.to_the_end = True
        self.opened().close()
        self.reactor.settle()
        self.assertEqual(self.near.calls, ["loseConnection"])

    def test_the_other_worker_aborts(self) -> None:
        """A response that lasts until the close is not whole if the pipe breaks."""
        self.near.open_response = self.near.to_the_end = True
        self.reset()
        self.assertEqual(self.near.calls, ["cut"])

    def test_no_descriptors(self) -> None:
        """Out of descriptors, the request is answered with 503 and the connection closed."""
        with no_descriptors_left():
            self.relay.dataReceived(b"first")
        head, _, body = self.near.written.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 503 "), head)
        self.assertIn(b"\r\nRetry-After: 1", head)
        self.assertIn(b" GMT\r\n", head)
        self.assertEqual(body, b"The request cannot be passed on.\n")
        self.assertEqual((self.near.calls, self.given), (["loseConnection"], []))
        self.flushLoggedErrors()


class RelayedTests(ShellCase):
    """The transport at the other end, where the request is served."""

    def relayed(self, host: tuple[str, int]) -> RelayedServer:
        """The transport of a connection to this address."""
        one, other = self.pair()
        self.client = other
        transport = RelayedServer(one, None, "", None, 1, self.reactor)

        class Connection:
            handoff = Handoff(
                family=socket.AF_UNIX,
                origin=Origin(("192.0.2.1", 4711), host, True),
            )

        transport.connection = Connection
        self.addCleanup(transport.stopReading)
        return transport

    def test_secure(self) -> None:
        """A relayed transport adapts to ISSLTransport, for isSecure(), and does not declare it."""
        transport = self.relayed(("192.0.2.2", 443))
        self.assertIs(ISSLTransport(transport, None), transport)
        self.assertFalse(ISSLTransport.providedBy(transport))
        self.assertIsNone(transport.getPeerCertificate())

    def test_host(self) -> None:
        """The own address of a relayed transport is the one that the client connected to."""
        self.assertEqual(
            self.relayed(("192.0.2.2", 443)).getHost(), IPv4Address("TCP", "192.0.2.2", 443)
        )
        self.assertEqual(
            self.relayed(("2001:db8::2", 443)).getHost(), IPv6Address("TCP", "2001:db8::2", 443)
        )

    def test_no_tcp(self) -> None:
        """Setting TCP_NODELAY is let pass; it is on, as where TLS is ended."""
        transport = self.relayed(("192.0.2.2", 443))
        transport.setTcpNoDelay(False)
        self.assertTrue(transport.getTcpNoDelay())
        transport.setTcpKeepAlive(True)
        self.assertTrue(transport.getTcpKeepAlive())
        verifyObject(ISSLTransport, transport, tentative=True)

    def test_end(self) -> None:
        """The end of input is the end: a client behind TLS does not half-close."""
        self.assertTrue(self.relayed(("192.0.2.2", 443)).ended())
