"""The table of keys that applications have made themselves, each bound to a worker."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection
from typing import Final

#: The longest key that can be bound, in bytes; browsers keep no cookie that is longer (RFC 6265,
#: section 6.1).
KEY_LIMIT: Final = 4096
#: How many bytes the keys of a table may have together: 80 for each of 100,000.
ROOM: Final = 8_000_000
#: A use of a key is told at most once in this many seconds, or in a quarter of the time to live.
TOLD_EVERY: Final = 5.0


class Table:
    """
    A bounded table of keys whose entries expire when they are not used.

    Each process has a copy, and the use of a key in one of them counts in all: `take_used` says
    what is to be told, and `use` takes in what was told.

    :param limit: how many keys at most, 1 or more; the one not used for longest makes room.
    :param ttl: how long an entry lives after its last use, in seconds.
    :param room: how many bytes the keys may have together, `KEY_LIMIT` or more; those not used for
        longest make room.
    """

    def __init__(self, limit: int, ttl: float, room: int = ROOM) -> None:
        self._limit = limit
        self._ttl = ttl
        self._room = room
        self._size = 0
        self._told_every = min(TOLD_EVERY, ttl / 4)
        # key -> (worker, when it expires, when the next use is to be told). Each use moves an entry
        # to the end with a new expiry, so that the entry which expires first always comes first.
        # An entry has numbers alone: the garbage collector looks at such a tuple once, and not
        # again and again at those of a hundred thousand keys, as it would when a process ends.
        self._entries: OrderedDict[bytes, tuple[int, float, float]] = OrderedDict()
        self._used: dict[bytes, None] = {}
        self._owned: dict[int, set[bytes]] = {}
        # Keys of workers that are gone: to drop a hundred thousand at once would hold up all else.
        # They are found no more, and make room before any other.
        self._gone: dict[int, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._entries) - sum(map(len, self._gone.values()))

    def __bool__(self) -> bool:
        return bool(self._owned)

    def items(self) -> list[tuple[bytes, int]]:
        """Every (key, worker), the one not used for longest first; some may have expired."""
        owned = self._owned
        return [(key, entry[0]) for key, entry in self._entries.items() if entry[0] in owned]

    def keys(self) -> list[bytes]:
        """Every key, the one not used for longest first; some are perhaps bound no more."""
        return list(self._entries)

    def owners(self, keys: Collection[bytes]) -> dict[int, list[bytes]]:
        """Sort the keys that are bound by their workers, each worker's in their order."""
        owned: defaultdict[int, list[bytes]] = defaultdict(list)
        for key, entry in zip(keys, map(self._entries.get, keys), strict=True):
            if entry is not None:
                owned[entry[0]].append(key)
        return {worker: found for worker, found in owned.items() if worker in self._owned}

    def bind_all(self, keys: Collection[bytes], worker: int, now: float) -> None:
        """Bind many keys to a worker: new ones, for which there is room, in one go."""
        fresh = dict.fromkeys(keys)
        size = sum(map(len, fresh))
        entries = self._entries
        if (
            fresh
            and worker not in self._gone
            and len(entries) + len(fresh) <= self._limit
            and self._size + size <= self._room
            and max(map(len, fresh)) <= KEY_LIMIT
            and entries.keys().isdisjoint(fresh)
        ):
            entry = (worker, now + self._ttl, now + self._told_every)
            for key in fresh:  # half of what `update` takes, which is Python's own for this type
                entries[key] = entry
            self._size += size
            self._owned.setdefault(worker, set()).update(fresh)
        else:
            for key in keys:
                self.bind(key, worker, now)

    def bind(self, key: bytes, worker: int, now: float) -> None:
        """
        Bind a key to a worker; a key longer than `KEY_LIMIT` is bound to none.

        :param now: the time in seconds of any clock that does not go back.
        """
        self.free(key)
        if len(key) > KEY_LIMIT:
            return
        entries = self._entries
        while entries and next(iter(entries.values()))[1] <= now:
            self.free(next(iter(entries)))
        while len(entries) >= self._limit or self._size + len(key) > self._room:
            self.free(self._least_wanted())
        for gone in list(self._gone.get(worker, ())):
            self.free(gone)
        self._owned.setdefault(worker, set()).add(key)
        self._size += len(key)
        entries[key] = (worker, now + self._ttl, now + self._told_every)

    def _least_wanted(self) -> bytes:
        """The key that makes room: one of a worker that is gone, else that not used for longest."""
        for keys in self._gone.values():
            return next(iter(keys))
        return next(iter(self._entries))

    def find(self, key: bytes, now: float) -> int | None:
        """The worker that a key is bound to, or None; asking counts as a use."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        worker, expires, tell_at = entry
        if expires <= now or worker not in self._owned:
            self.free(key)
            return None
        if tell_at <= now:
            tell_at = now + self._told_every
            self._used[key] = None
        self._entries[key] = (worker, now + self._ttl, tell_at)
        self._entries.move_to_end(key)
        return worker

    def take_used(self) -> list[bytes]:
        """Take the keys whose use here is to be told to the other copies."""
        used = list(self._used)
        self._used.clear()
        return used

    def use(self, key: bytes, now: float) -> int | None:
        """
        Take in that another copy was asked for a key: the use need not be told again.

        :returns: the worker that the key is bound to, or None.
        """
        entry = self._entries.get(key)
        if entry is None or entry[0] not in self._owned:
            return None
        self._entries[key] = (entry[0], now + self._ttl, now + self._told_every)
        self._entries.move_to_end(key)
        return entry[0]

    def free(self, key: bytes) -> None:
        """Bind the key to no worker."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= len(key)
            worker = entry[0]
            by_worker = self._owned if worker in self._owned else self._gone
            keys = by_worker[worker]
            keys.remove(key)
            if not keys:
                del by_worker[worker]

    def forget(self, worker: int) -> None:
        """Have no key lead to a worker that is gone."""
        keys = self._owned.pop(worker, None)
        if keys is not None:
            self._gone[worker] = keys

    def clear(self) -> None:
        """Drop all keys."""
        self._entries.clear()
        self._owned.clear()
        self._gone.clear()
        self._used.clear()
        self._size = 0
