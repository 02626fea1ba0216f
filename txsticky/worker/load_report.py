"""The report of load: what a worker has to do and has done, told to the primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..config import Config
from ..core.messages.from_worker import Load, Reload, Replace, Used
from ..ipc.channel import Channel
from ..system.system import System

#: Seconds between a change of load and its report.
REPORT_SOON = 0.05
#: Seconds between reports when nothing changes: the heartbeat.
HEARTBEAT = 0.5
#: How many keys go into one frame: the longest of them are 4 KiB, and a frame has its limit.
USED_AT_ONCE = 200


class LoadReport:
    """
    Reports soon after a change, many changes at once, and regularly as a sign of life.

    Along with the sign of life go the uses of keys: what one process uses, none forgets.

    :param channel: leads to the primary.
    :param system: the clock.
    :param measure: makes the report, given the lag of the event loop in seconds.
    :param take_used: takes the keys whose use the primary has not been told.
    :param retire_after: the number of requests at which the worker asks to be replaced; 0 is never.
    :ivar requests: how many requests were answered.
    """

    def __init__(
        self,
        channel: Channel,
        system: System,
        measure: Callable[[float], Load],
        take_used: Callable[[], list[bytes]] = list,
        retire_after: int = 0,
    ) -> None:
        self.requests = 0
        self._retire_after = retire_after
        self._channel = channel
        self._system = system
        self._measure = measure
        self._take_used = take_used
        self._call: Any = None
        self._beat_due = 0.0
        self._lag = 0.0

    def start(self) -> None:
        """Begin the heartbeat."""
        self._beat_due = self._system.clock() + HEARTBEAT
        self.beat()

    def beat(self) -> None:
        """See how late the event loop is; report that, and which keys were used."""
        now = self._system.clock()
        self._lag = max(0.0, now - self._beat_due)
        self._beat_due = now + HEARTBEAT
        self._system.reactor.callLater(HEARTBEAT, self.beat)
        if not self._channel.behind:
            used = self._take_used()
            for start in range(0, len(used), USED_AT_ONCE):
                self._channel.send(Used(used[start : start + USED_AT_ONCE]))
        if self._call is None:
            self.send()

    def changed(self) -> None:
        """Report soon: the load has changed."""
        if self._call is None:
            self._call = self._system.reactor.callLater(REPORT_SOON, self.send)

    def send(self) -> None:
        """Report now; nothing is sent to a primary that is behind, as the next report says all."""
        self._call = None
        if not self._channel.behind:
            self._channel.send(self._measure(self._lag))

    def request_done(self) -> None:
        """Count one more request that is answered; at the limit ask to be replaced."""
        self.requests += 1
        if self.requests == self._retire_after:
            self.retire()

    def reload(self) -> None:
        """Ask for a rolling reload."""
        self._channel.send(Reload())

    def retire(self) -> None:
        """Ask to be replaced: the worker drains when its successor is ready."""
        self._channel.send(Replace())


def retirement(config: Config, randint: Callable[[int, int], int]) -> int:
    """
    Choose after how many requests a worker asks to be replaced; 0 is never.

    :param config: has the least number, and how many more there may be by chance, so that workers
        are not replaced all at once.
    :param randint: chance, as `random.Random.randint`.
    """
    if not config.max_requests:
        return 0
    return config.max_requests + randint(0, config.max_requests_jitter)
