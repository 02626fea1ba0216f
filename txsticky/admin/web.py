"""The status page and what machines read: a small read-only site in the primary."""

# twisted.web has few type hints, and autobahn none.
# mypy: allow-untyped-calls

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from io import BytesIO
from typing import Any, Final

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IPushProducer
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from ..core.http.hosts import Hosts, is_of
from ..core.listen import endpoint_string
from .history import SERIES, History
from .metrics import CONTENT_TYPE, expose
from .state import ClusterState

#: Pages that may be open at the same time.
VIEWERS: Final = 100
#: Connections that the site may have, open pages included.
GUESTS: Final = VIEWERS + 28
#: Seconds for which a connection may be silent, before a request, in it and after it.
PATIENCE: Final = 15.0
#: A code for closing of our own (RFC 6455, 7.4.2), after HTTP's 405.
NOT_ALLOWED: Final = 4405
BACKLOG: Final = 128
#: Bytes of the largest view, with room to spare.
LARGEST: Final = 1 << 22

# The page needs nothing from elsewhere, and the browser holds it to that.
POLICY: Final = (
    b"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    b"connect-src 'self' ws: wss:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"

#: The header by which a successor asks, and how: of an HTTP/1.0 request no Host is wanted.
SUCCESSOR: Final = b"txsticky-successor"
ASK_FOR_PORT: Final = b"POST /yield HTTP/1.0\r\nContent-Length: 0\r\n%b: 1\r\n\r\n" % SUCCESSOR
#: The answer to a request that names another host.
REFUSAL: Final = b"The status is served under an address, localhost, or a name in --status-host.\n"

Answer = tuple[int, bytes, bytes]


def status_endpoint(text: str) -> str:
    """
    Turn what `--status` takes into a Twisted endpoint string.

    :param text: as for `--listen`; without an address it is the loopback one.
    :raises ConfigError: it is none of these.
    """
    if text.isdigit():
        text = f"127.0.0.1:{text}"
    elif "interface=" not in text:
        kind = text.partition(":")[0]
        if kind in ("tcp", "tcp4", "ssl"):
            text += ":interface=127.0.0.1"
        elif kind == "tcp6":
            text += r":interface=\:\:1"
    return endpoint_string(text, BACKLOG)


class Page(Resource):
    """
    One thing to read, made anew each time.

    :param make: gives status code, content type and content.
    """

    def __init__(self, make: Callable[[], Answer]) -> None:
        super().__init__()
        self._make = make

    def render(self, request: Request) -> Any:
        """Answer, if it is only to be read."""
        if request.method not in (b"GET", b"HEAD"):
            request.setResponseCode(405)
            request.setHeader(b"Allow", b"GET, HEAD")
            request.setHeader(b"Content-Type", TEXT)
            return b"This is only to be read.\n"
        return super().render(request)

    def render_GET(self, request: Request) -> bytes:
        """Answer."""
        status, kind, content = self._make()
        request.setResponseCode(status)
        request.setHeader(b"Content-Type", kind)
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"Content-Security-Policy", POLICY)
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        return content

    def render_HEAD(self, request: Request) -> bytes:
        """Answer with the head alone."""
        request.setHeader(b"Content-Length", b"%d" % len(self.render_GET(request)))
        return b""


class Succession(Resource):
    """
    What a successor of this program asks for: that a cluster which leaves frees the port.

    :param give_up: closes the port if the cluster leaves; returns whether it does.
    """

    def __init__(self, give_up: Callable[[], bool]) -> None:
        super().__init__()
        self._give_up = give_up

    def render_POST(self, request: Request) -> bytes:
        """Answer, the port being closed already if it is to be."""
        request.setHeader(b"Content-Type", TEXT)
        # No page of another site can have a browser send this header unasked (CORS).
        if request.getHeader(SUCCESSOR) is None or not self._give_up():
            request.setResponseCode(409)
            return b"The cluster keeps its port.\n"
        return b"ok\n"


class ReadOnlyRequest(Request):
    """
    A request whose body, if it has one, is dropped as it comes.

    It is answered if it is for this host by one of its names, so that no page of another site
    reads the status through a browser, its name leading here by then (DNS rebinding).
    """

    channel: Any

    def process(self) -> None:
        """Answer, or refuse."""
        names = self.requestHeaders.getRawHeaders(b"Host", [])
        # No browser reaches a UNIX socket by itself; a proxy in front of it answers for all names.
        local = isinstance(self.getHost(), UNIXAddress)
        hosts: Hosts = self.channel.site.hosts
        if local or all(hosts.answers(name.decode("latin-1")) for name in names):
            super().process()
            return
        self.setResponseCode(403)
        self.setHeader(b"Content-Type", TEXT)
        self.setHeader(b"Content-Length", b"%d" % len(REFUSAL))
        self.write(REFUSAL)
        self.finish()

    def gotLength(self, length: int | None) -> None:
        """Make no room for the request's body, which is dropped."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Drop a piece of the request's body."""


