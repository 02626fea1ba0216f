"""A WebSocket echo server on every core, with statistics: autobahn's own multicore example.

That one shared a listening socket between its processes. Here the server is an ordinary autobahn
factory, and the cluster is the command's business:

    twist txsticky --workers 4 --interface protocol server:factory

`python client.py` talks to it and tells which worker it met.
"""

from __future__ import annotations

import os

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

PERIOD = 5.0  # seconds between two lines of statistics
WORKER = os.environ.get("TXSTICKY_WORKER", "alone")


class Echo(WebSocketServerProtocol):
    """Sends every message back as it came."""

    def onOpen(self) -> None:
        self.factory.clients.add(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)
        self.factory.messages += 1
        self.factory.octets += len(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.factory.clients.discard(self)


class EchoFactory(WebSocketServerFactory):
    """Counts clients, messages and octets of its worker, and logs them while there is traffic."""

    protocol = Echo
    log = Logger()

    def __init__(self) -> None:
        super().__init__(headers={"X-Worker": WORKER})
        self.clients: set[Echo] = set()
        self.messages = self.octets = self.logged = 0
        self.clock = LoopingCall(self.log_statistics)

    def startFactory(self) -> None:
        super().startFactory()
        self.clock.start(PERIOD, now=False)

    def stopFactory(self) -> None:
        self.clock.stop()
        super().stopFactory()

    def log_statistics(self) -> None:
        news, self.logged = self.messages - self.logged, self.messages
        if news:
            self.log.info(
                "worker {worker}: {clients} clients; {rate:.0f} messages/s; so far {messages}"
                " messages, {octets} octets",
                worker=WORKER,
                clients=len(self.clients),
                rate=news / PERIOD,
                messages=self.messages,
                octets=self.octets,
            )


factory = EchoFactory()
