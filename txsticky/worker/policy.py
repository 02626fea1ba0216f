"""
The request policy of a worker: where a request is served, and what goes with its response.

The policy asks the same pure router as the primary, with replicas of the primary's pool and table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sized

import attrs
from twisted.logger import Logger

from ..core.how import How
from ..core.http.head import Head
from ..core.http.response import LAST, Additions
from ..core.memo import entries
from ..core.routing.balance import balancer
from ..core.routing.forwarded import client_address, client_secure
from ..core.routing.insertion import InsertedCookie, may_be_shared
from ..core.routing.keys import inserted, opens_session
from ..core.routing.learning import NOTHING_ASKED, REPEATED, Asked, Learner
from ..core.routing.router import Route
from ..core.routing.strays import Strays
from ..core.routing.verdict import GIVE_BACK, KEEP, Give, GiveBack, Verdict
from ..errors import TxstickyError
from ..printable import printable
from ..system.system import System
from ..transport.websockets.movements import WebSockets
from .bindings import Bindings, Expiry
from .fast_path import FastPath
from .view import ClusterView

log = Logger()

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
    :param reaches: whether a worker's mailbox is here, or else asks for it.
    :param live: the connections of this worker.
    :param read_now: takes in what the primary has told by now.
    :param movements: what is known of WebSockets that move.
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
        reaches: Callable[[int], bool],
        live: Sized,
        read_now: Callable[[], None],
        movements: WebSockets,
        request_done: Callable[[], None],
        settings: PolicySettings,
        system: System,
    ) -> None:
        self.known, self.given = fast_path.known, fast_path.given
        self.bindings = bindings
        self.movements = movements
        self.request_done = request_done
        self._view = view
        self._fast_path = fast_path
        # By address the decision is one for each client, and debugging headers for each request.
        self._reusable = not (view.router.by_address or settings.debug_headers)
        self._by_host = view.router.by_address and not view.router.needs_head
        self._reaches = reaches
        self._live = live
        self._read_now = read_now
        # Not the router's, which chooses for every request, also for those that stay in any case.
        self._balancer = balancer(settings.balance)
        self._system = system
        self._answers = Answers(view, bindings, settings.debug_headers, system)

    @property
    def draining(self) -> bool:
        """Whether idle connections are to leave."""
        return self._view.draining

    @property
    def hosts(self) -> dict[str, Verdict]:
        """Where clients' addresses lead to (`FastPath.hosts`)."""
        return self._fast_path.hosts

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
        by_host = self._by_host and not view.table
        if by_host:
            verdict = self._fast_path.hosts.get(host)
            if verdict is not None:
                return verdict
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
        if route.how is How.NEW:
            return self._unpinned(head, settled)
        verdict = self._place(route.worker, route.how)
        lasts = route.how is How.TAG and self._reusable
        if lasts and isinstance(verdict, Give) and head is not None:
            self._fast_path.remember_given(head, verdict)
        elif by_host and route.how is How.HASH and not isinstance(verdict, GiveBack):
            self._fast_path.remember_host(host, verdict)
        return verdict

    def _unpinned(self, head: Head | None, settled: bool) -> Verdict:
        """Decide about a request that no key pins to a worker."""
        view = self._view
        fresh = head is not None and opens_session(view.router.chain, head)
        if view.draining and view.others:
            return GIVE_BACK[How.NEW]
        if fresh and not settled and view.others:
            return self._place(self._balanced(), How.NEW)
        return KEEP[How.NEW]

    def _place(self, worker: int, how: How) -> Verdict:
        """Keep what is this worker's; give what is another's by the shortest way that is known."""
        if worker == self._view.id:
            return KEEP[how]
        return Give(worker, how) if self._reaches(worker) else GIVE_BACK[how]

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

    def additions(
        self, head: Head, host: str, secure: bool, how: How, first: bool
    ) -> Additions | None:
        """Tell what is to be done with a response (`transport.policy.Policy.additions`)."""
        answer = self._answers.to(head, host, secure, how, first)
        announced = secure and self.draining  # TLS says so itself
        if self._view.lame_duck and not announced and head.header(b"upgrade") is None:
            # A connection that is closed later would cross with a request on its way.
            return lambda status, fields: (answer(status, fields) if answer else b"") + LAST
        if self._repeats(head, how, first) and self._lasts(head, how):
            self._fast_path.remember(head, how, answer)
        return answer

    def _repeats(self, head: Head, how: How, first: bool) -> bool:
        """Whether a request is likely to come again, as the first of a connection seldom does."""
        pinned = how is How.TAG or how is How.HASH
        return not first or (pinned and self._fast_path.comes_again(head))

    def _lasts(self, head: Head, how: How) -> bool:
        """
        Tell whether all that was said of a request holds until the cluster changes.

        Where addresses alone decide, it is said of a request from an address that leads here.
        """
        if how is How.HASH:
            return self._by_host and not (self._answers.debugs or self._view.table)
        if not self._reusable:
            return False
        if how is How.TAG:
            return True
        if how is not How.NEW or self._view.draining:
            return False
        return not (
            opens_session(self._view.router.chain, head) or self._answers.depend_on_peer(head)
        )


