"""Heartbeats: which workers have given no sign of life for too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: A worker that was silent for this many seconds, or for half of the worker timeout, is suspect.
SUSPECT_AFTER: Final = 2.0
#: Seconds between two looks at the signs of life, at most; a quarter of the worker timeout.
LOOK_EVERY: Final = 1.0


class Heartbeats:
    """
    The workers' signs of life.

    :param clock: tells the time, in seconds, and calls at a time.
    :param timeout: seconds without a sign of life after which a worker is silent; 0 = never.
    :param wary: whether workers become suspect even if none is ever silent.
    :param suspect: called with a worker's id, and True when it begins to be suspect, False when it
        has given a sign of life since.
    :param silent: called with a silent worker's id, and whether it took what waited for it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        timeout: float,
        wary: bool,
        suspect: Callable[[int, bool], object],
        silent: Callable[[int, bool], object],
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self._needed = wary or timeout > 0
        self._period = min(LOOK_EVERY, timeout / 4 or LOOK_EVERY)
        self._suspect_after = min(SUSPECT_AFTER, timeout / 2 or SUSPECT_AFTER)
        self._suspect = suspect
        self._silent = silent
        self._due = 0.0
        self._timer: IDelayedCall | None = None
        self._heard: dict[int, float] = {}
        self._suspects: set[int] = set()
        self._stuck: set[int] = set()

    def start(self) -> None:
        """Begin to look, if the settings ask for it."""
        if self._needed:
            self._look_later()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def expect(self, id: int) -> None:
        """Have a worker give signs of life from now on."""
        self._heard[id] = self._clock.seconds()

    def beat(self, id: int, takes: bool = True) -> None:
        """
        Note a worker's sign of life.

        :param takes: whether the worker takes what waits for it; if not, it counts as silent.
        """
        (self._stuck.discard if takes else self._stuck.add)(id)
        if takes and id in self._heard:
            self._heard[id] = self._clock.seconds()
            if id in self._suspects:
                self._suspects.remove(id)
                self._suspect(id, False)

    def forget(self, id: int) -> None:
        """Expect no more signs of life from a worker: it leaves, or has ended."""
        self._heard.pop(id, None)
        self._suspects.discard(id)
        self._stuck.discard(id)

    def _look_later(self) -> None:
        self._due = self._clock.seconds() + self._period
        self._timer = self._clock.callLater(self._period, self._look)

    def _look(self) -> None:
        """Report the workers that are silent, and suspect those that may become so."""
        now = self._clock.seconds()
        self._excuse(now)
        self._look_later()
        for id, heard in list(self._heard.items()):
            silence = now - heard
            if self._timeout and silence >= self._timeout:
                self._silent(id, id not in self._stuck)
            elif silence >= self._suspect_after and id not in self._suspects:
                self._suspects.add(id)
                self._suspect(id, True)

    def _excuse(self, now: float) -> None:
        """Do not hold against the workers a time when the primary itself did not run."""
        late = now - self._due
        if late > self._period:
            for id, heard in self._heard.items():
                self._heard[id] = min(now, heard + late)
