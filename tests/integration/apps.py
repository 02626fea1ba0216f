"""Applications for the integration tests; only :class:`Cluster` knows that it is served by one.

`python -m tests.integration.apps NAME` serves one of them from a bare twisted.web server, on a
port that it prints: the other side of every differential test.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.integration.rawhttp import blocks

if TYPE_CHECKING:
    from autobahn.twisted.websocket import WebSocketServerFactory
    from flask import Flask

WORKER = os.environ.get("TXSTICKY_WORKER", "0")


def _argument(request: Request, name: bytes, default: str = "") -> str:
    return request.args.get(name, [default.encode()])[0].decode("latin-1")


def _named(address: IAddress) -> str:
    return f"{address.host}:{address.port}" if hasattr(address, "port") else str(address.name)


def _digest(request: Request) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while data := request.content.read(1 << 20):
        digest.update(data)
        size += len(data)
    return size, digest.hexdigest()


class Echo(Resource):
    """Says what it was asked and by whom, who it is, and the length and sha256 of the body.

    Query parameters: `size=N` answers N bytes of :func:`rawhttp.payload` instead, `chunked=1`
    without Content-Length, `delay=S` after S seconds, `status=N`. With `shy` it tells nothing that
    differs from one server of it to the next.
    """

    isLeaf = True

    def __init__(self, shy: bool = False) -> None:
        super().__init__()
        self._shy = shy

    def render(self, request: Request) -> int:
        length, digest = _digest(request)
        peer, host = request.getClientAddress(), request.getHost()
        told: dict[str, Any] = {
            "method": request.method.decode("latin-1"),
            "uri": request.uri.decode("latin-1"),
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, values in request.requestHeaders.getAllRawHeaders()
                for value in values
            ],
            "length": length,
            "sha256": digest,
        }
        if not self._shy:
            told |= {
                "worker": WORKER,
                "pid": os.getpid(),
                "peer": _named(peer),
                "host": _named(host),
            }
        for name in [name for name in ("worker", "pid", "length", "sha256") if name in told]:
            request.setHeader(f"X-{name}".encode(), str(told[name]).encode())
        request.setHeader(b"X-N", _argument(request, b"n").encode("latin-1"))
        request.setResponseCode(int(_argument(request, b"status", "200")))
        self._after(float(_argument(request, b"delay", "0")), request, json.dumps(told).encode())
        return NOT_DONE_YET

    def _after(self, delay: float, request: Request, told: bytes) -> None:
        if not delay:
            self._answer(request, told)
            return
        from twisted.internet import reactor

        later = reactor.callLater(delay, self._answer, request, told)
        request.notifyFinish().addErrback(lambda reason: later.active() and later.cancel())

    def _answer(self, request: Request, told: bytes) -> None:
        size = int(_argument(request, b"size", "-1"))
        if b"chunked" not in request.args:
            request.setHeader(b"Content-Length", b"%d" % (len(told) if size < 0 else size))
        if request.method == b"HEAD":
            request.write(b"")
        elif size < 0:
            for start in range(0, len(told), 100):
                request.write(told[start : start + 100])
        else:
            _Sender(request, size)
            return
        request.finish()


class _Sender:
    """Writes a long answer as fast as the client reads, not faster."""

    def __init__(self, request: Request, size: int) -> None:
        self._request: Request | None = request
        self._blocks = blocks(size)
        request.notifyFinish().addErrback(lambda reason: self.stopProducing())
        request.registerProducer(self, False)

    def resumeProducing(self) -> None:
        request = self._request
        if request is None:
            return
        for block in self._blocks:
            request.write(block)
            return
        self._request = None
        request.unregisterProducer()
        request.finish()

    def stopProducing(self) -> None:
        self._request = None


class Cluster(Resource):
    """What an application may ask of the cluster it is served by, as JSON.

    `/cluster/mint?ident=I`, `/cluster/bind?key=K`, `/cluster/free?key=K`, `/cluster/pool`;
    `/cluster/login` sets the cookie `user` to a minted id; `/cluster/crash` and
    `/cluster/block?seconds=S` do as they say.
    """

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        import txsticky

        here = txsticky.current()
        action = (request.postpath or [b""])[0].decode()
        told: Any = None
        if action == "mint":
            told = here.mint(_argument(request, b"ident", "anybody"))
        elif action == "login":
            request.addCookie(b"user", here.mint("somebody").encode(), path=b"/")
        elif action == "bind":
            told = here.bind(_argument(request, b"key"))
        elif action == "free":
            told = here.free(_argument(request, b"key"))
        elif action == "pool":
            told = here.pool()
        elif action == "crash":
            os._exit(1)
        elif action == "block":
            time.sleep(float(_argument(request, b"seconds", "1")))
        if isinstance(told, Deferred):
            told.addCallback(lambda result: self._tell(request, None))
            told.addErrback(request.processingFailed)
        else:
            self._tell(request, told)
        return NOT_DONE_YET

    def _tell(self, request: Request, told: Any) -> None:
        body = json.dumps({"worker": WORKER, "pid": os.getpid(), "told": told}).encode()
        request.setHeader(b"X-Worker", WORKER.encode())
        request.setHeader(b"X-Pid", b"%d" % os.getpid())
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(body)
        request.finish()


class Root(Resource):
    """`/cluster/...` is :class:`Cluster`, `/ws` whatever was put there, all else :class:`Echo`."""

    def __init__(self) -> None:
        super().__init__()
        self.putChild(b"cluster", Cluster())

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Echo()


echo = Root()
shy = Echo(shy=True)


def mixed() -> Resource:
    """:class:`Root` with autobahn's WebSocketResource at /ws."""
    from autobahn.twisted.resource import WebSocketResource

    factory = websocket()
    factory.startFactory()
    root = Root()
    root.putChild(b"ws", WebSocketResource(factory))
    return root