class Answers:
    """
    What is to be done with the responses of one worker.

    A client whose keys name this worker nowhere yet gets the sticky cookie; the keys that a
    response carries are bound before it leaves.

    :param view: what the worker knows of its cluster.
    :param bindings: those that this worker makes.
    :param debug: whether responses say which worker served them, and why.
    :param system: the clocks and chance.
    """

    def __init__(self, view: ClusterView, bindings: Bindings, debug: bool, system: System) -> None:
        self._view = view
        self._bindings = bindings
        self._system = system
        chain = view.router.chain
        self._learner = Learner(chain)
        self._expiry = Expiry(view, bindings.free, system)
        self._learn_only = functools.partial(self._learn, NOTHING_ASKED)
        self._insert = source = inserted(chain)
        self._cookie = None
        if source is not None:
            self._cookie = InsertedCookie(source.name, source.attributes, self._mint, system.clock)
        self._strays: Strays | None = None if source is None else Strays()
        self._plain = functools.lru_cache(entries(1024, REPEATED))(self._is_plain)
        self._unbound = False
        self._slot_line = b"X-Txsticky-Worker: %d\r\n" % view.slot if debug else b""

    @property
    def debugs(self) -> bool:
        """Whether responses say which worker served them, and why."""
        return bool(self._slot_line)

    def _mint(self) -> str:
        view = self._view
        return view.router.signer.mint(view.id, self._system.random_bytes(4).hex())

    def depend_on_peer(self, head: Head) -> bool:
        """Whether the answer to a request without a key is another for another proxy."""
        trusted = self._view.router.trusted
        return bool(trusted) and head.header(b"x-forwarded-proto") is not None

    def to(self, head: Head, host: str, secure: bool, how: How, first: bool) -> Additions | None:
        """Tell what is to be done with the response to a request; see `Policy.additions`."""
        view, learns = self._view, self._learner.learns
        asked = self._learner.asked(head) if learns else NOTHING_ASKED
        cookie = None if how is How.TAG or view.draining else self._cookie
        if how is How.HIT and not (first and cookie and self._is_over(head, host)):
            cookie = None
        if cookie is None and not self._slot_line:
            if asked is NOTHING_ASKED:
                return self._learn_only if learns else None
            return functools.partial(self._learn, asked)
        told = self._slot_line and b"%bX-Txsticky-Route: %b\r\n" % (self._slot_line, _ROUTES[how])
        if cookie is None or self._insert is None:
            return lambda status, fields: self._learn(asked, status, fields) + told
        if first and how is How.NEW and self._strays is not None:
            self._count(self._strays, head, host)
        secure = client_secure(head, host, secure, view.router.trusted)
        variant = self._insert.suffix(head), secure
        ending = asked.ending is not None
        plain, clock = self._plain, cookie.clock
        # A head that comes again has the very same fields (`core.http.response`).
        seen, line, until = b"", b"", 0.0

        def answer(status: int, fields: bytes) -> bytes:
            nonlocal seen, line, until
            if fields is seen and clock() < until:
                return line
            if ending or len(fields) > REPEATED or not plain(fields):
                self._learn(asked, status, fields)
                return told if may_be_shared(fields) else told + cookie.line(variant)
            seen, line = fields, told + cookie.line(variant)
            until = cookie.until
            return line

        return answer

    def _is_over(self, head: Head, host: str) -> bool:
        """Whether the key has been freed here by which the connection was sent here."""
        view = self._view
        return view.router.bound(head, host, view.table, self._system.clock()) is None

    def _is_plain(self, fields: bytes) -> bool:
        """Whether there is nothing to learn from a response, and no shared cache may store it."""
        return not (self._learner.teaches(NOTHING_ASKED, fields) or may_be_shared(fields))

    def _count(self, strays: Strays, head: Head, host: str) -> None:
        """Say once that clients come back with nothing that tells whose they are."""
        client = client_address(head, host, self._view.router.trusted)
        program = head.header(b"user-agent") or b""
        if not strays.came(b"%b %b" % (client.encode(), program)) or not self._view.others:
            return
        self._strays = None
        if self._view.slot == 1:  # each worker sees its share of them
            log.info(
                "Clients come back without the cookie {cookie} and with no other key, as {program}"
                " at {client} does: their requests are spread over the workers. That is right,"
                " unless the application keeps something of its clients in memory: name a key then"
                " that they send, as in --sticky header:NAME, or take --sticky ip.",
                cookie=self._insert and self._insert.name,
                program=printable(program.decode("latin-1")) or "a program without a name",
                client=client or "a UNIX socket",
            )

    def _learn(self, asked: Asked, status: int, fields: bytes) -> bytes:
        """Bind the keys that a response gives its client, and free those that are over."""
        if not self._learner.teaches(asked, fields):
            return b""
        lesson = self._learner.said(asked, status, fields, self._system.wall())
        view, bindings, now = self._view, self._bindings, self._system.clock()
        for key in lesson.ended:
            if view.table.find(key, now) == view.id:  # not what another worker has bound
                bindings.free(key)
        for key, lifetime in lesson.begun:
            if view.router.signer.read(key) == view.id:
                continue
            try:
                if view.table.find(key, now) != view.id:
                    bindings.bind(key)
                self._expiry.set(key, lifetime)
            except TxstickyError as error:
                if not self._unbound:
                    self._unbound = True
                    log.warn("A session that a response begins is not bound: {why}", why=str(error))
        return b""
