"""One application for each interface, which tells what it sees of a request, or frames it wrongly.

Paths: ``/long`` names 5 bytes and sends 10, ``/short`` names 20 and sends 10, ``/empty`` names 20
and sends none, ``/nothing`` is a 204 with a body; every other is answered with what was seen,
``/copied`` with header lines as an application copies them from a response that it has got.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

import txsticky

WORKER = os.environ.get("TXSTICKY_WORKER", "0")
DIGITS = b"0123456789"
#: Path -> status, length, body.
WRONG = {
    "/long": (200, 5, DIGITS),
    "/short": (200, 20, DIGITS),
    "/empty": (200, 20, b""),
    "/nothing": (204, None, DIGITS),
}

#: Header lines of a response from elsewhere.
COPIED = {"/copied": {"Transfer-Encoding": "chunked"}}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def told(method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> bytes:
    """What was seen, and a session of this worker's."""
    here = txsticky.current()
    return json.dumps(
        {
            "worker": WORKER,
            "sid": here.mint("somebody") if here else "",
            "method": method,
            "path": path,
            "query": query,
            "host": headers.get("host"),
            "upgrade": headers.get("upgrade"),
            "cookie": len(headers.get("cookie", "")),
            "length": len(body),
        }
    ).encode()


class Odd(Resource):
    """twisted.web, without a resource for any other path than the root and `/a`."""

    def __init__(self) -> None:
        super().__init__()
        self.putChild(b"", self)
        self.putChild(b"a", self)
        for path in (*WRONG, *COPIED):
            self.putChild(path[1:].encode(), self)

    def render(self, request: Request) -> bytes | int:
        path = request.path.decode()
        if path in WRONG:
            status, length, body = WRONG[path]
            request.setResponseCode(status)
            if length is not None:
                request.setHeader(b"content-length", b"%d" % length)
            for byte in body:
                request.write(bytes([byte]))
            request.finish()
            return NOT_DONE_YET
        headers = {
            k.decode().lower(): v[0].decode() for k, v in request.requestHeaders.getAllRawHeaders()
        }
        query = request.uri.partition(b"?")[2].decode()
        seen = told(request.method.decode(), path, query, headers, request.content.read())
        if path not in COPIED:
            return seen
        for name, value in COPIED[path].items():
            request.setHeader(name, value)
        request.write(seen)
        request.finish()
        return NOT_DONE_YET


web = Odd()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application that tells what it sees, or frames it wrongly."""
    path = environ["PATH_INFO"]
    if path in WRONG:
        status, length, body = WRONG[path]
        fields = [] if length is None else [("Content-Length", str(length))]
        start_response(f"{status} X", fields)
        return [bytes([byte]) for byte in body]
    copied = COPIED.get(path, {}).items()
    start_response("200 OK", [("Content-Type", "application/json"), *copied])
    headers = {k[5:].lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
    body = environ["wsgi.input"].read()
    return [told(environ["REQUEST_METHOD"], path, environ["QUERY_STRING"], headers, body)]


async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application that tells what it sees; its WebSockets echo."""
    if scope["type"] == "websocket":
        await _echo(receive, send)
        return
    assert scope["type"] == "http"
    content, more = b"", True
    while more:
        message = await receive()
        content += message.get("body", b"")
        more = message.get("more_body", False)
    path = scope["path"]
    headers = {k.decode(): v.decode("latin-1") for k, v in scope["headers"]}
    seen = told(scope["method"], path, scope["query_string"].decode(), headers, content)
    status, length, body = WRONG.get(path, (200, len(seen), seen))
    fields = [] if length is None else [(b"content-length", b"%d" % length)]
    fields += [(k.lower().encode(), v.encode()) for k, v in COPIED.get(path, {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def _echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
