"""A FastAPI application that keeps its visitors in memory, and echoes by WebSocket.

    twist txsticky --workers 4 --sticky insert:worker server:app
    curl -c jar -b jar http://localhost:8080/

Each visit with the same cookies is counted one further, because the cookie that txsticky inserted
leads to the worker that has the count.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Cookie, FastAPI, Response, WebSocket, WebSocketDisconnect

WORKER = os.environ.get("TXSTICKY_WORKER", "alone")
visits: Counter[str] = Counter()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    print("open for visitors", flush=True)
    yield
    print(f"closed after {visits.total()} visits", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def visit(
    response: Response, visitor: Annotated[str | None, Cookie()] = None
) -> dict[str, str | int]:
    if visitor is None:
        visitor = secrets.token_urlsafe(8)
        response.set_cookie("visitor", visitor)
    visits[visitor] += 1
    return {"worker": WORKER, "visits": visits[visitor]}


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            text = await websocket.receive_text()
            await websocket.send_text(f"worker {WORKER}: {text}")
    except WebSocketDisconnect:
        return
