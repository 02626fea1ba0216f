"""The checker of the standard library (`wsgiref.validate`), between application and server."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import WSGIWarning, validator

from txsticky.core.http.head import Head
from txsticky.serve.wsgi.body import ENOUGH

from .cases import CallCase, Channel, head_of

Environ = dict[str, Any]
_PLAIN = [("Content-Type", "text/plain")]


class ValidateTests(CallCase):
    """Whatever a correct application does, the checker finds nothing wrong with either side."""

    def checked(self, app: Any, head: Head | None = None, body: bytes | None = None) -> Channel:
        """Ask an application through the checker."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", WSGIWarning)
            channel = self.ask(validator(app), head, body)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(channel.ends, ["finish"])
        return channel

    def test_methods(self) -> None:
        """Requests of several kinds, with all headers that a browser sends, pass the checker."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", _PLAIN)
            return [environ["REQUEST_METHOD"].encode()]

        lines = (
            "Host: [::1]:8080", "Accept: */*", "Cookie: a=b", "Content-Type: a/b",
            "Content-Length: 0", "X_Odd: 1",
        )  # fmt: skip
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
            for target in ("/", "/a%20b/%C3%A9?c=d", "//", "*"):
                if target == "*" and method != "OPTIONS":
                    continue
                channel = self.checked(app, head_of(method, target, *lines))
                self.assertEqual(channel.content, b"" if method == "HEAD" else method.encode())

    def test_write(self) -> None:
        """The callable that start_response returns passes the checker."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", _PLAIN)
            write(b"one ")
            return [b"two"]

        self.assertEqual(self.checked(app).content, b"one two")

    def test_pieces(self) -> None:
        """A generator, with empty pieces, passes the checker."""

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", _PLAIN)
            yield b""
            yield b"one "
            yield b""
            yield b"two"

        self.assertEqual(self.checked(app).content, b"one two")

    def test_no_content(self) -> None:
        """Statuses without content pass the checker."""
        for status in ("204 No Content", "304 Not Modified"):

            def app(environ: Environ, start_response: Any, status: str = status) -> list[bytes]:
                start_response(status, [])
                return []

            self.assertEqual(self.checked(app).content, b"")

    def test_exception_information(self) -> None:
        """A head that is replaced passes the checker."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                raise LookupError("nothing there")
            except LookupError:
                start_response("500 Sorry", _PLAIN, sys.exc_info())
            return [b"sorry"]

        self.assertEqual(self.checked(app).status, 500)

    def test_input(self) -> None:
        """Every way to read a body, one that is here and one that comes, passes the checker."""
        ways: list[Callable[[Any], bytes]] = [
            lambda stream: stream.read(10_000_000),
            lambda stream: b"".join(iter(lambda: stream.read(1000), b"")),
            lambda stream: b"".join(iter(stream.readline, b"")),
            lambda stream: b"".join(stream.readlines()),
            lambda stream: b"".join(stream),
        ]
        small = b"one\ntwo\n\nthree"
        large = small * (2 * ENOUGH // len(small))
        for way in ways:
            seen: list[bytes] = []

            def app(
                environ: Environ, start_response: Any, way: Any = way, seen: Any = seen
            ) -> list[bytes]:
                seen.append(way(environ["wsgi.input"]))
                start_response("200 OK", _PLAIN)
                return [b"fine"]

            for content in (small, large):
                head = head_of("POST", "/", f"Content-Length: {len(content)}")
                channel = Channel(head, len(content))
                call = self.begin(validator(app), channel)
                call.body(content[:ENOUGH])
                if len(content) > ENOUGH:
                    call.body(content[ENOUGH:])
                call.complete()
                self.threads.go()
                self.wake()
                self.assertEqual(channel.content, b"fine")
                self.assertTrue(seen.pop() == content)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_errors(self) -> None:
        """What is written to the error stream, in each way, passes the checker."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            errors = environ["wsgi.errors"]
            errors.write("one\n")
            errors.writelines(["two\n", "three\n"])
            errors.flush()
            start_response("200 OK", _PLAIN)
            return [b"said"]

        self.checked(app)

    def test_file_wrapper(self) -> None:
        """The file wrapper is what PEP 3333 asks for: an iterable with a close()."""

        def app(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", _PLAIN)
            return environ["wsgi.file_wrapper"](open(__file__, "rb"), 100)

        with open(__file__, "rb") as file:
            self.assertEqual(self.checked(app).content, file.read())
        self.assertTrue(callable(FileWrapper.__iter__))
