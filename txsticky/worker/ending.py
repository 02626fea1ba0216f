"""How a worker ends: its application stops, then its event loop, in the time that there is."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

log = Logger()


class End:
    """
    The end of one worker's service.

    :param reactor: the reactor that serves it.
    :param stop: stops the application, given the seconds that there are for it (`Serving.stop`).
    """

    def __init__(self, reactor: Any, stop: Callable[[float], object]) -> None:
        #: Whether it has begun.
        self.begun = False
        self._reactor = reactor
        self._stop = stop
        self._due = math.inf
        self._call: Any = None

    def within(self, seconds: float) -> None:
        """Have so many seconds until the event loop ends, or less if it was less before."""
        now = self._reactor.seconds()
        self._due = min(self._due, now + seconds)
        if self._call is not None and self._call.active():
            self._call.reset(max(0.0, self._due - now))

    def begin(self, status: int) -> None:
        """Stop the application, then the event loop, and have the process exit with this status."""
        self.begun = True
        seconds = max(0.0, self._due - self._reactor.seconds())
        self._call = self._reactor.callLater(seconds, self._late, status)
        stopping = maybeDeferred(self._stop, seconds)
        stopping.addErrback(
            lambda failure: log.failure("The application did not stop cleanly.", failure)
        )
        stopping.addBoth(lambda _: self._finish(status))

    def _late(self, status: int) -> None:
        log.warn("The application did not stop in its time; its worker ends without waiting.")
        self._finish(status)

    def _finish(self, status: int) -> None:
        if self._call.active():
            self._call.cancel()
        exit_status.value = max(exit_status.value, status)
        with contextlib.suppress(ReactorNotRunning):  # it was stopped before, perhaps from outside
            self._reactor.stop()


class _Status:
    value = 0


exit_status = _Status()
