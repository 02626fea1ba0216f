"""Real clients of Socket.IO against three workers."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import socketio
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.cluster import START, Server, ServerTestCase
from tests.integration.processes import until
from tests.integration.rawhttp import request
from tests.integration.socketio_clients import (
    HANDSHAKE,
    TRANSPORTS,
    Client,
    Node,
    Polls,
    Workers,
    missing,
    three_turns,
)


class BalancerTests(SynchronousTestCase):
    """Connect and reconnect, text and 1 MB of bytes, by every transport, under each balancer."""

    def python(self, server: Workers) -> set[str]:
        async def clients() -> list[set[str]]:
            return await asyncio.gather(
                *(three_turns(server.url, transports) for transports in TRANSPORTS)
            )

        return set().union(*asyncio.run(clients()))

    def javascript(self, server: Workers) -> set[str]:
        if missing():
            return set()
        nodes = [Node(server.url, "echo", transports, 1) for transports in TRANSPORTS]
        workers: set[str] = set()
        for node, transports in zip(nodes, TRANSPORTS, strict=True):
            for told in node.end():
                self.assertEqual(told["errors"], [])
                self.assertEqual(set(told["transports"]), {transports[-1]})
                workers |= set(told["workers"])
        return workers

    def balanced(self, name: str) -> None:
        with Workers("plain", "--balance", name) as server:
            workers = self.python(server) | self.javascript(server)
            self.assertLessEqual(workers, {"1", "2", "3"})
            if name in ("leastconn", "roundrobin"):
                self.assertEqual(workers, {"1", "2", "3"})
            self.assertNotIn("Traceback", server.log())
            self.assertNotIn("Invalid session", server.log())

    def test_leastconn(self) -> None:
        """--balance leastconn."""
        self.balanced("leastconn")

    def test_roundrobin(self) -> None:
        """--balance roundrobin."""
        self.balanced("roundrobin")

    def test_random(self) -> None:
        """--balance random."""
        self.balanced("random")

    def test_random2(self) -> None:
        """--balance random2."""
        self.balanced("random2")

    def test_javascript_is_there(self) -> None:
        """The JavaScript client has taken part in the tests above."""
        if missing():
            raise SkipTest(missing())


class PreflightTests(ServerTestCase):
    """CORS requests before the real one, which have no body."""

    def server(self) -> Server:
        return Workers("preflight")

    def test_not_held(self) -> None:
        """Each OPTIONS of a kept-alive connection is answered with 204 at once, between others.

        One that were held would be answered when the session's time is over: 25 seconds and more.
        """
        origin = ("Origin", "http://elsewhere.example")
        asked = ("Access-Control-Request-Method", "POST")
        with self._shared.connect(timeout=20) as connection:
            opened = connection.ask(request("GET", HANDSHAKE, headers=[origin]))
            sid = json.loads(opened.body[1:])["sid"]
            for _ in range(3):
                target = f"{HANDSHAKE}&sid={sid}"
                answer = connection.ask(request("OPTIONS", target, headers=[origin, asked]))
                self.assertEqual(
                    (answer.status, answer.header("access-control-allow-origin")), (204, "*")
                )
                answer = connection.ask(request("POST", target, headers=[origin], body=b"40"))
                self.assertEqual((answer.status, answer.body), (200, b"OK"))


class ManyTests(ServerTestCase):
    """Many sessions at a time."""

    def server(self) -> Server:
        return Workers("plain")

    def test_options(self) -> None:
        """python-engineio answers OPTIONS itself, with the headers that CORS wants."""
        origin = ("Origin", "http://elsewhere.example")
        with self._shared.connect() as connection:
            answer = connection.ask(request("OPTIONS", HANDSHAKE, headers=[origin]))
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.header("access-control-allow-origin"), origin[1])

    def test_polling(self) -> None:
        """500 sessions poll over shared connections, and none is refused as unknown."""

        async def main() -> list[Any]:
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(120)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
                polls = Polls(self._shared.url, http)
                sessions = (polls.session(number, 3) for number in range(500))
                workers = await asyncio.gather(*sessions)
                self.assertEqual(polls.refused, [])
                return workers

        workers = asyncio.run(main())
        self.assertEqual(set(workers), {"1", "2", "3"})
        self.assertLess(max(map(workers.count, "123")), 300)


class NobodyTests(SynchronousTestCase):
    """No worker is ready."""

    def test_recovery(self) -> None:
        """Clients are refused, by polling and by WebSocket, and connect once a worker is ready."""
        gate = Path(tempfile.mkdtemp()) / "open"
        server = Workers("late", "--queue-timeout", "1", workers=1, TXSTICKY_TEST_GATE=str(gate))
        server.spawn()
        try:
            until(server.listens, START, "the primary listens")
            node = None if missing() else Node(server.url, "stay", ["polling", "websocket"], 1)
            asyncio.run(self.refused(server))
            until(lambda: node is None or node.refused(), 60, "node is refused")
            gate.touch()
            until(lambda: server.answers(HANDSHAKE), START, "a worker is ready")
            asyncio.run(self.welcome(server))
            if node is not None:
                [told] = node.end()
                self.assertTrue(told["errors"])
                self.assertTrue(told["connected"])
        finally:
            server.stop()

    async def refused(self, server: Workers) -> None:
        clients = [Client(server.url, [transport]) for transport in ("polling", "websocket")]
        connecting = (
            client.io.connect(client.url, transports=client.transports) for client in clients
        )
        for error in await asyncio.gather(*connecting, return_exceptions=True):
            self.assertIsInstance(error, socketio.exceptions.ConnectionError)
        for client in clients:
            self.assertEqual(len(client.errors), 1)
            await client.close()

    async def welcome(self, server: Workers) -> None:
        for transport in ("polling", "websocket"):
            async with Client(server.url, [transport]) as client:
                await client.echo("text")
