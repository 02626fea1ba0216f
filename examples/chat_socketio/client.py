"""Several Socket.IO clients, by long polling and by WebSocket, in one room.

    python client.py [URL [CLIENTS]]

The first one says something; each tells which worker it is on and which one it heard it from.
"""

from __future__ import annotations

import asyncio
import sys

import socketio

TRANSPORTS = (["polling"], ["websocket"])


async def main(url: str, count: int) -> None:
    heard = [asyncio.get_running_loop().create_future() for _ in range(count)]
    clients = [socketio.AsyncClient() for _ in range(count)]
    for number, client in enumerate(clients):

        def said(
            news: dict[str, str], future: asyncio.Future[dict[str, str]] = heard[number]
        ) -> None:
            if not future.done():
                future.set_result(news)

        client.on("said", said)
        await client.connect(url, transports=TRANSPORTS[number % 2])
    workers = [await client.call("where") for client in clients]
    await clients[0].emit("say", "hello")
    for number, (worker, future) in enumerate(zip(workers, heard, strict=True)):
        news = await asyncio.wait_for(future, 20)
        way = TRANSPORTS[number % 2][0]
        print(
            f"client {number} ({way}): worker {worker} heard {news['text']!r} from {news['worker']}"
        )
    for client in clients:
        await client.eio.disconnect(abort=True)  # without waiting for the poll under way


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8080"
    asyncio.run(main(url, int(sys.argv[2]) if len(sys.argv) > 2 else 4))
