"""One application of each interface, all of which do the same: they come to an end in many ways.

`/` answers at once, `/chunked` in two chunks, `/big` with :data:`BIG` bytes; `/later` answers after
`seconds`, `/slow` begins at once and ends after `seconds`, and both print that they begin; `/fails`
raises before its response has begun, `/breaks` behind; `/worker` tells an id that leads here.
`/ws`, and for twisted.web `/other`, is a WebSocket that echoes; "close" has it close with 4000,
"big" send :data:`BIG` bytes and then close.

`python -m tests.integration.ending_apps NAME PORT [CERTIFICATE KEY]` serves one of those that are
Twisted's from a bare twisted.web server. With `ENDINGS_KEEP` in the environment, Python's collector
is off.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

import txsticky

BIG = 3_000_000
HALF = b"0123456789"

if "ENDINGS_KEEP" in os.environ:
    gc.disable()

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class AskedFor(Exception):
    """An error that a test wants."""


def _worker() -> bytes:
    here = txsticky.current()
    told = {"worker": os.environ["TXSTICKY_WORKER"], "told": here.mint("anybody")} if here else {}
    return json.dumps({"pid": os.getpid(), **told}).encode()


def _seconds(query: bytes) -> float:
    return float(parse_qs(query.decode("latin-1")).get("seconds", ["0"])[0])


def _begins(path: str) -> None:
    print(f"{path} begins\n", end="", flush=True)  # in one piece: threads print at the same time


# ------------------------------------------------------------------------------------ twisted.web


class Endings(Resource):
    """The application for twisted.web."""

    isLeaf = True

    def render(self, request: Request) -> Any:
        from twisted.internet import reactor

        path, _, query = request.uri.partition(b"?")
        request.setHeader(b"Content-Type", b"text/plain")
        if path in (b"/slow", b"/later"):
            _begins(path.decode())
        if path == b"/fails":
            raise AskedFor
        if path == b"/chunked":
            request.write(HALF)
            request.write(HALF)
            request.finish()
        elif path in (b"/slow", b"/breaks"):
            request.setHeader(b"Content-Length", b"%d" % (2 * len(HALF)))
            request.write(HALF)
            if path == b"/breaks":
                raise AskedFor
            reactor.callLater(_seconds(query), self._finish, request, HALF)
        elif path == b"/later":
            request.setHeader(b"Content-Length", b"%d" % len(HALF))
            reactor.callLater(_seconds(query), self._finish, request, HALF)
        elif path == b"/worker":
            return _worker()
        else:
            return b"x" * BIG if path == b"/big" else b"hello"
        return NOT_DONE_YET

    def _finish(self, request: Request, data: bytes) -> None:
        if request.channel is not None:
            request.write(data)
            request.finish()


class _Root(Endings):
    """The pages of the application, with WebSockets beside them."""

    isLeaf = False

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Endings()


def web() -> Resource:
    """The application with both of Twisted's WebSockets."""
    root = _Root()
    root.putChild(b"ws", _autobahn())
    root.putChild(b"other", _websocket())
    return root


def _autobahn() -> Any:
    from autobahn.twisted.resource import WebSocketResource

    factory = bare_autobahn()
    factory.startFactory()
    return WebSocketResource(factory)


def bare_autobahn() -> Any:
    """A WebSocket factory of autobahn's, without twisted.web."""
    from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

    class Ending(WebSocketServerProtocol):
        def onMessage(self, data: bytes, binary: bool) -> None:
            if data == b"big":
                self.sendMessage(b"x" * BIG, True)
            if data in (b"big", b"close"):
                self.sendClose(4000, "as you wish")
            else:
                self.sendMessage(data, binary)

    factory = WebSocketServerFactory()
    factory.protocol = Ending
    factory.noisy = False
    # After one second, its default, it aborts: a client that reads slowly needs longer.
    factory.setProtocolOptions(closeHandshakeTimeout=30)
    return factory


