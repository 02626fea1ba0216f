"""The process that serves the demo: a worker of a cluster, or a process without a cluster."""

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

    def subscribe(
        self, topic: str, callback: Subscriber, *, websocket: str | None = None
    ) -> Callable[[], None]: ...

    def leave(self, websocket: str, state: str) -> None: ...

    def reload(self) -> bool: ...


@attrs.define
class Alone:
    """A process without a cluster, as `twist web` is: a pool of one worker."""

    id: int = 1
    slot: int = 1
    _callbacks: list[tuple[str, Subscriber]] = attrs.field(factory=list)

    def pool(self) -> list[dict[str, Any]]:
        """Return this process alone, with one connection for each subscriber."""
        live = len(self._callbacks)
        return [{"id": self.id, "slot": self.slot, "state": "ready", "live": live}]

    def publish(self, topic: str, message: bytes) -> None:
        """Call every subscriber of `topic`."""
        for subscribed, callback in list(self._callbacks):
            if subscribed == topic:
                callback(message)

    def subscribe(
        self, topic: str, callback: Subscriber, *, websocket: str | None = None
    ) -> Callable[[], None]:
        """Call `callback` with each message on `topic`, until the returned function is called."""
        entry = (topic, callback)
        self._callbacks.append(entry)
        return lambda: self._callbacks.remove(entry)

    def leave(self, websocket: str, state: str) -> None:
        """Do nothing: no WebSocket moves."""

    def reload(self) -> bool:
        """Return False: there is nothing to reload."""
        return False


ALONE = Alone()


def place() -> Place:
    """Return the worker that this process is, or else `ALONE`."""
    return current() or ALONE


def whoami(at: Place) -> dict[str, int]:
    """Return the worker id, the slot and the process id of the process that answers."""
    return {"id": at.id, "slot": at.slot, "pid": os.getpid()}
