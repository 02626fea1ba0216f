"""
The waiting room: connections whose first request is here, and for which no worker is ready.

A client that goes away meanwhile is dropped.  Its end is seen without reading anything (epoll(7),
edge-triggered, without EPOLLIN): what it has sent is its worker's.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any

from .core.head import Head
from .deadlines import Deadlines
from .peek import Arrival
from .system import System

#: Asks a client that has ended its sending side whether it still wants its response: one that has
#: gone answers with a reset (RFC 9110, section 15.2.1: it may come at any time).
ASK = b"HTTP/1.1 100 Continue\r\n\r\n"
_GONE = select.EPOLLHUP | select.EPOLLERR
_WATCHED = select.EPOLLRDHUP | select.EPOLLET


class WaitingRoom:
    """
    Where connections wait for a worker.

    :param system: the operating system.
    :param seconds: how long each may wait.
    :param limit: how many may wait.
    :param late: called with each that has waited so long; it is out by then.
    :param whole: whether a client that has ended its sending side has gone for certain, as within a
        handshake of TLS.
    """

    def __init__(
        self,
        system: System,
        seconds: float,
        limit: int,
        late: Callable[[Arrival], None],
        whole: bool,
    ) -> None:
        self._system = system
        self._limit = limit
        self._late = late
        self._whole = whole
        self._deadlines = Deadlines(system, seconds)
        self._seats: dict[int, _Seat] = {}
        self._epoll: select.epoll | None = None

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def full(self) -> bool:
        """Whether as many wait as may."""
        return len(self._seats) >= self._limit

    def arrivals(self) -> list[Arrival]:
        """Those that wait, in their order."""
        return [seat.arrival for seat in self._seats.values()]

    def add(self, arrival: Arrival) -> None:
        """Have a connection wait, even if the room is full."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._system.reactor.addReader(self)
        seat = _Seat(self, arrival)
        self._seats[seat.descriptor] = seat
        self._deadlines.add(seat)
        self._epoll.register(seat.descriptor, _WATCHED)

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
        return seat.arrival

    def late(self, seat: _Seat) -> None:
        """One has waited for its time."""
        self._late(self.take(seat))

    def close(self) -> None:
        """Close what waits, and what watches it."""
        for arrival in self.take_all():
            arrival.sock.close()
        self._deadlines.clear()
        self.connectionLost(None)

    # ------------------------------------------------------------ for the reactor

    def fileno(self) -> int:
        """The descriptor that tells of ends (an epoll can itself be watched)."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        """A name for the log."""
        return "waiting room"

    def doRead(self) -> None:
        """Clients have gone, or have ended their sending side."""
        if self._epoll is None:
            return
        for descriptor, events in self._epoll.poll(0):
            seat = self._seats[descriptor]
            if events & _GONE or not self._stays(seat.arrival):
                self.take(seat).sock.close()

    def _stays(self, arrival: Arrival) -> bool:
        """Whether a client that sends no more may still want its response."""
        if self._whole and not arrival.secure:
            return False
        head = arrival.head
        if type(head) is Head and head.version == b"HTTP/1.1":
            try:
                arrival.sock.send(ASK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except OSError:
                return False
        return True

    def connectionLost(self, reason: object) -> None:
        """The reactor is stopping."""
        if self._epoll is not None:
            self._system.reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None


class _Seat:
    """One that waits (`deadlines.Waiter`)."""

    def __init__(self, room: WaitingRoom, arrival: Arrival) -> None:
        self.arrival: Any = arrival
        self.descriptor = arrival.sock.fileno()
        self._room = room

    def expired(self) -> None:
        """Its time is over."""
        self._room.late(self)
