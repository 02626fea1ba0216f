"""Calls from the application's threads to the reactor's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.logger import Logger

log = Logger()


class Calls:
    """
    Calls functions in the reactor's thread, in their order: as many as there are in one wake.

    To wake the reactor costs a write to a pipe, in which the thread lets go of the interpreter.

    :param in_reactor: calls a function in the reactor's thread (`IReactorFromThreads`).
    """

    __slots__ = ("_coming", "_in_reactor", "_waiting")

    def __init__(self, in_reactor: Callable[[Callable[[], object]], object]) -> None:
        self._in_reactor = in_reactor
        self._waiting: deque[Callable[[], object]] = deque()
        self._coming = False

    def add(self, action: Callable[[], object]) -> None:
        """Call an action soon; may be called from any thread."""
        self._waiting.append(action)
        # Without a lock: what was added before the reactor says that it comes no more, it finds; at
        # worst it is woken for nothing.
        if not self._coming:
            self._coming = True
            self._in_reactor(self._run)

    def _run(self) -> None:
        self._coming = False
        waiting = self._waiting
        for _ in range(len(waiting)):
            try:
                waiting.popleft()()
            except Exception:
                log.failure("A call from a thread failed.")
