"""What the soak asks: the echo of the integration tests, and WebSockets that talk to each other."""

from __future__ import annotations

import contextlib

from autobahn.exception import Disconnected
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

from tests.integration.apps import Root
from txsticky import current

TOPIC = "soak"
#: What begins a message for all.
ALL = b"all "


class Talking(WebSocketServerProtocol):
    """Says back what it hears; what is for all, all WebSockets of all workers hear."""

    def onOpen(self) -> None:
        self.factory.join(self)

    def onMessage(self, data: bytes, binary: bool) -> None:
        if data.startswith(ALL):
            current().publish(TOPIC, data)
        else:
            self.say(data)

    def say(self, message: bytes) -> None:
        """Say something, unless the close frame was sent: what comes then is heard still."""
        with contextlib.suppress(Disconnected):
            self.sendMessage(message)

    def onClose(self, clean: bool, code: int | None, reason: str | None) -> None:
        self.factory.talking.discard(self)


class Room(WebSocketServerFactory):
    """The WebSockets of this worker."""

    protocol = Talking

    def __init__(self) -> None:
        super().__init__()
        self.talking: set[Talking] = set()
        self._listens = False

    def join(self, talking: Talking) -> None:
        """Tell one more, from now on."""
        self.talking.add(talking)
        if not self._listens:
            self._listens = True
            current().subscribe(TOPIC, self.tell)

    def tell(self, message: bytes) -> None:
        """Tell each of them."""
        for each in list(self.talking):
            each.say(message)


app = Root()
app.putChild(b"ws", WebSocketResource(Room()))
