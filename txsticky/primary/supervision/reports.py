"""The reports: what the workers say of themselves, counted and judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from ...core.how import How
from ...core.messages.from_worker import Beat, ListeningLoad, Load
from ...core.routing.pool import Pool
from ..listeners import Listeners
from .suspicion import SHORT, STUCK, STUCK_AFTER, Suspicions


class Reporting(Protocol):
    """A worker, as far as its reports matter: the last one, and when that came, in seconds."""

    id: int
    load: Load
    reported: float

    @property
    def listening(self) -> ListeningLoad:
        """What the worker did on sockets of its own, by the last report."""


class Reports:
    """
    Takes in the reports of all workers.

    :param pool: is told each worker's load.
    :param suspicions: what a report gives reason for.
    :param clock: tells the time, in seconds.
    :param listeners: counts the connections that workers accept.
    :param routes: counts the connections that were placed, workers' included.
    :param refusals: counts the refusals, workers' included.
    """

    def __init__(
        self,
        pool: Pool,
        suspicions: Suspicions,
        clock: Callable[[], float],
        listeners: Listeners,
        routes: dict[How, int],
        refusals: Counter[int],
    ) -> None:
        self._pool = pool
        self._suspicions = suspicions
        self._clock = clock
        self._listeners = listeners
        self._routes = routes
        self._refusals = refusals

    def take(self, worker: Reporting, report: Load | Beat) -> bool:
        """
        Take in a report.

        :param report: `Beat` if all is as the last one had it.
        :returns: whether it is a sign of life: the worker takes what waits for it, or has a reason
            not to.
        """
        load = report if isinstance(report, Load) else worker.load
        id, now = worker.id, self._clock()
        self._pool.report(id, load.live, load.taken, load.lag, now)
        stuck = self._pool.stuck(id, now) >= STUCK_AFTER
        self._suspicions.set(id, load.short, SHORT)
        self._suspicions.set(id, stuck and not load.short, STUCK)
        if load.listening is not None:
            self._count(load.listening, worker.listening)
        worker.load, worker.reported = load, now
        return not stuck or load.short or not self._pool.is_ready(id)

    def resume(self, worker: Reporting) -> None:
        """Count what a worker had reported to the program before: the counts begin anew."""
        if worker.load.listening is not None:
            self._count(worker.load.listening, ListeningLoad())

    def _count(self, now: ListeningLoad, before: ListeningLoad) -> None:
        """Count what a worker has done on sockets of its own between two reports."""
        self._listeners.accepted_by_workers += now.accepted - before.accepted
        counted = before.routes or [0] * len(How)
        for how, count, earlier in zip(How, now.routes, counted, strict=True):
            self._routes[how] += count - earlier
        if now.refusals != before.refusals:
            self._refusals.update(dict(now.refusals))
            self._refusals.subtract(dict(before.refusals))
