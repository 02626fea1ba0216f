"""
An ASGI application whose WebSockets hear whatever one of them says, in all processes.

In a worker of txsticky the cluster's bus carries it; with ``BROADCAST_REDIS=redis://…`` Redis does;
else it stays in this process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]

TOPIC = "broadcast"
REDIS = os.environ.get("BROADCAST_REDIS", "")
listeners: set[Send] = set()
tasks: set[asyncio.Task[None]] = set()


def keep(task: asyncio.Task[None]) -> None:
    """The loop alone would forget a task."""
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def tell_all(message: bytes) -> None:
    """Tell every client of this process."""
    for send in list(listeners):
        await send({"type": "websocket.send", "text": message.decode()})


async def start() -> Callable[[bytes], Awaitable[None]]:
    """Begin to listen to the other processes; what publishes to all."""
    if "TXSTICKY_WORKER" in os.environ:
        from txsticky import current

        here = current()
        assert here is not None
        here.subscribe(TOPIC, lambda message: keep(asyncio.ensure_future(tell_all(message))))

        async def publish(message: bytes) -> None:
            here.publish(TOPIC, message)

        return publish
    if not REDIS:
        return tell_all
    import redis.asyncio

    client = redis.asyncio.from_url(REDIS)
    channel = client.pubsub()
    await channel.subscribe(TOPIC)

    async def listen() -> None:
        async for event in channel.listen():
            if event["type"] == "message":
                await tell_all(event["data"])

    keep(asyncio.ensure_future(listen()))

    async def publish_to_redis(message: bytes) -> None:
        await client.publish(TOPIC, message)

    return publish_to_redis


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    """Serve."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            scope["state"]["publish"] = await start()
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": str(os.getpid())})
        listeners.add(send)
        while (event := await receive())["type"] == "websocket.receive":
            await scope["state"]["publish"](event["text"].encode())
        listeners.discard(send)
