"""
The peek: accept, read once, decide; wait only while the head is incomplete.

Most connections bring their whole head with them: they are accepted, read once and handed off
within one turn of the event loop, and the reactor never hears of them. Each of the others waits as
a :class:`Peek`, a plain descriptor under one common deadline. The only words that a client gets
from here are those of a refusal.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Literal, Protocol

import attrs
from twisted.logger import Logger

from ..core.http.head import NEED_DATA, Head, Malformed, NeedData, parse_head
from ..core.http.proxy_protocol import ProxyHeader
from ..core.http.proxy_protocol import parse as parse_proxy
from ..core.http.refusal import LINGER, refusal
from ..core.http.websocket.frames import SERVICE_RESTART, close_frame
from ..system.deadlines import Deadlines
from ..system.system import System, http_date
from .arrival import READ_SIZE, Arrival
from .expectations import Expectations
from .refuse import Lingerer
from .watched_socket import WatchedSocket

log = Logger()


class Limits(Protocol):
    """What the reception needs of the configuration."""

    @property
    def head_timeout(self) -> float:
        """Seconds for a head to come."""

    @property
    def head_limit(self) -> int:
        """The largest head, in bytes."""

    @property
    def head_backlog(self) -> int:
        """
        How many connections may wait for their first request, 1 or more.

        Those between two requests are bounded by the descriptors that there are, as they are where
        they were served.
        """

    @property
    def keep_alive(self) -> float:
        """Seconds that a connection may be idle."""


Verdict = Malformed | Literal[NeedData.NEED_DATA] | None


class Reception:
    """
    Where connections wait until it is clear which worker they belong to.

    :param system: the operating system.
    :param limits: the time and the room for a head.
    :param place: gets each `Arrival` whose first request is here, and owns it from then on.
    :ivar expectations: what clients are expected to send first.
    :ivar refusals: how many connections were refused, by status.
    :ivar fresh: the deadlines of connections whose first request is awaited.
    """

    def __init__(self, system: System, limits: Limits, place: Callable[[Arrival], None]) -> None:
        self.system = system
        self.limits = limits
        self.place = place
        self.expectations = Expectations()
        self.refusals: collections.Counter[int] = collections.Counter()
        self._told: set[str] = set()
        self.fresh = Deadlines(system, limits.head_timeout)
        self._idle = Deadlines(system, limits.keep_alive)
        self._lingering = Deadlines(system, LINGER)

    @property
    def waiting(self) -> int:
        """How many connections wait for the rest of their first request."""
        return len(self.fresh) + len(self._idle)

    @property
    def idle(self) -> int:
        """How many of them are between two requests."""
        return len(self._idle)

    def judge(self, arrival: Arrival, seen: int = 0) -> Verdict:
        """
        Look at the bytes that have come.

        :param seen: how many of the bytes were looked at before.
        :returns: `NEED_DATA`; or a `Malformed` to refuse with; or None: the arrival can be placed.
        """
        expectations = self.expectations
        if arrival.replay is not None:
            handshake = arrival.replay.head
            head = parse_head(handshake, len(handshake))
            arrival.head = head if isinstance(head, Head) else None
            return None
        if expectations.proxies is not None and not arrival.proxied:
            if not arrival.hops and expectations.proxies(arrival.origin.peer[0]):
                header = parse_proxy(arrival.data)
                if not isinstance(header, ProxyHeader):
                    return header
                if header.source is not None:
                    arrival.origin = attrs.evolve(arrival.origin, peer=header.source)
                arrival.data = arrival.data[header.size :]
                seen = 0
            arrival.proxied = True
        if not arrival.data:
            return NEED_DATA if expectations.waits else None
        if expectations.parses or arrival.origin.secure:
            head = parse_head(arrival.data, self.limits.head_limit, seen)
            if type(head) is Head:
                arrival.head = head
            elif head is NEED_DATA or expectations.only_http:
                return head  # type: ignore[return-value]
        return None

    def act(self, arrival: Arrival, verdict: Malformed | None) -> None:
        """Place or refuse a connection, as a verdict other than `NEED_DATA` says."""
        if verdict is None:
            self.place(arrival)
            return
        if verdict.reason not in self._told:
            self._told.add(verdict.reason)
            log.warn(
                "A client is refused with {status}: {reason}"
                " Further refusals for this reason are not logged.",
                status=verdict.status,
                reason=verdict.reason,
            )
        self.refuse(arrival, verdict.status, verdict.reason)

    def turn_away(self, arrival: Arrival, reason: str, retry_after: int) -> None:
        """
        Refuse, with 503, a connection that no worker can take.

        If its request is malformed, the status is the one that any worker would have given.

        :param reason: a sentence for the client.
        :param retry_after: when the client may try again, in seconds.
        """
        parses = self.expectations.parses or arrival.origin.secure
        if parses and arrival.data and arrival.head is None:
            head = parse_head(arrival.data, self.limits.head_limit)
            if isinstance(head, Malformed):
                self.refuse(arrival, head.status, head.reason)
                return
        self.refuse(arrival, 503, reason, retry_after)

    def receive(self, arrival: Arrival) -> None:
        """Place a connection with whatever bytes it brings, have it wait, or refuse it."""
        verdict = self.judge(arrival)
        if verdict is None:
            self.place(arrival)
        elif verdict is NEED_DATA:
            self.wait(arrival)
        else:
            self.act(arrival, verdict)

    def admit(self, arrival: Arrival) -> None:
        """Receive one connection of many: if that fails, the connection alone is closed."""
        try:
            self.receive(arrival)
        except Exception:
            log.failure("A connection failed as it was accepted, and is closed.")
            arrival.sock.close()

    def wait(self, arrival: Arrival) -> None:
        """
        Have a connection wait for more of its first request.

        If as many wait as may, the one leaves that has waited longest.
        """
        if arrival.idle:
            Peek(self, arrival, self._idle).watch()
            return
        if len(self.fresh) >= self.limits.head_backlog:
            self.fresh.expire_oldest()
        Peek(self, arrival, self.fresh).watch()

    def evict(self) -> bool:
        """
        End the time of the connection that has waited longest: one between two requests, if any.

        :returns: False if no connection waits.
        """
        return self._idle.expire_oldest() or self.fresh.expire_oldest()

    def free_descriptors(self) -> None:
        """Close the refused connections, or else a quarter of the waiting, the oldest first."""
        if self._lingering:
            while self._lingering.expire_oldest():
                pass
        else:
            for _ in range(1 + self.waiting // 4):
                self.evict()

    def refuse(
        self, arrival: Arrival, status: int, reason: str, retry_after: int | None = None
    ) -> None:
        """
        Answer a client with a complete response, and close.

        :param reason: a sentence for the client.
        :param retry_after: when the client may try again, in seconds.
        """
        self.refusals[status] += 1
        head_only = arrival.head is not None and arrival.head.method == b"HEAD"
        if arrival.replay is not None:
            response = close_frame(SERVICE_RESTART)
        else:
            response = refusal(status, reason, http_date(), retry_after, head_only)
        Lingerer(self.system, arrival.sock, self._lingering, response).doWrite()

    def close(self) -> None:
        """Close every connection that waits here."""
        for deadlines in (self.fresh, self._idle, self._lingering):
            deadlines.clear()

    def arrivals(self) -> list[Arrival]:
        """The connections that wait here."""
        return [peek.arrival for peek in self._peeks()]

    def take_waiting(self) -> list[Arrival]:
        """Take every connection that waits here, to go on with it elsewhere."""
        return [peek.release() for peek in self._peeks()]

    def take_silent(self) -> list[Arrival]:
        """Take those whose first request has not begun, to go on with them elsewhere."""
        waiters = [peek for peek in self._peeks() if not (peek.arrival.idle or peek.arrival.data)]
        return [peek.release() for peek in waiters]

    def _peeks(self) -> list[Peek]:
        waiters = [*self.fresh.all(), *self._idle.all()]
        return [waiter for waiter in waiters if isinstance(waiter, Peek)]


class Peek(WatchedSocket):
    """A connection whose first request is not complete."""

    def __init__(self, reception: Reception, arrival: Arrival, deadlines: Deadlines) -> None:
        super().__init__(reception.system, arrival.sock, deadlines)
        self.reception = reception
        self.arrival = arrival

    def doRead(self) -> None:
        """Read once, and look at what has come."""
        arrival = self.arrival
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if not self.go_on_without_head():
                self.closed()
            return
        seen = len(arrival.data)
        if arrival.idle:
            # The next request has begun: from here its head has the time that any head has.
            arrival.idle = False
            self.deadlines.discard(self)
            self.deadlines = self.reception.fresh
            self.deadlines.add(self)
        arrival.data = arrival.data + data if seen else data
        verdict = self.reception.judge(arrival, seen)
        if verdict is not NEED_DATA:
            # Unregistered before it leaves: epoll would go on firing for a descriptor that lives
            # elsewhere.
            self.withdraw()
            self.reception.act(arrival, verdict)

    def release(self) -> Arrival:
        """Take the connection out of the reception."""
        self.withdraw()
        return self.arrival

    def go_on_without_head(self) -> bool:
        """
        Place the connection as it is, for no head will come.

        :returns: False if it cannot be placed: only HTTP is served, or nothing has come but
            perhaps a part of a PROXY protocol header.
        """
        arrival, expectations = self.arrival, self.reception.expectations
        proxy_header_due = expectations.proxies is not None and not arrival.proxied
        if expectations.only_http or not arrival.data or proxy_header_due:
            return False
        self.withdraw()
        self.reception.place(arrival)
        return True

    def expired(self) -> None:
        """Place, refuse or close the connection, whose head has not come in time."""
        if self.go_on_without_head():
            return
        if self.arrival.data and not self.arrival.idle:
            self.withdraw()
            self.reception.refuse(self.arrival, 408, "The request head did not come in time.")
        else:
            self.closed()
