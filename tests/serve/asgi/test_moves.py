"""WebSockets of each engine of uvicorn's move, while their client talks."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, ClassVar

import attrs

from tests.asgi import AsgiCase, Kept, pair
from tests.integration.moving_apps import asgi
from tests.serve.moving import Talker
from tests.transport.websockets.test_moves import FakeMovements
from txsticky.core.http.conversation import Conversation
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin

#: How often it moves.
MOVES = 12


class MovesCase(AsgiCase):
    """One engine."""

    compression: ClassVar[str | None] = "deflate"

    def setUp(self) -> None:
        super().setUp()
        self.desk.movements = FakeMovements()  # type: ignore[assignment]

    def adopt(self, sock: socket.socket, handoff: Handoff) -> Kept:
        """Adopt a connection, as a worker does."""
        kept = Kept(handoff.shown())
        self.serving.adopt(sock, kept, self.desk, Conversation(replay=handoff.replay))  # type: ignore[arg-type]
        return kept

    async def move(self, kept: Kept) -> Kept:
        """Have the WebSocket leave, and adopt it again."""
        gate = kept.transport.gate
        while gate.mover is None:
            await asyncio.sleep(0.01)
        self.desk.draining = True
        assert gate.drain()
        while kept.left is None:
            await asyncio.sleep(0.01)
        self.desk.draining = False
        sock, _, held = kept.left
        replay = gate.mover.passport.leave(1, 0)
        return self.adopt(sock, attrs.evolve(kept.handoff, prefix=held, replay=replay))

    async def moved(self, talker: Talker, kept: Kept, client: socket.socket) -> None:
        """Move while the client talks."""
        talk = asyncio.ensure_future(asyncio.to_thread(talker.talk, client))
        for number in range(MOVES):
            before = talker.said
            kept = await self.move(kept)
            while talker.said == before and not talk.done():
                await asyncio.sleep(0.005 + 0.003 * (number % 3))
        talker.over.set()
        await talk


class AnyEngine:
    """WebSockets of any engine."""

    def test_talking(self: Any) -> None:
        """Every message comes back once and in order, however often the WebSocket moves."""
        self.serve(asgi)
        talker = Talker(self.compression)
        ours, theirs = pair()
        self.addCleanup(theirs.close)
        handoff = Handoff(family=socket.AF_INET, origin=Origin(("192.0.2.7", 5000)))
        self.wait(self.moved(talker, self.adopt(ours, handoff), theirs))
        self.assertEqual(talker.last["txsticky-moved"], str(MOVES))
        self.assertEqual(talker.code, 1000)
        self.assertGreaterEqual(talker.said, MOVES)
        self.assertEqual(self.complaints, [])


class SansioTests(AnyEngine, MovesCase):
    """The newer implementation of websockets."""

    engines: ClassVar[dict[str, str]] = {"UVICORN_WS": "websockets-sansio"}


class WebsocketsTests(AnyEngine, MovesCase):
    """The older one, on uvloop."""

    engines: ClassVar[dict[str, str]] = {"UVICORN_WS": "websockets"}
    loop_name = "uvloop"


class WsprotoTests(AnyEngine, MovesCase):
    """wsproto."""

    engines: ClassVar[dict[str, str]] = {"UVICORN_WS": "wsproto"}


class PlainTests(AnyEngine, MovesCase):
    """Without compression."""

    engines: ClassVar[dict[str, str]] = {"UVICORN_WS": "websockets-sansio"}
    compression = None
