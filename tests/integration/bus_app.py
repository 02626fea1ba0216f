"""An application that publishes and listens when it is told to, and tells what it has heard.

`/bus/listen?topic=T`, `/bus/leave?topic=T`, `/bus/heard?topic=T`, `/bus/outage?topic=T`, and
`/bus/publish?topic=T&message=M&times=N&size=S`: N messages `M 0`, `M 1`, ... of S bytes each.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request

import txsticky
from tests.integration.apps import Root


class Ear:
    """What was heard of one topic."""

    def __init__(self, topic: str) -> None:
        self.heard: list[str] = []
        self.lost: list[int] = []
        self.gaps: list[tuple[float, float]] = []
        self.leave = txsticky.current().subscribe(
            topic, self.message, self.lost.append, gap=lambda *times: self.gaps.append(times)
        )

    def message(self, message: bytes) -> None:
        """Keep the beginning of a message."""
        self.heard.append(message[:40].decode().rstrip("."))


class Bus(Resource):
    """The commands."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.ears: dict[str, Ear] = {}

    def render_GET(self, request: Request) -> bytes:
        arguments = {name.decode(): values[0].decode() for name, values in request.args.items()}
        topic = arguments["topic"]
        told: Any = None
        try:
            told = getattr(self, request.postpath[0].decode())(topic, arguments)
        except (txsticky.TxstickyError, ValueError) as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        return json.dumps({"told": told}).encode()

    def listen(self, topic: str, arguments: dict[str, str]) -> None:
        """Listen to a topic."""
        self.ears[topic] = Ear(topic)

    def leave(self, topic: str, arguments: dict[str, str]) -> None:
        """Listen to a topic no longer."""
        self.ears[topic].leave()

    def heard(self, topic: str, arguments: dict[str, str]) -> dict[str, Any]:
        """What was heard."""
        ear = self.ears[topic]
        return {"heard": ear.heard, "lost": ear.lost, "gaps": ear.gaps}

    def outage(self, topic: str, arguments: dict[str, str]) -> float | None:
        """Since when messages do not leave the machine."""
        return txsticky.current().outage

    def publish(self, topic: str, arguments: dict[str, str]) -> None:
        """Publish."""
        size = int(arguments.get("size", "0"))
        for number in range(int(arguments.get("times", "1"))):
            message = f"{arguments['message']} {number}".encode()
            txsticky.current().publish(topic, message.ljust(size, b"."))


app = Root()
app.putChild(b"bus", Bus())
