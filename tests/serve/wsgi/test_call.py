"""Responses of WSGI applications: what is sent, when, and how often the reactor is woken."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

from twisted.logger import formatEvent, globalLogPublisher

from txsticky.core.how import How
from txsticky.serve.accesslog import LogLine
from txsticky.serve.wsgi.pending import SLICE

from .cases import CallCase, Channel, app_of, head_of

Start = Any
Environ = dict[str, Any]


class SayCase(CallCase):
    """What is logged meanwhile is kept."""

    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        observe = lambda event: self.said.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)


class WakeTests(SayCase):
    """How often the reactor is woken, and with what."""

    def once(self, app: Any, content: bytes, head: Any = None) -> Channel:
        """Assert that the whole response is sent in one wake, with no producer."""
        channel = self.ask(app, head)
        self.assertEqual((channel.content, channel.ends), (content, ["finish"]))
        self.assertEqual((self.woken, channel.producer), (1, None))
        return channel

    def test_list(self) -> None:
        """A list is sent as a whole, and its length is known."""
        channel = self.once(app_of(b"one ", b"", b"two"), b"one two")
        self.assertEqual((channel.header("Content-Length"), channel.writes), ("7", 1))

    def test_length(self) -> None:
        """What comes piece by piece is whole with its last byte, before the application ends."""
        ended: list[int] = []

        def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Length", "5")])
            yield b"hello"
            self.wake()
            ended.append(len(channel.ends))

        channel = Channel(head_of())
        self.begin(app, channel).complete()
        self.threads.go()
        self.assertEqual((channel.content, channel.ends, ended), (b"hello", ["finish"], [1]))
        self.wake()
        self.assertEqual(self.woken, 1)

    def test_empty(self) -> None:
        """A response without content is sent in one wake."""
        self.assertEqual(self.once(app_of(), b"").header("Content-Length"), "0")

    def test_piece_by_piece(self) -> None:
        """What has no known length is sent as it comes; no piece waits for the next."""

        def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            for piece in (b"one", b"two", b"three"):
                yield piece
                self.wake()
                self.assertTrue(channel.content.endswith(piece))

        channel = Channel(head_of())
        self.begin(app, channel).complete()
        self.threads.go()
        self.assertIsNotNone(channel.producer)
        self.wake()
        self.assertEqual((channel.content, channel.ends), (b"onetwothree", ["finish"]))
        self.assertIsNone(channel.header("Content-Length"))

    def test_pieces_that_meet(self) -> None:
        """Pieces that come while the reactor is on its way leave together."""
        channel = self.ask(app_of(b"one", b"two", b"three", as_list=False))
        self.assertEqual((self.woken, channel.writes, channel.content), (1, 1, b"onetwothree"))

    def test_large_list(self) -> None:
        """A large list is sent at the client's pace, in slices, and holds no thread."""
        channel = self.ask(app_of(b"a" * (3 * SLICE), b"", b"b" * SLICE))
        self.assertEqual(channel.header("Content-Length"), str(4 * SLICE))
        self.assertEqual(channel.content, b"a" * (3 * SLICE) + b"b" * SLICE)
        self.assertEqual((self.woken, channel.writes, channel.ends), (1, 4, ["finish"]))
        self.assertEqual(self.buffers.size, 0)

    def test_write(self) -> None:
        """What is written by the callable is sent at once, before what is returned."""

        def app(environ: Environ, start_response: Start) -> list[bytes]:
            write = start_response("201 Made", [("Content-Length", "9")])
            write(b"one ")
            self.wake()
            self.assertEqual(channel.content, b"one ")
            write(b"")
            write(b"two")
            return [b" 3"]

        channel = Channel(head_of())
        self.begin(app, channel).complete()
        self.threads.go()
        self.wake()
        self.assertEqual((channel.content, channel.ends), (b"one two 3", ["finish"]))


