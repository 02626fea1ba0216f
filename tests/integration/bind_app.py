"""Applications that bind a key, and answer much or little behind it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import blockingCallFromThread
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

import txsticky

#: The pieces of a response, and how many there are.
PIECE = bytes(1 << 16)
PIECES = 1024


def bind(key: bytes = b"key") -> None:
    """Bind a key, in the reactor's thread."""
    here = txsticky.current()
    assert here is not None
    here.bind(key)


def made() -> Iterator[bytes]:
    """Make the pieces; each that is asked for is told to the test by a byte in a file."""
    with open(os.environ["MADE"], "ab", buffering=0) as file:
        for _ in range(PIECES):
            file.write(b".")
            yield PIECE


class Binds(Resource):
    """`/?size=N` binds a key of N bytes, and answers what came of it."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        try:
            bind(b"k" * int(request.args.get(b"size", [b"1"])[0]))
        except ValueError as error:
            return str(error).encode()
        return b"bound"


class Streams(Resource):
    """`/much` binds a key and streams all pieces."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes | int:
        if request.path != b"/much":
            return b"little"
        bind()
        request.registerProducer(_Pulled(request), False)
        return NOT_DONE_YET


class _Pulled:
    """Writes a piece each time that it is told to."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pieces = made()

    def resumeProducing(self) -> None:
        """Write one."""
        piece = next(self._pieces, None)
        if piece is not None:
            self._request.write(piece)
        else:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        """The client has gone."""


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """The WSGI application that binds a key."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] != "/much":
        return iter([b"little"])
    blockingCallFromThread(reactor, bind)
    return made()


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The ASGI application that binds a key."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/much":
        bind()
        for piece in made():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


app = Binds()
web = Streams()
