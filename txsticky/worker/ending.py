"""How a worker ends: its application stops, then its event loop, in the time that there is."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from ..system.system import System

log = Logger()


class End:
    """
    The end of one worker's service.

    :param system: the clock, and the reactor that serves the worker.
    :param stop: stops the application, given the seconds that there are for it (`Serving.stop`).
    :ivar begun: whether the application is being stopped.
    :ivar status: the exit code of the process, as far as it is known.
    """

    def __init__(self, system: System, stop: Callable[[float], object]) -> None:
        self.begun = False
        self.status = 0
        self._system = system
        self._stop = stop
        self._due = math.inf
        self._call: Any = None

    def within(self, seconds: float) -> None:
        """End the event loop within so many seconds, or less if it was less before."""
        now = self._system.clock()
        self._due = min(self._due, now + seconds)
        if self._call is not None and self._call.active():
            self._call.reset(max(0.0, self._due - now))

    def begin(self, status: int) -> None:
        """
        Stop the application, then the event loop.

        :param status: the exit code of the process, unless it has a higher one already.
        """
        self.begun = True
        self.status = max(self.status, status)
        seconds = max(0.0, self._due - self._system.clock())
        self._call = self._system.reactor.callLater(seconds, self._late)
        stopping = maybeDeferred(self._stop, seconds)
        stopping.addErrback(
            lambda failure: log.failure("The application did not stop cleanly.", failure)
        )
        stopping.addBoth(lambda _: self._finish())

    def _late(self) -> None:
        log.warn("The application did not stop in its time; its worker ends without waiting.")
        self._finish()

    def _finish(self) -> None:
        if self._call.active():
            self._call.cancel()
        with contextlib.suppress(ReactorNotRunning):  # it was stopped before, perhaps from outside
            self._system.reactor.stop()


def discard_output() -> None:
    """Let what this process writes from now on go nowhere: the pipe that took it is no more."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.close(quiet)
