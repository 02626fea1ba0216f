"""
The peek: accept, read once, decide; wait only while the head is incomplete.

Most connections bring their whole head with them: they are accepted, read once and handed off
within one turn, and the reactor never hears of them.  The others wait as a :class:`Peek`, each a
plain descriptor under one common deadline. To a client the primary speaks only to refuse.
"""

from __future__ import annotations

import collections
import socket
from collections.abc import Callable
from typing import Literal, Protocol

from twisted.logger import Logger

from ..core.http.head import NEED_DATA, Head, Malformed, NeedData, parse_head
from ..core.http.proxy_protocol import ProxyHeader
from ..core.http.proxy_protocol import parse as parse_proxy
from ..core.http.refusal import LINGER, refusal
from ..system.deadlines import Deadlines
from ..system.system import System
from .arrival import READ_SIZE, Arrival
from .expectations import Expectations

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
    def keep_alive(self) -> float:
        """Seconds that a connection may be idle."""


Verdict = Malformed | Literal[NeedData.NEED_DATA] | None


class Reception:
    """
    Where connections wait until it is clear whose they are.

    :param system: the operating system.
    :param limits: the peek's deadline and bound.
    :param place: gets each `Arrival` whose first request is here; it is its own from then on.
    """

    def __init__(self, system: System, limits: Limits, place: Callable[[Arrival], None]) -> None:
        self.system = system
        self.limits = limits
        self.place = place
        self.expectations = Expectations()
        self.max_waiting = 10_000
        self.refusals: collections.Counter[int] = collections.Counter()
        self._told: set[str] = set()
        self.fresh = Deadlines(system, limits.head_timeout)
        self._idle = Deadlines(system, limits.keep_alive)
        self._lingering = Deadlines(system, LINGER)

    @property
    def waiting(self) -> int:
        """How many connections wait for the rest of their first request."""
        return len(self.fresh) + len(self._idle)

    def judge(self, arrival: Arrival, seen: int = 0) -> Verdict:
        """
        Look at what has come.

        :param seen: how many of the bytes were looked at before.
        :returns: `NEED_DATA`; or a `Malformed` to refuse with; or None: the arrival can be placed.
        """
        expectations = self.expectations
        if expectations.proxies is not None and not arrival.proxied:
            if not arrival.hops and expectations.proxies(arrival.peer[0]):
                header = parse_proxy(arrival.data)
                if not isinstance(header, ProxyHeader):
                    return header
                if header.source is not None:
                    arrival.peer = header.source
                arrival.data = arrival.data[header.size :]
                seen = 0
            arrival.proxied = True
        if not arrival.data:
            return NEED_DATA if expectations.waits else None
        if expectations.parses or arrival.secure:
            head = parse_head(arrival.data, self.limits.head_limit, seen)
            if type(head) is Head:
                arrival.head = head
            elif head is NEED_DATA or expectations.only_http:
                return head  # type: ignore[return-value]
        return None

    def act(self, arrival: Arrival, verdict: Malformed | None) -> None:
        """Do what a verdict says, other than to wait."""
        if verdict is None:
            self.place(arrival)
            return
        if verdict.reason not in self._told:
            self._told.add(verdict.reason)
            log.warn(
                "A client is refused with {status}: {reason} This is said once.",
                status=verdict.status,
                reason=verdict.reason,
            )
        self.refuse(arrival, verdict.status, verdict.reason)

    def turn_away(self, arrival: Arrival, reason: str, retry_after: int) -> None:
        """Refuse with 503, or, if the client made no sense, with what it would have got anyway."""
        parses = self.expectations.parses or arrival.secure
        if parses and arrival.data and arrival.head is None:
            head = parse_head(arrival.data, self.limits.head_limit)
            if isinstance(head, Malformed):
                self.refuse(arrival, head.status, head.reason)
                return
        self.refuse(arrival, 503, reason, retry_after)

    def receive(self, arrival: Arrival) -> None:
        """Take in a connection with whatever bytes it brings."""
        verdict = self.judge(arrival)
        if verdict is NEED_DATA:
            self.wait(arrival)
        else:
            self.act(arrival, verdict)

    def admit(self, arrival: Arrival) -> None:
        """Take in a connection, one of many; one that cannot be dealt with is closed."""
        try:
            self.receive(arrival)
        except Exception:
            log.failure("A connection could not be dealt with.")
            arrival.sock.close()

    def wait(self, arrival: Arrival) -> None:
        """Wait for more of the first request."""
        deadlines = self._idle if arrival.idle else self.fresh
        if self.waiting >= self.max_waiting and not self.evict():
            self.refuse(arrival, 503, "Too many connections wait to send their first request.")
            return
        peek = Peek(self, arrival, deadlines)
        deadlines.add(peek)
        self.system.reactor.addReader(peek)

    def evict(self) -> bool:
        """
        Give up the connection that has waited longest without sending its request. Whether there
        was one.
        """
        return self.fresh.expire_oldest() or self._idle.expire_oldest()

    def free_descriptors(self) -> None:
        """
        Give up connections: those that were refused already, or else a part of those that wait, the
        oldest first.
        """
        if self._lingering:
            while self._lingering.expire_oldest():
                pass
        else:
            for _ in range(1 + self.waiting // 4):
                self.evict()

    def refuse(
        self, arrival: Arrival, status: int, reason: str, retry_after: int | None = None
    ) -> None:
        """Answer a client with a complete response, and close."""
        self.refusals[status] += 1
        head_only = arrival.head is not None and arrival.head.method == b"HEAD"
        response = refusal(status, reason, retry_after, head_only)
        Lingerer(self, arrival.sock, self._lingering, response).doWrite()

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

    def _peeks(self) -> list[Peek]:
        waiters = [*self.fresh.all(), *self._idle.all()]
        return [waiter for waiter in waiters if isinstance(waiter, Peek)]


class _Readable:
    """A socket that the reactor watches for input."""

    def __init__(self, reception: Reception, sock: socket.SocketType, deadlines: Deadlines) -> None:
        sock.setblocking(False)
        self.reception = reception
        self.sock = sock
        self.deadlines = deadlines

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return type(self).__name__

    def withdraw(self) -> None:
        """Unregister, before anything is done with the descriptor."""
        self.reception.system.reactor.removeReader(self)
        self.deadlines.discard(self)  # type: ignore[arg-type]

    def closed(self) -> None:
        """Close the socket."""
        self.withdraw()
        self.sock.close()

    def connectionLost(self, reason: object) -> None:
        """The reactor lost the descriptor."""
        self.closed()


class Peek(_Readable):
    """A connection whose first request is not complete."""

    def __init__(self, reception: Reception, arrival: Arrival, deadlines: Deadlines) -> None:
        super().__init__(reception, arrival.sock, deadlines)
        self.arrival = arrival

    def doRead(self) -> None:
        """Read once, and look."""
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
        """No head will come: what need not be HTTP is placed as it is. Whether it was."""
        arrival, expectations = self.arrival, self.reception.expectations
        if (
            expectations.only_http
            or not arrival.data
            or not (arrival.proxied or not expectations.proxies)
        ):
            return False
        self.withdraw()
        self.reception.place(arrival)
        return True

    def expired(self) -> None:
        """The head has not come in time."""
        if self.go_on_without_head():
            return
        if self.arrival.data and not self.arrival.idle:
            self.withdraw()
            self.reception.refuse(self.arrival, 408, "The request head did not come in time.")
        else:
            self.closed()


class Lingerer(_Readable):
    """A connection that gets its refusal, and time to read it."""

    def __init__(
        self, reception: Reception, sock: socket.SocketType, deadlines: Deadlines, response: bytes
    ) -> None:
        super().__init__(reception, sock, deadlines)
        self._response = response
        deadlines.add(self)
        reception.system.reactor.addReader(self)

    def doWrite(self) -> None:
        """
        Send what the kernel takes: all of it, unless the connection has moved and an earlier
        response is still on its way.
        """
        reactor = self.reception.system.reactor
        try:
            self._response = self._response[self.sock.send(self._response) :]
        except BlockingIOError:
            pass
        except OSError:
            self.closed()
            return
        if self._response:
            reactor.addWriter(self)
            return
        reactor.removeWriter(self)
        reactor.addReader(self)
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.closed()

    def withdraw(self) -> None:
        super().withdraw()
        self.reception.system.reactor.removeWriter(self)

    def doRead(self) -> None:
        """Throw away what the client still sends."""
        try:
            if self.sock.recv(READ_SIZE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        if self._response:  # the client sends no more, and reads
            self.reception.system.reactor.removeReader(self)
        else:
            self.closed()

    def expired(self) -> None:
        """It had its time."""
        self.closed()
