"""WSGI applications, as a worker serves them: in threads, over real connections."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
from twisted.internet import reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from txsticky.core.routing.forwarded import Trusted
from txsticky.errors import AppLoadError
from txsticky.serve import ServeSettings, Serving, serving_for
from txsticky.serve.web import wsgi_call as wsgicall
from txsticky.serve.web.environ import ErrorStream
from txsticky.serve.web.wsgi import WSGIRequest
from txsticky.serve.web.wsgi_call import BUFFER

from ...serving import Client, Connection, connect, request

Start = Callable[..., Any]


class WSGICase(TestCase):
    """An application on a port of this machine."""

    timeout = 20

    def serve(self, app: object, **settings: Any) -> None:
        """Serve an application until the end of the test; `self.port` is its port."""
        serving = serving_for(app, "wsgi", ServeSettings(**settings))
        serving.start()
        self.addCleanup(self.stop)
        self.serving: Serving | None = serving
        port: IListeningPort = reactor.listenTCP(0, serving.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    async def stop(self) -> None:
        """Stop the application, once."""
        serving, self.serving = self.serving, None
        if serving is not None:
            await serving.stop(4.0)

    async def connect(self, data: bytes) -> Client:
        """Connect and send something; the connection ends with the test."""
        client = await connect(self.port, data)

        def end() -> Deferred[bytes]:
            client.transport.abortConnection()
            return client.gone

        self.addCleanup(end)
        return client

    async def ask(self, *arguments: str, body: bytes = b"") -> bytes:
        """Send one request and return the whole response."""
        client = await self.connect(request(*arguments, body=body))
        return await client.gone

    async def answer_of(self, app: object, *arguments: str, body: bytes = b"") -> bytes:
        """Serve an application for one request."""
        self.serve(app)
        return await self.ask(*(arguments or ("GET", "/")), body=body)


def text(environ: dict[str, Any], start_response: Start, content: str) -> list[bytes]:
    """Answer a text."""
    start_response("200 OK", [("Content-Length", str(len(content)))])
    return [content.encode()]


def environ_of(*names: str) -> Callable[..., list[bytes]]:
    """Make an application that answers a few variables of its environment."""

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        return text(environ, start_response, " ".join(str(environ.get(name)) for name in names))

    return app


def digest(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    """Answer the length and the sha256 of the request's body, read in pieces."""
    found, length = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(10000):
        found.update(piece)
        length += len(piece)
    return text(environ, start_response, f"{length} {found.hexdigest()}")


def told(body: bytes) -> bytes:
    """What `digest` answers to a body."""
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()


