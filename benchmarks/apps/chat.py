"""A python-socketio server that echoes, as an ASGI application."""

from __future__ import annotations

from typing import Any

import socketio

server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")


@server.event
async def echo(sid: str, data: Any) -> None:
    """Send back what came."""
    await server.emit("echo", data, to=sid)


app = socketio.ASGIApp(server)
