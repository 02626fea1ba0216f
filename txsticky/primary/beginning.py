"""The first start: until it is over, connections wait, so that keys lead where they will lead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ..core.routing.pool import Pool

#: Seconds for which the first worker that is ready waits for the others of the first start.
OTHERS: Final = 5.0


class Beginning:
    """
    The first start of the workers.

    It is over when all workers are ready, or one has been ready for some seconds: a key that leads
    to a worker by rendezvous would lead elsewhere with each worker that comes.

    :param pool: the workers.
    :param workers: how many the first start has.
    :param queue_timeout: seconds that a connection may wait for a worker; 0 = not at all.
    :param clock: calls at a time.
    :param over: called once, when connections are routed from now on.
    :ivar under_way: whether the first start is not over.
    """

    def __init__(
        self,
        pool: Pool,
        workers: int,
        queue_timeout: float,
        clock: IReactorTime,
        over: Callable[[], object],
    ) -> None:
        self._pool = pool
        self._workers = workers
        self._queue_timeout = queue_timeout
        self._clock = clock
        self._over = over
        self._due: IDelayedCall | None = None
        self.under_way = True

    def holds(self) -> bool:
        """Whether a connection waits for the end of the first start, though a worker is ready."""
        return self.under_way and bool(self._queue_timeout or not self._pool.candidates())

    def look(self) -> None:
        """See whether the first start is over, or when it is to be."""
        if not self.under_way:
            return
        ready = len(self._pool.candidates())
        if ready >= self._workers:
            self._end()
        elif ready and self._due is None:
            seconds = min(OTHERS, self._queue_timeout)
            self._due = self._clock.callLater(seconds, self._others_late)

    def settle(self) -> bool:
        """
        End the first start with the workers that are ready.

        :returns: whether it was ended by this: it was under way, and a worker is ready.
        """
        if self.under_way and self._pool.candidates():
            self._end()
            return True
        return False

    def abandon(self) -> None:
        """Wait for no more workers: the cluster stops."""
        self.settle()
        self.under_way = False

    def close(self) -> None:
        """Leave no call behind."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _others_late(self) -> None:
        self._due = None
        self.settle()  # the worker that was ready may have gone: then the first start goes on

    def _end(self) -> None:
        self.close()
        self.under_way = False
        self._over()
