"""
The worker's desk: whose request is this, and what goes with its response.

It asks the same pure router as the primary, with replicas of the primary's pool and table.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from ..core.how import How
from ..core.http.head import Head
from ..core.http.steps import MEMORABLE, Known, known
from ..core.memo import entries
from ..core.routing.balance import balancer
from ..core.routing.cookies import cookie_line
from ..core.routing.forwarded import client_secure
from ..core.routing.keys import found, inserted, opens_session
from ..core.routing.pool import MemberState
from ..core.routing.router import Route

if TYPE_CHECKING:
    from .worker import Worker

log = Logger()

#: The front desk's number among the places (worker ids begin at 1).
FRONT_DESK = 0
#: Looking up the name of a member costs more than all else that a line is made of.
_ROUTES = {how: how.name.encode() for how in How}


#: How many requests are remembered.
MEMORY = entries(1024, MEMORABLE)


class WorkerDesk:
    """
    The policy that the gates of one worker share.

    :param worker: whose desk it is.
    """

    def __init__(self, worker: Worker) -> None:
        self.draining = False
        self.unconfirmed = 0
        self._worker = worker
        self._after: list[Callable[[], None]] = []
        self._insert = inserted(worker.router.chain)
        # Not the router's, which chooses for every request, also for those that stay in any case.
        self._balancer = balancer(worker.config.balance)
        self._rng = random.Random()
        self._slot_line = b""
        if worker.config.debug_headers:
            self._slot_line = b"X-Txsticky-Worker: %d\r\n" % worker.slot
        #: Requests, by their heads to the letter, that are known to be served here: a kept-alive
        #: client repeats itself.
        self.known: dict[bytes, Known] = {}
        # By address the decision is one for each client, and debugging headers for each request.
        self._reusable = not (worker.router.by_address or worker.config.debug_headers)

    def whose(self, head: Head | None, host: str, settled: bool = False) -> tuple[int | None, How]:
        """
        The place that a request belongs to, and why: None is here, else a worker's id or the front
        desk.

        :param head: None if it cannot be read (TLS), or if it is not HTTP.
        :param settled: the connection was balanced and cannot move any more, so that a new session
            begins here.
        """
        worker = self._worker
        route = self._decide(head, host)
        if route is None:
            return (FRONT_DESK if self.draining and self._others() else None), How.NEW
        if route.how is How.MISS:
            # A binding that was confirmed before this request could be sent is in our channel by
            # now.
            worker.channel.read_now()
            route = self._decide(head, host)
            if route is None:
                return None, How.NEW
        how = route.how
        if how is How.NEW:
            fresh = head is not None and opens_session(worker.router.chain, head)
            if self.draining and self._others():
                return FRONT_DESK, how
            if fresh and not settled and self._others():
                return self._place(self._balanced()), how
            if self._insert is None and not fresh:
                self._remember(head, how)
            return None, how
        if route.worker == worker.id and how is How.TAG:
            self._remember(head, how)
        return self._place(route.worker), how

    def _place(self, id: int) -> int | None:
        """Where a worker's mail goes; None for this one."""
        if id == self._worker.id:
            return None
        return id if id in self._worker.places else FRONT_DESK

    def _balanced(self) -> int:
        """
        The worker that is to have a new session, which came over a connection that is here.

        Most stay here or go there directly: the primary has nothing to add, as it would balance by
        the same loads.
        """
        worker = self._worker
        # The connection that it came over counts for whoever gets it.
        worker.pool.report(worker.id, len(worker.live) - 1, 0, 0.0)
        chosen = self._balancer.choose(worker.pool.candidates(), self._rng).id
        worker.pool.reserve(chosen)
        return chosen

    def _remember(self, head: Head | None, how: How) -> None:
        """This very request is served here, without anything added, until the cluster changes."""
        if head is not None and self._reusable and len(head.raw) <= MEMORABLE:
            memo = known(head, how, self._worker.serving.inside)
            if memo is not None:
                if len(self.known) >= MEMORY:
                    self.known.clear()
                self.known[head.raw] = memo

    def changed(self) -> None:
        """The pool or the table has changed, or the worker drains: decide everything anew."""
        self.known.clear()

    def _decide(self, head: Head | None, host: str) -> Route | None:
        worker = self._worker
        decision = worker.router.decide(
            head, host, worker.pool, worker.table, time.monotonic(), self._rng
        )
        return decision if isinstance(decision, Route) else None

    def _others(self) -> bool:
        """Whether somebody else could serve a request: nobody, when the whole cluster stops."""
        worker = self._worker
        return not worker.final and any(
            member.id != worker.id and member.state is MemberState.READY
            for member in worker.pool.members
        )

    def extra_headers(self, head: Head, host: str, secure: bool, how: How) -> bytes:
        """Header lines for the response: the sticky cookie, and which worker this is and why."""
        lines = self._cookie(head, host, secure)
        if self._slot_line:
            lines = b"%bX-Txsticky-Route: %b\r\n%b" % (self._slot_line, _ROUTES[how], lines)
        return lines

    def _cookie(self, head: Head, host: str, secure: bool) -> bytes:
        """The sticky cookie, for a client that has none of this worker's and no other tag of it."""
        if self._insert is None or self.draining:
            return b""
        worker = self._worker
        signer = worker.router.signer
        for key in found(worker.router.chain, head, ""):
            if signer.read(key.value) == worker.id:
                return b""
        value = signer.mint(worker.id, secrets.token_hex(4))
        secure = client_secure(head, host, secure, worker.router.trusted)
        return cookie_line(self._insert.name, self._insert.attributes, value, secure)

    # --------------------------------------------------------------- bindings

    def when_confirmed(self, action: Callable[[], None]) -> None:
        """Call once every binding made so far is known everywhere."""
        if self.unconfirmed:
            self._after.append(action)
        else:
            action()

    def confirmed(self) -> None:
        """One more binding is confirmed."""
        if not self.unconfirmed:
            after, self._after = self._after, []
            for action in after:
                try:
                    action()
                except Exception:
                    log.failure("A response could not be released.")

    def request_done(self) -> None:
        """A response is complete."""
        self._worker.request_done()
