"""What a worker knows of its cluster: itself, the other workers, the bindings of sticky keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Self

import attrs

from ..config import Config
from ..core.lifecycle.spread import Spread
from ..core.messages.from_primary import Boot
from ..core.routing.pool import MemberState, Pool
from ..core.routing.router import Router
from ..core.routing.table import Table


@attrs.define(kw_only=True)
class ClusterView:
    """
    A worker's replica of what the primary knows, and whether the worker is leaving.

    Decisions that were made before a change need not hold after it: every method that changes the
    view calls `changed`.

    :ivar id: the worker's id, never used twice in the life of the cluster.
    :ivar slot: the worker's number, 1 to N, which its successor has as well.
    :ivar router: decides which worker a request belongs to.
    :ivar pool: the workers, as the primary last told.
    :ivar table: the bindings, as the primary last told.
    :ivar changed: called when decisions are to be made anew.
    :ivar asks: whether the primary can be asked for what version 0.1.0 does not know.
    :ivar draining: whether the worker is leaving: idle connections go elsewhere.
    :ivar lame_duck: whether the cluster is told to stop, and serves on for a while.
    :ivar final: whether the whole cluster stops, so that no connection can go elsewhere.
    :ivar spread: where idle connections go when this worker leaves.
    """

    id: int
    slot: int
    router: Router
    pool: Pool
    table: Table
    changed: Callable[[], None]
    asks: bool = False
    draining: bool = False
    lame_duck: bool = False
    final: bool = False
    spread: Spread = attrs.field(factory=Spread, init=False)

    @classmethod
    def of(cls, boot: Boot, config: Config, changed: Callable[[], None]) -> Self:
        """Make the view of a worker that begins."""
        return cls(
            id=boot.id,
            slot=boot.slot,
            router=config.router(bytes.fromhex(boot.secret), boot.in_words),
            pool=Pool.from_view(boot.pool),
            table=Table(boot.table_limit, boot.table_ttl),
            changed=changed,
            asks=boot.takes_used,
        )

    @property
    def others(self) -> bool:
        """Whether another worker could serve a request; never while the whole cluster stops."""
        return not self.final and any(
            member.id != self.id and member.state is MemberState.READY
            for member in self.pool.members
        )

    def update(
        self, pool: Pool, peers: Iterable[int], lame_duck: bool = False, anew: bool = False
    ) -> set[int]:
        """
        Replace the pool, and drop the bindings of workers that are gone.

        :param peers: the workers whose mailboxes are here.
        :param lame_duck: whether the cluster is to stop in a while; it is from then on.
        :param anew: whether the table follows as it is now: what was freed is not in it.
        :returns: the workers that are gone, of the former pool and of `peers`.
        """
        if anew:
            self.table.clear()
            self.changed()
        present = {member.id for member in pool.members}
        # Ids only grow: so a worker that is missing among them is gone, even if its mailbox, which
        # travels by another way, came after the news.
        newest = max(present, default=0)
        gone = {peer for peer in peers if 0 < peer < newest}
        gone |= {member.id for member in self.pool.members}
        gone -= present | {self.id}
        for id in gone:
            self.table.forget(id)
        if pool.version != self.pool.version:
            self.spread.changed(self.pool, pool)
            self.changed()
        self.pool = pool
        if lame_duck:
            self.serve_on()
        return gone

    def bind(self, key: bytes, owner: int, now: float) -> None:
        """
        Take in that a key belongs to a worker, or that it was used elsewhere.

        :param owner: the worker's id.
        :param now: seconds of the table's clock.
        """
        if self.table.use(key, now) == owner:
            return  # it was used elsewhere
        self.table.bind(key, owner, now)
        self.changed()

    def bind_all(self, keys: Collection[bytes], owner: int, now: float) -> None:
        """Take in that many keys belong to a worker."""
        self.table.bind_all(keys, owner, now)
        self.changed()

    def free(self, key: bytes) -> None:
        """Take in that a key belongs to no worker any more."""
        self.table.free(key)
        self.changed()

    def serve_on(self) -> None:
        """Take in that the cluster is to stop in a while."""
        if not self.lame_duck:
            self.lame_duck = True
            self.changed()

    def drain(self) -> None:
        """Take in that this worker is leaving."""
        self.draining = True
        self.changed()

    def withdraw(self) -> None:
        """Take this worker itself for gone: no key leads here any more."""
        self.pool.set_gone(self.id)
        self.table.forget(self.id)
        self.changed()
