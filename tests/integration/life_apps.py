"""One application for each interface: it answers at once, or after the seconds that it is asked."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from txsticky.ipc.mailbox import MailboxTransport
from txsticky.worker.inbox import WorkerInbox

#: What can befall the mailbox of the worker that is asked: it ends, or is read no more.
DEEDS: dict[bytes, Callable[[MailboxTransport], object]] = {
    b"/end": lambda box: box._lose(),
    b"/forget": lambda box: box.stopReading(),
}


class Slow(Resource):
    """For web."""

    isLeaf = True

    def render(self, request: Request) -> bytes | int:
        """Answer a request of any method."""
        from twisted.internet import reactor

        if request.path in DEEDS:
            (inbox,) = (each for each in gc.get_objects() if isinstance(each, WorkerInbox))
            DEEDS[request.path](inbox.box)
            return b"done"
        seconds = float(request.args.get(b"wait", [b"0"])[0])
        if not seconds:
            return b"ok"
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(_: object) -> None:
            if not gone:
                request.write(b"ok")
                request.finish()

        deferLater(reactor, seconds).addCallback(answer)
        return NOT_DONE_YET


web = Slow()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """For WSGI."""
    environ["wsgi.input"].read()
    time.sleep(float(parse_qs(environ["QUERY_STRING"]).get("wait", ["0"])[0]))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """For ASGI."""
    if scope["type"] == "lifespan":
        for what in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{what}.complete"})
        return
    await asyncio.sleep(float(parse_qs(scope["query_string"].decode()).get("wait", ["0"])[0]))
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})
