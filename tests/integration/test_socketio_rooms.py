"""Rooms, calls and reloads of Socket.IO over three workers, however the server is mounted."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Server, ServerTestCase
from tests.integration.redisserver import MISSING, RedisServer
from tests.integration.socketio_clients import (
    TRANSPORTS,
    Client,
    Node,
    Workers,
    eventually,
    missing,
)


async def one_a_worker(
    stack: AsyncExitStack, url: str, transports: list[str], workers: set[str]
) -> dict[str, Client]:
    """A client on each of these workers."""
    found: dict[str, Client] = {}
    for _ in range(30):
        client = await stack.enter_async_context(Client(url, transports))
        found.setdefault(client.worker, client)
        if found.keys() == workers:
            return found
    raise AssertionError(f"30 clients, and all on {sorted(found)}")


async def enter(asking: Client, *clients: Client) -> None:
    """Has them put into a room. Those on other workers are asked to, which may not arrive at first:
    Redis is not listened to from the first moment on.
    """
    for client in clients:
        while not await client.call("inside", "den"):
            await asking.call("enter", client.sid, "den")


async def left(*clients: Client) -> None:
    """Waits until they are in the room no more."""
    for client in clients:
        while await client.call("inside", "den"):
            await asyncio.sleep(0.02)


class RoomsTests(ServerTestCase):
    """Clients on different workers, over `txsticky.socketio.AsyncManager`."""

    transports: ClassVar[list[str]] = ["polling", "websocket"]

    def server(self) -> Server:
        return Workers("plain")

    def run_with(self, scenario: Any) -> None:
        """Runs the scenario with three clients, one a worker."""

        async def main() -> None:
            async with AsyncExitStack() as stack:
                clients = await one_a_worker(
                    stack, self._shared.url, self.transports, {"1", "2", "3"}
                )
                await scenario(*clients.values())

        asyncio.run(main())

    def test_rooms(self) -> None:
        """One client puts all three into a room, takes one out, and closes it."""

        async def scenario(a: Client, b: Client, c: Client) -> None:
            await enter(a, a, b, c)
            await b.call("say", "den", "all")
            await b.call("say", "den", "not c", c.sid)
            await a.call("leave", b.sid, "den")
            await left(b)
            await c.call("say", "den", "not b")
            await b.call("close", "den")
            await left(a, c)
            await c.call("say", "den", "nobody")
            await a.call("say", a.sid, "end")
            for client in (b, c):
                await a.call("say", client.sid, "end")
            for client in (a, b, c):
                await eventually(lambda client=client: "end" in client.said)
            self.assertEqual(a.said, ["all", "not c", "not b", "end"])
            self.assertEqual(b.said, ["all", "not c", "end"])
            self.assertEqual(c.said, ["all", "not b", "end"])

        self.run_with(scenario)

    def test_binary(self) -> None:
        """A megabyte of bytes reaches a client on another worker."""

        async def scenario(a: Client, b: Client, c: Client) -> None:
            data = random.randbytes(1_000_000)
            await a.call("say", b.sid, data)
            await eventually(lambda: b.said == [data])
            self.assertEqual((a.said, c.said), ([], []))

        self.run_with(scenario)

    def test_call(self) -> None:
        """A client's answer comes back to the worker that asked, with bytes in it."""

        async def scenario(a: Client, b: Client, c: Client) -> None:
            for client in (a, b, c):
                self.assertEqual(await a.call("ask", client.sid, b"\xff"), (b"\xff", "answer"))

        self.run_with(scenario)

    def test_disconnect(self) -> None:
        """A client on another worker is disconnected."""

        async def scenario(a: Client, b: Client, c: Client) -> None:
            await a.call("kick", b.sid)
            await eventually(lambda: not b.io.connected)
            self.assertEqual((a.io.connected, c.io.connected), (True, True))

        self.run_with(scenario)


class MountTests(SynchronousTestCase):
    """However the server is mounted, sessions find their worker, with no line about it."""

    def mounted(self, app: str, *transports: list[str]) -> None:
        async def clients() -> None:
            async with AsyncExitStack() as stack:
                for way in transports:
                    found = await one_a_worker(stack, server.url, way, {"1", "2"})
                    for client in found.values():
                        await client.echo("text")
                    first, second = found.values()
                    await first.call("say", second.sid, "hello")
                    await eventually(lambda second=second: second.said == ["hello"])
                    self.assertEqual(await first.call("ask", second.sid, "x"), ("x", "answer"))

        with Workers(app, workers=2) as server:
            asyncio.run(clients())
            self.assertNotIn("Traceback", server.log())

    def test_in_fastapi(self) -> None:
        """Sessions find their worker where the server is mounted into FastAPI."""
        self.mounted("mounted", *TRANSPORTS)

    def test_around_fastapi(self) -> None:
        """Sessions find their worker where the server is around FastAPI."""
        self.mounted("around", *TRANSPORTS)

    def test_wsgi(self) -> None:
        """Sessions of a server of threads in a WSGI application find their worker, by polling."""
        self.mounted("threads", ["polling"])


