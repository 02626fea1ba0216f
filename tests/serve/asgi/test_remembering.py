"""uvicorn's protocol with a memory: requests that come again are served as those that are new."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from unittest import mock

import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.asgi import LoopCase, Receive, Scope, Send
from tests.integration.rawhttp import chunk, request
from txsticky.serve.asgi import remembering
from txsticky.serve.asgi.engine import protocol_class
from txsticky.serve.asgi.receiving import Receiving
from txsticky.serve.asgi.remembering import Memory, RememberingProtocol

GET = request("GET", "/")
LENGTH = (b"content-length", b"2")


class Outside(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.7", 5), "sockname": ("127.0.0.1", 80)})
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed or not data
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Do nothing."""

    resume_reading = pause_reading


class App:
    """
    Answers with the messages that it is given, when it has the whole request.

    :ivar told: the scopes and the contents.
    """

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages
        self.told: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        seen = {**scope, "headers": list(scope["headers"]), "asgi": dict(scope["asgi"])}
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.told.append((seen, body))
        # What an application may do to what it is given.
        scope["headers"].append((b"spoilt", b""))
        scope["asgi"]["spoilt"] = scope["state"]["spoilt"] = scope["spoilt"] = True
        for message in self.messages:
            await send(dict(message))


def start(*headers: Any, status: int = 200) -> dict[str, Any]:
    """The message that begins a response."""
    return {"type": "http.response.start", "status": status, "headers": [*headers]}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    """A message with content."""
    return {"type": "http.response.body", "body": data, "more_body": more}


OK = (start(LENGTH), body(b"ok"))


class RememberingCase(LoopCase):
    """Protocols on connections that the test plays."""

    def setUp(self) -> None:
        super().setUp()
        logger, quiet = logging.getLogger("uvicorn.error"), logging.NullHandler()
        logger.addHandler(quiet)
        self.addCleanup(logger.removeHandler, quiet)
        self.state = uvicorn.Server(uvicorn.Config(App(), log_config=None)).server_state
        self.state.default_headers = [(b"date", b"now"), (b"server", b"uvicorn")]

    def connect(self, make: Any, app: Any) -> tuple[Any, Outside]:
        """A protocol on a connection."""
        config = uvicorn.Config(app, loop="none", interface="asgi3", log_config=None)
        config.load()
        protocol = make(config=config, server_state=self.state, app_state={}, _loop=self.loop)
        outside = Outside()
        protocol.connection_made(outside)
        return protocol, outside

    def play(self, make: Any, pieces: tuple[bytes, ...], messages: Any) -> Any:
        """What the application is told of pieces, and what the client gets."""
        app = App(*messages)
        protocol, outside = self.connect(make, app)
        seen = []
        for piece in pieces:
            if not outside.closed:
                protocol.data_received(piece)
                self.turn()
                seen.append((outside.written, outside.closed))
        if not outside.closed:
            protocol.connection_lost(None)
        self.turn()
        return app.told, seen

    def alike(self, *pieces: bytes, answer: Any = OK, times: int = 4) -> Memory:
        """
        Assert that with a memory the same happens as without.

        :param pieces: what a client sends, several times.
        :param answer: the messages of the application.
        :returns: the memory.
        """
        memory = Memory()
        with_memory: Any = lambda **named: RememberingProtocol(memory, **named)  # noqa: E731
        expected = self.play(HttpToolsProtocol, pieces * times, answer)
        for _ in range(4):  # where the answer closes the connection, each is one time
            self.assertEqual(self.play(with_memory, pieces * times, answer), expected)
        return memory

    def remembers(self, memory: Memory) -> bool:
        """Whether a memory has a request."""
        return any(found is not None for found in memory.requests.values())


