"""Applications that start badly, live badly or end badly, for the tests of supervision."""

from __future__ import annotations

import os
import sys
import time

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.integration.apps import Root


class Noisy(Resource):
    """Says something on both of its streams, and dies."""

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        print("the last words")
        sys.stdout.flush()
        sys.stderr.write("no more, and not a whole line")
        sys.stderr.flush()
        os._exit(7)


class Fork(Resource):
    """Leaves an orphan behind: the child of a child, which ends after `seconds`."""

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        seconds = request.args[b"seconds"][0].decode()
        os.spawnlp(os.P_WAIT, "sh", "sh", "-c", f"sleep {seconds} & ")
        request.setHeader(b"Content-Length", b"0")
        request.finish()
        return NOT_DONE_YET


class CloseAll(Resource):
    """Closes every descriptor of its process but the standard ones."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        os.closerange(3, 1 << 16)
        return b"nobody will read this"


class Heir(Resource):
    """Dies, and leaves a child that has all of its descriptors for `seconds`."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        seconds = float(request.args[b"seconds"][0])
        if os.fork():
            os._exit(1)
        time.sleep(seconds)
        os._exit(0)


class Shout(Resource):
    """Prints so many `lines`, and one that is very long."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        for number in range(int(request.args[b"lines"][0])):
            print(f"line {number} {'x' * 200}")
        print("y" * 1_000_000)
        print("the last line", flush=True)
        return b"done"


class Environment(Resource):
    """The names in the environment."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return "\n".join(os.environ).encode()


def faulty() -> Root:
    """:class:`apps.Root` with all of these."""
    root = Root()
    root.putChild(b"noisy", Noisy())
    root.putChild(b"fork", Fork())
    root.putChild(b"environment", Environment())
    root.putChild(b"closeall", CloseAll())
    root.putChild(b"heir", Heir())
    root.putChild(b"shout", Shout())
    return root


def slow_start() -> Root:
    """Takes a second and a half to load."""
    time.sleep(1.5)
    return Root()


def when_told() -> Root:
    """Comes to an end of loading when the file named by $WHEN is there."""
    while not os.path.exists(os.environ["WHEN"]):
        time.sleep(0.05)
    return Root()


def short_lived() -> Root:
    """Loads, starts, and dies at once."""
    reactor.callLater(0.05, os._exit, 1)  # type: ignore[attr-defined]
    return Root()
