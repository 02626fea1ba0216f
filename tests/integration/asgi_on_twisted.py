"""An ASGI application that imports Twisted's reactor, as one that uses Twisted's clients does."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers once the reactor has called back."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    waited: Deferred[bytes] = Deferred()
    reactor.callLater(0.001, waited.callback, type(reactor).__name__.encode())
    body = await waited.asFuture(reactor._asyncioEventloop)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
