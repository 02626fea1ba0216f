"""Connections without a request: closed when they have been so for too long."""

from __future__ import annotations

from typing import Any, Protocol

#: Seconds for the first request of a connection to begin, unless connections may idle for longer.
_FIRST = 60.0


class Idler(Protocol):
    """A connection that may be idle."""

    def idled(self) -> None:
        """Close: no request has come for too long."""


class Idle:
    """
    The connections of a worker that wait for a request, all for the same time.

    The first to wait is the first to be closed, so one delayed call serves all of them.

    :param reactor: the clock, and the calls.
    :param seconds: how long a connection may wait; None is without end.
    """

    def __init__(self, reactor: Any, seconds: float | None) -> None:
        self._reactor = reactor
        self.seconds = seconds
        #: Since when each waits, the longest first.
        self._since: dict[Any, float] = {}
        self._call: Any = None

    def __len__(self) -> int:
        return len(self._since)

    def add(self, connection: Idler) -> Idle:
        """Let a connection wait from now on, if it does not wait already; returns this."""
        if self.seconds is None:
            return self
        self._since[connection] = self._reactor.seconds()
        if self._call is None:
            self._call = self._reactor.callLater(self.seconds, self._look)
        return self

    def discard(self, connection: Idler) -> None:
        """Let a connection go: a request has come, or it is over."""
        self._since.pop(connection, None)

    def stop(self) -> None:
        """Close nothing any more."""
        self._since.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = None
        seconds, now = self.seconds, self._reactor.seconds()
        assert seconds is not None
        try:
            for connection, since in list(self._since.items()):
                if since + seconds > now:
                    break
                if self._since.pop(connection, None) is not None:
                    connection.idled()
        finally:
            for since in self._since.values():
                self._call = self._reactor.callLater(max(0.0, since + seconds - now), self._look)
                break


def idles(reactor: Any, keep_alive: float) -> tuple[Idle, Idle]:
    """
    Where the connections of one application wait for their first and for later requests.

    :param reactor: the clock, and the calls.
    :param keep_alive: how long a connection may be without a request, in seconds.
    """
    return Idle(reactor, max(keep_alive, _FIRST)), Idle(reactor, keep_alive)