class StatusSite(Site):
    """
    The site: no access log, no tracebacks.

    :param hosts: the names that it answers to.
    """

    displayTracebacks = False
    noisy = False

    def __init__(self, root: Resource, hosts: Hosts) -> None:
        super().__init__(root, requestFactory=ReadOnlyRequest, timeout=PATIENCE)
        self.hosts = hosts

    def log(self, request: Any) -> None:
        """Write no access log."""

    def logPrefix(self) -> str:
        """What Twisted's log calls it."""
        return "txsticky status"


@implementer(IPushProducer)
class Viewer(WebSocketServerProtocol):  # type: ignore[misc]  # autobahn has no type hints
    """One open page."""

    factory: Viewers
    behind = False

    def onConnect(self, request: Any) -> None:
        """Take the page from here alone: other sites are not to read it through a browser."""
        host = request.headers.get("host", "")
        if request.origin and not is_of(request.origin, host):
            raise ConnectionDeny(403, "This page is to be opened from the same address.")

    def onOpen(self) -> None:
        """Show the present and the past."""
        self.unregisterProducer()  # twisted.web's HTTPChannel, which is done with this connection
        self.registerProducer(self, True)
        self.factory.joined(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Drop what a page says: the status site takes no orders."""
        self.sendClose(NOT_ALLOWED, "This is only to be read.")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Show no more."""
        self.factory.viewers.discard(self)

    def tell(self, payload: bytes) -> None:
        """Send a view, unless the last ones are still on their way, or it is being closed."""
        if self.state == self.STATE_OPEN and not self.behind:
            self.sendMessage(payload)

    def pauseProducing(self) -> None:
        """Send no views: the browser is slow (`IPushProducer`)."""
        self.behind = True

    def resumeProducing(self) -> None:
        """Send views again: the browser has read all (`IPushProducer`)."""
        self.behind = False

    def stopProducing(self) -> None:
        """Send no views: the browser has gone, and `onClose` follows (`IPushProducer`)."""
        self.behind = True


class Viewers(WebSocketServerFactory):  # type: ignore[misc]  # autobahn has no type hints
    """
    The open pages.

    :param look: looks at the cluster.
    """

    protocol = Viewer
    noisy = False

    def __init__(self, reactor: Any, history: History, look: Callable[[], ClusterState]) -> None:
        super().__init__(reactor=reactor)
        self.setProtocolOptions(
            maxConnections=VIEWERS,
            maxFramePayloadSize=1024,  # received
            maxMessagePayloadSize=LARGEST,  # received and sent
            autoPingInterval=20,
            autoPingTimeout=20,
        )
        self.viewers: set[Viewer] = set()
        self._history = history
        self._look = look

    def joined(self, viewer: Viewer) -> None:
        """Send a page that was opened all that is known of the past."""
        self.viewers.add(viewer)
        points = list(self._history.points)
        viewer.tell(_message(state=self._look().to_json(), series=SERIES, points=points))

    def show(self) -> None:
        """Send the present state to every open page."""
        if self.viewers:
            points = list(self._history.points)[-1:]
            message = _message(state=self._look().to_json(), points=points)
            for viewer in list(self.viewers):
                viewer.tell(message)

    def close(self) -> None:
        """Close every page: the cluster ends."""
        for viewer in list(self.viewers):
            viewer.dropConnection(abort=True)


def _message(**fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def make_site(
    viewers: Viewers,
    look: Callable[[], ClusterState],
    hosts: Hosts,
    give_up: Callable[[], bool] = lambda: False,
) -> Site:
    """
    Make the site.

    :param look: looks at the cluster.
    :param hosts: the names that it answers to.
    :param give_up: as for `Succession`.
    """
    page = files(__package__).joinpath("page.html").read_bytes()

    def answer(good: bool, why: str) -> Answer:
        return (200, TEXT, b"ok\n") if good else (503, TEXT, why.encode() + b"\n")

    def ready() -> Answer:
        state = look()
        why = f"{state.ready} of {state.wanted} workers are ready; the phase is {state.phase}."
        return answer(state.takes_traffic, why)

    def alive() -> Answer:
        state = look()
        why = "The workers that are ready take no connections."
        return answer(state.healthy, why if state.ready else "No worker is ready.")

    root = Resource()
    for path, make in (
        (b"", lambda: (200, b"text/html; charset=utf-8", page)),
        (b"status.json", lambda: (200, JSON, json.dumps(look().to_json()).encode() + b"\n")),
        (b"metrics", lambda: (200, CONTENT_TYPE, expose(look()))),
        (b"healthz", alive),
        (b"readyz", ready),
    ):
        root.putChild(path, Page(make))
    root.putChild(b"yield", Succession(give_up))
    root.putChild(b"ws", WebSocketResource(viewers))
    return StatusSite(root, hosts)
