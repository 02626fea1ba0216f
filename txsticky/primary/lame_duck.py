"""The lame duck: a cluster told to stop tells balancers so, and serves on for a while."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger


class LameDuck:
    """
    The time between the order to stop and the end of service; there is one at most.

    A balancer that sees ``/readyz`` say no sends no new clients, and meanwhile none is refused.

    :param seconds: how long it lasts; 0 = not at all.
    :param clock: calls at a time.
    :param log: tells the operator.
    :param over: called when the time is over, unless it was cut short.
    """

    def __init__(
        self, seconds: float, clock: IReactorTime, log: Logger, over: Callable[[], object]
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._log = log
        self._over = over
        self._due: IDelayedCall | None = None
        self._begun = False

    @property
    def under_way(self) -> bool:
        """Whether the cluster serves on though it is told to stop."""
        return self._due is not None

    def begin(self) -> bool:
        """
        Begin, at the first order to stop.

        :returns: whether there is time to serve on from now.
        """
        if self._begun or not self._seconds:
            return False
        self._begun = True
        self._due = self._clock.callLater(self._seconds, self._end)
        self._log.info(
            "The cluster is told to stop: a lame duck serves for {seconds:g} more seconds, and"
            " /readyz says no.",
            seconds=self._seconds,
        )
        return True

    def cut_short(self) -> None:
        """End it now, if it is under way."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
            self._log.info("The time of the lame duck is cut short: the cluster stops.")

    def _end(self) -> None:
        self._due = None
        self._log.info("The time of the lame duck is over: the cluster stops.")
        self._over()
