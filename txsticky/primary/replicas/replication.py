"""
Replication: each worker that is ready has a replica of the pool and of the table.

A worker that reads slowly, or not at all because it was stopped, must not make the primary grow.
A view of the pool is replaced by the next one, so that none is sent while much waits.  Bindings
come one by one; when too much waits they are no longer sent, and the worker gets the table as a
whole when it reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol, Self

from twisted.internet.interfaces import IDelayedCall

from ...core.messages.frames import encode
from ...core.messages.from_primary import Bound, Confirmed, Freed, View
from ...core.routing.pool import Pool
from ...core.routing.table import Table
from ...ipc.channel import Channel
from ...system.system import System
from .renewal import Renewal, pieces
from .replica import Replica

#: Seconds between views of the load that the workers get.
VIEW_INTERVAL: Final = 0.5
#: So many workers get a view in that time. Where there are more, each gets it less often, for a
#: view has a line for each worker: what they read together would grow with the square.
VIEWS_AT_ONCE: Final = 16
#: Seconds in which changes of the pool are told together to so many workers; where there are more
#: it is longer, for the same reason. With fewer each is told at once.
CHANGE_INTERVAL: Final = 0.02
#: So many workers know each other's mailboxes from the beginning. Where there are more, a worker
#: asks for another's when it first has a connection for it: the descriptors of all together would
#: grow with the square.
ALL_KNOWN: Final = 16


class Introduced(Protocol):
    """A worker, as far as replication has to do with it."""

    id: int
    slot: int
    channel: Channel

    @property
    def name(self) -> str:
        """What the log calls the worker."""

    def introduce(self, other: Self) -> None:
        """Give the worker the sending end of another worker's mailbox."""


