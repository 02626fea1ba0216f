"""Which connections have stalled: nothing has come from the client for too long."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

Waiting = TypeVar("Waiting", bound=Hashable)


class Pauses(Generic[Waiting]):
    """
    Remembers, from one look to the next, since when each connection has made no progress.

    At each look, every connection that waits for its client has a mark, which changes with any
    progress. If two looks are further apart than `period`, this process was stopped or busy: the
    excess does not count as a pause of the clients.

    :param limit: seconds of a pause that is too long.
    :param period: seconds between two looks.
    """

    def __init__(self, limit: float, period: float) -> None:
        self._limit = limit
        self._period = period
        #: The mark of the last look, and since when it is the same.
        self._seen: dict[Waiting, tuple[int, float]] = {}
        self._looked: float | None = None

    def look(self, waiting: Mapping[Waiting, int], now: float) -> list[Waiting]:
        """
        Look once.

        :param waiting: the connections whose clients are to move, each with its mark.
        :param now: the time in seconds of any clock that does not go back.
        :returns: those that have paused for too long. They are forgotten.
        """
        excused = 0.0
        if self._looked is not None:
            excused = max(0.0, now - self._looked - self._period)
        self._looked = now
        seen: dict[Waiting, tuple[int, float]] = {}
        stalled = []
        for connection, mark in waiting.items():
            before, since = self._seen.get(connection, (mark, now))
            since = since + excused if before == mark else now
            if now - since >= self._limit:
                stalled.append(connection)
            else:
                seen[connection] = mark, min(since, now)
        self._seen = seen
        return stalled
