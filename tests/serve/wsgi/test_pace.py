"""How a WSGI response flows to its client, and how start_response is called."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from ...serving import Client, request
from .served import Start, WSGICase, digest, environ_of, text, told

#: What a response may have waiting, by default.
BUFFER = 1 << 20


class FlowTests(WSGICase):
    """Clients that are slow, or leave."""

    async def test_slow_client_holds_the_application_back(self) -> None:
        """A download is made as fast as the client reads it, not all at once in memory."""
        produced: list[int] = []
        piece, count = b"z" * 65536, 500

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
                    yield b"z" * 65536
            finally:
                reactor.callFromThread(closed.callback, None)

        self.serve(app)
        client = await self.connect(request("GET", "/"))
        await client.until(b"zzz")
        client.transport.abortConnection()
        await closed

    async def test_error_after_the_client_has_left(self) -> None:
        """An exception after the client has left is logged once, without a second error."""
        go, left = threading.Event(), threading.Event()

        def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
            reactor.callFromThread(client.transport.abortConnection)
            go.wait(60)
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
                yield b"z" * size
            ended.append(len(ended))

        return app, ended

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait until something is so."""
        while not fact():  # trial ends a test that lasts too long
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.01, pause.callback, None)
            await pause

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
            return [b"z" * (20 * BUFFER)] * 2

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
            self.assertEqual((await client.gone).count(b"z"), 65536 * 300)
        self.assertEqual(self.buffers().size, 0)

    def threads(self) -> Any:
        """The threads of the application."""
        return self.serving._threads  # type: ignore[union-attr]

    def buffers(self) -> Any:
        """What its responses hold together."""
        return self.serving.factory.answering.shared.buffers  # type: ignore[union-attr]

    async def test_together(self) -> None:
        """All buffers have a bound together: beyond it each response has little room."""
        app, _ = self.pieces(65536, 100)
        self.serve(app, threads=100)
        self.buffers().together = 2 * BUFFER
        clients = [await self.unread() for _ in range(10)]
        await self.until(lambda: self.threads()._aside == 10)
        self.assertLess(self.buffers().size, 2 * BUFFER + 10 * 3 * 65536)
        for client in clients:
            client.transport.resumeProducing()
        for client in clients:
            self.assertEqual((await client.gone).count(b"z"), 65536 * 100)

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
            yield b"z" * 500_000
            raise LookupError("nothing more")

        self.serve(app)
        client = await self.unread()
        await self.until(lambda: not self.threads().busy)
        client.transport.resumeProducing()
        answer = await client.gone
        self.assertEqual(answer.count(b"z"), 500_000)
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
        """A piece before start_response was called is the application's error."""
        self.assertTrue(
            (await self.answer_of(lambda environ, start: [b"z"])).startswith(b"HTTP/1.1 500 ")
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
