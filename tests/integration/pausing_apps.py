"""
One application for each interface: `/length` answers the length of the body, `/big?N` N bytes, as
fast as they are taken, `/slow?S` after S seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import socketio
from twisted.internet import task
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

BLOCK = bytes(range(256)) * 256


def blocks(size: int) -> Iterator[bytes]:
    """Yield so many bytes, piece by piece."""
    for start in range(0, size, len(BLOCK)):
        yield BLOCK[: size - start]


class Web(Resource):
    """For twisted.web."""

    isLeaf = True

    def render(self, request: Request) -> Any:
        what, _, number = request.uri.partition(b"?")
        if what == b"/slow":
            from twisted.internet import reactor

            task.deferLater(reactor, float(number), request.write, b"slow").addCallback(
                lambda _: request.finish()
            ).addErrback(lambda _: None)
            return NOT_DONE_YET
        if what == b"/big":
            request.setHeader(b"Content-Length", number)
            Producer(request, blocks(int(number)))
            return NOT_DONE_YET
        return b"%d" % len(request.content.read())


class Producer:
    """Writes blocks as fast as they are taken."""

    def __init__(self, request: Request, pieces: Iterator[bytes]) -> None:
        self._request, self._pieces = request, pieces
        request.registerProducer(self, False)

    def resumeProducing(self) -> None:
        for piece in self._pieces:
            self._request.write(piece)
            return
        self._request.unregisterProducer()
        self._request.finish()

    def stopProducing(self) -> None:
        self._pieces = iter(())


web = Web()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """For WSGI."""
    what, number = environ["PATH_INFO"], environ["QUERY_STRING"]
    if what == "/big":
        start_response("200 OK", [("Content-Length", number)])
        return blocks(int(number))
    if what == "/slow":
        time.sleep(float(number))
        body = b"slow"
    else:
        body = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[..., Any]) -> None:
    """For ASGI."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message["body"])
        if not message.get("more_body"):
            break
    number = scope["query_string"]
    if scope["path"] == "/slow":
        await asyncio.sleep(float(number))
    size = int(number) if scope["path"] == "/big" else len(b"%d" % length)
    headers = [(b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/big":
        for piece in blocks(size):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": b"%d" % length})


crowd = socketio.WSGIApp(socketio.Server(async_mode="threading"), wsgi)