class RequestTests(RememberingCase):
    """What the application is told."""

    def test_plain(self) -> None:
        """Requests with and without content are remembered, and none is told of another."""
        posts = [
            request("POST", "/a%20b?c=d", body=data, headers=[("X", "y")])
            for data in (b"one", b"two")
        ]
        for pieces in ((GET,), (GET, request("HEAD", "/"), *posts), (posts[0] + GET,)):
            self.alike(*pieces)
        self.assertTrue(self.remembers(self.alike(GET, *posts)))

    def test_parser_is_not_asked(self) -> None:
        """Of a request that comes the third time httptools is not told."""
        memory = Memory()
        protocol, outside = self.connect(
            lambda **named: RememberingProtocol(memory, **named), App(*OK)
        )
        for count in range(1, 5):
            with mock.patch.object(protocol, "parser", wraps=protocol.parser) as parser:
                protocol.data_received(GET)
                self.turn()
            self.assertEqual(parser.feed_data.called, count < 3)
            self.assertEqual(outside.written.count(b"ok"), count)
        self.assertEqual(self.state.total_requests, 4)

    def test_in_pieces(self) -> None:
        """What comes in pieces, or several at once, is read."""
        post = request("POST", "/", body=b"four")
        for pieces in (
            (GET, GET[:9], GET[9:]),
            (post, post[:-4], post[-4:]),
            (post, post[:-2], post[-2:]),
            (GET, GET + GET),
            (GET + post,),
            (GET, b"\r\n" + GET),
        ):
            self.alike(*pieces)

    def test_read_each_time(self) -> None:
        """What is no plain request is remembered never."""
        chunked = request("POST", "/", headers=[("Transfer-Encoding", "chunked")])
        for piece in (
            chunked + chunk(b"abc") + chunk(b""),
            request("POST", "/", body=b"abc", headers=[("Expect", "100-continue")]),
            GET.replace(b"1.1", b"1.0"),
            request("GET", "/" + 3000 * "a"),
            b"nonsense\r\n\r\n",
        ):
            self.assertFalse(self.remembers(self.alike(piece)), piece)

    def test_upgrade(self) -> None:
        """The offer of another protocol is no plain request."""
        offer = request("GET", "/", headers=[("Connection", "Upgrade"), ("Upgrade", "other")])
        self.alike(offer)

    def test_last(self) -> None:
        """A request that says that none follows is remembered with that."""
        last = request("GET", "/", headers=[("Connection", "close")])
        self.assertTrue(self.remembers(self.alike(GET, last)))

    def test_bound(self) -> None:
        """The memory has an end."""
        memory = Memory()
        with mock.patch.object(remembering, "_MEMORY", 3):
            for number in range(20):
                memory.seen(b"%d" % number)
                self.assertLessEqual(len(memory.requests), 3)
        self.assertTrue(memory.seen(b"19"))


class ResponseTests(RememberingCase):
    """What the client gets."""

    def test_framings(self) -> None:
        """Responses of all kinds, right and wrong, to GET and HEAD."""
        chunked = (b"Transfer-Encoding", b"chunked")
        for answer in (
            (start(), body(b"ok")),
            (start(), body(b"o", more=True), body(b"k")),
            (start(LENGTH), body(b"o", more=True), body(b"k")),
            (start((b"X", b"y"), chunked), body(b"ok")),
            (start(LENGTH, (b"Connection", b"a, Close")), body(b"ok")),
            (start(LENGTH, LENGTH), body(b"ok")),
            (start([b"x", b"y"], LENGTH), body(b"ok")),
            (start((b"long", 2000 * b"y"), LENGTH), body(b"ok")),
            (start(LENGTH), body(b"too long")),
            (start(LENGTH), body(b"k")),
            (start(status=204), body(b"")),
            (start(status=304), body(b"")),
            (start((b"not a name", b"y"), LENGTH), body(b"ok")),
            (start((b"x", b"two\r\nlines"), LENGTH), body(b"ok")),
            (start((b"content-length", b"two")), body(b"ok")),
            (start(LENGTH, status=999), body(b"ok")),
            (body(b"ok"),),
            (start(LENGTH),),
            (start(LENGTH), start(LENGTH)),
            (*OK, body(b"ok")),
            (),
        ):
            for piece in (GET, request("HEAD", "/")):
                with self.subTest(answer=answer, piece=piece):
                    self.alike(piece, answer=answer)
                    self.alike(
                        piece, request("GET", "/", headers=[("Connection", "close")]), answer=answer
                    )

    def test_lines_are_bounded(self) -> None:
        """The memory of header lines has an end, and holds none that are long."""
        memory = Memory()
        with mock.patch.object(remembering, "_HEADS", 3):
            for number in range(20):
                memory.lines([(b"x", b"%d" % number)])
                memory.lines([(b"x", b"%2000d" % number)])
                self.assertLessEqual(len(memory._read), 3)
        self.assertEqual({len(line[0][1]) < 3 for line in memory._read}, {True})
        self.assertEqual(memory.lines([(b"X", b"9")]), (b"x: 9\r\n", 0, None, False))

    def test_counting_is_left_out(self) -> None:
        """What counts the messages of WebSockets takes no part in requests."""
        app = App(*OK)
        config = uvicorn.Config(Receiving(app), loop="none", interface="asgi3", log_config=None)
        config.proxy_headers = False
        config.load()
        protocol = RememberingProtocol(
            Memory(), config=config, server_state=self.state, app_state={}, _loop=self.loop
        )
        self.assertIs(protocol.app, app)

    def test_date(self) -> None:
        """The server's own header lines are those of the moment."""
        memory = Memory()
        for when in (b"now", b"then"):
            headers = [(b"date", when)]
            for _ in range(2):
                self.assertEqual(memory.default_lines(headers), b"date: %b\r\n" % when)


