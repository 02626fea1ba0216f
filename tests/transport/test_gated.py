"""Real sockets: Twisted's transports with a gate in them, serving a real web server."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.serving import Page
from tests.shells import ShellCase, Stages, ended, received
from tests.transport.cases import GET, OK, SWITCHING, UPGRADE, FakePolicy, to
from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.transport.adopt import adopt, begin
from txsticky.transport.gate import Gate
from txsticky.transport.gated import GatedServer, GatedUNIXServer
from txsticky.transport.half_close import HALF_CLOSE_GRACE


class Kept(Stages):
    """What a worker keeps of a connection."""

    def __init__(self) -> None:
        self.closings = self.deliveries = 0
        self.moves: list[tuple[socket.socket, int, bytes]] = []

    def delivered(self) -> None:
        """Count that all is delivered which the connection brought."""
        self.deliveries += 1

    def closed(self) -> None:
        """Count that the connection is over."""
        self.closings += 1

    def departed(self, sock: socket.socket, place: int, held: bytes) -> None:
        """Keep what was given away."""
        self.moves.append((sock, place, held))


class TransportCase(ShellCase):
    """A real connection under a gate."""

    make: Any = GatedServer

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(lambda: [s.connectionLost(Failure(OSError())) for s in self.served])
        self.served: list[Any] = []

    def pair_of_sockets(self) -> tuple[socket.socket, socket.socket]:
        """Server's end and client's end."""
        return self.connected()

    def serve(
        self,
        answer: Callable[[Request], bytes | int] | Factory,
        prefix: bytes = b"",
        server: socket.socket | None = None,
    ) -> Any:
        """Serve a connection; sets client, transport, policy, kept."""
        if server is None:
            server, self.client = self.pair_of_sockets()
        factory: Any = answer
        if not isinstance(answer, Factory):
            factory = Site(Page(answer), reactor=self.reactor)
            factory.log = lambda request: None
        self.policy = FakePolicy()
        self.kept = Kept()
        transport = adopt(self.reactor, server, ("192.0.2.7", 1), factory, self.make, 1)
        transport.connection = self.kept
        transport.how = How.NEW
        transport.gate = Gate(transport, self.policy, Conversation(), "192.0.2.7", False)
        self.served.append(transport)
        begin(transport, prefix)
        return transport

    def get(self, end: bytes = b"") -> bytes:
        """Read until something has come, or to the end."""
        got = bytearray()

        def more() -> bool:
            got.extend(received(self.client) or b"")
            return got.endswith(end) if end else ended(self.client)

        self.until(more)
        return bytes(got)


class TransportTests(TransportCase):
    """A real connection under a gate, with twisted.web in it."""

    def test_request_by_request(self) -> None:
        """Requests are answered one after the other, until a foreign one takes the socket along."""
        transport = self.serve(lambda request: request.uri, GET)
        for number in range(3):
            self.client.sendall(to(1, number))
        self.until(lambda: self.policy.done == 4)
        self.client.sendall(to(3, 7) + b"more")
        self.until(lambda: self.kept.moves)
        ((sock, place, held),) = self.kept.moves
        self.owned(sock)
        self.assertEqual((place, held), (3, to(3, 7) + b"more"))
        got = received(self.client) or b""
        self.assertEqual(got.count(b"HTTP/1.1 200 OK"), 4)
        self.assertEqual((self.kept.closings, self.reactor.getReaders()), (0, []))
        self.assertFalse(transport.connected)

    def test_together(self) -> None:
        """What is written together from outside of a read leaves at once, with no writer."""
        asked: list[Request] = []

        def later(request: Request) -> int:
            asked.append(request)
            return NOT_DONE_YET

        transport = self.serve(later, GET)
        self.until(lambda: asked)
        sends = mock.Mock(side_effect=transport.sent_at_once)
        with mock.patch.object(transport, "sent_at_once", sends):
            transport.together(lambda: [asked[0].write(b"one"), asked[0].finish()])
        self.assertEqual(sends.call_count, 1)
        self.assertEqual(self.reactor.getWriters(), [])
        self.assertTrue((received(self.client) or b"").endswith(b"one\r\n0\r\n\r\n"))

    def test_together_in_a_delivery(self) -> None:
        """What is written together while bytes are delivered is done once, and leaves with them."""
        seen: list[bytes | None] = []

        class Inner(Protocol):
            def dataReceived(protocol, data: bytes) -> None:
                transport: Any = protocol.transport
                transport.together(lambda: transport.write(OK))
                seen.append(received(self.client))

        self.serve(Factory.forProtocol(Inner), GET)
        self.assertEqual((seen, received(self.client)), ([None], OK))

    def test_second_producer(self) -> None:
        """A second producer is refused, as by any transport, and the first is kept."""
        transport = self.serve(Factory.forProtocol(Protocol))
        first, second = mock.Mock(), mock.Mock()
        transport.registerProducer(first, True)
        self.assertRaises(RuntimeError, transport.registerProducer, second, True)
        self.assertIs(transport.producer, first)

    def test_producer_of_what_is_over(self) -> None:
        """A producer that comes when the connection is over is stopped at once."""
        transport = self.serve(Factory.forProtocol(Protocol))
        transport.connectionLost(Failure(OSError()))
        producer = mock.Mock()
        transport.registerProducer(producer, True)
        self.assertEqual(producer.mock_calls, [mock.call.stopProducing()])

    def test_long_content(self) -> None:
        """Content is read in pieces of 256 KiB, and not beyond what is certain to come."""
        content = bytes(356 << 10)
        request = to(1, 1, content)
        answer = lambda request: b"%d" % len(request.content.read())  # noqa: E731
        transport = self.serve(answer, request[: -len(content)])
        recv = mock.Mock(side_effect=io.BytesIO(content + to(3)).read)
        found = mock.Mock(wraps=transport.socket, recv=recv)
        with mock.patch.object(transport, "socket", found):
            transport.doRead()
            transport.pauseProducing()
            transport.doRead()
            transport.resumeProducing()
            transport.doRead()
        self.assertEqual(recv.mock_calls, [mock.call(256 << 10), mock.call(100 << 10)])
        self.get(b"\r\n\r\n%d" % len(content))

    def test_rest_of_what_was_brought(self) -> None:
        """The rest of a request that was brought is read with it, if it is here."""
        for size in (1 << 10, 100 << 10):
            server, self.client = self.pair_of_sockets()
            request = to(1, 1, bytes(size))
            self.client.sendall(request[500:])
            self.serve(lambda request: b"answer", request[:500], server)
            self.assertEqual(self.policy.done, 1)

    def test_rest_that_is_not_here(self) -> None:
        """The reactor waits for a rest that is not here, and for nothing once it is whole."""
        for size in (1 << 10, 100 << 10):
            request = to(1, 1, bytes(size))
            self.serve(lambda request: b"answer", request[:500])
            self.assertEqual(self.policy.done, 0)
            self.client.sendall(request[500:])
            self.get(b"answer")

    def test_delivered(self) -> None:
        """The worker is told once that all is delivered which the connection brought."""
        self.serve(lambda request: b"answer", GET)
        self.client.sendall(GET)
        self.until(lambda: self.policy.done == 2)
        self.assertEqual(self.kept.deliveries, 1)

    def test_and_goes_on_there(self) -> None:
        """A connection that was given away is adopted and goes on as if nothing had happened."""
        self.serve(lambda request: b"one", GET)
        self.client.sendall(to(3, 7, b"body"))
        self.until(lambda: self.kept.moves)
        ((sock, _, held),) = self.kept.moves
        self.serve(lambda request: b"two " + request.content.read(), held, sock)
        self.get(b"two body")

    def test_big_response_first(self) -> None:
        """A big response reaches the client whole before the connection leaves."""
        self.serve(lambda request: b"#" * 5_000_000 + b"end", GET + to(3))
        self.assertEqual(self.get(b"end").count(b"#"), 5_000_000)
        self.until(lambda: self.kept.moves)
        self.owned(self.kept.moves[0][0])

    def test_protocol_hears_of_an_idle_client_that_left(self) -> None:
        """To the protocol the client has closed; whatever it does then does no harm."""
        lost = []

        class Inner(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(OK)

            def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
                lost.append(reason.type.__name__)
                self.transport.write(b"lost")
                self.transport.loseConnection()
                self.transport.abortConnection()

        self.serve(Factory.forProtocol(Inner), GET)
        self.client.sendall(to(3))
        self.until(lambda: self.kept.moves)
        ((sock, _, _),) = self.kept.moves
        self.owned(sock)
        self.reactor.settle()
        self.assertEqual((lost, received(self.client)), (["ConnectionDone"], OK))
        sock.send(b"alive")
        self.until(lambda: received(self.client) == b"alive")

    def test_aborted_with_a_foreign_request_behind(self) -> None:
        """A connection that the protocol aborts does not move, whatever is held."""

        class Inner(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(OK)
                self.transport.abortConnection()

        self.serve(Factory.forProtocol(Inner), GET + to(3))
        self.reactor.settle()
        self.assertEqual((self.kept.moves, self.kept.closings), ([], 1))

    def test_half_closed(self) -> None:
        """A client that closes its side behind its request gets its answer, and then the end."""
        self.serve(lambda request: b"answer", GET)
        self.client.shutdown(socket.SHUT_WR)
        self.assertTrue(self.get().endswith(b"answer"))
        self.until(lambda: self.kept.closings)

    def test_gone(self) -> None:
        """A client that has left while it waited is noticed, though nothing is written to it."""
        requests: list[Request] = []
        self.serve(lambda request: requests.append(request) or NOT_DONE_YET, GET)
        left = []
        requests[0].notifyFinish().addErrback(left.append)
        self.client.close()
        for _ in range(3):
            self.reactor.settle()
            self.reactor.advance(HALF_CLOSE_GRACE / 4)
        self.until(lambda: self.kept.closings)
        self.assertEqual(len(left), 1)

    def test_half_closed_before_a_big_response(self) -> None:
        """A big answer is whole for a client that has closed its side, and then it ends."""
        requests = []
        self.serve(lambda request: requests.append(request) or NOT_DONE_YET, GET)
        self.client.shutdown(socket.SHUT_WR)
        self.until(lambda: self.reactor.getReaders() == [])
        requests[0].write(b"#" * 5_000_000)
        requests[0].finish()
        self.assertEqual(self.get().count(b"#"), 5_000_000)
        self.until(lambda: self.kept.closings)

    def test_half_closed_behind_a_big_response(self) -> None:
        """A big answer is whole if the client closes its side while it is under way."""
        self.serve(lambda request: b"#" * 5_000_000, GET)
        self.client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.get().count(b"#"), 5_000_000)
        self.until(lambda: self.kept.closings)

    def test_left_registered(self) -> None:
        """A WebSocket's connection is closed, though the HTTP channel was paused as a producer."""

        class Upgraded(Protocol):
            def connectionMade(self) -> None:
                self.calls: list[str] = []
                self.transport.registerProducer(self, True)

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(SWITCHING + b"#" * 5_000_000)
                self.transport.loseConnection()

            def pauseProducing(self) -> None:
                self.calls.append("pause")

            def resumeProducing(self) -> None:
                self.calls.append("resume")

        transport = self.serve(Factory.forProtocol(Upgraded), UPGRADE)
        inner = transport.protocol
        self.assertEqual(self.get().count(b"#"), 5_000_000)
        self.until(lambda: self.kept.closings)
        self.assertEqual(inner.calls, ["pause", "resume"])

    def test_client_closes(self) -> None:
        """A client that closes between two requests ends the connection."""
        self.serve(lambda request: b"answer", GET)
        self.get(b"answer")
        self.client.close()
        self.until(lambda: self.kept.closings)
        self.assertEqual((self.kept.moves, self.kept.closings), ([], 1))

    def test_drain(self) -> None:
        """An idle connection is given away, empty."""
        transport = self.serve(lambda request: b"answer", GET)
        self.until(lambda: self.policy.done)
        self.assertTrue(transport.gate.drain())
        ((sock, place, held),) = self.kept.moves
        self.owned(sock)
        self.assertEqual((place, held), (0, b""))
        self.get(b"answer")

    def test_confirmed(self) -> None:
        """A response waits for what was bound before it."""
        self.serve(lambda request: b"answer")
        self.policy.unconfirmed = 1
        self.client.sendall(GET)
        self.until(lambda: self.policy.done)
        self.reactor.settle()
        self.assertIsNone(received(self.client))
        self.policy.confirm()
        self.get(b"answer")

    def test_half_closed_by_the_protocol(self) -> None:
        """A response waits behind which the protocol ends its output; then nothing moves it."""
        transport = self.serve(Factory.forProtocol(Protocol), GET)
        self.policy.unconfirmed = 1
        transport.write(OK)
        transport.loseWriteConnection()
        self.reactor.settle()
        self.assertIsNone(received(self.client))
        self.policy.confirm()
        self.get(OK[-2:])
        self.assertFalse(transport.gate.drain())

    def withheld(self) -> None:
        """Have a response of a million bytes withheld, which makes the HTTP channel pause."""

        def answer(request: Request) -> bytes:
            self.policy.unconfirmed = 1
            return b"#" * 1_000_000

        transport = self.serve(answer, GET)
        self.reactor.settle()
        self.assertEqual((received(self.client), transport.producerPaused), (None, True))

    def test_withheld_and_half_closed(self) -> None:
        """A client that closes its side while a response waits gets it, and then the end."""
        self.withheld()
        self.client.shutdown(socket.SHUT_WR)
        self.reactor.settle()
        self.policy.confirm()
        self.assertEqual(self.get().count(b"#"), 1_000_000)
        self.until(lambda: self.kept.closings)

    def test_withheld_and_leaving(self) -> None:
        """A connection whose next request is foreign leaves when all that waits is sent."""
        self.withheld()
        self.client.sendall(to(3) + b"end")
        self.policy.confirm()
        got = bytearray()
        self.until(lambda: got.extend(received(self.client) or b"") or self.kept.moves)
        ((sock, place, held),) = self.kept.moves
        self.owned(sock)
        self.assertEqual((place, held), (3, to(3) + b"end"))
        got += received(self.client) or b""
        self.assertEqual(got.count(b"#"), 1_000_000)

    def test_withheld_by_a_producer(self) -> None:
        """A producer of a response is paused once, and resumed once when all is sent."""
        producer = mock.Mock()

        def answer(request: Request) -> int:
            self.policy.unconfirmed = 1
            request.registerProducer(producer, True)
            request.write(b"#" * 1_000_000)
            return NOT_DONE_YET

        self.serve(answer, GET)
        self.reactor.settle()
        calls = [mock.call.pauseProducing()]
        self.assertEqual(producer.method_calls, calls)
        self.policy.confirm()
        self.get(b"#\r\n")
        self.until(lambda: len(producer.method_calls) > 1)
        self.assertEqual(producer.method_calls, [*calls, mock.call.resumeProducing()])

    def test_protocol_fails(self) -> None:
        """A protocol that fails over a request that waited ends its connection alone."""

        class Inner(Protocol):
            def dataReceived(self, data: bytes) -> None:
                if b"bad" in data:
                    raise ZeroDivisionError
                self.transport.write(OK)

        self.serve(Factory.forProtocol(Inner), GET + to(1, 1, b"bad"))
        self.reactor.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.kept.closings, 1)


class ReadTests(TransportCase):
    """How much is read from a TCP connection at once."""

    def test_short_content(self) -> None:
        """Of a content of less than 64 KiB what follows it is read with it, in one call."""
        content = bytes(100)
        transport = self.serve(lambda request: b"answer", to(1, 1, content)[:-100])
        recv = mock.Mock(side_effect=io.BytesIO(content + to(1)).read)
        found = mock.Mock(wraps=transport.socket, recv=recv)
        with mock.patch.object(transport, "socket", found):
            transport.doRead()
        self.assertEqual(recv.mock_calls, [mock.call(64 << 10)])
        self.assertEqual(self.policy.done, 2)


class UNIXTransportTests(TransportTests):
    """A real connection under a gate, over a UNIX socket."""

    make = GatedUNIXServer

    def pair_of_sockets(self) -> tuple[socket.socket, socket.socket]:
        return self.pair()
