"""Files as responses: what the kernel sends, and what is read."""

# An application hands its file on, and the server closes it.
# ruff: noqa: SIM115

from __future__ import annotations

import gzip
import io
import os
import tempfile
from typing import Any
from wsgiref.util import FileWrapper

from txsticky.serve.wsgi.files import part_of, regular_file

from .cases import CallCase, Channel, head_of

CONTENT = bytes(range(256)) * 1000


class FileCase(CallCase):
    """A file, and an application that answers it."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(CONTENT)
        self.closed: list[Any] = []

    def app(self, file: Any, *headers: tuple[str, str], status: str = "200 OK") -> Any:
        """Make an application that answers what is left of a file."""
        outer = self

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            start_response(status, list(headers))
            wrapper = environ["wsgi.file_wrapper"](file, 10_000)
            close = wrapper.close

            def closed() -> None:
                outer.closed.append(file)
                close()

            wrapper.close = closed
            return wrapper

        return app

    def descriptors(self) -> int:
        """How many descriptors are open."""
        return len(os.listdir("/proc/self/fd"))


class SentTests(FileCase):
    """Files that the kernel sends."""

    def sent(self, file: Any, content: bytes, *headers: tuple[str, str]) -> Channel:
        """Assert that the channel is given the file, and the thread is free before it has left."""
        before = self.descriptors()
        channel = self.ask(self.app(file, *headers))
        self.assertIsNotNone(channel.file)
        self.assertEqual(len(self.closed), 1)
        self.assertTrue(file.closed)
        self.assertEqual(channel.header("Content-Length"), str(len(content)))
        channel.file_leaves()
        self.assertEqual((channel.content, channel.ends), (content, ["finish"]))
        self.assertEqual(self.descriptors(), before - 1)
        self.closed.clear()
        return channel

    def test_whole(self) -> None:
        """A file is sent from where it stands to its end; its length is known."""
        self.sent(open(self.path, "rb"), CONTENT)
        file = open(self.path, "rb")
        file.read(1000)
        self.sent(file, CONTENT[1000:])
        self.sent(open(self.path, "rb", buffering=0), CONTENT)

    def test_temporary(self) -> None:
        """What was written to a temporary file is sent, and not forgotten in its buffer."""
        file = tempfile.NamedTemporaryFile()
        file.write(CONTENT)
        file.seek(1)
        self.sent(file, CONTENT[1:])

    def test_length(self) -> None:
        """No more of a file is sent than the application says."""
        self.sent(open(self.path, "rb"), CONTENT[:200_000], ("Content-Length", "200000"))

    def test_small(self) -> None:
        """A small file, or what is left of one, is sent with its head, in one wake."""
        file = open(self.path, "rb")
        file.seek(-100, os.SEEK_END)
        channel = self.ask(self.app(file))
        self.assertEqual((channel.content, channel.ends), (CONTENT[-100:], ["finish"]))
        self.assertEqual((self.woken, channel.writes), (1, 1))

    def test_empty(self) -> None:
        """An empty file is sent with its head, in one wake."""
        file = open(self.path, "rb")
        file.seek(0, os.SEEK_END)
        channel = self.ask(self.app(file))
        self.assertEqual((channel.content, channel.ends), (b"", ["finish"]))
        self.assertEqual(channel.header("Content-Length"), "0")

    def test_head(self) -> None:
        """To a HEAD a file's length is told, and none of it sent."""
        channel = self.ask(self.app(open(self.path, "rb")), head_of("HEAD"))
        self.assertEqual((channel.content, channel.ends), (b"", ["finish"]))
        self.assertEqual(channel.header("Content-Length"), str(len(CONTENT)))
        self.assertEqual(len(self.closed), 1)

    def test_client_leaves(self) -> None:
        """A client that leaves in the midst of a file, or before, leaves no descriptor."""
        before = self.descriptors()
        for begun in (True, False):
            channel = Channel(head_of())
            call = self.begin(self.app(open(self.path, "rb")), channel)
            call.complete()
            self.threads.go()
            if begun:
                self.wake()
            self.lose(call, channel)
            self.wake()
            self.assertEqual(self.descriptors(), before)

    def test_lost_before(self) -> None:
        """A client that has left before the application answers leaves no descriptor."""
        before = self.descriptors()
        channel = Channel(head_of())
        call = self.begin(self.app(open(self.path, "rb")), channel)
        call.complete()
        self.lose(call, channel)
        self.threads.go()
        self.wake()
        self.assertEqual(self.descriptors(), before)


class ReadTests(FileCase):
    """Files that are read."""

    def read(self, file: Any, content: bytes) -> None:
        """Assert that the file is read as any iterable, and closed."""
        channel = self.ask(self.app(file))
        self.assertIsNone(channel.file)
        self.assertEqual((channel.content, channel.ends), (content, ["finish"]))
        self.assertEqual(len(self.closed), 1)
        self.closed.clear()

    def test_no_file(self) -> None:
        """A file object without a descriptor is read."""
        self.read(io.BytesIO(b"content"), b"content")

    def test_other_bytes(self) -> None:
        """A file object whose descriptor has other bytes behind it is read."""
        with gzip.open(self.path, "wb") as file:
            file.write(b"content" * 10_000)
        self.read(gzip.open(self.path), b"content" * 10_000)

    def test_pipe(self) -> None:
        """A file object that is no regular file is read."""
        out, into = os.pipe()
        os.write(into, b"content")
        os.close(into)
        self.read(open(out, "rb"), b"content")

    def test_text(self) -> None:
        """A text file is an error of the application, as is one that is closed already."""
        for file in (open(self.path, encoding="latin-1"), open(self.path, "rb")):
            if "b" in file.mode:
                file.close()
            channel = self.ask(self.app(file))
            self.assertEqual(channel.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(TypeError, ValueError)), 2)

    def test_behind_written(self) -> None:
        """Behind what was written a file's length is not known."""

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            start_response("200 OK", [])(b"before ")
            return environ["wsgi.file_wrapper"](open(self.path, "rb"))

        channel = self.ask(app)
        self.assertEqual(channel.content, b"before " + CONTENT)

    def test_shrinks(self) -> None:
        """A small file that has become shorter is read, so that nothing is made up."""
        with open(self.path, "rb") as file:
            found = regular_file(FileWrapper(file))
            assert found is not None
            self.assertEqual(found[1:], (0, len(CONTENT)))
            self.assertEqual(part_of(found[0], 0, 1000), CONTENT[:1000])
            os.truncate(self.path, 999)
            self.assertIsNone(part_of(found[0], 0, 1000))
