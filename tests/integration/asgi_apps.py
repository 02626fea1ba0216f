"""ASGI applications for the integration tests.

`app` knows that it may be served by a cluster; `shy`, a FastAPI application, tells nothing that
differs from one server of it to the next, so that uvicorn alone can be compared with.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, File, Form, Request, Response, UploadFile, WebSocket
from fastapi.responses import PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

from tests.integration.rawhttp import blocks

WORKER = os.environ.get("TXSTICKY_WORKER", "0")


def say(text: str) -> None:
    """Say something in the server's log."""
    print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------- what knows of a cluster


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Says when it begins and ends; requests find who it was."""
    say("The lifespan begins.")
    yield {"opened_by": os.getpid()}
    say("The lifespan ends.")


app = FastAPI(lifespan=lifespan)
left: list[str] = []


def told(value: object) -> Response:
    """An answer as those of `apps.Cluster`."""
    body = json.dumps({"worker": WORKER, "pid": os.getpid(), "told": value})
    return Response(body, headers={"X-Worker": WORKER, "X-Pid": str(os.getpid())})


@app.get("/cluster/pool")
async def pool() -> Response:
    """Who is there."""
    import txsticky

    return told(txsticky.current().pool())


@app.get("/cluster/mint")
async def mint() -> Response:
    """An id that leads here."""
    import txsticky

    return told(txsticky.current().mint("anybody"))


@app.get("/state")
async def state(request: Request) -> Response:
    """What the lifespan left for requests."""
    return told(request.state.opened_by)


@app.get("/boom")
async def boom() -> Response:
    """Fails."""
    raise LookupError("nothing is here")


@app.get("/slow")
async def slow(seconds: float) -> Response:
    """Answers later."""
    await asyncio.sleep(seconds)
    return told("slept")


@app.get("/later")
async def later(seconds: float) -> Response:
    """Works on behind its response."""
    from starlette.background import BackgroundTask

    async def work() -> None:
        await asyncio.sleep(seconds)
        say("The work behind a response is done.")

    response = told("accepted")
    response.background = BackgroundTask(work)
    return response


@app.get("/events")
async def events(name: str) -> StreamingResponse:
    """A stream of one event, and then silence; `/left` tells whose client has left."""

    async def stream() -> AsyncIterator[bytes]:
        try:
            yield b"data: hello\n\n"
            await asyncio.sleep(3600)
        finally:
            left.append(name)

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.get("/left")
async def whose() -> Response:
    """Whose streams have ended."""
    return told(left)


@app.get("/download")
async def download(size: int) -> StreamingResponse:
    """Send so many bytes of `rawhttp.payload`, slowly."""

    async def stream() -> AsyncIterator[bytes]:
        for block in blocks(size):
            yield block
            await asyncio.sleep(0.01)

    return StreamingResponse(stream())


@app.get("/who")
async def who(request: Request) -> Response:
    """What is known of the client."""
    client = request.client
    return told([client and client.host, request.url.scheme, request.scope["root_path"]])


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    """Echoes each message behind "WORKER:"; `?deaf=1` accepts and then reads nothing."""
    await websocket.accept()
    if "deaf" in websocket.query_params:
        await asyncio.sleep(3600)
    try:
        while True:
            await websocket.send_text(f"{WORKER}:{await websocket.receive_text()}")
    except WebSocketDisconnect as gone:
        say(f"A WebSocket has ended with {gone.code}.")


# ------------------------------------------------------------------------ what knows of nothing


class Item(BaseModel):
    """What is posted."""

    name: str
    count: int


shy = FastAPI()


@shy.get("/")
async def root() -> dict[str, str]:
    """A page."""
    return {"hello": "world"}


@shy.get("/items/{number}")
async def item(number: int, q: str = "") -> dict[str, Any]:
    """Path and query, checked."""
    return {"number": number, "q": q}


@shy.post("/items", status_code=201)
async def post(item: Item) -> Item:
    """JSON, checked."""
    return item


@shy.api_route("/body", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def body(request: Request) -> dict[str, Any]:
    """What was sent."""
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    headers = [(key, value) for key, value in request.headers.items() if key != "host"]
    return {"size": size, "sha256": digest.hexdigest(), "headers": headers}


@shy.post("/upload")
async def upload(file: UploadFile = File(), note: str = Form()) -> dict[str, Any]:  # noqa: B008
    """A multipart form."""
    data = await file.read()
    return {
        "name": file.filename,
        "note": note,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


@shy.get("/stream")
async def stream(size: int) -> StreamingResponse:
    """Send so many bytes, chunked."""

    async def pieces() -> AsyncIterator[bytes]:
        for block in blocks(size):
            yield block

    return StreamingResponse(pieces())


@shy.get("/cookies")
async def cookies() -> Response:
    """Several header fields of one name."""
    response = PlainTextResponse("set")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


@shy.get("/empty", status_code=204)
async def empty() -> None:
    """No body."""


@shy.get("/elsewhere")
async def elsewhere() -> RedirectResponse:
    """A redirect."""
    return RedirectResponse("/")


@shy.get("/fails")
async def fails() -> None:
    """Fails."""
    raise LookupError


@shy.websocket("/ws")
async def echoes(websocket: WebSocket) -> None:
    """Echoes; text begun with "close" ends it."""
    await websocket.accept(subprotocol=(websocket.scope["subprotocols"] or [None])[0])
    while not (text := await websocket.receive_text()).startswith("close"):
        await websocket.send_text(text)
    await websocket.close(4000, "as you wish")


# --------------------------------------------------------------------------- what does not start


async def cannot_start(scope: Any, receive: Any, send: Any) -> None:
    """Says in its lifespan that it cannot start."""
    await receive()
    text = "Traceback (most recent call last):\n  ...\nConnectionError: no database\n"
    await send({"type": "lifespan.startup.failed", "message": text})


async def lazy(scope: Any, receive: Any, send: Any) -> None:
    """Raises whatever it is asked, but for one page."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    assert parse_qs(scope["query_string"]) == {}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": WORKER.encode()})