def websocket() -> WebSocketServerFactory:
    """A bare autobahn factory: it echoes each message behind "WORKER:"."""
    from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

    class Echoing(WebSocketServerProtocol):
        def onMessage(self, data: bytes, binary: bool) -> None:
            self.sendMessage(WORKER.encode() + b":" + data, binary)

    factory = WebSocketServerFactory()
    factory.protocol = Echoing
    factory.noisy = False
    return factory


def flask() -> Flask:
    """Flask: `/upload` takes a multipart form, `/echo` any body."""
    from flask import Flask, request

    app = Flask("uploads")

    @app.post("/upload")
    def upload() -> dict[str, Any]:
        sent = request.files["file"]
        data = sent.read()
        return {
            "worker": WORKER,
            "name": sent.filename,
            "note": request.form["note"],
            "length": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }

    @app.route("/echo", methods=["GET", "POST"])
    def told() -> dict[str, Any]:
        data = request.get_data()
        return {"worker": WORKER, "length": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    return app


class Lines(LineReceiver):
    """Not HTTP: greets with its worker's number, then sends each line back behind it."""

    delimiter = b"\n"

    def connectionMade(self) -> None:
        self.sendLine(b"worker " + WORKER.encode())

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(WORKER.encode() + b":" + line)


lines = Factory.forProtocol(Lines)


def never_ready() -> Resource:
    """A factory that does not come to an end."""
    time.sleep(3600)
    return echo


def does_not_load() -> Resource:
    """A factory that fails."""
    raise LookupError("the settings of this application are missing")


def _bare(name: str) -> Any:
    found = globals()[name]
    app = found() if inspect.isfunction(found) else found
    return Site(app) if isinstance(app, Resource) else app


if __name__ == "__main__":
    from twisted.internet import reactor

    site = _bare(sys.argv[1])
    site.displayTracebacks = False
    port = reactor.listenTCP(0, site, backlog=1024, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()