def _websocket() -> Any:
    from twisted.web.websocket import WebSocketResource

    class Ending:
        """A protocol of twisted.web.websocket."""

        transport: Any

        def negotiationStarted(self, transport: Any) -> None:
            self.transport = transport

        def negotiationFinished(self) -> None:
            """Do nothing: the protocol needs no more."""

        def textMessageReceived(self, text: str) -> None:
            if text == "big":
                self.transport.sendBytesMessage(b"x" * BIG)
            if text in ("big", "close"):
                self.transport.loseConnection(4000)
            else:
                self.transport.sendTextMessage(text)

        def connectionLost(self, reason: Any) -> None:
            """Do nothing: the protocol keeps nothing."""

    class Makes:
        """Makes `Ending` protocols."""

        def buildProtocol(self, request: Request) -> Ending:
            return Ending()

    return WebSocketResource(Makes())


# ------------------------------------------------------------------------------------------- WSGI


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application for WSGI; it has no WebSockets."""
    path, length = environ["PATH_INFO"], {}
    if path == "/fails":
        raise AskedFor
    body: Iterable[bytes]
    if path == "/chunked":
        body = iter([HALF, HALF])
    elif path in ("/slow", "/breaks", "/later"):
        body = _in_time(path, _seconds(environ["QUERY_STRING"].encode()))
        length = {"Content-Length": str(len(HALF) * (1 if path == "/later" else 2))}
    else:
        answer = {"/worker": _worker, "/big": lambda: b"x" * BIG}.get(path, lambda: b"hello")()
        body, length = [answer], {"Content-Length": str(len(answer))}
    start_response("200 OK", [("Content-Type", "text/plain"), *length.items()])
    return body


def _in_time(path: str, seconds: float) -> Iterable[bytes]:
    _begins(path)
    if path != "/later":
        yield HALF
    if path == "/breaks":
        raise AskedFor
    time.sleep(seconds)
    yield HALF


# ------------------------------------------------------------------------------------------- ASGI


async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The application for ASGI."""
    if scope["type"] == "websocket":
        await _echo(receive, send)
        return
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path, seconds = scope["path"], _seconds(scope["query_string"])
    if path == "/fails":
        raise AskedFor
    pieces = {
        "/chunked": [HALF, HALF],
        "/slow": [HALF, HALF],
        "/breaks": [HALF, HALF],
        "/later": [HALF],
        "/worker": [_worker()],
        "/big": [b"x" * BIG],
    }.get(path, [b"hello"])
    headers = [(b"content-type", b"text/plain")]
    if path != "/chunked":
        headers.append((b"content-length", b"%d" % sum(map(len, pieces))))
    if path in ("/slow", "/later"):
        _begins(path)
    if path == "/later":
        await asyncio.sleep(seconds)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number, piece in enumerate(pieces):
        if number and path == "/breaks":
            raise AskedFor
        if number and path == "/slow":
            await asyncio.sleep(seconds)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text") or ""
        if text == "big":
            await send({"type": "websocket.send", "bytes": b"x" * BIG})
        if text in ("big", "close"):
            await send({"type": "websocket.close", "code": 4000, "reason": "as you wish"})
            return
        await send({"type": "websocket.send", "text": text})


# ------------------------------------------------------------------------------------------- bare


def _bare(name: str, port: int, *papers: str) -> None:
    from twisted.internet import reactor, ssl
    from twisted.web.wsgi import WSGIResource

    if name == "wsgi":
        pool = reactor.getThreadPool()
        site: Any = Site(WSGIResource(reactor, pool, wsgi))
    else:
        site = Site(web()) if name == "web" else bare_autobahn()
    site.displayTracebacks = False
    if papers:
        pem = "".join(Path(paper).read_text() for paper in papers)
        context = ssl.PrivateCertificate.loadPEM(pem.encode()).options()
        reactor.listenSSL(port, site, context, backlog=1024, interface="127.0.0.1")
    else:
        reactor.listenTCP(port, site, backlog=1024, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    _bare(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
