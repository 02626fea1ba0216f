"""WSGI applications, as a worker serves them: in threads, over real connections."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import flask
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher

from txsticky.core.routing.forwarded import Trusted
from txsticky.errors import AppLoadError
from txsticky.serve import ServeSettings, serving_for

from ...serving import request
from .served import Start, WSGICase, chunked, digest, environ_of, text, told


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
        """The environment says that there are threads and other processes."""
        names = ("multithread", "multiprocess", "run_once", "input_terminated", "url_scheme")
        answer = await self.answer_of(environ_of(*(f"wsgi.{name}" for name in names)))
        self.assertTrue(answer.endswith(b"True True False True http"))

    async def test_path_and_query(self) -> None:
        """The application is at the root, and the path is decoded."""
        app = environ_of("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")
        answer = await self.answer_of(app, "GET", "/a/b%20c?x=%20")
        self.assertTrue(answer.endswith(b" /a/b c x=%20"))

    async def test_client_behind_a_proxy(self) -> None:
        """Behind a trusted proxy the environment names the client and its scheme."""
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


class BodyTests(WSGICase):
    """What an application reads."""

    async def test_small_body(self) -> None:
        """A body with its length arrives."""
        body = b"x" * 1000
        answer = await self.answer_of(digest, "POST", "/", body=body)
        self.assertTrue(answer.endswith(told(body)))

    async def test_large_body(self) -> None:
        """A large body is read while it comes, and arrives exactly, with a length and in chunks."""
        body = bytes(range(256)) * 20000
        answer = await self.answer_of(digest, "POST", "/", body=body)
        self.assertTrue(answer.endswith(told(body)))
        head = request("POST", "/", "Transfer-Encoding: chunked")
        answer = await (await self.connect(head + chunked(body))).gone
        self.assertTrue(answer.endswith(told(body)))

    async def test_large_body_that_pauses(self) -> None:
        """A client that pauses behind the first MiB keeps no thread of the application's."""
        self.serve(digest, threads=2)
        body = b"y" * 3_000_000
        slow = [await self.connect(request("POST", "/", body=body)[:-1]) for _ in range(3)]
        self.assertTrue((await self.ask("POST", "/", body=b"quick")).endswith(told(b"quick")))
        for client in slow:
            client.transport.write(body[-1:])
            self.assertTrue((await client.gone).endswith(told(body)))

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
        self.assertEqual(re.findall(rb"[a-z]{3,}", content), [b"one", b"two", b"three"])

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
        """close() is called as well when the application raises on the way."""
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
        """Assert that the client gets a complete 500, and the log the exception."""
        answer = await self.answer_of(app)
        self.assertTrue(answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n"), answer)
        self.assertTrue(answer.endswith(b"\r\n\r\nInternal Server Error\n"), answer)
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
        """An application with a senseless status does not leave its client waiting."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            start_response("fine", [])
            return []

        await self.check_500(app, ValueError)

    async def test_header_that_cannot_be_sent(self) -> None:
        """An application with a header outside ISO-8859-1 does not leave its client waiting."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            start_response("200 OK", [("X-Name", "\u0142")])
            return []

        await self.check_500(app, UnicodeEncodeError)

    async def test_text_for_bytes(self) -> None:
        """An application that yields text does not leave its client waiting."""

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
        """Have three clients try: each gets a 500, and the log has one sentence."""
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
        """An application that raises when it is called, for want of a socket, is logged once."""

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            raise RuntimeError("no socket.")

        await self.once(app)
        self.assertIn("raised RuntimeError: no socket; further attempts", self.said[0][1])

    async def test_iterated(self) -> None:
        """An application that raises when its response is asked for is logged once."""

        def app(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
            raise RuntimeError("no socket")
            yield b""

        await self.once(app)

    async def test_written(self) -> None:
        """An application that writes its traceback to `wsgi.errors` is logged once."""
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
        """A failure behind the beginning of an answer is logged, and the connection closed."""

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
            go.wait(60)
            return text(environ, start_response, "done")

        self.serve(app)
        client = await self.connect(request("GET", "/"))
        await entered
        stopped = Deferred.fromCoroutine(self.stop())
        self.assertNoResult(stopped)
        go.set()
        await stopped
        self.assertIn(b"done", await client.gone)
        ending = [t for t in threading.enumerate() if t.name.startswith("wsgi-")]
        for thread in ending:  # the last of them may still be on its way out
            thread.join(10)
        self.assertEqual([t.name for t in ending if t.is_alive()], [])

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
            from txsticky.serve.wsgi.threads import Threads
            def work():
                {work}
                begun.set()
                time.sleep(600)
            begun = threading.Event()
            Threads(1, "test").run(work)
            begun.wait(60)
            print("the end")
        """
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def test_threads_do_not_keep_the_worker(self) -> None:
        """A worker that wants to leave is not kept by an application that hangs."""
        self.assertEqual(self.ends("pass"), "the end\n")

    def test_threads_of_the_application_do(self) -> None:
        """A worker is kept by an application's own threads, unless they are daemons."""
        late = "def late(): time.sleep(0.5); print('saved')"
        for daemon, said in ("", "the end\nsaved\n"), (", daemon=True", "the end\n"):
            start = f"threading.Thread(target=late{daemon}).start()"
            self.assertEqual(self.ends(f"{late}\n                {start}"), said)

    def test_something_else_is_refused(self) -> None:
        """What cannot be called cannot be served with --interface=wsgi."""
        clock = MemoryReactorClock()
        error = self.assertRaises(AppLoadError, serving_for, 7, "wsgi", ServeSettings(), clock)
        self.assertIn("with --interface=wsgi it has to be a WSGI application", str(error))
