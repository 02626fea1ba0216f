"""A Socket.IO application, mounted in every way that people mount one.

`TXSTICKY_TEST_GATE` names a file that has to exist before it loads, `TXSTICKY_TEST_REDIS` a Redis
whose manager of python-socketio's own is then used.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import socketio

import txsticky.socketio

WORKER = os.environ.get("TXSTICKY_WORKER", "0")
OPTIONS: dict[str, Any] = {
    "cors_allowed_origins": "*",
    "max_http_buffer_size": 5_000_000,
}


def manager() -> Any:
    """The client manager."""
    redis = os.environ.get("TXSTICKY_TEST_REDIS")
    return socketio.AsyncRedisManager(redis) if redis else txsticky.socketio.AsyncManager()


def server() -> socketio.AsyncServer:
    """A server whose events say which worker they happened in."""
    sio = socketio.AsyncServer(async_mode="asgi", client_manager=manager(), **OPTIONS)

    @sio.event
    async def connect(sid: str, environ: dict[str, Any]) -> None:
        await sio.emit("hello", {"worker": WORKER, "sid": sid}, to=sid)

    @sio.event
    async def disconnect(sid: str, reason: str) -> None:
        print("gone:", sid, reason)

    @sio.event
    async def echo(sid: str, data: Any) -> Any:
        return {"worker": WORKER, "data": data}

    @sio.event
    async def enter(sid: str, other: str, room: str) -> bool:
        await sio.enter_room(other, room)
        return True

    @sio.event
    async def leave(sid: str, other: str, room: str) -> bool:
        await sio.leave_room(other, room)
        return True

    @sio.event
    async def inside(sid: str, room: str) -> bool:
        return room in sio.rooms(sid)

    @sio.event
    async def close(sid: str, room: str) -> bool:
        await sio.close_room(room)
        return True

    @sio.event
    async def say(sid: str, room: str, what: Any, skip: str | None = None) -> bool:
        await sio.emit("said", what, to=room, skip_sid=skip)
        return True

    @sio.event
    async def ask(sid: str, other: str, what: Any) -> Any:
        return await sio.call("asked", what, to=other, timeout=60)

    @sio.event
    async def kick(sid: str, other: str) -> bool:
        await sio.disconnect(other)
        return True

    return sio


def plain() -> Any:
    """Nothing around it."""
    return socketio.ASGIApp(server())


def mounted() -> Any:
    """Mounted into FastAPI."""
    import fastapi

    app = fastapi.FastAPI()
    app.mount("/socket.io", socketio.ASGIApp(server(), socketio_path=None))
    return app


def around() -> Any:
    """Around FastAPI."""
    import fastapi

    return socketio.ASGIApp(server(), other_asgi_app=fastapi.FastAPI())


def preflight() -> Any:
    """Behind a middleware that answers every OPTIONS itself, with 204."""
    inner = plain()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = [(b"access-control-allow-origin", b"*")]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body"})
        else:
            await inner(scope, receive, send)

    return app


def late() -> Any:
    """Does not load before it may."""
    gate = Path(os.environ["TXSTICKY_TEST_GATE"])
    while not gate.exists():
        time.sleep(0.1)
    return plain()


def threads() -> Any:
    """A server of threads, in a WSGI application."""
    sio = socketio.Server(
        async_mode="threading",
        client_manager=txsticky.socketio.Manager(),
        transports=["polling"],
        **OPTIONS,
    )

    @sio.event
    def connect(sid: str, environ: dict[str, Any]) -> None:
        sio.emit("hello", {"worker": WORKER, "sid": sid}, to=sid)

    @sio.event
    def echo(sid: str, data: Any) -> Any:
        return {"worker": WORKER, "data": data}

    @sio.event
    def say(sid: str, room: str, what: Any) -> bool:
        sio.emit("said", what, to=room)
        return True

    @sio.event
    def ask(sid: str, other: str, what: Any) -> Any:
        return sio.call("asked", what, to=other, timeout=60)

    return socketio.WSGIApp(sio)
