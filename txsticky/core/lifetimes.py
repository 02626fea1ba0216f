"""When keys end by themselves, as the cookies do that brought them."""

from __future__ import annotations

import heapq
from typing import Final

#: How many keys have an end of their own; others end when they have not been used for long.
MOST: Final = 100_000


class Lifetimes:
    """
    The ends of keys.

    :param most: how many keys have one; the end of one more is not kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._ends: dict[bytes, float] = {}
        # Each key waits once, for the earliest of its ends so far: a cookie that each response sets
        # anew costs a look at its first end.
        self._queue: list[tuple[float, bytes]] = []
        self._queued: dict[bytes, float] = {}

    def set(self, key: bytes, end: float | None) -> None:
        """
        Say when a key ends.

        :param end: in seconds of any clock that does not go back; None if it has no end.
        """
        if end is None:
            self._ends.pop(key, None)
            return
        if key not in self._queued:
            if len(self._queue) >= self._most:
                return
        elif self._queued[key] <= end:
            self._ends[key] = end
            return
        self._ends[key] = self._queued[key] = end
        heapq.heappush(self._queue, (end, key))

    @property
    def next(self) -> float | None:
        """When `take` is to be called next; None if not at all."""
        return self._queue[0][0] if self._queue else None

    def take(self, now: float) -> list[bytes]:
        """Take the keys whose end has come."""
        ended = []
        while self._queue and self._queue[0][0] <= now:
            when, key = heapq.heappop(self._queue)
            if self._queued.get(key) != when:
                continue
            del self._queued[key]
            end = self._ends.get(key)
            if end is None:
                continue
            if end <= now:
                del self._ends[key]
                ended.append(key)
            else:
                self.set(key, end)
        return ended
