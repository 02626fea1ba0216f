"""The way to other machines, as the hub sees it, and the hub as that way sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class Backplane(Protocol):
    """
    The way to other machines (`bus.redis.RedisBackplane`, `bus.stream.StreamBackplane`).

    :ivar lost: messages that did not leave this machine.
    """

    lost: int

    def start(self) -> None:
        """Connect, and stay connected."""

    def stop(self) -> Deferred[Any]:
        """Disconnect; the Deferred fires when that is done."""

    def publish(self, topic: bytes, message: bytes) -> None:
        """Pass a message of this machine on to the others."""

    def subscribe(self, topic: bytes) -> None:
        """Receive messages of a topic from other machines."""

    def unsubscribe(self, topic: bytes) -> None:
        """Receive messages of a topic no longer."""

    def snapshot(self) -> dict[str, Any]:
        """What the program that takes this one's place needs to go on, as JSON values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the program before stopped; to be called before `start`."""


class Shore(Protocol):
    """What other machines' messages come to (`bus.hub.Bus`). Times are seconds since the epoch."""

    def arrived(self, topic: bytes, message: bytes) -> None:
        """Take a message of another machine."""

    def missed(self, topic: bytes, count: int) -> None:
        """Take note that so many messages of a topic did not leave another machine."""

    def gap(self, since: float, until: float) -> None:
        """Take note that messages of other machines, of whatever topics, may be missing."""

    def outage(self, since: float | None) -> None:
        """Take note since when messages of this machine do not go out; None: they go out."""
