"""Applications and engines that the tests of ASGI serving share."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tests.asgi import AsgiCase, Receive, Scope, Send, answer, nothing
from tests.integration.rawhttp import request

GET = request("GET", "/")


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what it was told of the request."""
    if scope["type"] == "lifespan":
        return await nothing(scope, receive, send)
    fields = {name: value for name, value in scope.items() if name not in ("headers", "extensions")}
    fields["headers"] = [(k.decode(), v.decode("latin-1")) for k, v in scope["headers"]]
    body = json.dumps(fields, default=lambda value: value.decode("latin-1")).encode()
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": body.decode()})
        return await send({"type": "websocket.close"})
    return await answer(send, body)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Streams back each piece of the body as it comes, and echoes what comes by WebSocket."""
    if scope["type"] == "lifespan":
        return await nothing(scope, receive, send)
    if scope["type"] == "websocket":
        return await echo_messages(scope, receive, send)
    await send({"type": "http.response.start", "status": 200})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})
    return None


async def echo_messages(scope: Scope, receive: Receive, send: Send) -> None:
    """Echoes what comes by WebSocket; the path says whether the WebSocket is taken."""
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/refused":
        return await send({"type": "websocket.close"})
    if scope["path"] == "/denied":
        start = {"type": "websocket.http.response.start", "status": 401, "headers": []}
        await send(start)
        return await send({"type": "websocket.http.response.body", "body": b"who are you?"})
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    return None


class Waiting:
    """
    An application that waits for its client to leave.

    :param begins: whether the response begins before that.
    :ivar heard: what its client's leaving was called.
    """

    def __init__(self, begins: bool = False) -> None:
        self._begins = begins
        self.waits = False
        self.heard: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        if scope["type"] == "lifespan":
            return await nothing(scope, receive, send)
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        if self._begins:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        self.waits = True
        self.heard.append(await receive())
        return None


class Uvloop(AsgiCase):
    """uvicorn's fastest engines."""

    loop_name = "uvloop"
    engines: ClassVar[dict[str, str]] = {"UVICORN_HTTP": "httptools"}


class Pure(AsgiCase):
    """uvicorn's engines without compiled parts."""

    engines: ClassVar[dict[str, str]] = {"UVICORN_HTTP": "h11", "UVICORN_WS": "wsproto"}
