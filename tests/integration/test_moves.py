"""WebSockets move between workers while clients talk: none is closed, no message is lost."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.talk import Talk

COMPLETE = "The reload is complete."
#: Of messages, in bytes: one for each form of a frame's length, and some that take many reads.
SIZES = (1, 10, 130, 2_000, 70_000, 3, 40, 5_000, 20, 100, 300, 200_000, 1 << 20)
RELOADS = 2
WEBSOCKETS = 60


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
        url = f"ws://127.0.0.1:{cluster.port}/ws"
        talk = Talk(url, WEBSOCKETS, SIZES, self.compression)
        await talk.open()
        before = await talk.who()
        self.assertEqual({"txsticky-moved" in each for each in before}, {False})
        talk.begin()
        for number in range(RELOADS):
            cluster.signal(signal.SIGHUP)
            while cluster.log().count(COMPLETE) <= number:
                await asyncio.sleep(0.1)
                talk.look()
        await talk.end()
        self.assertGreater(talk.said, 0)
        after = await talk.who()
        self.assertFalse({each["pid"] for each in before} & {each["pid"] for each in after})
        self.assertGreaterEqual(min(int(each["txsticky-moved"]) for each in after), RELOADS)
        self.assertEqual(await talk.close(), {1000})


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
