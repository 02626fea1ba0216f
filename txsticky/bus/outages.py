"""What the workers are told of the way to other machines: when it is closed, and what they miss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ..core.messages.frames import Frame
from ..core.messages.from_primary import Gap, Outage


class Outlet(Protocol):
    """The way to a worker (`ipc.channel.Channel`)."""

    def send(self, frame: Frame) -> None:
        """Send one frame."""


class Outages:
    """
    Tells the workers that understand it. The times that are told are seconds since the epoch.

    :param clock: seconds, monotonic.
    :ivar since: the time since which messages have not left this machine; None: they do.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.since: float | None = None
        self._gap: Gap | None = None
        self._ended = 0.0  # when that was told, by the clock
        self._outlets: dict[int, Outlet] = {}

    def join(self, id: int, outlet: Outlet, started: float) -> None:
        """
        Tell a worker from now on, and at once what it does not know.

        :param started: when the worker was started, by the clock: it may have subscribed since.
        """
        self._outlets[id] = outlet
        if self.since is not None:
            outlet.send(Outage(self.since))
        if self._gap is not None and self._ended >= started:
            outlet.send(self._gap)

    def leave(self, id: int) -> None:
        """Tell a worker nothing more."""
        self._outlets.pop(id, None)

    def told(self) -> Iterable[int]:
        """List the workers that are told, by their ids."""
        return list(self._outlets)

    def outage(self, since: float | None) -> None:
        """Tell that messages do not leave this machine, or that they do again (None)."""
        if since != self.since:
            self.since = since
            self._tell(Outage(since or 0.0))

    def gap(self, since: float, until: float) -> None:
        """Tell that messages of other machines may be missing."""
        self._gap, self._ended = Gap(since, until), self._clock()
        self._tell(self._gap)

    def _tell(self, frame: Frame) -> None:
        for outlet in self._outlets.values():
            outlet.send(frame)