class Replication:
    """
    The pool and the table as all workers that are ready have them.

    :param pool: the workers.
    :param table: the bound keys.
    :param system: tells the time, and calls at a time.
    :param distrust: called with a worker's id, and True when its table is out of date, so that no
        connection is to go there that may go elsewhere; with False when it no longer is.
    """

    def __init__(
        self, pool: Pool, table: Table, system: System, distrust: Callable[[int, bool], object]
    ) -> None:
        self._pool = pool
        self.table = table
        self._system = system
        self._distrust = distrust
        self._workers: dict[int, Introduced] = {}
        self._replicas: dict[int, Replica] = {}
        self._renewals: dict[int, Renewal] = {}
        self._due: IDelayedCall | None = None
        self._soon: IDelayedCall | None = None
        self._told: object = None
        self._lame_duck = False

    def replica(self, id: int) -> Replica:
        """The replicas of a worker that is ready."""
        return self._replicas[id]

    def join(self, worker: Introduced, together: bool, done: Callable[[], object]) -> None:
        """
        Introduce a ready worker and the ones before it to each other; send it the table.

        Where there are many, only its predecessor gets to know it, whose idle connections go there.

        :param together: whether the worker takes many bindings in one frame.
        :param done: called when the table is sent, unless the worker leaves before.
        """
        few = len(self._workers) < ALL_KNOWN
        for other in self._workers.values():
            if few or other.slot == worker.slot:
                other.introduce(worker)
            if few:
                worker.introduce(other)
        self._add(worker, together)

        def sent() -> None:
            del self._renewals[worker.id]
            done()

        parts = pieces(self.table, together)
        renewal = Renewal(worker.channel, parts, self._system.reactor, sent)
        self._renewals[worker.id] = renewal
        renewal.go_on()

    def finish(self) -> None:
        """Send what is left of tables that are on their way, and of the pool."""
        for renewal in list(self._renewals.values()):
            renewal.finish()
        if self._soon is not None:
            self._tell_all()

    def introduce(self, id: int, other: int) -> None:
        """Give a worker the mailbox of another, if that one is ready."""
        worker, wanted = self._workers.get(id), self._workers.get(other)
        if worker is not None and wanted is not None:
            worker.introduce(wanted)

    def rejoin(self, worker: Introduced) -> None:
        """Take in a worker that was ready before this program began."""
        replica = self._add(worker)
        if worker.channel.connected and worker.channel.behind:
            replica.missed()

    def _add(self, worker: Introduced, together: bool = False) -> Replica:
        self._workers[worker.id] = worker
        replica = self._replicas[worker.id] = Replica(
            worker.name,
            worker.channel,
            self._view,
            lambda: pieces(self.table, together),
            lambda flag: self._distrust(worker.id, flag),
        )
        return replica

    def restore(self, bindings: Iterable[tuple[bytes, int]]) -> None:
        """Take up the table of the program before, with no worker to tell."""
        now = self._system.clock()
        for key, owner in bindings:
            self.table.bind(key, owner, now)

    def leave(self, id: int) -> None:
        """Tell a worker nothing any more, and drop what was bound to it."""
        self._workers.pop(id, None)
        self._replicas.pop(id, None)
        if id in self._renewals:
            self._renewals.pop(id).cancel()
        self.table.forget(id)

    def bind(self, worker: Introduced, key: bytes) -> None:
        """
        Bind a key to a worker.

        Every other worker is told before the one that binds hears that they were.  A worker that
        reads so slowly that it is not told is given nothing new meanwhile, unless no other is left.
        """
        self.table.bind(key, worker.id, self._system.clock())
        self._tell(Bound(key, worker.id), worker.id)
        worker.channel.send(Confirmed())

    def free(self, id: int, key: bytes) -> None:
        """Free a key, as a worker says."""
        self.table.free(key)
        self._tell(Freed(key), id)

    def used(self, id: int, keys: Iterable[bytes]) -> None:
        """Take in that a worker was asked for keys, and have no other worker forget them."""
        table, now = self.table, self._system.clock()
        found = [(key, table.use(key, now)) for key in keys]
        self._tell_used(found, id)

    def _tell_used(self, found: Iterable[tuple[bytes, int | None]], but: int = 0) -> None:
        """Tell all workers but one what was used; those that do not read miss it."""
        frames = b"".join(encode(Bound(key, owner)) for key, owner in found if owner is not None)
        if frames:
            for id, replica in self._replicas.items():
                if id != but:
                    replica.tell_used(frames)

    def _tell(self, change: Bound | Freed, but: int) -> None:
        """Tell all workers but one of a change of the table."""
        for id, replica in self._replicas.items():
            if id != but:
                replica.tell(change)

    def tell_pool(self, first: int = 0) -> None:
        """
        Send all workers the pool: now or, where there are many, in a moment, with other changes.

        :param first: the id of a worker that needs it for what it is told next.
        """
        count = len(self._replicas)
        if count <= VIEWS_AT_ONCE:
            self._tell_all()
            return
        if first in self._replicas:
            self._replicas[first].tell_pool(encode(self._view(False)))
        if self._soon is None:
            seconds = CHANGE_INTERVAL * count / VIEWS_AT_ONCE
            self._soon = self._system.reactor.callLater(seconds, self._tell_all)

    def _tell_all(self) -> None:
        if self._soon is not None:
            if self._soon.active():
                self._soon.cancel()
            self._soon = None
        self._told = self._pool.view()
        frame = encode(self._view(False))
        for replica in self._replicas.values():
            replica.tell_pool(frame)

    def tell_lame_duck(self) -> None:
        """Tell all workers, those to come as well, that the cluster is to stop in a while."""
        self._lame_duck = True
        self.tell_pool()

    def _view(self, anew: bool) -> View:
        """Make the frame that tells the pool; see there."""
        return View(self._pool.view(), anew, self._lame_duck)

    def tell_pool_soon(self) -> None:
        """Send all workers the pool once in a while, if its loads have changed by then."""
        if self._due is None:
            seconds = VIEW_INTERVAL * max(1.0, len(self._replicas) / VIEWS_AT_ONCE)
            self._due = self._system.reactor.callLater(seconds, self._tell_loads)

    def _tell_loads(self) -> None:
        self._due = None
        if self._pool.view() != self._told:
            self._tell_all()
        used = self.table.take_used()
        if used:
            now = self._system.clock()
            self._tell_used([(key, self.table.use(key, now)) for key in used])

    def caught_up(self, id: int) -> None:
        """Send a worker, which is no longer behind, what it was not sent meanwhile."""
        replica = self._replicas.get(id)
        if replica is not None:
            replica.caught_up()

    def close(self) -> None:
        """Leave no call behind."""
        for renewal in self._renewals.values():
            renewal.cancel()
        for call in (self._due, self._soon):
            if call is not None:
                call.cancel()
        self._due = self._soon = None
