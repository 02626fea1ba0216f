"""WebSocket clients that talk all the time, and notice whatever is lost, doubled or reordered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.integration.moving_apps import WHO

#: Handshakes at a time.
AT_ONCE = 20


class Talk:
    """
    Clients, of which every other one talks all the time.

    :param url: where they go.
    :param count: how many there are.
    :param sizes: of messages, in bytes, one after the other.
    :param compression: what they offer.
    :ivar pause: seconds between two rounds of one client.
    :ivar said: how many messages came back as they were sent, and in that order.
    """

    def __init__(
        self, url: str, count: int, sizes: Sequence[int], compression: str | None = "deflate"
    ) -> None:
        self.url, self.compression = url, compression
        self.count, self.sizes = count, sizes
        self.pause = 0.05
        self.said = 0
        self.sockets: list[ClientConnection] = []
        self._over = asyncio.Event()
        self._talkers: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open all of them."""
        options: Any = {"compression": self.compression, "max_size": 4 << 20, "open_timeout": 60}
        while (left := self.count - len(self.sockets)) > 0:
            made = (
                connect(self.url, ping_interval=None, **options) for _ in range(min(left, AT_ONCE))
            )
            self.sockets += await asyncio.gather(*made)

    def begin(self) -> None:
        """Have every other one talk."""
        self._talkers = [
            asyncio.ensure_future(self._talk(socket, 1000 * number))
            for number, socket in enumerate(self.sockets[::2])
        ]

    def look(self) -> None:
        """
        See that all goes well.

        :raises AssertionError: a message came back as another one.
        """
        for talker in self._talkers:
            if talker.done():
                talker.result()

    async def end(self) -> None:
        """Have them come to an end of what they say."""
        self._over.set()
        await asyncio.gather(*self._talkers)

    async def _talk(self, socket: ClientConnection, first: int) -> None:
        """Send a few messages, in one piece or in several; await them, and again."""
        number = first
        while not self._over.is_set():
            sent = []
            for _ in range(3):
                number += 1
                data = b"%d " % number + b"x" * self.sizes[number % len(self.sizes)]
                half = len(data) // 2
                await socket.send([data[:half], data[half:]] if number % 3 else data)
                sent.append(data)
            pong = await socket.ping()
            for data in sent:
                if await socket.recv() != data:
                    raise AssertionError(f"message {number} of {first} came back as another one")
                self.said += 1
            await pong
            await asyncio.sleep(self.pause)

    async def who(self) -> list[Any]:
        """Who serves each WebSocket."""
        told = []
        for socket in self.sockets:
            await socket.send(WHO)
            told.append(json.loads(await socket.recv()))
        return told

    async def close(self) -> set[int | None]:
        """Close all; returns the codes of that."""
        for socket in self.sockets:
            await socket.close()
        return {socket.close_code for socket in self.sockets}
