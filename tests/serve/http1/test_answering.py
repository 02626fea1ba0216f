"""What answers requests through exchanges, behind a gate in memory and on a real connection."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.core.http.websocket.test_handshake import ACCEPT
from tests.core.http.websocket.test_handshake import request as handshake
from tests.gated import GatedPort, KeepingPolicy
from tests.serving import Connection, connect
from tests.transport.websockets.test_moves import FakeMovements
from txsticky.core.http.inside import Inside
from txsticky.serve.http1.answering import ExchangeFactory
from txsticky.serve.http1.exchange import Exchange
from txsticky.serve.protocol import FactoryServing

GET = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
SWITCH = [(b"Connection", b"Upgrade"), (b"Upgrade", b"x")]


class Noting:
    """
    Answers, and notes what it is told.

    :param exchange: the exchange.
    :param act: called with it once the request is whole.
    """

    def __init__(self, exchange: Exchange, act: Callable[[Exchange], object]) -> None:
        self.exchange = exchange
        self.act = act
        self.content = b""
        self.whole = False
        self.reason: Failure | None = None

    def body(self, data: bytes) -> None:
        """Note that content has come."""
        self.content += data

    def complete(self) -> None:
        """Note that the request is whole."""
        self.whole = True
        self.act(self.exchange)

    def lost(self, reason: Failure) -> None:
        """Note that the connection is over."""
        self.reason = reason


class Answers:
    """An application whose requests are kept."""

    def __init__(self, act: Callable[[Exchange], object] = lambda exchange: None) -> None:
        self.act = act
        self.made: list[Noting] = []

    def __call__(self, exchange: Exchange) -> Noting:
        """Begin to answer."""
        answer = Noting(exchange, self.act)
        self.made.append(answer)
        return answer


def answer(
    *pieces: bytes, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None
) -> Callable[[Exchange], None]:
    """Answer so."""

    def act(exchange: Exchange) -> None:
        exchange.respond(status, b"Fine", headers or [])
        for piece in pieces:
            exchange.write(piece)
        exchange.finish()

    return act


class ExchangeCase(SynchronousTestCase):
    """An application in memory."""

    def connect(self, act: Callable[[Exchange], object] = lambda exchange: None) -> Connection:
        """Connect to an application that acts so."""
        self.answers = Answers(act)
        return self.with_answers(self.answers)

    def with_answers(self, answers: Any, keep_alive: float = 5.0) -> Connection:
        """Connect to an application."""
        self.clock = Clock()
        factory = ExchangeFactory(answers, keep_alive, self.clock)
        factory.reactor = self.clock  # type: ignore[attr-defined]
        return Connection(factory)


class RequestTests(ExchangeCase):
    """What is told of a request."""

    def test_head(self) -> None:
        """An application is told the head, the addresses, and how the request was routed."""
        connection = self.connect()
        connection.send(GET)
        exchange = self.answers.made[0].exchange
        self.assertEqual((exchange.head.method, exchange.head.target), (b"GET", b"/a?b"))
        self.assertEqual(list(exchange.headers()), [(b"Host", b"a")])
        self.assertEqual((exchange.length, exchange.secure, exchange.how), (0, False, None))
        self.assertEqual(exchange.peer, connection.transport.getPeer())
        self.assertEqual(exchange.host, connection.transport.getHost())
        self.assertTrue(exchange.open)

    def test_content(self) -> None:
        """Content comes as it comes, then its end."""
        connection = self.connect()
        for piece in (POST[:-3], POST[-3:-1]):
            connection.send(piece)
        [made] = self.answers.made
        self.assertEqual((made.content, made.whole, made.exchange.length), (b"hell", False, 5))
        connection.send(POST[-1:])
        self.assertEqual((made.content, made.whole), (b"hello", True))

    def test_pause(self) -> None:
        """Nothing comes while the exchange is paused, and nothing is lost."""
        connection = self.connect()
        connection.send(POST[:-5])
        [made] = self.answers.made
        made.exchange.pause()
        connection.send(b"hello")
        self.assertEqual(made.content, b"")
        made.exchange.resume()
        connection.transport.turn()
        self.assertEqual((made.content, made.whole), (b"hello", True))

    def test_proceed(self) -> None:
        """A client that waits is told to go on when the application wants it, once."""
        connection = self.connect()
        connection.send(POST[:-5].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        exchange = self.answers.made[0].exchange
        self.assertTrue(exchange.expects)
        exchange.proceed()
        exchange.proceed()
        self.assertEqual(connection.send(b""), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertFalse(exchange.expects)

    def test_lost(self) -> None:
        """A client that leaves is told of, once, and the exchange does nothing any more."""
        connection = self.connect()
        connection.send(POST[:-1])
        [made] = self.answers.made
        connection.transport.lost()
        self.assertIsNotNone(made.reason)
        exchange = made.exchange
        self.assertFalse(exchange.open)
        answer(b"x")(exchange)
        for act in (exchange.pause, exchange.resume, exchange.proceed, exchange.abort):
            act()

    def test_fails(self) -> None:
        """What the application raises is logged, and answered with 500 or an end."""

        def refuse(exchange: Exchange) -> Noting:
            raise ZeroDivisionError

        def begin(exchange: Exchange) -> None:
            exchange.respond(200, b"", [(b"Content-Length", b"9")])
            exchange.write(b"some")
            raise ZeroDivisionError

        for application, begun in ((refuse, False), (Answers(lambda e: 1 // 0), False),
                                   (Answers(begin), True)):  # fmt: skip
            connection = self.with_answers(application)
            got = connection.send(GET)
            self.assertEqual(got.startswith(b"HTTP/1.1 500 "), not begun)
            self.assertEqual(connection.transport.aborted, begun)
            self.assertTrue(connection.closed)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ResponseTests(ExchangeCase):
    """What goes to the client."""

    def test_length(self) -> None:
        """A response with a length goes as it is, and the next request follows."""
        connection = self.connect(answer(b"ab", b"c", headers=[(b"Content-Length", b"3")]))
        wanted = b"HTTP/1.1 200 Fine\r\nContent-Length: 3\r\n\r\nabc"
        self.assertEqual(connection.send(GET + GET), wanted * 2)
        self.assertFalse(connection.closed)

    def test_chunks(self) -> None:
        """A response without a length goes in chunks; to HTTP/1.0 until the connection closes."""
        connection = self.connect(answer(b"ab", b"", b"c" * 17))
        head = b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = b"2\r\nab\r\n11\r\n" + b"c" * 17 + b"\r\n0\r\n\r\n"
        self.assertEqual(connection.send(GET), head + body)
        self.assertFalse(connection.closed)
        connection = self.connect(answer(b"ab"))
        old = connection.send(GET.replace(b"1.1", b"1.0"))
        self.assertEqual(old, b"HTTP/1.0 200 Fine\r\n\r\nab")
        self.assertTrue(connection.closed)

    def test_without_content(self) -> None:
        """To HEAD, with 204 and with 304 nothing is sent but the head; a 204 has no length."""
        for method, status, length in ((b"HEAD", 200, 1), (b"GET", 204, 0), (b"GET", 304, 1)):
            lines = [(b"Content-Length", b"2")]
            connection = self.connect(answer(b"ab", status=status, headers=lines))
            got = connection.send(GET.replace(b"GET", method))
            self.assertTrue(got.endswith(b"\r\n\r\n"))
            self.assertEqual(got.count(b"Content-Length"), length)
            self.assertFalse(connection.closed)

    def test_too_long_and_too_short(self) -> None:
        """What is too much is cut off; after what is too short the connection is closed."""
        for pieces, closes in (((b"abc", b"d"), False), ((b"a",), True), ((), True)):
            connection = self.connect(answer(*pieces, headers=[(b"Content-Length", b"2")]))
            got = connection.send(GET)
            self.assertEqual(got.partition(b"\r\n\r\n")[2], b"".join(pieces)[:2])
            self.assertEqual(connection.closed, closes)

    def test_close(self) -> None:
        """``close`` of either side is said once; other words of the connection are dropped."""
        lines = [(b"connection", b"x, Close"), (b"Keep-Alive", b"9"), (b"Transfer-Encoding", b"z")]
        for request in (GET, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")):
            connection = self.connect(answer(headers=[*lines, (b"Content-Length", b"0")]))
            self.assertEqual(
                connection.send(request),
                b"HTTP/1.1 200 Fine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )
            self.assertTrue(connection.closed)
        connection = self.with_answers(Answers(answer(b"a")), keep_alive=0)
        self.assertIn(b"\r\nConnection: close\r\n", connection.send(GET))

    def test_repeated_lines(self) -> None:
        """Lines that come again, short or long, are sent again, and bad ones are refused again."""
        for value in (b"x", b"x" * 2000):
            lines = [(b"A", value), (b"Content-Length", b"2"), (b"Connection", b"Close")]
            connection = self.connect(answer(b"ok", headers=lines))
            first = connection.send(GET)
            self.assertEqual(self.connect(answer(b"ok", headers=lines)).send(GET), first)
            self.assertIn(b"A: %b\r\n" % value, first)
            self.assertTrue(connection.closed)
            for _ in range(2):
                bad = [(b"A", value + b"\n")]
                self.assertIn(b" 500 ", self.connect(answer(headers=bad)).send(GET))
        self.flushLoggedErrors(ValueError)

    def test_bad_lines(self) -> None:
        """Header lines that are none are refused, and nothing of the response is sent."""
        for line in (
            (b"a b", b"c"), (b"", b"c"), (b"a", b"b\r\nc: d"), (b"a", b"\0"),
            (b"content-length", b"-1"), (b"content-length", b""),
        ):  # fmt: skip
            connection = self.connect()
            connection.send(GET)
            exchange = self.answers.made[0].exchange
            self.assertRaises(ValueError, exchange.respond, 200, b"", [line])
            answer(b"", headers=[(b"Content-Length", b"0")])(exchange)
            self.assertTrue(connection.send(b"").startswith(b"HTTP/1.1 200 Fine"))
        connection.send(GET)
        exchange = self.answers.made[1].exchange
        lengths = [(b"Content-Length", b"1"), (b"content-length", b"1")]
        self.assertRaises(ValueError, exchange.respond, 200, b"", lengths)
        self.assertRaises(RuntimeError, exchange.finish)
        exchange.respond(200, b"", [])
        self.assertRaises(RuntimeError, exchange.respond, 200, b"", [])

    def test_answered_early(self) -> None:
        """A request may be answered before it is whole: what follows of it is dropped."""
        connection = self.connect()
        connection.send(POST[:-3])
        [made] = self.answers.made
        answer(b"no")(made.exchange)
        self.assertFalse(made.exchange.open)
        connection.send(POST[-3:] + GET)
        self.assertEqual((made.content, made.whole), (b"he", False))
        self.assertEqual(self.answers.made[1].exchange.head.method, b"GET")

    def test_answered_while_the_client_waits(self) -> None:
        """A client that was not told to go on is told of the close (RFC 9110, 10.1.1)."""
        connection = self.connect()
        connection.send(POST[:-5].replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        answer(b"no")(self.answers.made[0].exchange)
        self.assertIn(b"\r\nConnection: close\r\n", connection.send(b""))
        self.assertTrue(connection.closed)

    def test_file(self) -> None:
        """A part of a file is sent at the client's pace, and told of when it is."""
        path = self.mktemp()
        content = bytes(range(256)) * 2000
        with open(path, "wb") as file:
            file.write(content)
        descriptor = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)

        def act(exchange: Exchange) -> None:
            exchange.respond(200, b"", [(b"Content-Length", b"400000")])
            exchange.send_file(descriptor, 1000, 400_000, exchange.finish)

        got = self.connect(act).send(GET)
        self.assertTrue(got.partition(b"\r\n\r\n")[2] == content[1000:401_000])

    def test_file_that_is_shorter(self) -> None:
        """A file that has become shorter ends the connection."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"abc")
        descriptor = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)

        def act(exchange: Exchange) -> None:
            exchange.respond(200, b"", [(b"Content-Length", b"10")])
            exchange.send_file(descriptor, 0, 10, exchange.finish)

        connection = self.connect(act)
        connection.send(GET)
        self.assertTrue(connection.transport.aborted)

    def test_upgrade(self) -> None:
        """Behind a 101 what comes and goes is passed on as it is, and nothing is lost."""
        connection = self.connect(lambda exchange: exchange.respond(101, b"Switching", SWITCH))
        got = connection.send(UPGRADE + b"early")
        self.assertEqual(
            got, b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
        )
        [made] = self.answers.made
        made.exchange.write(b"frames")
        self.assertEqual(connection.send(b" late"), b"frames")
        self.assertEqual(made.content, b"early late")
        made.exchange.finish()
        self.assertTrue(connection.closed)


class Owner:
    """What has a detached socket."""

    over: Callable[[], None]

    def __init__(self) -> None:
        self.asked: list[str] = []

    def close(self) -> None:
        """Note that the socket is to be closed."""
        self.asked.append("close")

    def abort(self) -> None:
        """Note that the socket is to be closed at once."""
        self.asked.append("abort")


class DetachTests(TestCase):
    """The bare socket, from a real connection."""

    timeout = 20

    async def test_moving(self) -> None:
        """The socket is not taken where the operator lets WebSockets move; Engine.IO's is."""
        found: list[tuple[bool, bool]] = []

        def act(exchange: Exchange) -> None:
            exchange.stay_while(lambda: True)
            before = exchange.can_detach
            exchange.respond(101, b"", [*SWITCH, (b"Sec-WebSocket-Accept", ACCEPT)])
            found.append((before, exchange.can_detach))
            exchange.abort()

        policy: Any = KeepingPolicy()
        policy.movements = FakeMovements("127.0.0.1")
        factory = ExchangeFactory(Answers(act), 5.0, reactor)
        serving = FactoryServing("wsgi", factory, http=True, events=True, inside=Inside())
        port = GatedPort(reactor, serving, policy)
        self.addCleanup(port.close)
        self.addCleanup(factory.stopFactory)
        for always, target in ((True, b"/"), (True, b"/?EIO=4"), (False, b"/")):
            policy.movements.always = always
            client = await connect(port.port, handshake(target=target).raw)
            await client.gone
        self.assertEqual(found, [(False, False), (True, True), (True, True)])
        self.assertEqual([p.at_work for p in policy.movements.passports], [True] * 3)

    async def test_detached(self) -> None:
        """The socket is taken behind the 101, with what has come; its owner may be asked to end."""
        owner = Owner()
        taken: list[tuple[socket.socket, bytes]] = []

        def act(exchange: Exchange) -> None:
            self.assertTrue(exchange.can_detach)
            self.assertRaises(RuntimeError, exchange.detach, owner, lambda *got: None)
            exchange.respond(101, b"Switching", SWITCH)
            exchange.detach(owner, lambda *got: taken.append(got))
            self.assertFalse(exchange.open)

        factory = ExchangeFactory(Answers(act), 5.0, reactor)
        serving = FactoryServing("wsgi", factory, http=True, events=True, inside=Inside())
        port = GatedPort(reactor, serving)
        self.addCleanup(port.close)
        self.addCleanup(factory.stopFactory)
        client = await connect(port.port, UPGRADE + b"early")
        await client.until(b"\r\n\r\n")
        while not taken:
            await deferLater(reactor, 0.01)
        [(sock, held)] = taken
        self.assertEqual(held, b"early")
        kept = port.transports[0].connection
        self.assertTrue(kept.transport.live())
        kept.transport.loseConnection()
        kept.transport.abortConnection()
        self.assertEqual((owner.asked, kept.transport.let_go(True)), (["close", "abort"], False))
        sock.send(b"from the owner")
        await client.until(b"from the owner")
        self.assertEqual(kept.over, 0)
        sock.close()
        owner.over()
        owner.over()
        self.assertEqual((kept.over, kept.transport.live()), (1, False))
        await client.gone
