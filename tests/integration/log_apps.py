"""Applications that log in every way that there is, with each request: one for each interface."""

from __future__ import annotations

import logging
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request

#: What a client may have chosen.
NASTY = "\x1b[2J\rforged\x9b1m"


def say() -> None:
    """Log at each level by each way, and print."""
    for name in ("shop", "uvicorn", "uvicorn.error"):
        for level in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger(name), level)("%s of %s by %s", level, name, "logging")
    log = Logger(namespace="shop")
    for level in ("debug", "info", "warn", "error"):
        getattr(log, level)("{said} by Twisted", said=level.replace("warn", "warning"))
    logging.getLogger("shop").error("key %s", NASTY)
    print(f"printed {NASTY}", flush=True)


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """For ASGI."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    say()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"said"})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """For WSGI."""
    say()
    start_response("200 OK", [("Content-Length", "4")])
    return [b"said"]


class _Page(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        """Answer."""
        say()
        return b"said"


web = _Page()


class _Speaker(Protocol):
    def dataReceived(self, data: bytes) -> None:
        """Answer as HTTP does."""
        say()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsaid")


protocol = Factory.forProtocol(_Speaker)
