"""What a single look cannot show: rates, the last minutes, and totals that outlive a worker."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..core.how import How
from ..primary.primary import Primary
from ..primary.supervision.worker_handle import WorkerHandle
from ..system.system import System
from .usage import Usage, proportional_memory, usage_of

log = Logger()

#: Seconds between two looks, and how many of them are kept.
PERIOD: Final = 1.0
KEPT: Final = 300
#: A worker that has not reported for so many seconds does nothing, as far as we know.
STALE: Final = 3.0

#: Seconds for which a proportional set is not looked at again.
PROPORTION_KEPT: Final = 5.0

#: What a point of the history consists of, in this order.
SERIES: Final = ("time", "requests", "connections", *(how.name for how in How), "refusals")


@attrs.define
class Pace:
    """
    How fast a worker goes.

    :param requests: in a second.
    :param load: the share of one processor that it uses; None if it cannot be known.
    """

    handle: WorkerHandle
    reported: float = 0.0
    answered: int = 0
    requests: float = 0.0
    usage: Usage | None = None
    load: float | None = None

    def look(self, now: float, elapsed: float) -> None:
        """
        Compare with the last look.

        Workers report at times of their own: a rate is taken between two reports, not two looks.
        """
        handle = self.handle
        if handle.reported > self.reported:
            answered = handle.load.requests
            since = self.reported or handle.started
            self.requests = (answered - self.answered) / max(handle.reported - since, 1e-3)
            self.reported, self.answered = handle.reported, answered
        elif now - self.reported > STALE:
            self.requests = 0.0
        usage = usage_of(handle.process.pid)
        self.load = share(self.usage, usage, elapsed)
        self.usage = usage or self.usage


@attrs.define
class Totals:
    """What the workers of one number did, those that have gone included."""

    requests: int = 0
    handoffs: int = 0
    accepted: int = 0
    given: int = 0
    moved: int = 0
    cpu: float = 0.0

    def add(self, pace: Pace) -> None:
        """Count what one worker did."""
        load = pace.handle.load
        self.requests += load.requests
        self.handoffs += load.adopted
        self.accepted += pace.handle.listening.accepted
        self.given += load.given
        self.moved += load.moved
        self.cpu += pace.usage.cpu if pace.usage else 0.0


class History:
    """
    Looks at the cluster once a second.

    :param looked: called after each look.
    :ivar points: values in the order of `SERIES`, the oldest first. All but the time, in seconds
        since the epoch, and the connections are rates, in a second.
    :ivar load: the share of one processor that the primary used lately, if that can be known.
    """

    def __init__(
        self,
        system: System,
        primary: Primary,
        looked: Callable[[], None] = lambda: None,
    ) -> None:
        self.points: collections.deque[list[float]] = collections.deque(maxlen=KEPT)
        self.wall = system.wall
        self.started = system.wall()
        self.pid = os.getpid()
        self.load: float | None = None
        self._primary = primary
        self._clock = system.clock
        self._looked = looked
        self._last = system.clock()
        self._usage: Usage | None = None
        self._counts: list[int] = self._count()
        self._paces: dict[int, Pace] = {}
        self._past: dict[int, Totals] = {}
        self._proportions: dict[int, tuple[float, int | None]] = {}
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = system.reactor

    def start(self) -> None:
        """Begin to look."""
        self._ticker.start(PERIOD, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._ticker.running:
            self._ticker.stop()

    def _tick(self) -> None:
        try:
            self.look()
            self._looked()
        except Exception:
            log.failure("The cluster could not be looked at.")  # the next look may do better

    def look(self) -> None:
        """Look once."""
        now = self._clock()
        elapsed = max(now - self._last, 1e-3)
        self._last = now
        self._meet()
        for pace in self._paces.values():
            pace.look(now, elapsed)
        usage = usage_of(self.pid)
        self._usage, self.load = usage, share(self._usage, usage, elapsed)
        counts, before = self._count(), self._counts
        self._counts = counts
        rates = [(count - old) / elapsed for count, old in zip(counts, before, strict=True)]
        requests = sum(pace.requests for pace in self._paces.values())
        connections = sum(member.live for member in self._primary.pool.members)
        point = [self.wall(), requests, connections, *rates]
        self.points.append([round(value, 2) for value in point])

    def pace(self, id: int) -> Pace:
        """Tell how fast a worker of the primary goes."""
        return self._paces.get(id) or Pace(self._primary.workers.handles[id])

    def proportion(self, pid: int) -> int | None:
        """The proportional set of a process, in bytes, as it was some seconds ago at most."""
        now = self._clock()
        if pid not in self._proportions or now - self._proportions[pid][0] >= PROPORTION_KEPT:
            fresh = {p: kept for p, kept in self._proportions.items() if now - kept[0] < KEPT}
            self._proportions = {**fresh, pid: (now, proportional_memory(pid))}
        return self._proportions[pid][1]

    def totals(self) -> dict[int, Totals]:
        """What was done under each worker's number."""
        self._meet()
        totals = {slot: attrs.evolve(past) for slot, past in self._past.items()}
        for pace in self._paces.values():
            totals.setdefault(pace.handle.slot, Totals()).add(pace)
        return totals

    def _count(self) -> list[int]:
        """What only grows, in the order of `SERIES`."""
        primary = self._primary
        return [
            *(primary.dispatcher.routes[how] for how in How),
            primary.reception.refusals.total(),
        ]

    def _meet(self) -> None:
        """Get to know new workers, and keep what those that have gone had done."""
        handles = self._primary.workers.handles
        for id in self._paces.keys() - handles.keys():
            pace = self._paces.pop(id)
            self._past.setdefault(pace.handle.slot, Totals()).add(pace)
        for id, handle in handles.items():
            if id not in self._paces:
                self._paces[id] = Pace(handle)


def share(before: Usage | None, now: Usage | None, elapsed: float) -> float | None:
    """The share of one processor that a process used between two looks."""
    if before is None or now is None:
        return None
    return (now.cpu - before.cpu) / elapsed
