"""An autobahn server that echoes."""

from __future__ import annotations

import os

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol


class Echo(WebSocketServerProtocol):  # type: ignore[misc]
    """Says who it is, then echoes."""

    def onOpen(self) -> None:
        self.sendMessage(b"%d" % os.getpid())

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


site = WebSocketServerFactory()
site.protocol = Echo