class RedisTests(SynchronousTestCase):
    """With a real Redis."""

    if MISSING:
        skip = MISSING

    def heard(self, *urls: str) -> None:
        """What a client says to all is heard by a client of every worker at these URLs."""

        async def main() -> None:
            async with AsyncExitStack() as stack:
                clients: list[Client] = []
                for url in urls:
                    found = await one_a_worker(stack, url, ["websocket"], {"1", "2"})
                    clients += found.values()
                await enter(clients[0], *clients)
                await clients[0].call("say", "den", b"\xff")
                for client in clients:
                    await eventually(lambda client=client: client.said)
                await asyncio.sleep(0.2)
                self.assertEqual([client.said for client in clients], [[b"\xff"]] * len(clients))
                for client in clients:
                    self.assertEqual(await clients[0].call("ask", client.sid, 1), (1, "answer"))

        asyncio.run(main())

    def test_redis_manager(self) -> None:
        """python-socketio's own AsyncRedisManager works as before."""
        with (
            RedisServer() as redis,
            Workers("plain", workers=2, TXSTICKY_TEST_REDIS=redis.url) as server,
        ):
            self.heard(server.url)

    def test_two_clusters(self) -> None:
        """Over a bus that spans machines, so do rooms and calls; a stream is one too."""
        with RedisServer() as redis:
            for bus in (redis.url, redis.stream):
                with (
                    Workers("plain", "--bus", bus, workers=2) as one,
                    Workers("plain", "--bus", bus, workers=2) as two,
                ):
                    self.heard(one.url, two.url)


class ReloadTests(SynchronousTestCase):
    """A rolling reload under clients that do not stop talking."""

    def from_old_to_new(self, workers: list[str], departures: int) -> None:
        """A client was sent away by the old workers and talks to a new one: that is all it met.

        Who is sent away by the first may meet the second before that is replaced as well.
        """
        *old, last = workers
        self.assertEqual((set(old) <= set("12"), last in "12", departures), (True, False, len(old)))
        self.assertEqual(len(old), len(set(old)))

    def test_reload(self) -> None:
        """Each client is sent away without an error, connects to a new worker, and talks on."""
        with Workers("plain", workers=2) as server:
            nodes = [] if missing() else [Node(server.url, "stay", way, 3) for way in TRANSPORTS]
            for client, left in asyncio.run(self.talk(server)):
                ids = [hello["sid"].split(".")[1] for hello in client.hellos]
                self.assertEqual(client.errors, [])
                self.from_old_to_new(ids, len(left))
                way = "server disconnect" if client.transports == ["polling"] else "transport close"
                self.assertIn(f"gone: {client.hellos[0]['sid']} {way}", server.log())
            for node in nodes:
                for told in node.end():
                    self.assertEqual((told["errors"], told["connected"]), ([], True))
                    *reasons, last = told["left"]
                    self.from_old_to_new(told["workers"], len(reasons))
                    self.assertLessEqual(told["late"], len(reasons))
                    self.assertLessEqual(set(reasons), {"transport close", "transport error"})
                    self.assertEqual(last, "io client disconnect")

    async def talk(self, server: Workers) -> list[tuple[Client, list[str]]]:
        """Clients talk during a reload; each is returned with how often it was sent away."""
        over = False

        async def chat(client: Client) -> None:
            while not over:
                try:
                    await client.io.call("echo", "text", timeout=5)
                except Exception:
                    await asyncio.sleep(0.1)

        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    Client(server.url, way, reconnection=True, reconnection_delay=0.1)
                )
                for way in TRANSPORTS
                for _ in range(2)
            ]
            talks = [asyncio.ensure_future(chat(client)) for client in clients]
            await asyncio.sleep(1)
            server.signal(signal.SIGHUP)
            await eventually(lambda: server.log().count("has left") == 2, 40, server.log)
            await eventually(
                lambda: all(len(client.hellos) > len(client.left) for client in clients), 10
            )
            await asyncio.sleep(0.5)
            over = True
            await asyncio.gather(*talks)
            for client in clients:
                await client.echo("text")
            return [(client, list(client.left)) for client in clients]
