"""Files that the kernel sends, over real connections."""

from __future__ import annotations

import os
import unittest.mock
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from ...serving import request
from .served import Start, WSGICase

CONTENT = bytes(range(256)) * 40_000


class SendFileTests(WSGICase):
    """`wsgi.file_wrapper`."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        with open(self.path, "wb") as file:
            file.write(CONTENT)

    def app(self, environ: dict[str, Any], start_response: Start) -> Any:
        """Answer the file, or say hello."""
        if environ["PATH_INFO"] == "/hello":
            start_response("200 OK", [])
            return [b"hello"]
        start_response("200 OK", [("X-Size", str(len(CONTENT)))])
        return environ["wsgi.file_wrapper"](open(self.path, "rb"))

    def sizes(self) -> list[int]:
        """Note how much each sendfile(2) sends."""
        sizes: list[int] = []
        send = os.sendfile

        def noting(*arguments: int) -> int:
            sizes.append(send(*arguments))
            return sizes[-1]

        patch = unittest.mock.patch.object(os, "sendfile", noting)
        patch.start()
        self.addCleanup(patch.stop)
        return sizes

    async def test_whole(self) -> None:
        """The kernel sends a whole file, between the head and the next response."""
        sizes = self.sizes()
        self.serve(self.app)
        first = b"GET /file HTTP/1.1\r\nHost: example\r\n\r\n"
        client = await self.connect(first + request("GET", "/hello"))
        answer = await client.gone
        head, _, rest = answer.partition(b"\r\n\r\n")
        self.assertIn(b"Content-Length: %d" % len(CONTENT), head)
        self.assertTrue(rest.startswith(CONTENT))
        self.assertTrue(rest[len(CONTENT) :].startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertTrue(rest.endswith(b"hello"))
        self.assertEqual(sum(sizes), len(CONTENT))

    async def test_several_on_a_connection(self) -> None:
        """Several files on one connection are sent one after the other."""
        self.serve(self.app)
        first = b"GET /file HTTP/1.1\r\nHost: example\r\n\r\n"
        client = await self.connect(first * 3 + request("GET", "/file"))
        self.assertEqual((await client.gone).count(CONTENT), 4)

    async def test_head(self) -> None:
        """To a HEAD nothing of a file is sent."""
        sizes = self.sizes()
        self.serve(self.app)
        self.assertTrue((await self.ask("HEAD", "/file")).endswith(b"\r\n\r\n"))
        self.assertEqual(sizes, [])

    async def test_slow_client(self) -> None:
        """A client that does not read holds no thread, and gets the file when it does."""
        self.serve(self.app, threads=1)
        slow = await self.connect(b"")
        slow.transport.pauseProducing()
        slow.transport.write(request("GET", "/file"))
        self.assertTrue((await self.ask("GET", "/hello")).endswith(b"hello"))
        slow.transport.resumeProducing()
        self.assertTrue((await slow.gone).endswith(CONTENT))

    async def test_client_leaves(self) -> None:
        """A client that leaves in the midst of a file leaves no descriptor behind."""
        self.serve(self.app)
        await self.ask("GET", "/hello")
        before = len(os.listdir("/proc/self/fd"))
        client = await self.connect(b"")
        client.transport.pauseProducing()
        client.transport.write(request("GET", "/file"))
        await self.ask("GET", "/hello")
        client.transport.abortConnection()
        await client.gone
        await self.until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    async def test_file_becomes_shorter(self) -> None:
        """A file that becomes shorter meanwhile ends the connection, which the client notices."""
        self.serve(self.app)
        client = await self.connect(b"")
        client.transport.pauseProducing()
        client.transport.write(request("GET", "/file"))
        await self.ask("GET", "/hello")
        os.truncate(self.path, 1000)
        client.transport.resumeProducing()
        answer = await client.gone
        self.assertLess(len(answer), len(CONTENT))

    async def until(self, fact: Any) -> None:
        """Wait until something is so."""
        for _ in range(1000):
            if fact():
                return
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.01, pause.callback, None)
            await pause
        raise AssertionError("it never came to be")
