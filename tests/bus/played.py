"""What the ways to other machines are tested with: a hub, a system and a Redis, all played."""

from __future__ import annotations

from typing import Any

import attrs

from tests.fakes import FakeSystem


@attrs.define
class Shore:
    """A `backplane.Shore` that notes what it is told."""

    _told: list[tuple[Any, ...]] = attrs.field(factory=list, init=False)

    def arrived(self, topic: bytes, message: bytes) -> None:
        self._told.append(("arrived", topic, message))

    def missed(self, topic: bytes, count: int) -> None:
        self._told.append(("missed", topic, count))

    def gap(self, since: float, until: float) -> None:
        self._told.append(("gap", since, until))

    def outage(self, since: float | None) -> None:
        self._told.append(("outage", since))

    def take(self) -> list[tuple[Any, ...]]:
        """What was told since the last call."""
        told, self._told = self._told, []
        return told


class MarkedSystem(FakeSystem):
    """A system whose random bytes are the test's."""

    mark = b""

    def random_bytes(self, size: int) -> bytes:
        return self.mark[:size]


def system_of(reactor: Any, mark: bytes) -> MarkedSystem:
    """Make a system with the reactor's clock on the wall."""
    system = MarkedSystem(reactor=reactor, wall=reactor.seconds)
    system.mark = mark
    return system
