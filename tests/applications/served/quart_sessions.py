"""Quart: sessions in memory, over HTTP and WebSocket."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from typing import Any

from quart import Quart, request, session, websocket

app = Quart(__name__)
app.secret_key = "not a secret"
visits: Counter[str] = Counter()


@app.get("/")
async def visit() -> dict[str, Any]:
    """Counts the visits of a session in this process."""
    who = session.setdefault("who", uuid.uuid4().hex)
    visits[who] += 1
    return {"visits": visits[who], "pid": os.getpid(), "query": request.query_string.decode()}


@app.websocket("/ws")
async def talk() -> None:
    """Says how often the session has come."""
    while True:
        await websocket.receive()
        await websocket.send_json({"visits": visits[session.get("who", "")], "pid": os.getpid()})
