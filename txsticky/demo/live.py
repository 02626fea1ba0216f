"""
The demo's WebSocket: the chat over all workers and the live picture of the cluster.

Every message is one JSON object in a text frame. To the browser: `hello` (which worker holds this
WebSocket, and how often it has moved), `pool` (the workers, whenever they changed), `chat` and
`count`. From the browser: `name` and `text` of a chat message, or the word `count`, which adds one
to the WebSocket's own counter.

The WebSocket moves when its worker leaves. The counter goes along, and so does the subscription.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from .here import Place, whoami

TOPIC = "txsticky.demo.chat"
COUNT = b"count"
POOL_PERIOD = 0.5  # seconds between two looks at the pool
LONGEST_NAME = 24  # characters, as the page's fields say
LONGEST_TEXT = 500
BAD_MESSAGE = 4400  # the demo's close code; RFC 6455, 7.4.2 leaves 4000 to 4999 to applications
LONGEST_MESSAGE = 4096  # bytes; room for both in UTF-8


def message(kind: str, **fields: Any) -> bytes:
    """Encode a message to the browser."""
    return json.dumps({"type": kind, **fields}).encode()


def chat_message(payload: bytes, slot: int) -> bytes:
    """
    Make the message to all browsers from a chat message of one browser.

    :param payload: the chat message, as the browser has sent it.
    :param slot: the slot of the worker that holds the browser's WebSocket.
    :raises ValueError: the payload is not an object with `name` and `text` of allowed lengths.
    """
    said = json.loads(payload)
    if not isinstance(said, dict):
        raise ValueError("a message is a JSON object")
    texts = {}
    for field, longest in (("name", LONGEST_NAME), ("text", LONGEST_TEXT)):
        value = said.get(field)
        if not isinstance(value, str) or not 1 <= len(value) <= longest:
            raise ValueError(f"{field} is a text of 1 to {longest} characters")
        texts[field] = value
    return message("chat", slot=slot, **texts)


@implementer(IPushProducer)
class Visitor(WebSocketServerProtocol):  # type: ignore[misc]  # autobahn has no type hints
    """The WebSocket of a browser tab. While the browser does not read, messages are dropped."""

    factory: Visitors
    behind = False
    count = 0
    moved = 0
    #: By which this worker knows the WebSocket, if it may move.
    id: str | None = None

    def onConnect(self, request: Any) -> tuple[None, dict[str, str]]:
        """Say that the WebSocket may move; take up one that has."""
        headers = request.headers
        self.id = headers.get("txsticky-websocket")
        self.moved = int(headers.get("txsticky-moved", 0))
        self.count = int(headers.get("txsticky-state", 0))
        return None, {"Txsticky-Websocket": "move"}

    def onOpen(self) -> None:
        self.unregisterProducer()  # twisted.web's HTTPChannel, which is done with this connection
        self.registerProducer(self, True)
        place = self.factory.place()
        self.tell(message("hello", moved=self.moved, **whoami(place)))
        self.keep()
        self.leave = place.subscribe(TOPIC, self.tell, websocket=self.id)
        self.factory.joined(self)

    def tell(self, payload: bytes) -> None:
        """Send a message, unless the WebSocket is being closed (autobahn would raise)."""
        if self.state == self.STATE_OPEN and not self.behind:
            self.sendMessage(payload)

    def pauseProducing(self) -> None:
        """Drop messages: the browser does not read (`IPushProducer`)."""
        self.behind = True

    def resumeProducing(self) -> None:
        """Send messages again: the browser has read all (`IPushProducer`)."""
        self.behind = False

    def stopProducing(self) -> None:
        """Drop messages: the browser has gone, and `onClose` follows (`IPushProducer`)."""
        self.behind = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        place = self.factory.place()
        if payload == COUNT:
            self.count += 1
            self.keep()
            self.tell(message("count", value=self.count))
            return
        try:
            chat = chat_message(payload, place.slot)
        except (ValueError, RecursionError) as problem:
            self.sendClose(BAD_MESSAGE, str(problem))
        else:
            place.publish(TOPIC, chat)

    def keep(self) -> None:
        """Leave the counter for the worker that this WebSocket moves to."""
        if self.id is not None:
            self.factory.place().leave(self.id, str(self.count))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self in self.factory.visitors:  # not so if the handshake had failed
            self.leave()
            self.factory.left(self)


class Visitors(WebSocketServerFactory):  # type: ignore[misc]  # autobahn has no type hints
    """
    The WebSockets of this worker, and the timer that shows the pool to them.

    :param place: returns the worker that this process is. It is called each time, because an
        application may be loaded before its worker is known.
    :param reactor: the clock.
    """

    protocol = Visitor

    def __init__(self, place: Callable[[], Place], reactor: IReactorTime) -> None:
        super().__init__(reactor=reactor)
        self.setProtocolOptions(
            maxMessagePayloadSize=LONGEST_MESSAGE, autoPingInterval=20, autoPingTimeout=20
        )
        self.place = place
        self.visitors: set[Visitor] = set()
        self.shown = b""
        self.ticker = LoopingCall(self.show_pool)
        self.ticker.clock = reactor

    def joined(self, visitor: Visitor) -> None:
        """Show the pool to a new visitor."""
        self.visitors.add(visitor)
        if not self.ticker.running:
            self.shown = b""
            self.ticker.start(POOL_PERIOD)
        else:
            visitor.tell(self.shown)

    def left(self, visitor: Visitor) -> None:
        """Forget a visitor; stop the timer after the last."""
        self.visitors.discard(visitor)
        if not self.visitors:
            self.ticker.stop()

    def show_pool(self) -> None:
        """Send the pool to every visitor, if it has changed."""
        pool = message("pool", workers=self.place().pool())
        if pool != self.shown:
            self.shown = pool
            for visitor in list(self.visitors):
                visitor.tell(pool)
