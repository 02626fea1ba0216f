"""WSGI applications on a port of this machine, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from txsticky.serve import ServeSettings, Serving, serving_for

from ...gated import GatedPort
from ...serving import Client, connect, request

Start = Callable[..., Any]


class WSGICase(TestCase):
    """An application on a port of this machine."""

    timeout = 60

    def serve(self, app: object, **settings: Any) -> None:
        """Serve an application until the end of the test; `self.port` is its port."""
        serving = serving_for(app, "wsgi", ServeSettings(**settings))
        serving.start()
        self.addCleanup(self.stop)
        self.serving: Serving | None = serving
        port = GatedPort(reactor, serving)
        self.addCleanup(port.close)
        self.port = port.port

    async def stop(self) -> None:
        """Stop the application, once."""
        serving, self.serving = self.serving, None
        if serving is not None:
            await serving.stop(4.0)

    async def connect(self, data: bytes) -> Client:
        """Connect and send something; the connection ends with the test."""
        client = await connect(self.port, data)

        def end() -> Deferred[bytes]:
            client.transport.abortConnection()
            return client.gone

        self.addCleanup(end)
        return client

    async def ask(self, *arguments: str, body: bytes = b"") -> bytes:
        """Send one request and return the whole response."""
        client = await self.connect(request(*arguments, body=body))
        return await client.gone

    async def answer_of(self, app: object, *arguments: str, body: bytes = b"") -> bytes:
        """Serve an application for one request."""
        self.serve(app)
        return await self.ask(*(arguments or ("GET", "/")), body=body)


def text(environ: dict[str, Any], start_response: Start, content: str) -> list[bytes]:
    """Answer a text."""
    start_response("200 OK", [("Content-Length", str(len(content)))])
    return [content.encode()]


def environ_of(*names: str) -> Callable[..., list[bytes]]:
    """Make an application that answers a few variables of its environment."""

    def app(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        return text(environ, start_response, " ".join(str(environ.get(name)) for name in names))

    return app


def digest(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    """Answer the length and the sha256 of the request's body, read in pieces."""
    found, length = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(10000):
        found.update(piece)
        length += len(piece)
    return text(environ, start_response, f"{length} {found.hexdigest()}")


def told(body: bytes) -> bytes:
    """What `digest` answers to a body."""
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()


def chunked(body: bytes) -> bytes:
    """Write a body in chunks of 7000 bytes."""
    pieces = [body[i : i + 7000] for i in range(0, len(body), 7000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
