"""An application that keeps its sessions in memory and tells nothing to the cluster, three times.

* ``POST /begin`` begins one, whose id is in the header ``Mcp-Session-Id`` and in the cookie
  ``JSESSIONID``; with ``?many`` in a thousand of each.
* ``GET /`` counts how often the session has come that the header or the cookie names: 404 where it
  is not known.
* ``DELETE /`` ends it, and so does ``POST /logout``, which takes the cookie away.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request

HEADER, COOKIE = "Mcp-Session-Id", "JSESSIONID"
Answer = tuple[str, list[tuple[str, str]], bytes]

sessions: Counter[str] = Counter()


def answer(method: str, path: str, query: str, header: str, cookies: str) -> Answer:
    """Answer a request, whatever brought it here."""
    session = header or dict(
        cookie.strip().partition("=")[::2] for cookie in cookies.split(";") if cookie.strip()
    ).get(COOKIE, "")
    fields = [("Content-Type", "application/json"), ("X-Worker", os.environ["TXSTICKY_WORKER"])]
    if path == "/begin":
        for _ in range(1000 if query == "many" else 1):
            session = uuid.uuid4().hex
            sessions[session] = 0
            if query != "many":
                fields.append((HEADER, session))
            fields.append(("Set-Cookie", f"{COOKIE}={session}; Path=/; HttpOnly"))
    elif session not in sessions:
        return "404 Not Found", fields, b"null"
    elif method == "DELETE" or path == "/logout":
        del sessions[session]
        if path == "/logout":
            fields.append(("Set-Cookie", f"{COOKIE}=; Max-Age=0; Path=/"))
    else:
        sessions[session] += 1
    body = json.dumps([os.getpid(), sessions[session]]).encode()
    return "200 OK", [*fields, ("Content-Length", str(len(body)))], body


class Web(Resource):
    """For twisted.web."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        path, _, query = request.uri.decode().partition("?")
        status, fields, body = answer(
            request.method.decode(),
            path,
            query,
            request.getHeader(HEADER) or "",
            request.getHeader("Cookie") or "",
        )
        request.setResponseCode(int(status[:3]))
        for name, values in itertools.groupby(sorted(fields), key=lambda field: field[0]):
            request.responseHeaders.setRawHeaders(name, [value for _, value in values])
        return body


web = Web()


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """For WSGI."""
    status, fields, body = answer(
        environ["REQUEST_METHOD"],
        environ["PATH_INFO"],
        environ["QUERY_STRING"],
        environ.get("HTTP_MCP_SESSION_ID", ""),
        environ.get("HTTP_COOKIE", ""),
    )
    start_response(status, fields)
    return [body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """For ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    status, fields, body = answer(
        scope["method"],
        scope["path"],
        scope["query_string"].decode(),
        headers.get(HEADER.lower(), ""),
        headers.get("cookie", ""),
    )
    lines = [(name.lower().encode(), value.encode()) for name, value in fields]
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": int(status[:3]), "headers": lines})
    await send({"type": "http.response.body", "body": body})
