"""The dispatcher: decides whose a connection is, and hands it off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ..core.how import How
from ..core.messages.handoff import Handoff, pack_handoff
from ..core.routing.pool import MemberState, Pool
from ..core.routing.router import Refusal, Route, Router
from ..core.routing.table import Table
from ..errors import MailboxFull
from ..intake.arrival import Arrival
from ..system.system import System
from .beginning import Beginning

#: Moves without being served after which a connection is refused.
MAX_HOPS: Final = 16


class TakesHandoffs(Protocol):
    """A worker's mailbox, as far as the dispatcher has to do with it."""

    def hand(self, descriptor: int, message: bytes) -> None:
        """
        Put a connection into the mailbox.

        :raises MailboxFull: it takes no more; the descriptor is then the caller's again.
        """


class HasMailbox(Protocol):
    """A worker, as far as the dispatcher has to do with it."""

    @property
    def mailbox(self) -> TakesHandoffs:
        """The worker's mailbox."""


class Dispatcher:
    """
    Routes each connection once.

    :param router: decides.
    :param pool: the workers.
    :param table: the bound keys.
    :param handles: the workers with their mailboxes, by their ids.
    :param beginning: the first start, during which connections wait.
    :param system: tells the time, and has the chance.
    :param park: has a connection wait for a worker, or refuses it if it may not.
    :param expects: whether a worker may be ready in time, though none is now.
    :param refuse: refuses a connection, with the reason.
    :ivar routes: how many connections were placed, by the way in which the worker was found.
    """

    def __init__(
        self,
        router: Router,
        pool: Pool,
        table: Table,
        handles: Mapping[int, HasMailbox],
        beginning: Beginning,
        system: System,
        *,
        park: Callable[[Arrival], None],
        expects: Callable[[], bool],
        refuse: Callable[[Arrival, str], None],
    ) -> None:
        self._router = router
        self._pool = pool
        self._table = table
        self._beginning = beginning
        self._system = system
        self._handles = handles
        self._park = park
        self._expects = expects
        self._refuse = refuse
        self.routes: dict[How, int] = dict.fromkeys(How, 0)

    def place(self, arrival: Arrival, whole: bool = True) -> None:
        """
        Decide whose a connection is, and hand it off.

        :param whole: whether its first request is here, as far as it matters to that; else the
            worker receives it as if it had accepted it.
        """
        decision = self._decide(arrival)
        if decision is None:
            self._park(arrival)
            return
        if isinstance(decision, Refusal):
            self._refuse(arrival, decision.reason)
            return
        if arrival.hops > MAX_HOPS:
            self._refuse(arrival, "The connection was moved too often.")
            return
        sock, worker, how = arrival.sock, decision.worker, decision.how
        self.routes[how] += 1
        handoff = Handoff(
            family=sock.family,
            origin=arrival.origin,
            prefix=arrival.data,
            how=how,
            hops=arrival.hops,
            reserved=True,
            fresh=not (whole or arrival.proxied),
            replay=arrival.replay,
        )
        message = pack_handoff(handoff)
        self._pool.reserve(worker)
        try:
            self._handles[worker].mailbox.hand(sock.fileno(), message)
        except MailboxFull:
            self._pool.release(worker)
            self._refuse(arrival, "Too many requests wait for their worker.")
            return
        sock.detach()  # the mailbox owns the descriptor now

    def _decide(self, arrival: Arrival) -> Route | Refusal | None:
        """Decide which worker gets a connection; None if it is to wait for one."""
        beginning, system = self._beginning, self._system
        if beginning.under_way and beginning.holds():
            return None
        host = arrival.origin.peer[0]
        pool = self._pool if arrival.replay is None else self._pool.takers()
        decision = self._router.decide(
            arrival.head, host, pool, self._table, system.clock(), system.rng
        )
        if isinstance(decision, Route):
            return decision
        if self._expects():
            return None
        leaving = self._pool.in_state(MemberState.DRAINING)
        if not leaving or arrival.replay is not None:
            return decision
        # It serves what it has to its end, and so it can this.
        return Route(min(leaving, key=lambda member: member.load).id, How.NEW)