class IdleTests(RememberingCase):
    """The time between two requests."""

    def test_idle(self) -> None:
        """A connection is closed when no request has come for the whole time since the last."""
        make = lambda **named: RememberingProtocol(Memory(), **named)  # noqa: E731
        protocol, outside = self.connect(make, App(*OK))
        protocol.timeout_keep_alive = 60
        now = self.loop.time()
        with mock.patch.object(protocol, "loop", wraps=self.loop) as loop:
            for passed in (0, 10, 20, 30):
                loop.time.side_effect = lambda: now + passed  # noqa: B023
                protocol.data_received(GET)
                self.turn()
            (first,) = {call.args[0] for call in loop.call_later.mock_calls}
            loop.time.side_effect = lambda: now + 60
            protocol.timeout_keep_alive_handler()
            self.assertEqual((first, loop.call_later.call_args.args[0]), (60, 30))
            self.assertFalse(outside.closed)
            loop.time.side_effect = lambda: now + 90
            protocol.timeout_keep_alive_handler()
        self.assertTrue(outside.closed)

    def test_request_under_way(self) -> None:
        """While a request is answered the connection stays, and has its time afterwards."""
        make = lambda **named: RememberingProtocol(Memory(), **named)  # noqa: E731
        protocol, outside = self.connect(make, App(*OK))
        for _ in range(3):
            protocol.data_received(GET)
            self.turn()
        protocol.data_received(GET)
        protocol.timeout_keep_alive_handler()
        self.assertIsNone(protocol.timeout_keep_alive_task)
        self.turn()
        self.assertIsNotNone(protocol.timeout_keep_alive_task)
        self.assertFalse(outside.closed)


class ChoiceTests(RememberingCase):
    """Which protocols have a memory."""

    def test_known(self) -> None:
        """uvicorn's on httptools has one, in the version that the tests have."""
        self.assertIs(protocol_class(HttpToolsProtocol).func, RememberingProtocol)

    def test_others(self) -> None:
        """Another, or one of a version that has other ways, is taken as it is."""
        from uvicorn.protocols.http.h11_impl import H11Protocol

        self.assertIs(protocol_class(H11Protocol), H11Protocol)
        with mock.patch.object(remembering, "_CYCLE", frozenset({"self"})):
            self.assertIs(protocol_class(HttpToolsProtocol), HttpToolsProtocol)
        with mock.patch.object(httptools_impl, "HttpToolsProtocol") as other:
            other.__module__ = HttpToolsProtocol.__module__
            self.assertIs(protocol_class(other), other)
