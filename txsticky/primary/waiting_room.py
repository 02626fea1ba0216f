"""
The waiting room: connections whose first request is here, and for which no worker is ready.

A client that goes away meanwhile is dropped.  Its end is seen without reading anything (epoll(7),
edge-triggered, without EPOLLIN): what it has sent is its worker's.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from ..intake.arrival import Arrival
from ..system.deadlines import Deadlines
from ..system.system import System

#: Asks a client that has ended its sending side whether it still wants its response: one that has
#: gone answers with a reset (RFC 9110, section 15.2.1: it may come at any time).
ASK = b"HTTP/1.1 100 Continue\r\n\r\n"
_GONE = select.EPOLLHUP | select.EPOLLERR
_WATCHED = select.EPOLLRDHUP | select.EPOLLET


class WaitingRoom:
    """
    Where connections wait for a worker.

    :param system: the operating system.
    :param seconds: how long each may wait; 0 = not at all.
    :param limit: how many may wait.
    :param refuse: called with each that may not, and why.
    :param late: called with each that has waited so long; it is out by then.
    :param whole: whether a client that has ended its sending side has gone for certain, as within a
        handshake of TLS.
    """

    def __init__(
        self,
        system: System,
        seconds: float,
        limit: int,
        refuse: Callable[[Arrival, str], None],
        late: Callable[[Arrival], None],
        whole: bool,
    ) -> None:
        self._system = system
        self._seconds = seconds
        self._limit = limit
        self._refuse = refuse
        self._late = late
        self._whole = whole
        self._deadlines = Deadlines(system, seconds)
        self._seats: dict[int, _Seat] = {}
        self._epoll: select.epoll | None = None  # there is one as long as connections wait

    def __len__(self) -> int:
        return len(self._seats)

    def arrivals(self) -> list[Arrival]:
        """The connections that wait, in their order."""
        return [seat.arrival for seat in self._seats.values()]

    def admit(self, arrival: Arrival) -> None:
        """Have a connection wait, if it may."""
        if not self._seconds:
            self._refuse(arrival, "No worker is ready.")
        elif len(self._seats) >= self._limit:
            self._refuse(arrival, "No worker is ready, and too many requests wait for one.")
        else:
            self.add(arrival)

    def add(self, arrival: Arrival) -> None:
        """Have a connection wait in any case."""
        seat = _Seat(self, arrival)
        self._seats[seat.descriptor] = seat
        self._deadlines.add(seat)
        if self._epoll is not None:
            self._epoll.register(seat.descriptor, _WATCHED)
        else:
            self._watch()

    def _watch(self) -> None:
        try:
            self._epoll = select.epoll()
        except OSError:  # descriptors are short: they wait unwatched, until the next one comes
            return
        for descriptor in self._seats:
            self._epoll.register(descriptor, _WATCHED)
        self._system.reactor.addReader(self)

    def take_all(self) -> list[Arrival]:
        """Take all out, in their order, less those that have gone."""
        self.doRead()
        return [self.take(seat) for seat in list(self._seats.values())]

    def take(self, seat: _Seat) -> Arrival:
        """Take one out."""
        del self._seats[seat.descriptor]
        self._deadlines.discard(seat)
        if self._epoll is not None:
            self._epoll.unregister(seat.descriptor)
            if not self._seats:
                self._system.reactor.removeReader(self)
                self._epoll.close()
                self._epoll = None
        return seat.arrival

    def late(self, seat: _Seat) -> None:
        """Hand on a connection that has waited for its time."""
        self._late(self.take(seat))  # out first: it may come back

    def close(self) -> None:
        """Close what waits, and what watches it."""
        for arrival in self.take_all():
            arrival.sock.close()
        self._deadlines.clear()

    # ------------------------------------------------------------ for the reactor

    def fileno(self) -> int:
        """The descriptor that tells of ends (an epoll can itself be watched)."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        """A name for the log."""
        return "waiting room"

    def doRead(self) -> None:
        """Drop clients that have gone, out of those that have ended their sending side."""
        ends = [] if self._epoll is None else self._epoll.poll(0)
        for descriptor, events in ends:
            seat = self._seats[descriptor]
            if events & _GONE or not self._stays(seat.arrival):
                self.take(seat).sock.close()

    def _stays(self, arrival: Arrival) -> bool:
        """Whether a client that sends no more may still want its response."""
        if arrival.replay is not None or (self._whole and not arrival.origin.secure):
            return False
        head = arrival.head
        if head is not None and head.version == b"1.1":
            try:
                arrival.sock.send(ASK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except OSError:
                return False
        return True

    def connectionLost(self, reason: object) -> None:
        """The reactor is stopping."""
        self.close()


class _Seat:
    """A connection that waits (`deadlines.Waiter`)."""

    def __init__(self, room: WaitingRoom, arrival: Arrival) -> None:
        self.arrival = arrival
        self.descriptor = arrival.sock.fileno()
        self._room = room

    def expired(self) -> None:
        """Take the connection out, for it has waited its time (`deadlines.Waiter`)."""
        self._room.late(self)

    def closed(self) -> None:
        """Take the connection out and close it (`deadlines.Waiter`)."""
        self._room.take(self).sock.close()