class HeadTests(SayCase):
    """The head of the response."""

    def test_date_and_server(self) -> None:
        """The server adds its name and the date, unless the application has."""
        channel = self.ask(app_of(b"x"))
        self.assertEqual(channel.header("Server"), "txsticky")
        self.assertRegex(channel.header("Date") or "", r"^\w{3}, \d\d \w{3} \d{4} [\d:]+ GMT$")
        own = [("Date", "then"), ("Server", "mine")]
        channel = self.ask(app_of(b"x", headers=own))
        names = [name for name, _ in channel.lines]
        self.assertEqual(names, [b"Date", b"Server", b"Content-Length"])

    def test_no_content(self) -> None:
        """To HEAD, and with 204 and 304, there is no content, and no length is made up."""
        for method, status in (("HEAD", "200 OK"), ("GET", "204 No"), ("GET", "304 Same")):
            for as_list in (True, False):
                for headers in ((), [("Content-Length", "7")]):
                    app = app_of(b"content", status=status, headers=headers, as_list=as_list)
                    channel = self.ask(app, head_of(method))
                    self.assertEqual((channel.content, channel.ends), (b"", ["finish"]))
                    known = bool(headers) or (as_list and method == "HEAD")
                    self.assertEqual(channel.header("Content-Length"), "7" if known else None)
        self.assertIsNone(self.ask(app_of(), head_of("HEAD")).header("Content-Length"))

    def test_endless_to_head(self) -> None:
        """An endless response is ended behind its head, if that is all that is wanted."""
        closed: list[str] = []

        def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            try:
                while True:
                    yield b"more"
            finally:
                closed.append("closed")

        self.assertEqual(self.ask(app, head_of("HEAD")).ends, ["finish"])
        self.assertEqual(closed, ["closed"])

    def test_head_waits_for_content(self) -> None:
        """Until there is content the head may be replaced, with exc_info."""

        def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [("X-A", "1")])
            yield b""
            self.wake()
            self.assertEqual(channel.status, 0)
            try:
                raise LookupError("nothing there")
            except LookupError:
                start_response("404 Not Found", [], sys.exc_info())
            yield b"none"

        channel = Channel(head_of())
        self.begin(app, channel).complete()
        self.threads.go()
        self.wake()
        self.assertEqual((channel.status, channel.content), (404, b"none"))
        self.assertIsNone(channel.header("X-A"))

    def test_not_replaced_once_sent(self) -> None:
        """Behind the first content the exception is raised again, and the connection ends."""

        def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"piece"
            try:
                raise LookupError("nothing there")
            except LookupError:
                start_response("404 Not Found", [], sys.exc_info())
            yield b"more"

        channel = self.ask(app)
        self.assertEqual((channel.status, channel.content, channel.ends), (200, b"piece", ["lose"]))
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)


class LengthTests(SayCase):
    """A response is as long as it says."""

    def test_too_long(self) -> None:
        """What is more is cut off, with a line in the log, and the application is ended."""
        for as_list in (True, False):
            closed = Mock()

            class Pieces(list[bytes]):
                close = closed

            def app(environ: Environ, start_response: Start, as_list: bool = as_list) -> Any:
                start_response("200 OK", [("Content-Length", "5")])
                pieces = [b"one", b"two", b"three"]
                return pieces if as_list else Pieces(pieces)

            channel = self.ask(app)
            self.assertEqual((channel.content, channel.ends), (b"onetw", ["finish"]))
            self.assertEqual(closed.call_count, 0 if as_list else 1)
            self.assertEqual(len([line for line in self.said if "longer than its" in line]), 1)
            self.said.clear()

    def test_too_short(self) -> None:
        """What is less is left to the channel, which closes the connection."""
        for as_list in (True, False):
            channel = self.ask(app_of(b"one", headers=[("Content-Length", "5")], as_list=as_list))
            self.assertEqual((channel.content, channel.ends), (b"one", ["finish"]))

    def test_zero(self) -> None:
        """A length of none is kept, too."""
        app = app_of(b"", b"one", headers=[("Content-Length", "0")], as_list=False)
        channel = self.ask(app)
        self.assertEqual((channel.content, channel.ends), (b"", ["finish"]))
        self.assertIn("longer than its", str(self.said))


