"""A WSGI application with a WebSocket, by simple-websocket: `/ws` sends each message back."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import simple_websocket


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The application."""
    if environ["PATH_INFO"] == "/ws":
        ws = simple_websocket.Server(environ)
        try:
            while True:
                ws.send(ws.receive())
        except simple_websocket.ConnectionClosed as closed:
            print(f"closed with {int(closed.reason)}", flush=True)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
