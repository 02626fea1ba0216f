"""FastAPI's application with a WebSocket that moves; FastAPI reads type hints at run time."""

from __future__ import annotations

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from tests.integration.moving_apps import WHO, who

app = FastAPI()


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    """Echo, and let the WebSocket move."""
    await websocket.accept(headers=[(b"txsticky-websocket", b"move")])
    try:
        while True:
            data = await websocket.receive_bytes()
            await websocket.send_bytes(who(websocket.headers) if data == WHO else data)
    except WebSocketDisconnect:
        pass
