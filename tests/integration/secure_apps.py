"""Applications that tell how they see a client that came over TLS, one of each interface."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import Request

import txsticky

WORKER = os.environ.get("TXSTICKY_WORKER", "0")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def _mint() -> str:
    here = txsticky.current()
    return here.mint("somebody") if here else ""


def _told(**fields: Any) -> bytes:
    return json.dumps({"worker": WORKER, "told": _mint(), **fields}).encode()


class Secure(Resource):
    """twisted.web: what a request says of its connection; the body's digest."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        digest = hashlib.sha256(request.content.read()).hexdigest()
        client = request.getClientAddress()
        request.setHeader(b"Content-Type", b"application/json")
        return _told(
            scheme="https" if request.isSecure() else "http",
            client=[client.host, client.port],
            server=[request.getHost().host, request.getHost().port],
            url=request.prePathURL().decode(),
            sha256=digest,
        )


web = Secure()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application that tells how it sees a client."""
    digest = hashlib.sha256(environ["wsgi.input"].read()).hexdigest()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [
        _told(
            scheme=environ["wsgi.url_scheme"],
            client=[environ["REMOTE_ADDR"], int(environ.get("REMOTE_PORT", 0))],
            server=[environ["SERVER_NAME"], int(environ["SERVER_PORT"])],
            sha256=digest,
        )
    ]


async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application that tells how it sees a client; a WebSocket tells it, then echoes."""
    if scope["type"] == "http":
        await _http(scope, receive, send)
    elif scope["type"] == "websocket":
        await _websocket(scope, receive, send)
    else:
        raise AssertionError("no lifespan here")


def _seen(scope: dict[str, Any], **fields: Any) -> bytes:
    return _told(scheme=scope["scheme"], client=scope["client"], server=scope["server"], **fields)


async def _http(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    digest, size = hashlib.sha256(), int(dict(scope["headers"]).get(b"x-size", b"0"))
    more = True
    while more:
        message = await receive()
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    told = _seen(scope, sha256=digest.hexdigest())
    length = size or len(told)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if not size:
        await send({"type": "http.response.body", "body": told})
        return
    for start in range(0, size, 65536):
        block = b"x" * min(65536, size - start)
        more = start + len(block) < size
        await send({"type": "http.response.body", "body": block, "more_body": more})


async def _websocket(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": _seen(scope).decode()})
    while (message := await receive())["type"] == "websocket.receive":
        echoed = WORKER.encode() + b":" + (message.get("bytes") or message["text"].encode())
        await send({"type": "websocket.send", "bytes": echoed})


class Greeter(Protocol):
    """Not HTTP: greets, then sends everything back behind its worker's number."""

    def connectionMade(self) -> None:
        self.transport.write(b"hello from " + WORKER.encode() + b"\n")

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(WORKER.encode() + b":" + data)


greeter = Factory.forProtocol(Greeter)
