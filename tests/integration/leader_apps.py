"""Applications whose workers note when each of them leads."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import txsticky

NOTES = os.environ.get("LEADER_NOTES", os.devnull)


def note(what: str) -> None:
    """Write a line about this process; lines of several processes do not mix."""
    with open(NOTES, "a") as file:
        file.write(f"{what} {os.getpid()}\n")


class Job:
    """
    What the leader does, in a thread, as a scheduler does: a line every tenth of a second.

    It asks before each step whether this worker still leads.
    """

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(0.1):
            here = txsticky.current()
            if here is not None and here.leader:
                note("tick")

    def start(self) -> None:
        """Begin."""
        note("start")
        self._over.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        self._thread.join()
        note("stop")


def told() -> bytes:
    """Who answers, and whether that one leads."""
    here = txsticky.current()
    return json.dumps({"pid": os.getpid(), "leader": here is not None and here.leader}).encode()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """For WSGI."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [told()]


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
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": told()})


job = Job()
# As a WSGI application has to: when it is imported, no worker has started yet.
txsticky.on_leader(job.start, job.stop)
