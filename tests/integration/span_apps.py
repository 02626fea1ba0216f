"""Applications whose beginning or end takes its time, as the environment says.

``SPAN_LOAD``, ``SPAN_SHUT``, ``SPAN_ATEXIT`` and ``SPAN_THREAD`` are the seconds that the import,
the application's own shut-down, an `atexit` handler and a thread that is no daemon take.
``SPAN_FAILS`` names a file: as long as it is there, the import ends the process with 1.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

requests = 0


def seconds(name: str) -> float:
    """What the environment says of one of these."""
    return float(os.environ.get(f"SPAN_{name}", "0"))


def say(text: str) -> None:
    """Say something in the server's log."""
    print(text, file=sys.stderr, flush=True)


def linger(name: str) -> None:
    """Take so long, and say when it is over."""
    time.sleep(seconds(name))
    say(f"{name} is over")


if os.path.exists(os.environ.get("SPAN_FAILS", "")):
    os._exit(1)
time.sleep(seconds("LOAD"))
if "SPAN_ATEXIT" in os.environ:
    atexit.register(linger, "ATEXIT")


def begin() -> None:
    """Start the thread, which begins its work when the main thread is over."""

    def run() -> None:
        threading.main_thread().join()
        linger("THREAD")

    if "SPAN_THREAD" in os.environ:
        threading.Thread(target=run).start()


# ------------------------------------------------------------------------------------ ASGI


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """`/stream` never ends, `/count` says how many requests there were, `/block` blocks."""
    global requests
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    requests += 1
    start = {"type": "http.response.start", "status": 200, "headers": []}
    if scope["path"] == "/stream":
        await send({**start, "headers": [(b"content-type", b"text/event-stream")]})
        try:
            while True:
                await send({"type": "http.response.body", "body": b".", "more_body": True})
                await asyncio.sleep(0.1)
        finally:
            say("the stream is over")
    body = str(requests).encode()
    await send({**start, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Any, send: Any) -> None:
    """The application's own life."""
    await receive()
    begin()
    task = asyncio.create_task(forever())
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if "SPAN_BLOCKS" in os.environ:
        time.sleep(seconds("SHUT"))
    else:
        await asyncio.sleep(seconds("SHUT"))
    say(f"SHUT is over, {task.done()=}")
    await send({"type": "lifespan.shutdown.complete"})


async def forever() -> None:
    """What the application does besides, and cleans up after when it is cancelled."""
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.1)
        say("TASK is over")


# ------------------------------------------------------------------------------------ WSGI


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Takes `seconds`, and says when a request is over."""
    begin()
    query = parse_qs(environ["QUERY_STRING"])
    time.sleep(float(query.get("seconds", ["0"])[0]))
    say("the request is over")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


# ----------------------------------------------------------------------------- twisted.web


class Site(Resource):
    """Answers with its process id; `/stop` stops the reactor, `/wait` never answers."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes | int:
        from twisted.internet import reactor

        if request.path == b"/stop":
            reactor.callLater(0.1, reactor.stop)  # type: ignore[attr-defined]
        if request.path == b"/wait":
            return NOT_DONE_YET
        return str(os.getpid()).encode()


def web() -> Site:
    """The twisted.web application, with a trigger at the reactor's end."""
    from twisted.internet import reactor

    def ends() -> Deferred[None]:
        done: Deferred[None] = Deferred()
        done.addCallback(lambda _: say("SHUT is over"))
        reactor.callLater(seconds("SHUT"), done.callback, None)  # type: ignore[attr-defined]
        return done

    if "SPAN_SHUT" in os.environ:
        reactor.addSystemEventTrigger("before", "shutdown", ends)  # type: ignore[attr-defined]
    return Site()
