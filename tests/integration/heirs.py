"""Applications of each interface that start a program, which tells what it has inherited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import Request

#: Descriptors beyond the standard streams, and signals that are blocked or ignored, by number.
#: Nothing but the interpreter's own start may change them, so it is kept small (-I -S).
PROGRAM = """
import os
print([os.getuid(), os.getpgid(0)])
print([os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
       if int(n) > 2 and os.path.lexists(f"/proc/self/fd/{n}")])
"""
SIGNALS = "grep -E 'Sig(Blk|Ign)' /proc/self/status"
INT_SELF = "kill -INT $$; kill -HUP $$; echo goes on"


def told() -> bytes:
    """What a child tells that inherits everything it can, as JSON."""
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM],
        close_fds=False,
        restore_signals=False,
        capture_output=True,
        text=True,
        check=True,
    )
    ids, descriptors = run.stdout.splitlines()
    with os.popen(SIGNALS) as pipe:
        masks = dict(line.split(":\t") for line in pipe.read().splitlines())
    with os.popen(INT_SELF) as pipe:
        survived = pipe.read()
    uid, group = json.loads(ids)
    # Those below 32 are the kernel's own (signal(7)).
    numbers = {
        name: [n for n in range(1, 32) if int(mask, 16) >> (n - 1) & 1]
        for name, mask in masks.items()
    }
    return json.dumps(
        {
            "pid": os.getpid(),
            "uid": uid,
            "group": group,
            "descriptors": json.loads(descriptors.replace("'", '"')),
            "blocked": numbers["SigBlk"],
            "ignored": numbers["SigIgn"],
            "survived": survived,
        }
    ).encode()


class Heir(Resource):
    """For twisted.web."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        return told()


web = Heir()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """For WSGI."""
    body = told()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """For ASGI."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    body = told()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Teller(Protocol):
    """Answers whatever is sent."""

    def dataReceived(self, data: bytes) -> None:
        body = told()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        self.transport.write(head + body)  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


protocol = Factory.forProtocol(Teller)