class CloseTests(SayCase):
    """close() of what the application returned."""

    def closed(self, pieces: Any, start: bool = True, head: Any = None) -> Channel:
        """Assert that close() is called once, whatever happens."""
        calls: list[str] = []

        class Result:
            def __iter__(self) -> Iterator[bytes]:
                yield from pieces()

            def close(self) -> None:
                calls.append("close")

        def app(environ: Environ, start_response: Start) -> Result:
            if start:
                start_response("200 OK", [])
            return Result()

        channel = self.ask(app, head)
        self.assertEqual(calls, ["close"])
        return channel

    def test_good(self) -> None:
        """close() is called behind the last piece."""
        self.assertEqual(self.closed(lambda: [b"x"]).ends, ["finish"])

    def test_head(self) -> None:
        """close() is called behind the answer to a HEAD."""
        self.assertEqual(self.closed(lambda: [b"x"], head=head_of("HEAD")).ends, ["finish"])

    def test_errors(self) -> None:
        """close() is called behind an error, before and after the first piece, of any kind."""

        def fail(error: type[BaseException], *before: bytes) -> Any:
            def pieces() -> Iterator[bytes]:
                yield from before
                raise error("broken")

            return pieces

        for error in (LookupError, SystemExit, GeneratorExit):
            self.assertEqual(self.closed(fail(error)).status, 500)
            self.assertEqual(self.closed(fail(error, b"x")).ends, ["lose"])
            self.assertEqual(len(self.flushLoggedErrors(error)), 2)

    def test_text(self) -> None:
        """close() is called behind what is not bytes."""
        self.assertEqual(self.closed(lambda: ["text"]).status, 500)
        self.assertEqual(self.closed(lambda: [bytearray(b"x")]).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 2)

    def test_no_start(self) -> None:
        """close() is called without start_response, with content and without."""
        self.assertEqual(self.closed(lambda: [b"x"], start=False).status, 500)
        self.assertEqual(self.closed(list, start=False).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_fails(self) -> None:
        """An error in close() itself leaves a whole response whole, and cuts another."""
        for headers, ends in (([("Content-Length", "1")], ["finish"]), ([], ["lose"])):

            class Result(list[bytes]):
                def close(self) -> None:
                    raise LookupError("broken")

            def app(environ: Environ, start_response: Start, headers: Any = headers) -> Any:
                start_response("200 OK", headers)
                return Result([b"x"])

            channel = self.ask(app)
            self.assertEqual((channel.content, channel.ends), (b"x", ends))
            self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)


class ErrorTests(SayCase):
    """What an application does wrong before anything is sent is a whole 500."""

    def fails(self, app: Any, error: type[BaseException], **values: Any) -> None:
        """Assert that the client gets a complete 500, and the log the exception."""
        channel = self.ask(app, **values)
        self.assertEqual((channel.status, channel.ends), (500, ["finish"]))
        self.assertEqual(channel.header("Content-Length"), str(len(channel.content)))
        self.assertEqual(len(self.flushLoggedErrors(error)), 1)

    def test_raises(self) -> None:
        """An exception, also behind start_response, is a whole 500."""

        def app(environ: Environ, start_response: Start) -> list[bytes]:
            start_response("200 OK", [("Content-Length", "1000")])
            raise LookupError("nothing there")

        self.fails(app, LookupError)
        self.fails(Mock(side_effect=LookupError("nothing")), LookupError)

    def test_returns_nothing(self) -> None:
        """A result that is none is a whole 500."""
        self.fails(lambda environ, start: start("200 OK", []) and None, TypeError)

    def test_started_twice(self) -> None:
        """A second start_response without exc_info is a whole 500."""

        def app(environ: Environ, start_response: Start) -> list[bytes]:
            start_response("200 OK", [])
            start_response("204 No Content", [])
            return []

        self.fails(app, RuntimeError)

    def test_list_without_start(self) -> None:
        """A list without start_response is a whole 500, with content and without."""
        self.fails(lambda environ, start: [], RuntimeError)
        self.fails(lambda environ, start: [b"x"], RuntimeError)

    def test_malformed(self) -> None:
        """A status or a header that cannot be sent is a whole 500."""
        self.fails(app_of(status="fine"), ValueError)
        self.fails(app_of(headers=[("X-Name", "\u0142")]), UnicodeEncodeError)
        self.fails(app_of(headers=[("X Name", "x")]), ValueError)
        self.fails(app_of("text"), TypeError)  # type: ignore[arg-type]

    def test_environment_spoilt(self) -> None:
        """An application may do with its environment what it likes."""

        def app(environ: Environ, start_response: Start) -> list[bytes]:
            environ.clear()
            start_response("200 OK", [])
            return [b"done"]

        self.assertEqual(self.ask(app).content, b"done")

    def test_channel_fails(self) -> None:
        """A response that the channel does not take ends the connection."""
        channel = Channel(head_of())
        channel.respond = Mock(side_effect=LookupError("broken"))  # type: ignore[method-assign]
        self.begin(app_of(b"x"), channel).complete()
        self.threads.go()
        self.wake()
        self.assertEqual(channel.ends, ["abort"])
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)


