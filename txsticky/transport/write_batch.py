"""
Coalesce writes: flush once per reactor iteration, after every readable connection has been served.

To flush at once would wake the clients in turn, and each of them takes the processor from the
connections that are still to be served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

log = Logger()

#: Flush early once an iteration has run this long (seconds), so that a slow handler delays other
#: responses by at most one call.
LONG = 0.002


class Sender(Protocol):
    """A transport with output to flush."""

    def end_turn(self) -> None:
        """Flush it; raises nothing."""


class WriteBatch:
    """
    The transports that flush at the end of a reactor iteration.

    :param soon: has a function called at the end of the iteration.
    :param clock: seconds, monotonic.
    """

    #: When the first of those that wait has come.
    _began: float

    def __init__(
        self, soon: Callable[[Callable[[], None]], object], clock: Callable[[], float]
    ) -> None:
        self._soon = soon
        self._clock = clock
        self._waiting: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """Have a transport flush at the end of this iteration."""
        if not self._waiting:
            self._waiting.append(sender)
            self._began = self._clock()
            self._soon(self.end)
            return
        self._waiting.append(sender)
        if self._clock() - self._began > LONG:
            self.end()

    def end(self) -> None:
        """Have every transport flush now."""
        waiting, self._waiting = self._waiting, []
        for sender in waiting:
            try:
                sender.end_turn()
            except Exception:
                # The sender has closed its own connection; other transports are not to wait.
                log.failure("The output of a connection could not be flushed.")
