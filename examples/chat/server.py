"""A chat room that spans the workers.

    twist txsticky --workers 4 server:root

Two people who talk may sit on different workers: what one says goes over the cluster's bus to every
worker, and from each of them to its own WebSockets.
"""

from __future__ import annotations

from pathlib import Path

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.web.resource import Resource
from twisted.web.static import File

import txsticky

ROOM = "room"


class Talker(WebSocketServerProtocol):
    """One open page. Every text it sends goes to all open pages."""

    def onOpen(self) -> None:
        here = txsticky.current()
        self.leave = here.subscribe(ROOM, self.hear)
        here.publish(ROOM, f"A tab was opened, at worker {here.slot}.".encode())

    def hear(self, message: bytes) -> None:
        if self.state == self.STATE_OPEN:  # not if it is just being closed
            self.sendMessage(message)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary:
            self.sendClose(4400, "this room takes text")
            return
        here = txsticky.current()
        here.publish(ROOM, b"worker %d: %s" % (here.slot, payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if hasattr(self, "leave"):  # not if the handshake had failed
            self.leave()


def room() -> WebSocketResource:
    factory = WebSocketServerFactory()
    factory.protocol = Talker
    factory.setProtocolOptions(maxMessagePayloadSize=2000)
    return WebSocketResource(factory)


root = Resource()
root.putChild(b"", File(str(Path(__file__).with_name("index.html"))))
root.putChild(b"ws", room())