class PaceTests(CallCase):
    """Responses that wait for their clients."""

    room = 300_000

    def test_full(self) -> None:
        """An application waits when its room is full, until the client has taken most of it."""
        produced: list[int] = []

        def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            for number in range(20):
                produced.append(number)
                yield b"x" * 50_000

        channel = Channel(head_of())
        call = self.begin(app, channel)
        call.complete()

        def take() -> None:
            self.assertGreater(self.buffers.size, self.room)
            self.assertLess(self.buffers.size, self.room + 50_001)
            self.wake()

        self.threads.asides = [take, take]
        self.threads.go()
        self.assertEqual(self.threads.asides, [])
        self.wake()
        self.assertEqual((len(channel.content), channel.ends), (1_000_000, ["finish"]))
        self.assertEqual(self.buffers.size, 0)

    def test_together(self) -> None:
        """If all responses together are too many, each has little room."""
        self.buffers.size = self.buffers.together
        app = app_of(*([b"x" * 50_000] * 4), as_list=False)
        channel = Channel(head_of())
        self.begin(app, channel).complete()
        self.threads.asides = [self.wake, self.wake]
        self.threads.go()
        self.wake()
        self.assertEqual((self.threads.asides, len(channel.content)), ([], 200_000))

    def test_transport_is_full(self) -> None:
        """While the transport is full nothing is sent; then all of it."""

        def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"one"
            self.wake()
            channel.producer.pauseProducing()
            yield b"two"
            self.wake()

        channel = Channel(head_of())
        self.begin(app, channel).complete()
        self.threads.go()
        self.wake()
        self.assertEqual((channel.content, channel.ends), (b"one", []))
        producer = channel.producer
        producer.resumeProducing()
        self.assertEqual((channel.content, channel.ends), (b"onetwo", ["finish"]))
        producer.resumeProducing()
        producer.pauseProducing()

    def test_client_leaves(self) -> None:
        """A client that leaves has the application ended, and what waits dropped."""
        closed: list[str] = []

        def app(environ: Environ, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            try:
                while True:
                    yield b"x" * 50_000
            finally:
                closed.append("closed")

        channel = Channel(head_of())
        call = self.begin(app, channel)
        call.complete()
        self.threads.asides = [lambda: self.lose(call, channel)]
        self.threads.go()
        self.wake()
        self.assertEqual((closed, channel.ends, self.buffers.size), (["closed"], [], 0))

    def test_error_after_the_client_has_left(self) -> None:
        """An exception after the client has left is logged once, and nothing is sent."""

        def app(environ: Environ, start_response: Start) -> list[bytes]:
            self.lose(call, channel)
            raise LookupError("too late")

        channel = Channel(head_of())
        call = self.begin(app, channel)
        call.complete()
        self.threads.go()
        self.wake()
        self.assertEqual(channel.ends, [])
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)


class MemoryTests(CallCase):
    """What is over is free at once: nothing waits for Python's collector."""

    def test_no_cycles(self) -> None:
        """Behind a response, an error and a client that left, nothing is left of the request."""

        def fails(environ: Environ, start_response: Start) -> list[bytes]:
            raise LookupError("nothing")

        fine = app_of(b"x")
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for app, head, lost in (
            (fine, head_of("POST"), False),
            (fine, head_of("GET", "/", "Host: h", "Upgrade: websocket"), False),
            (fails, head_of("POST"), False),
            (fine, head_of("POST"), True),
        ):
            channel = Channel(head, 3 if head.method == b"POST" else 0)
            call = self.begin(app, channel)
            call.body(b"abc")
            call.complete()
            run = weakref.ref(self.threads.waiting[0])
            here = weakref.ref(call)
            if lost:
                self.lose(call, channel)
            del call
            self.threads.go()
            self.wake()
            self.flushLoggedErrors(LookupError)
            channel.producer = None
            self.assertEqual((run(), here()), (None, None), head.raw)


class LogTests(CallCase):
    """The access log."""

    def test_line(self) -> None:
        """A response is logged with what was sent of it."""
        log = Mock()
        head = head_of("GET", "/a?b", "Host: h", "Referer: r", "User-Agent: u")
        self.ask(app_of(b"four", status="404 Not Found"), head, access_log=log)
        log.write.assert_called_once_with(
            LogLine(
                client="192.0.2.7", method=b"GET", target=b"/a?b", version=b"HTTP/1.1",
                status=404, length=4, referer=b"r", agent=b"u", route=How.NEW.name,
            )
        )  # fmt: skip

    def test_failed(self) -> None:
        """A 500 of the server's own is logged with what was sent of it."""
        log = Mock()
        self.ask(Mock(side_effect=LookupError("nothing")), access_log=log)
        self.assertEqual(log.write.call_args[0][0].status, 500)
        self.flushLoggedErrors(LookupError)
