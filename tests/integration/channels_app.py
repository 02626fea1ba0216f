"""An ASGI application each of whose processes receives by a channel layer, as consumers do."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from txsticky.channels import ChannelLayer

layer = ChannelLayer()
got: dict[str, list[Any]] = {"group": [], "jobs": []}
tasks: list[asyncio.Task[None]] = []


async def receive_all(channel: str, into: list[Any]) -> None:
    """Keep all that comes."""
    while True:
        into.append((await layer.receive(channel))["n"])


async def begin() -> None:
    """Receive from now on: in a channel of this process that is in a group, and one for all."""
    own = await layer.new_channel()
    await layer.group_add("all", own)
    tasks.append(asyncio.create_task(receive_all(own, got["group"])))
    tasks.append(asyncio.create_task(receive_all("jobs", got["jobs"])))


async def act(path: str) -> Any:
    """Do what is asked: `/group/N`, `/jobs/N`, or tell what has come."""
    _, what, *rest = path.split("/")
    if what == "group":
        await layer.group_send("all", {"n": int(rest[0])})
    elif what == "jobs":
        for number in range(int(rest[0])):
            await layer.send("jobs", {"n": number})
    return {"pid": os.getpid(), **got}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The application."""
    if scope["type"] == "lifespan":
        await receive()
        await begin()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = json.dumps(await act(scope["path"])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
