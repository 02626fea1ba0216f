"""Applications with WebSockets that echo, and say where they are when they are asked "who"."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WHO = b"who"
#: Names a file for autobahn's: it says nothing, `refuse`, or which subprotocol is picked.
MOOD = "MOVING_MOOD"


def who(headers: Mapping[str, str]) -> bytes:
    """Which process serves a WebSocket, and what of its handshake only this server may say."""
    ours = {name: value for name, value in headers.items() if name.startswith("txsticky-")}
    return json.dumps({"pid": os.getpid(), **ours}).encode()


def autobahn() -> Any:
    """A factory of autobahn's, which compresses if it is asked to."""
    from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
    from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
    from autobahn.websocket.types import ConnectionDeny

    mood = Path(os.environ[MOOD]).read_text() if MOOD in os.environ else ""

    class Echoing(WebSocketServerProtocol):  # type: ignore[misc]  # autobahn has no type hints
        def onConnect(self, request: Any) -> Any:
            self.handshake = request.headers
            if mood == "refuse":
                raise ConnectionDeny(403)
            headers = {"Txsticky-Websocket": "move", "Txsticky-State": "from autobahn"}
            return mood or None, headers

        def onMessage(self, data: bytes, binary: bool) -> None:
            self.sendMessage(who(self.handshake) if data == WHO else data, binary)

    def accept(offers: list[Any]) -> Any:
        for offer in offers:
            if isinstance(offer, PerMessageDeflateOffer):
                return PerMessageDeflateOfferAccept(offer)
        return None

    factory = WebSocketServerFactory()
    factory.protocol = Echoing
    factory.noisy = False
    factory.setProtocolOptions(perMessageCompressionAccept=accept, failByDrop=False)
    return factory


def twisted() -> Any:
    """A resource tree with Twisted's own WebSocket at /ws."""
    from twisted.web.resource import Resource
    from twisted.web.websocket import WebSocketResource

    class Echoing:
        """A protocol of twisted.web.websocket."""

        def __init__(self, headers: Mapping[str, str]) -> None:
            self.handshake = headers

        def negotiationStarted(self, transport: Any) -> None:
            self.transport = transport

        def negotiationFinished(self) -> None:
            """Do nothing: the protocol needs no more."""

        def textMessageReceived(self, text: str) -> None:
            self.transport.sendTextMessage(text)

        def bytesMessageReceived(self, data: bytes) -> None:
            self.transport.sendBytesMessage(who(self.handshake) if data == WHO else data)

        def connectionLost(self, reason: Any) -> None:
            """Note that the WebSocket is over."""

        def pongReceived(self, payload: bytes) -> None:
            """Do nothing: no ping was sent."""

    class Makes:
        """Makes `Echoing` protocols."""

        def buildProtocol(self, request: Any) -> Any:
            names = ("txsticky-websocket", "txsticky-moved", "txsticky-state")
            found = {name: request.getHeader(name) for name in names}
            return Echoing({name: value for name, value in found.items() if value})

    root = Resource()
    root.putChild(b"ws", WebSocketResource(Makes()))
    return root


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """The WSGI application whose WebSocket echoes, by simple-websocket."""
    import simple_websocket

    names = ("txsticky-websocket", "txsticky-moved", "txsticky-state")
    found = {name: environ.get("HTTP_" + name.upper().replace("-", "_")) for name in names}
    headers = {name: value for name, value in found.items() if value is not None}
    websocket = simple_websocket.Server(environ)
    try:
        while True:
            data = websocket.receive()
            websocket.send(who(headers) if data == WHO else data)
    except simple_websocket.ConnectionClosed:
        start_response("200 OK", [])
        return []


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application whose WebSocket echoes, and takes a moment for each message."""
    import asyncio

    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"txsticky-websocket", b"move")]})
    while (message := await receive())["type"] == "websocket.receive":
        await asyncio.sleep(0.001)
        if message.get("bytes") == WHO:
            message = {"bytes": who(headers)}
        await send({**message, "type": "websocket.send"})
