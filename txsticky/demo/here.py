"""Where the demo runs: in a worker of a cluster, or alone in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from ..api import Subscriber, current


class Place(Protocol):
    """What the demo uses of `txsticky.current()`."""

    @property
    def id(self) -> int: ...

    @property
    def slot(self) -> int: ...

    def pool(self) -> list[dict[str, Any]]: ...

    def publish(self, topic: str, message: bytes) -> None: ...

    def subscribe(self, topic: str, callback: Subscriber) -> Callable[[], None]: ...


@attrs.define
class Alone:
    """A cluster of one: `twist web` and the like serve the demo without a primary."""

    id: int = 1
    slot: int = 1
    _callbacks: list[tuple[str, Subscriber]] = attrs.field(factory=list)

    def pool(self) -> list[dict[str, Any]]:
        """This process, with one connection for each subscriber (it knows of no other)."""
        live = len(self._callbacks)
        return [{"id": self.id, "slot": self.slot, "state": "ready", "live": live}]

    def publish(self, topic: str, message: bytes) -> None:
        """Call every subscriber of `topic`."""
        for subscribed, callback in list(self._callbacks):
            if subscribed == topic:
                callback(message)

    def subscribe(self, topic: str, callback: Subscriber) -> Callable[[], None]:
        """Have `callback` called with each message on `topic`; returns what ends that."""
        entry = (topic, callback)
        self._callbacks.append(entry)
        return lambda: self._callbacks.remove(entry)


ALONE = Alone()


def place() -> Place:
    """The worker this process is, or the process alone."""
    return current() or ALONE


def whoami(at: Place) -> dict[str, int]:
    """What the demo tells of the process that answers: worker id, slot and process id."""
    return {"id": at.id, "slot": at.slot, "pid": os.getpid()}
