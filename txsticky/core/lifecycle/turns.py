"""
The turns of workers that are to be started.

More at a time than there are cores would keep each other from getting ready, and all be late; those
that are ready serve meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .states import Spawn


class Turns:
    """
    The workers whose processes are not started yet, in the order in which they came.

    :param at_a_time: how many workers may be starting at a time.
    """

    def __init__(self, at_a_time: int) -> None:
        self._at_a_time = at_a_time
        self._waiting: dict[int, Spawn] = {}

    def __contains__(self, id: object) -> bool:
        return id in self._waiting

    def add(self, spawn: Spawn) -> None:
        """Have a worker wait for its turn."""
        self._waiting[spawn.id] = spawn

    def drop(self, id: int) -> None:
        """Start a worker that waits no more."""
        del self._waiting[id]

    def next(
        self, starting: int, settled: Callable[[int], bool], queued: Callable[[int], Any]
    ) -> Spawn | None:
        """
        Take the worker whose turn it is.

        :param starting: how many workers are not ready yet, those that wait here among them.
        :param settled: whether a worker of a generation can be started now.
        :param queued: called with the id of each worker that could start, if it were its turn.
        :returns: the worker; None if none can be started now.
        """
        room = self._at_a_time > starting - len(self._waiting)
        for spawn in list(self._waiting.values()):
            if settled(spawn.generation):
                if room:
                    return self._waiting.pop(spawn.id)
                queued(spawn.id)
        return None
