"""
The request policy of a worker: where a request is served, and what goes with its response.

The policy asks the same pure router as the primary, with replicas of the primary's pool and table.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sized

import attrs

from ..core.how import How
from ..core.http.head import Head
from ..core.routing.balance import balancer
from ..core.routing.cookies import cookie_line
from ..core.routing.forwarded import client_secure
from ..core.routing.keys import found, inserted, opens_session
from ..core.routing.router import Route
from ..core.routing.verdict import GIVE_BACK, KEEP, Give, Verdict
from ..system.system import System
from .bindings import Bindings
from .fast_path import FastPath
from .view import ClusterView

#: Looking up the name of a member costs more than all else that a line is made of.
_ROUTES = {how: how.name.encode() for how in How}


@attrs.frozen(kw_only=True)
class PolicySettings:
    """
    What the operator wants of the policy.

    :ivar balance: the name of the balancer for sessions that begin.
    :ivar debug_headers: whether responses say which worker served them, and why.
    """

    balance: str
    debug_headers: bool = False


class RequestPolicy:
    """
    The policy that the gates of one worker share (`transport.policy.Policy`).

    :param view: what the worker knows of its cluster.
    :param bindings: those that this worker makes.
    :param fast_path: gets the requests whose decision holds for a while.
    :param peers: the workers whose mailboxes are here.
    :param live: the connections of this worker.
    :param read_now: takes in what the primary has told by now.
    :param request_done: called when a response is complete.
    :param settings: what the operator wants.
    :param system: the clock and chance.
    """

    def __init__(
        self,
        view: ClusterView,
        bindings: Bindings,
        fast_path: FastPath,
        *,
        peers: Container[int],
        live: Sized,
        read_now: Callable[[], None],
        request_done: Callable[[], None],
        settings: PolicySettings,
        system: System,
    ) -> None:
        self.known = fast_path.known
        self.bindings = bindings
        self.request_done = request_done
        self._view = view
        self._fast_path = fast_path
        # By address the decision is one for each client, and debugging headers for each request.
        self._reusable = not (view.router.by_address or settings.debug_headers)
        self._peers = peers
        self._live = live
        self._read_now = read_now
        self._insert = inserted(view.router.chain)
        # Not the router's, which chooses for every request, also for those that stay in any case.
        self._balancer = balancer(settings.balance)
        self._system = system
        self._slot_line = b""
        if settings.debug_headers:
            self._slot_line = b"X-Txsticky-Worker: %d\r\n" % view.slot

    @property
    def draining(self) -> bool:
        """Whether idle connections are to leave."""
        return self._view.draining

    # ------------------------------------------------------------------- decisions

    def whose(self, head: Head | None, host: str, settled: bool = False) -> Verdict:
        """
        Decide where a request is served.

        :param head: None if it cannot be read (TLS), or if the connection is not HTTP.
        :param host: the address of the client, as the peer of its connection.
        :param settled: whether the connection was balanced and cannot move any more, so that a new
            session begins here.
        """
        view = self._view
        route = self._decide(head, host)
        if route is None:
            return GIVE_BACK[How.NEW] if view.draining and view.others else KEEP[How.NEW]
        if route.how is How.MISS:
            # A binding that was confirmed before this request could be sent is in our channel by
            # now.
            self._read_now()
            route = self._decide(head, host)
            if route is None:
                return KEEP[How.NEW]
        how = route.how
        if how is How.NEW:
            return self._unpinned(head, settled)
        if how is How.TAG and route.worker == view.id:
            self._remember(head, how)
        return self._place(route.worker, how)

    def _unpinned(self, head: Head | None, settled: bool) -> Verdict:
        """Decide about a request that no key pins to a worker."""
        view = self._view
        fresh = head is not None and opens_session(view.router.chain, head)
        if view.draining and view.others:
            return GIVE_BACK[How.NEW]
        if fresh and not settled and view.others:
            return self._place(self._balanced(), How.NEW)
        if self._insert is None and not fresh:
            self._remember(head, How.NEW)
        return KEEP[How.NEW]

    def _remember(self, head: Head | None, how: How) -> None:
        """Serve this very request here, with nothing added, until the cluster changes."""
        if head is not None and self._reusable:
            self._fast_path.remember(head, how)

    def _place(self, worker: int, how: How) -> Verdict:
        """Keep what is this worker's; give what is another's by the shortest way that is known."""
        if worker == self._view.id:
            return KEEP[how]
        return Give(worker, how) if worker in self._peers else GIVE_BACK[how]

    def _balanced(self) -> int:
        """
        Choose the worker of a new session, which came over a connection that is here.

        Most stay here or go there directly: the primary has nothing to add, as it would balance by
        the same loads.
        """
        view = self._view
        # The connection that the session came over counts for the worker that gets it.
        view.pool.report(view.id, len(self._live) - 1, 0, 0.0)
        chosen = self._balancer.choose(view.pool.candidates(), self._system.rng).id
        view.pool.reserve(chosen)
        return chosen

    def _decide(self, head: Head | None, host: str) -> Route | None:
        view, system = self._view, self._system
        decision = view.router.decide(head, host, view.pool, view.table, system.clock(), system.rng)
        return decision if isinstance(decision, Route) else None

    # ------------------------------------------------------------------- responses

    def extra_headers(self, head: Head, host: str, secure: bool, how: How) -> bytes:
        """
        Return header lines for the response: the sticky cookie, and which worker this is and why.

        :param head: the request's.
        :param host: the address of the client, as the peer of its connection.
        :param secure: whether the client came over TLS.
        :param how: why the request is served here.
        """
        lines = self._cookie(head, host, secure)
        if self._slot_line:
            lines = b"%bX-Txsticky-Route: %b\r\n%b" % (self._slot_line, _ROUTES[how], lines)
        return lines

    def _cookie(self, head: Head, host: str, secure: bool) -> bytes:
        """Make the sticky cookie, for a client whose keys name this worker nowhere yet."""
        view = self._view
        if self._insert is None or view.draining:
            return b""
        signer = view.router.signer
        for key in found(view.router.chain, head, ""):
            if signer.read(key.value) == view.id:
                return b""
        value = signer.mint(view.id, self._system.random_bytes(4).hex())
        secure = client_secure(head, host, secure, view.router.trusted)
        return cookie_line(self._insert.name, self._insert.attributes, value, secure)
