"""
The demo, which the command serves when it is given no application.

The page shows which worker answers, uploads a file, chats across the workers and draws the cluster.
`resource()` is an ordinary twisted.web tree: any Site can serve it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.resources import files
from weakref import WeakKeyDictionary

from autobahn.twisted.resource import WebSocketResource
from twisted.web.http import ACCEPTED, FORBIDDEN, NOT_IMPLEMENTED, HTTPChannel, Request
from twisted.web.resource import IResource, Resource

from .here import Place, place, whoami
from .live import Visitors
from .upload import Upload

__all__ = ["resource"]

# The page loads nothing from elsewhere, and the browser enforces it.
CONTENT_POLICY = (
    b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    b"connect-src 'self' ws: wss:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Answer(Resource):
    """
    A page that is computed anew at each GET.

    :param kind: its Content-Type.
    :param make: makes its body.
    """

    isLeaf = True

    def __init__(self, kind: bytes, make: Callable[[], bytes]) -> None:
        Resource.__init__(self)
        self.kind = kind
        self.make = make

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"Content-Type", self.kind)
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"Content-Security-Policy", CONTENT_POLICY)
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        return self.make()


class Reloader(Resource):
    """
    Reloads the cluster at a POST from the demo's own page.

    Another site's page cannot send the header that it wants.

    :param place: returns the worker that this process is.
    """

    isLeaf = True

    def __init__(self, place: Callable[[], Place]) -> None:
        Resource.__init__(self)
        self.place = place

    def render_POST(self, request: Request) -> bytes:
        if request.getHeader(b"X-Demo") != b"reload":
            request.setResponseCode(FORBIDDEN)
            return b"The header X-Demo: reload is missing.\n"
        if not self.place().reload():
            request.setResponseCode(NOT_IMPLEMENTED)
            return b"There is no cluster that could be reloaded.\n"
        request.setResponseCode(ACCEPTED)
        return b"The reload begins.\n"


class Demo(Resource):
    """
    The root of the tree.

    The header `X-Request-On-Connection` of a response says how many requests this worker has read
    from the connection; after a hand-off it is 1.
    """

    def __init__(self) -> None:
        Resource.__init__(self)
        self.requests: WeakKeyDictionary[HTTPChannel, int] = WeakKeyDictionary()

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        count = self.requests[request.channel] = self.requests.get(request.channel, 0) + 1
        request.setHeader(b"X-Request-On-Connection", b"%d" % count)
        child: IResource = Resource.getChildWithDefault(self, path, request)
        return child


def whoami_line() -> bytes:
    """Tell which worker answers: `worker 2 pid 1234`, its slot and its process id."""
    at = place()
    return f"worker {at.slot} pid {os.getpid()}\n".encode()


def status() -> bytes:
    """Tell which worker answers, and its view of the pool, as JSON."""
    here = place()
    return json.dumps({"worker": whoami(here), "workers": here.pool()}).encode() + b"\n"


def resource() -> Resource:
    """Make the tree: the page at the root; `whoami`, `upload`, `status.json`, `ws`, `reload`."""
    from twisted.internet import reactor

    page = files(__name__).joinpath("page.html").read_bytes()
    root = Demo()
    root.putChild(b"", Answer(b"text/html; charset=utf-8", lambda: page))
    root.putChild(b"whoami", Answer(b"text/plain; charset=utf-8", whoami_line))
    root.putChild(b"status.json", Answer(b"application/json", status))
    root.putChild(b"upload", Upload(place))
    root.putChild(b"reload", Reloader(place))
    root.putChild(b"ws", WebSocketResource(Visitors(place, reactor)))
    return root
