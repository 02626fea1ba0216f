"""One deadline for many waiters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from .system import System

log = Logger()


class Waiter(Protocol):
    """What a deadline may fall on."""

    def expired(self) -> None:
        """Take note that the time is over."""

    def closed(self) -> None:
        """Close: the wait is over for another reason."""


class Deadlines:
    """
    Deadlines of waiters that all have the same time.

    The first to come is the first to go, so one delayed call serves all.

    :param system: the reactor and the clock.
    :param seconds: the time of each waiter.
    """

    def __init__(self, system: System, seconds: float) -> None:
        self._system = system
        self._seconds = seconds
        self._due: dict[Any, float] = {}
        self._call: Any = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, waiter: Waiter) -> None:
        """Begin the time of a waiter."""
        self._due[waiter] = self._system.clock() + self._seconds
        if self._call is None:
            self._call = self._system.reactor.callLater(self._seconds, self._expire)

    def discard(self, waiter: Waiter) -> None:
        """Forget a waiter: what it waited for has come."""
        self._due.pop(waiter, None)

    def expire_oldest(self) -> bool:
        """
        End the time of the waiter whose time would be over next.

        :returns: whether there was any waiter.
        """
        oldest: Waiter | None = next(iter(self._due), None)
        if oldest is None:
            return False
        self._end(oldest, oldest.expired)
        return True

    def all(self) -> list[Any]:
        """List the waiters, the oldest first."""
        return list(self._due)

    def clear(self) -> None:
        """Close every waiter now."""
        for waiter in list(self._due):
            self._end(waiter, waiter.closed)
        self._due.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _end(self, waiter: Any, how: Callable[[], None]) -> None:
        """End a waiter; if it fails it is closed, and no other waiter is kept waiting."""
        try:
            how()
        except Exception:
            log.failure("A connection could not be ended at its deadline; it is closed.")
            self.discard(waiter)
            try:
                waiter.closed()
            except Exception:
                log.failure("A connection whose time is over could not be closed.")

    def _expire(self) -> None:
        now = self._system.clock()
        try:
            for waiter, due in list(self._due.items()):
                if due > now:
                    break
                if waiter in self._due:  # else a waiter that expired before has ended it
                    self._end(waiter, waiter.expired)
        finally:
            # Not before: a waiter that came meanwhile must not have made a second call.
            self._call = None
            for due in self._due.values():
                self._call = self._system.reactor.callLater(max(0.0, due - now), self._expire)
                break
