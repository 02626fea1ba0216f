"""Flask-SocketIO in threading mode, with Flask's routes beside."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from flask import Flask, request
from flask_socketio import SocketIO

app = Flask(__name__)
socketio = SocketIO(app, async_mode="threading", cors_allowed_origins="*")
counts: Counter[str] = Counter()


@app.get("/")
def hello() -> dict[str, Any]:
    """Which process answers."""
    return {"pid": os.getpid()}


@socketio.event
def count() -> list[int]:
    """Count the events of a client."""
    sid: str = request.sid  # type: ignore[attr-defined]
    counts[sid] += 1
    return [counts[sid], os.getpid()]
