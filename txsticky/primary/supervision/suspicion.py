"""Why new connections avoid a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...core.routing.pool import Pool

#: The worker has given no sign of life for a while.
MUTE: Final = "silent"
#: The worker gives signs of life, and takes nothing out of its mailbox, though something is there.
STUCK: Final = "takes nothing"
#: The worker reads so slowly that the bindings of keys are not sent to it.
OUTDATED: Final = "out of date"
#: The worker's mailbox is full.
CROWDED: Final = "crowded"
#: The worker takes nothing until connections end: it is at its limit of open files.
SHORT: Final = "short of descriptors"

#: What no patience mends: a worker of which one of these is true serves nothing new.
ILL: Final = frozenset((MUTE, STUCK))

#: Seconds for which a worker may take nothing, though something waits for it.
STUCK_AFTER: Final = 2.0


class Suspicions:
    """
    What is held against the workers.

    :param pool: whose members are suspect, or no longer.
    :param changed: called after a reason has come or gone.
    """

    def __init__(self, pool: Pool, changed: Callable[[], object] = lambda: None) -> None:
        self._pool = pool
        self._changed = changed
        self._reasons: dict[int, set[str]] = {}

    def of(self, id: int) -> tuple[str, ...]:
        """What is held against a worker, in alphabetical order."""
        return tuple(sorted(self._reasons.get(id, ())))

    def set(self, id: int, flag: bool, why: str) -> None:
        """Hold something against a worker of the pool, or no longer."""
        if self._pool.get(id) is None:
            return
        reasons = self._reasons.setdefault(id, set())
        if flag is (why in reasons):
            return
        (reasons.add if flag else reasons.discard)(why)
        self._pool.suspect(id, bool(reasons))
        self._changed()

    def forget(self, id: int) -> None:
        """Drop what is held against a worker that is gone."""
        self._reasons.pop(id, None)
