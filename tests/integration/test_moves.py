"""WebSockets move between workers while clients talk: none is closed, no message is lost."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from websockets.asyncio.client import ClientConnection, connect

from tests.integration.cluster import Cluster
from tests.integration.moving_apps import WHO

COMPLETE = "The reload is complete."
#: Of messages, in bytes: one for each form of a frame's length, and some that take many reads.
SIZES = (1, 10, 130, 2_000, 70_000, 3, 40, 5_000, 20, 100, 300, 200_000, 1 << 20)
RELOADS = 2
WEBSOCKETS = 60


class Talk:
    """
    Clients, of which every other one talks all the time.

    :ivar said: how many messages came back as they were sent, and in that order.
    """

    def __init__(self, url: str, compression: str | None) -> None:
        self.url, self.compression = url, compression
        self.said = 0
        self.over = asyncio.Event()
        self.sockets: list[ClientConnection] = []

    async def open(self) -> None:
        """Open all of them."""
        for _ in range(WEBSOCKETS):
            options: Any = {"compression": self.compression, "max_size": 4 << 20}
            self.sockets.append(await connect(self.url, ping_interval=None, **options))

    async def talk(self, socket: ClientConnection, first: int) -> None:
        """Send a few messages, in one piece or in several; await them, and again."""
        number = first
        while not self.over.is_set():
            sent = []
            for _ in range(3):
                number += 1
                data = b"%d " % number + b"x" * SIZES[number % len(SIZES)]
                half = len(data) // 2
                await socket.send([data[:half], data[half:]] if number % 3 else data)
                sent.append(data)
            pong = await socket.ping()
            for data in sent:
                if await socket.recv() != data:
                    raise AssertionError(f"message {number} of {first} came back as another one")
                self.said += 1
            await pong
            await asyncio.sleep(0.05)

    async def who(self, socket: ClientConnection) -> Any:
        """Who serves a WebSocket."""
        await socket.send(WHO)
        return json.loads(await socket.recv())


class MovesCase:
    """One kind of server inside; the subclasses are the tests."""

    app = ""
    options: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    compression: str | None = "deflate"

    def test_reloads(self: Any) -> None:
        """Reloads close no WebSocket, and nothing that is said is lost, doubled or reordered."""
        with Cluster(
            f"tests.integration.{self.app}",
            "--graceful-timeout",
            "20",
            *self.options,
            probe="",
            environment=self.environment,
        ) as cluster:
            asyncio.run(self.clients(cluster))

    async def clients(self: Any, cluster: Cluster) -> None:
        """Talk through some reloads."""
        talk = Talk(f"ws://127.0.0.1:{cluster.port}/ws", self.compression)
        await talk.open()
        before = [await talk.who(socket) for socket in talk.sockets]
        self.assertEqual({"txsticky-moved" in each for each in before}, {False})
        talkers = [
            asyncio.ensure_future(talk.talk(socket, 1000 * number))
            for number, socket in enumerate(talk.sockets[::2])
        ]
        for number in range(RELOADS):
            cluster.signal(signal.SIGHUP)
            while cluster.log().count(COMPLETE) <= number:
                await asyncio.sleep(0.1)
                for talker in talkers:
                    if talker.done():
                        talker.result()
        said, talk.over = talk.said, talk.over
        talk.over.set()
        await asyncio.gather(*talkers)
        self.assertGreater(said, 0)
        after = [await talk.who(socket) for socket in talk.sockets]
        self.assertFalse({each["pid"] for each in before} & {each["pid"] for each in after})
        self.assertGreaterEqual(min(int(each["txsticky-moved"]) for each in after), RELOADS)
        for socket in talk.sockets:
            await socket.close()
        self.assertEqual({socket.close_code for socket in talk.sockets}, {1000})


class AutobahnMoves(MovesCase, SynchronousTestCase):
    """autobahn, without twisted.web."""

    app, options = "moving_apps:autobahn", ("--factory",)


class TwistedMoves(MovesCase, SynchronousTestCase):
    """Twisted's own, which cannot send header fields: the operator lets them move."""

    app, options = "moving_apps:twisted", ("--factory", "--websockets", "move")


class ThreadMoves(MovesCase, SynchronousTestCase):
    """simple-websocket in threads, which sends no header fields either."""

    app, options = "moving_apps:wsgi", ("--websockets", "move")


class SansioMoves(MovesCase, SynchronousTestCase):
    """uvicorn with the newer implementation of websockets."""

    app = "moving_apps:asgi"
    environment = {"UVICORN_WS": "websockets-sansio"}


class WebsocketsMoves(MovesCase, SynchronousTestCase):
    """FastAPI, and uvicorn with the older implementation of websockets."""

    app = "moving_fastapi:app"
    environment = {"UVICORN_WS": "websockets"}


class WsprotoMoves(MovesCase, SynchronousTestCase):
    """FastAPI, and uvicorn with wsproto."""

    app = "moving_fastapi:app"
    environment = {"UVICORN_WS": "wsproto", "UVICORN_LOOP": "asyncio"}
