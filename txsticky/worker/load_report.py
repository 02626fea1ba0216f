"""The report of load: what a worker has to do and has done, told to the primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from ..config import Config
from ..core.messages.from_worker import Beat, Load, Reload, Replace, Used
from ..core.routing.pool import LAG_FREE
from ..ipc.channel import Channel
from ..system.system import System

#: Seconds between a change of load and its report.
REPORT_SOON: Final = 0.05
#: Seconds between signs of life of a worker that has something to do.
HEARTBEAT: Final = 0.5
#: Seconds between signs of life of an idle worker, at most: half of the time to its suspicion
#: (`primary.supervision.heartbeats`), so that a single one may be late.
IDLE_HEARTBEAT: Final = 1.0
#: How many keys go into one frame: the longest of them are 4 KiB, and a frame has its limit.
USED_AT_ONCE: Final = 200


class LoadReport:
    """
    Reports soon after a change, many changes at once, and regularly as a sign of life.

    While nothing changes the sign of life says just that, and comes less often.  Along with it go
    the uses of keys: what one process uses, none forgets.

    :param channel: leads to the primary.
    :param system: the clock.
    :param measure: makes the report, given the lag of the event loop in seconds.
    :param take_used: takes the keys whose use the primary has not been told.
    :param idle: seconds between signs of life that only say that nothing has changed; 0 if the
        primary does not understand them.
    :param retire_after: the number of requests at which the worker asks to be replaced; 0 is never.
    :ivar requests: how many requests were answered.
    """

    def __init__(
        self,
        channel: Channel,
        system: System,
        measure: Callable[[float], Load],
        take_used: Callable[[], list[bytes]] = list,
        idle: float = 0.0,
        retire_after: int = 0,
    ) -> None:
        self.requests = 0
        self._idle = idle
        self._told: Load | None = None
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
        self._beat_due = self._system.clock()
        self.beat()

    def beat(self) -> None:
        """See how late the event loop is; report that, and which keys were used."""
        now = self._system.clock()
        self._lag = max(0.0, now - self._beat_due)
        if not self._channel.behind:
            used = self._take_used()
            for start in range(0, len(used), USED_AT_ONCE):
                self._channel.send(Used(used[start : start + USED_AT_ONCE]))
        pause = HEARTBEAT
        if self._call is None and not self._report():
            pause = self._idle
        self._beat_due = now + pause
        self._system.reactor.callLater(pause, self.beat)

    def changed(self) -> None:
        """Report soon: the load has changed."""
        if self._call is None:
            self._call = self._system.reactor.callLater(REPORT_SOON, self.send)

    def send(self) -> None:
        """Report now."""
        self._call = None
        self._report()

    def _report(self) -> bool:
        """
        Report now; nothing is sent to a primary that is behind, as the next report says all.

        :returns: False if nothing has changed since the last report.
        """
        if self._channel.behind:
            return True
        load, told = self._measure(self._lag), self._told
        self._told = load
        if self._idle and told is not None and _same(load, told):
            self._channel.send(Beat())
            return False
        self._channel.send(load)
        return True

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


def _same(now: Load, before: Load) -> bool:
    """Whether a report says what the one before it said, but for a lag that is none."""
    if now.requests != before.requests or now.adopted != before.adopted:
        return False
    return max(now.lag, before.lag) < LAG_FREE and attrs.evolve(before, lag=now.lag) == now


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


def idle_heartbeat(config: Config) -> float:
    """
    Return the seconds between two signs of life of a worker that has nothing to do.

    :param config: says after how many seconds a worker is silent.
    """
    return min(IDLE_HEARTBEAT, config.worker_timeout / 4 or IDLE_HEARTBEAT)
