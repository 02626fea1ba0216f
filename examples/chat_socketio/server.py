"""A Socket.IO room on every core, with python-socketio and no Redis.

    twist txsticky --workers 4 server:app

The session ids carry the tag of their worker, so that long polling works; the client manager sends
what one worker emits over the cluster's bus to the others. `python client.py` talks to it.
"""

from __future__ import annotations

import os

import socketio

import txsticky.socketio

WORKER = os.environ.get("TXSTICKY_WORKER", "alone")

sio = socketio.AsyncServer(client_manager=txsticky.socketio.AsyncManager(), async_mode="asgi")
app = socketio.ASGIApp(sio)


@sio.event
async def connect(sid: str, environ: dict[str, object]) -> None:
    await sio.enter_room(sid, "room")


@sio.event
async def where(sid: str) -> str:
    return WORKER


@sio.event
async def say(sid: str, text: object) -> None:
    await sio.emit("said", {"worker": WORKER, "text": str(text)[:2000]}, room="room")
