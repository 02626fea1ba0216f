"""Sending together: once everybody is served who came in a turn of the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

log = Logger()

#: Seconds that a turn may take before those who wait for its end are sent all the same: an
#: application that takes its time keeps the answers of others waiting for one of its own at most.
LONG = 0.002


class Sender(Protocol):
    """Who has something to send."""

    def end_turn(self) -> None:
        """Send it; raises nothing."""


class Turn:
    """
    Those who send at the end of a turn.

    To send while others still wait to be read would wake their clients one by one, each of which
    takes the processor from who comes next.

    :param soon: has a function called when everything that has come by now is dealt with.
    """

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        self._soon = soon
        self._waiting: list[Sender] = []
        self._began = 0.0

    def add(self, sender: Sender) -> None:
        """Have somebody send at the end of this turn."""
        if not self._waiting:
            self._began = time.monotonic()
            self._soon(self.end)
        self._waiting.append(sender)
        if len(self._waiting) > 1 and time.monotonic() - self._began > LONG:
            self.end()

    def end(self) -> None:
        """Everybody sends."""
        waiting, self._waiting = self._waiting, []
        for sender in waiting:
            try:
                sender.end_turn()
            except Exception:
                # It has closed its own connection; the others are not to wait for ever.
                log.failure("What was written in a turn could not be sent.")