def chunked(body: bytes) -> bytes:
    """Write a body in chunks of 7000 bytes."""
    pieces = [body[i : i + 7000] for i in range(0, len(body), 7000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


class EnvironTests(WSGICase):
    """What an application is told."""

    async def test_client_and_server(self) -> None:
        """The environment names the client and the server."""
        self.serve(environ_of("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT"))
        client = await self.connect(request("GET", "/"))
        own = client.transport.getHost().port
        answer = await client.gone
        self.assertTrue(answer.endswith(b"127.0.0.1 %d example %d" % (own, self.port)))

    async def test_kind_of_server(self) -> None:
        """It says that there are threads and other processes, and that the input ends."""
        names = ("multithread", "multiprocess", "run_once", "input_terminated", "url_scheme")
        answer = await self.answer_of(environ_of(*(f"wsgi.{name}" for name in names)))
        self.assertTrue(answer.endswith(b"True True False True http"))

    async def test_path_and_query(self) -> None:
        """The application is at the root, and the path is decoded."""
        app = environ_of("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")
        answer = await self.answer_of(app, "GET", "/a/b%20c?x=%20")
        self.assertTrue(answer.endswith(b" /a/b c x=%20"))

    async def test_client_behind_a_proxy(self) -> None:
        """Behind a trusted proxy it names the client and its scheme."""
        app = environ_of("REMOTE_ADDR", "wsgi.url_scheme")
        self.serve(app, trusted=Trusted.parse("127.0.0.1"))
        answer = await self.ask(
            "GET", "/", "X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https"
        )
        self.assertTrue(answer.endswith(b"198.51.100.9 https"))

    async def test_header_with_underscore_does_not_pass_for_another(self) -> None:
        """A client cannot pass X_Forwarded_For for a variable that its proxy guards."""
        answer = await self.answer_of(
            environ_of("HTTP_X_REAL_IP", "HTTP_X_OTHER"), "GET", "/", "X_Real_IP: 1", "X-Other: 2"
        )
        self.assertTrue(answer.endswith(b"None 2"))

    def test_unix_socket(self) -> None:
        """A client on a UNIX socket has no address, and the server the port of its scheme."""
        seen: list[tuple[str, int, str, int]] = []

        class Seen(WSGIRequest):
            def render(self, resource: object) -> None:
                client, host = self.getClientAddress(), self.getHost()
                seen.append((client.host, client.port, host.host, host.port))

        clock = MemoryReactorClock()
        serving = serving_for(digest, "wsgi", ServeSettings(), clock)
        serving.factory.requestFactory = Seen
        Connection(serving.factory, UNIXAddress(None)).ask()
        self.assertEqual(seen, [("", 0, "localhost", 80)])


class BodyTests(WSGICase):
    """What an application reads."""

    async def test_small_body(self) -> None:
        """A body with its length arrives."""
        body = b"x" * 1000
        answer = await self.answer_of(digest, "POST", "/", body=body)
        self.assertTrue(answer.endswith(told(body)))

    async def test_large_body_through_a_file(self) -> None:
        """A large body waits in a file, not in memory, and arrives exactly."""
        seen = []

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            seen.append(isinstance(environ["wsgi.input"], io.BytesIO))
            return digest(environ, start_response)

        body = bytes(range(256)) * 20000
        answer = await self.answer_of(app, "POST", "/", body=body)
        self.assertTrue(answer.endswith(told(body)))
        self.assertEqual(seen, [False])

    async def test_form_is_left_to_the_application(self) -> None:
        """A multipart form reaches the application unparsed, and Flask finds the file in it."""
        app = flask.Flask("upload")

        @app.post("/")
        def upload() -> str:
            file = flask.request.files["file"]
            return f"{file.filename} {told(file.read()).decode()}"

        content = b"\r\n--" * 50000
        body = (
            b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
            + content
            + b"\r\n--edge--\r\n"
        )
        kind = "Content-Type: multipart/form-data; boundary=edge"
        answer = await self.answer_of(app, "POST", "/", kind, body=body)
        self.assertTrue(answer.endswith(b"a.bin " + told(content)))

    async def test_form_is_the_applications_to_judge(self) -> None:
        """A form that twisted.web would refuse reaches the application."""
        kind = "Content-Type: multipart/form-data"
        answer = await self.answer_of(digest, "POST", "/", kind, body=b"no boundary")
        self.assertTrue(answer.endswith(told(b"no boundary")))

    async def test_chunked_body(self) -> None:
        """A chunked body arrives decoded, with its length, as Django wants it."""
        body = b"0123456789" * 3000
        self.serve(environ_of("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"))
        head = request("POST", "/", "Transfer-Encoding: chunked")
        answer = await (await self.connect(head + chunked(body))).gone
        self.assertTrue(answer.endswith(b"30000 None"))

    async def test_chunked_body_with_flask(self) -> None:
        """Flask reads a chunked body."""
        app = flask.Flask("upload")
        app.post("/")(lambda: told(flask.request.get_data()))
        body = b"0123456789" * 3000
        self.serve(app)
        head = request("POST", "/", "Transfer-Encoding: chunked")
        answer = await (await self.connect(head + chunked(body))).gone
        self.assertTrue(answer.endswith(told(body)))


class ResponseTests(WSGICase):
    """What an application answers."""

    async def test_write_callable(self) -> None:
        """The callable that start_response returns writes."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            write = start_response("201 Made", [])
            write(b"one ")
            write(b"two ")
            return [b"three"]

        answer = await self.answer_of(app)
        self.assertTrue(answer.startswith(b"HTTP/1.1 201 Made\r\n"))
        content = answer.partition(b"\r\n\r\n")[2]
        self.assertEqual(content, b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n")

    async def test_keep_alive(self) -> None:
        """Several requests on one connection are answered in order."""
        self.serve(environ_of("PATH_INFO"))
        client = await self.connect(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
        await client.until(b"\n/b")
        client.transport.write(request("GET", "/c"))
        answer = await client.gone
        self.assertEqual(re.findall(rb"\n(/[abc])", answer), [b"/a", b"/b", b"/c"])

    async def test_close_is_called(self) -> None:
        """close() of what the application returned is called after the last piece."""
        calls: list[str] = []

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            try:
                yield b"piece"
            finally:
                calls.append("closed")

        await self.answer_of(app)
        self.assertEqual(calls, ["closed"])

    async def test_close_is_called_after_an_error(self) -> None:
        """And also when the application raises on the way."""
        closed: list[str] = []

        class Pieces:
            def __iter__(self) -> Iterator[bytes]:
                raise RuntimeError("broken on the way")

            def close(self) -> None:
                closed.append("closed")

        def app(environ: dict[str, Any], start_response: Start) -> Pieces:
            start_response("200 OK", [])
            return Pieces()

        await self.answer_of(app)
        self.assertEqual(closed, ["closed"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_status_without_reason(self) -> None:
        """A status without reason gets the usual one."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            start_response("404", [])
            return []

        self.assertTrue((await self.answer_of(app)).startswith(b"HTTP/1.1 404 Not Found\r\n"))

    async def test_root_path(self) -> None:
        """The path under which a proxy mounts the application is its SCRIPT_NAME."""
        self.serve(environ_of("SCRIPT_NAME", "PATH_INFO"), root_path="/app")
        answer = await self.ask("GET", "/page")
        self.assertTrue(answer.endswith(b"/app /page"), answer)


class ErrorTests(WSGICase):
    """What an application does wrong."""

    async def check_500(self, app: object, error: type[Exception]) -> None:
        """The client gets a complete 500, and the log the exception."""
        answer = await self.answer_of(app)
        self.assertTrue(answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n"), answer)
        self.assertTrue(answer.endswith(b"0\r\n\r\n"), answer)
        self.assertEqual(len(self.flushLoggedErrors(error)), 1)

    async def test_exception(self) -> None:
        """An exception is a 500 and is logged."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            raise LookupError("nothing there")

        await self.check_500(app, LookupError)

    async def test_no_start_response(self) -> None:
        """An application that does not call start_response does not leave its client waiting."""
        await self.check_500(lambda environ, start_response: [], RuntimeError)

    async def test_status_that_is_none(self) -> None:
        """Neither does one with a senseless status."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            start_response("fine", [])
            return []

        await self.check_500(app, ValueError)

    async def test_header_that_cannot_be_sent(self) -> None:
        """Nor one with a header that is not ISO-8859-1."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            start_response("200 OK", [("X-Name", "\u0142")])
            return []

        await self.check_500(app, UnicodeEncodeError)

    async def test_text_for_bytes(self) -> None:
        """Nor one that yields text."""

        def app(environ: dict[str, Any], start_response: Start) -> list[Any]:
            start_response("200 OK", [])
            return ["text"]

        await self.check_500(app, TypeError)

    async def test_exception_after_the_start(self) -> None:
        """After the first piece an exception ends the connection, so that the client notices."""

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"piece"
            raise LookupError("nothing more")

        answer = await self.answer_of(app)
        self.assertIn(b"piece", answer)
        self.assertFalse(answer.endswith(b"0\r\n\r\n"))
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    def test_text_with_braces_is_logged_as_it_is(self) -> None:
        """What is written to wsgi.errors is no format string."""
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        stream = ErrorStream()
        print("a {dict}", "and", file=stream)
        stream.writelines(["more {0}\n", "rest"])
        stream.flush()
        self.assertEqual(
            [formatEvent(event) for event in events], ["a {dict} and", "more {0}", "rest"]
        )

    async def test_errors_of_a_request(self) -> None:
        """What an application writes to the wsgi.errors of a request is logged as it is."""
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            print("a {dict}", file=environ["wsgi.errors"])
            return text(environ, start_response, "fine")

        self.assertIn(b"fine", await self.answer_of(app))
        self.assertIn("a {dict}", [formatEvent(event) for event in events])


class WebSocketTests(WSGICase):
    """WebSockets that clients try."""

    OFFER = ("GET", "/", "Upgrade: WebSocket", "Connection: Upgrade")

    def setUp(self) -> None:
        self.said: list[tuple[str, str]] = []

        def observe(event: Any) -> None:
            if event["log_namespace"].startswith(("txsticky", "twisted.web")):
                self.said.append((event["log_level"].name, formatEvent(event)))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def levels(self) -> list[str]:
        """The levels at which the application's error was told, the last words left out."""
        return [level for level, text in self.said if "no socket" in text]

    async def once(self, app: object) -> None:
        """Three clients try one: each gets a 500, and the log has one sentence."""
        self.serve(app)
        for _ in range(3):
            answer = await self.ask(*self.OFFER)
            self.assertTrue(
                answer.lower().startswith(b"http/1.1 500 internal server error"), answer
            )
        self.assertEqual(self.levels(), ["warn", "debug", "debug"])
        self.assertNotIn("Traceback", str(self.said))
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_called(self) -> None:
        """An application that raises when it is called, for the want of a socket."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            raise RuntimeError("no socket.")

        await self.once(app)
        self.assertIn("raised RuntimeError: no socket; the next", self.said[0][1])

    async def test_iterated(self) -> None:
        """One that raises when its response is asked for."""

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            raise RuntimeError("no socket")
            yield b""

        await self.once(app)

    async def test_written(self) -> None:
        """One that writes its traceback to `wsgi.errors`, as Flask does."""
        app = flask.Flask("tries")

        @app.route("/", websocket=True)
        def page() -> str:
            raise RuntimeError("no socket")

        await self.once(app)

    async def test_other_requests(self) -> None:
        """Of any other request the traceback is logged, each time."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            raise RuntimeError("no socket")

        self.serve(app)
        for offer in (self.OFFER[:2], (*self.OFFER[:2], "Upgrade: h2c")):
            self.assertIn(b" 500 ", await self.ask(*offer))
            self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_begun(self) -> None:
        """So it is of one that had begun to answer, whose connection is closed."""

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Length", "9")])
            yield b"some"
            raise RuntimeError("no socket")

        self.serve(app)
        self.assertTrue((await self.ask(*self.OFFER)).endswith(b"some"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_other_text(self) -> None:
        """What else an application writes to `wsgi.errors` is logged as ever."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            environ["wsgi.errors"].write("no socket here\n")
            return text(environ, start_response, "plain")

        self.assertTrue((await self.answer_of(app, *self.OFFER)).endswith(b"plain"))
        self.assertEqual(self.said, [("warn", "no socket here")])


class FlowTests(WSGICase):
    """Clients that are slow, or leave."""

    async def test_slow_client_holds_the_application_back(self) -> None:
        """A download is made as fast as the client reads it, not all at once in memory."""
        produced: list[int] = []
        piece, count = b"x" * 65536, 500

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Length", str(len(piece) * count))])
            for number in range(count):
                produced.append(number)
                yield piece

        self.serve(app)
        client = await self.connect(b"")
        client.transport.pauseProducing()
        client.transport.write(request("GET", "/"))
        # What the kernel buffers of a connection are, the application may be ahead: some MB.
        await self.settled(produced)
        self.assertLess(len(produced), count // 2)
        client.transport.resumeProducing()
        answer = await client.gone
        self.assertEqual(len(answer.partition(b"\r\n\r\n")[2]), len(piece) * count)

    async def settled(self, produced: list[int]) -> None:
        """Wait until the application has stopped producing."""
        before = -1
        while len(produced) != before or not produced:
            before = len(produced)
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.1, pause.callback, None)
            await pause

    async def test_client_that_leaves_ends_the_application(self) -> None:
        """When the client has gone the generator is closed, and nothing is logged as an error."""
        closed: Deferred[None] = Deferred()

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            try:
                while True:
                    yield b"x" * 65536
            finally:
                reactor.callFromThread(closed.callback, None)

        self.serve(app)
        client = await self.connect(request("GET", "/"))
        await client.until(b"xxx")
        client.transport.abortConnection()
        await closed

    async def test_error_after_the_client_has_left(self) -> None:
        """An exception after the client has left is logged once, without a second error."""
        go, left = threading.Event(), threading.Event()

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            reactor.callFromThread(client.transport.abortConnection)
            go.wait(10)
            left.set()
            raise LookupError("too late")

        self.serve(app)
        client = await self.connect(request("GET", "/"))
        await client.gone
        go.set()
        await deferToThread(left.wait, 10)
        await self.stop()  # waits for the thread, and for what it gave to the reactor
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    async def unread(self, data: bytes = b"") -> Client:
        """A client that asks and reads nothing of the answer."""
        client = await self.connect(b"")
        client.transport.pauseProducing()
        client.transport.write(data or request("GET", "/"))
        return client

    def pieces(self, size: int, count: int) -> tuple[Callable[..., Any], list[int]]:
        """
        Make an application that answers so many pieces, one by one.

        :returns: the application, and the numbers of the requests that it has answered.
        """
        ended: list[int] = []

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            for _ in range(count):
                yield b"x" * size
            ended.append(len(ended))

        return app, ended

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait until something is so."""
        for _ in range(1000):
            if fact():
                return
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.01, pause.callback, None)
            await pause
        raise AssertionError("it never came to be")

    async def test_response_that_is_not_read_holds_no_thread(self) -> None:
        """A response up to the buffer's size leaves its thread, though its client reads nothing."""
        app, ended = self.pieces(10_000, BUFFER // 10_000)
        self.serve(app, threads=1)
        clients = [await self.unread() for _ in range(5)]
        await self.until(lambda: len(ended) == 5)
        await self.until(lambda: not self.threads().busy)
        for client in clients:
            client.transport.resumeProducing()
            answer = await client.gone
            self.assertTrue(answer.endswith(b"\r\n0\r\n\r\n"))

    async def test_list_that_is_not_read_holds_no_thread(self) -> None:
        """What the application has in memory as a whole leaves its thread, however large."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            start_response("200 OK", [("Content-Length", str(40 * BUFFER))])
            return [b"x" * (20 * BUFFER)] * 2

        self.serve(app, threads=1)
        first, second = await self.unread(), await self.unread()
        await self.until(lambda: self.serving and not self.serving.busy)
        for client in (first, second):
            client.transport.resumeProducing()
            answer = await client.gone
            self.assertEqual(len(answer.partition(b"\r\n\r\n")[2]), 40 * BUFFER)

    async def test_threads_that_wait_do_not_count(self) -> None:
        """Whatever clients do not read, others are answered."""
        app, _ = self.pieces(65536, 300)

        def either(environ: dict[str, Any], start_response: Start) -> Any:
            small = environ["PATH_INFO"] == "/small"
            return text(environ, start_response, "small") if small else app(environ, start_response)

        self.serve(either, threads=2)
        clients = [await self.unread() for _ in range(8)]
        await self.until(lambda: self.threads()._aside == 8)
        self.assertTrue((await self.ask("GET", "/small")).endswith(b"small"))
        for client in clients:
            client.transport.resumeProducing()
        for client in clients:
            self.assertEqual((await client.gone).count(b"x"), 65536 * 300)
        self.assertEqual(self.buffers().size, 0)

    def threads(self) -> Any:
        """The threads of the application."""
        return self.serving._threads  # type: ignore[union-attr]

    def buffers(self) -> Any:
        """What its responses hold together."""
        return self.serving.factory.resource._buffers  # type: ignore[union-attr]

    async def test_together(self) -> None:
        """All buffers have a bound together: beyond it each response has little room."""
        self.patch(wsgicall, "TOGETHER", 2 * BUFFER)
        app, _ = self.pieces(65536, 100)
        self.serve(app, threads=100)
        clients = [await self.unread() for _ in range(10)]
        await self.until(lambda: self.threads()._aside == 10)
        self.assertLess(self.buffers().size, 2 * BUFFER + 10 * 3 * 65536)
        for client in clients:
            client.transport.resumeProducing()
        for client in clients:
            self.assertEqual((await client.gone).count(b"x"), 65536 * 100)

    async def test_client_that_leaves_gives_its_buffer_back(self) -> None:
        """A client that leaves unread what it asked for frees thread and buffer."""
        app, _ = self.pieces(65536, 10_000)
        self.serve(app, threads=2)
        clients = [await self.unread() for _ in range(3)]
        await self.until(lambda: self.threads()._aside == 3)
        for client in clients:
            client.transport.abortConnection()
        await self.until(lambda: not self.threads().busy)
        self.assertEqual(self.buffers().size, 0)

    async def test_error_behind_what_is_not_read(self) -> None:
        """What came before an error is sent, and the connection closed behind it."""

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"x" * 500_000
            raise LookupError("nothing more")

        self.serve(app)
        client = await self.unread()
        await self.until(lambda: not self.threads().busy)
        client.transport.resumeProducing()
        answer = await client.gone
        self.assertEqual(answer.count(b"x"), 500_000)
        self.assertFalse(answer.endswith(b"0\r\n\r\n"))
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    async def test_upload_that_is_slow_holds_no_thread(self) -> None:
        """The application is entered when the whole body is there."""
        self.serve(digest, threads=1)
        body = b"y" * 200_000
        slow = await self.connect(request("POST", "/", body=body)[:-1])
        self.assertTrue((await self.ask("POST", "/", body=b"quick")).endswith(told(b"quick")))
        await self.until(lambda: not self.threads().busy)
        slow.transport.write(body[-1:])
        self.assertTrue((await slow.gone).endswith(told(body)))

    async def test_pieces_in_order(self) -> None:
        """Pieces of any size arrive in their order, from a list, an iterable and write()."""
        sizes = [0, 1, 300_000, 5, 65536, 700_001, 0, 2]
        parts = [bytes([65 + number]) * size for number, size in enumerate(sizes)]

        def app(environ: dict[str, Any], start_response: Start) -> Any:
            write = start_response("200 OK", [("Content-Length", str(sum(sizes)))])
            way = environ["PATH_INFO"]
            if way == "/list":
                return parts
            if way == "/iter":
                return iter(parts)
            for part in parts:
                write(part)
            return []

        self.serve(app)
        for way in ("/list", "/iter", "/write"):
            answer = await self.ask("GET", way)
            self.assertEqual(answer.partition(b"\r\n\r\n")[2], b"".join(parts))


class StartTests(WSGICase):
    """start_response."""

    async def test_replaced_before_anything_is_sent(self) -> None:
        """With exc_info another status takes the place of one that was not sent."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            start_response("200 OK", [("X-A", "1")])
            try:
                raise LookupError("nothing there")
            except LookupError:
                start_response("404 Not Found", [("X-B", "2")], sys.exc_info())
            return [b"none"]

        answer = await self.answer_of(app)
        self.assertTrue(answer.startswith(b"HTTP/1.1 404 Not Found\r\n"))
        self.assertNotIn(b"X-A", answer)

    async def test_not_replaced_once_it_is_sent(self) -> None:
        """If something was sent, the exception is raised again, and the connection ends."""

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"piece"
            try:
                raise LookupError("nothing there")
            except LookupError:
                start_response("404 Not Found", [], sys.exc_info())
            yield b"more"

        answer = await self.answer_of(app)
        self.assertIn(b"piece", answer)
        self.assertNotIn(b"more", answer)
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    async def test_twice(self) -> None:
        """To call it again without exc_info is the application's error."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            start_response("200 OK", [])
            start_response("204 No Content", [])
            return []

        self.assertTrue((await self.answer_of(app)).startswith(b"HTTP/1.1 500 "))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_never(self) -> None:
        """So is a piece before it was called."""
        self.assertTrue(
            (await self.answer_of(lambda environ, start: [b"x"])).startswith(b"HTTP/1.1 500 ")
        )
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_environment_spoilt(self) -> None:
        """An application may do with its environment what it likes."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            environ.clear()
            return text(environ, start_response, "done")

        self.assertTrue((await self.answer_of(app)).endswith(b"done"))

    async def test_one_thread(self) -> None:
        """With one thread the application is told that it has no company."""
        self.serve(environ_of("wsgi.multithread"), threads=1)
        self.assertTrue((await self.ask("GET", "/")).endswith(b"False"))

    async def test_head_and_no_content(self) -> None:
        """A HEAD and a 204 have no body, whatever the application yields."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            start_response("204 No Content" if environ["PATH_INFO"] == "/none" else "200 OK", [])
            return [b"body"]

        self.serve(app)
        for method, path in (("HEAD", "/"), ("GET", "/none")):
            answer = await self.ask(method, path)
            self.assertTrue(answer.endswith(b"\r\n\r\n"), answer)


class ThreadTests(WSGICase):
    """The pool."""

    async def test_bounded(self) -> None:
        """No more requests run at a time than there are threads, and the others wait."""
        lock, running, most = threading.Lock(), [0], [0]

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            meet.wait(0.05)
            with lock:
                running[0] -= 1
            return text(environ, start_response, "done")

        meet = threading.Event()
        self.serve(app, threads=2)
        clients = [await self.connect(request("GET", "/")) for _ in range(6)]
        for client in clients:
            self.assertIn(b"done", await client.gone)
        self.assertEqual(most, [2])

    async def test_stop_waits_for_the_application(self) -> None:
        """stop() fires when the application has left the threads; none stays."""
        go = threading.Event()
        entered: Deferred[None] = Deferred()

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            reactor.callFromThread(entered.callback, None)
            go.wait(10)
            return text(environ, start_response, "done")

        self.serve(app)
        client = await self.connect(request("GET", "/"))
        await entered
        stopped = Deferred.fromCoroutine(self.stop())
        self.assertNoResult(stopped)
        go.set()
        await stopped
        self.assertIn(b"done", await client.gone)
        self.assertEqual([t.name for t in threading.enumerate() if t.name.startswith("wsgi-")], [])

    async def test_stop_twice(self) -> None:
        """A second stop waits for the same end."""
        serving = serving_for(digest, "wsgi", ServeSettings())
        serving.start()
        for waiting in [serving.stop(4.0), serving.stop(4.0)]:
            await waiting

    def ends(self, work: str) -> str:
        """What a process says whose threads are at work when its main thread ends."""
        script = f"""if True:
            import threading, time
            from txsticky.serve.web.threads import Threads
            def work():
                {work}
                begun.set()
                time.sleep(600)
            begun = threading.Event()
            Threads(1, "test").run(work)
            begun.wait(10)
            print("the end")
        """
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    def test_threads_do_not_keep_the_worker(self) -> None:
        """A worker that wants to leave is not kept by an application that hangs."""
        self.assertEqual(self.ends("pass"), "the end\n")

    def test_threads_of_the_application_do(self) -> None:
        """It is kept by what the application has begun beside its request, unless as a daemon."""
        late = "def late(): time.sleep(0.5); print('saved')"
        for daemon, said in ("", "the end\nsaved\n"), (", daemon=True", "the end\n"):
            start = f"threading.Thread(target=late{daemon}).start()"
            self.assertEqual(self.ends(f"{late}\n                {start}"), said)

    def test_something_else_is_refused(self) -> None:
        """What cannot be called cannot be served with --interface=wsgi."""
        clock = MemoryReactorClock()
        error = self.assertRaises(AppLoadError, serving_for, 7, "wsgi", ServeSettings(), clock)
        self.assertIn("with --interface=wsgi it has to be a WSGI application", str(error))
