"""python-socketio over ASGI, which keeps something of each client."""

from __future__ import annotations

import os

import socketio

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")


@sio.event
async def count(sid: str) -> list[int]:
    """Count the events of a client."""
    async with sio.session(sid) as session:
        session["count"] = session.get("count", 0) + 1
        return [session["count"], os.getpid()]


app = socketio.ASGIApp(sio)
