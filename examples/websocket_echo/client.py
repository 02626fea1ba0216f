"""Opens some WebSockets to the echo server and tells which worker each of them met.

Usage: python client.py [URL] [CONNECTIONS] [MESSAGES]
"""

from __future__ import annotations

import os
import sys
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.task import react


class Client(WebSocketClientProtocol):
    """Sends messages, each when the last has come back; `done` fires with the worker's name."""

    def __init__(self, messages: int) -> None:
        super().__init__()
        self.left = messages
        self.done: Deferred[str] = Deferred()
        self.problem = "closed before all messages had come back"

    def onConnect(self, response: Any) -> None:
        self.worker = response.headers.get("x-worker", "unknown")

    def onOpen(self) -> None:
        self.send_next()

    def send_next(self) -> None:
        self.message = os.urandom(1000)
        self.sendMessage(self.message, isBinary=True)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.left -= 1
        if payload != self.message:
            self.problem = "something else came back than was sent"
            self.sendClose()
        elif self.left:
            self.send_next()
        else:
            self.problem = ""
            self.sendClose()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self.problem:
            self.done.errback(ConnectionError(f"{self.problem} ({reason})"))
        else:
            self.done.callback(self.worker)


async def talk(
    reactor: Any, url: str = "ws://localhost:8080", connections: str = "8", messages: str = "100"
) -> None:
    """Hold the conversations side by side, then print one line for each."""
    factory = WebSocketClientFactory(url, reactor=reactor)
    endpoint = HostnameEndpoint(reactor, factory.host, factory.port)
    clients = [Client(int(messages)) for _ in range(int(connections))]
    for client in clients:
        client.factory = factory
        await connectProtocol(endpoint, client)
    workers = await gatherResults([client.done for client in clients], consumeErrors=True)
    for number, worker in enumerate(workers, 1):
        print(f"connection {number}: worker {worker} sent all {messages} messages back")


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(talk(reactor, *sys.argv[1:])))
