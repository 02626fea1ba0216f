"""The moment before the listening sockets close, in which the last connections are let in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..intake.arrival import Arrival
from ..intake.reception import Reception
from .listeners import Listeners

log = Logger()

#: Seconds between two looks at what is outside.
_LOOK: Final = 0.02
#: Seconds within which the kernel gives out what it has held back: it sends its part of the
#: handshake again after one (RFC 6298, section 2), and the client's answer lets the connection in.
PATIENCE: Final = 1.3


class LastIn:
    """
    What stands between the order to stop and the closing of the sockets; there is one at most.

    The kernel holds back a client that is connected and has sent nothing, and would reset it when
    the sockets close, whatever it has sent by then. Once it is let in, a worker waits for it.

    :param listeners: the sockets.
    :param reception: has the connections whose first request is not complete.
    :param place: hands such a connection to a worker, which waits for the rest and serves it.
    :param clock: calls at a time.
    :param close: closes the sockets; its result fires when they are closed.
    :param over: called when they are, unless that was cut short.
    """

    def __init__(
        self,
        listeners: Listeners,
        reception: Reception,
        place: Callable[[Arrival], None],
        clock: IReactorTime,
        close: Callable[[], Deferred[Any]],
        over: Callable[[], object],
    ) -> None:
        self._listeners = listeners
        self._reception = reception
        self._place = place
        self._clock = clock
        self._close = close
        self._over = over
        self._until: float | None = None
        self._due: IDelayedCall | None = None
        self._cut_short = False

    def begin(self) -> bool:
        """
        Begin, at the first order to stop gracefully.

        :returns: whether it has begun, and `over` is called in the end.
        """
        if self._until is not None or self._cut_short:
            return False
        self._until = self._clock.seconds() + PATIENCE
        self._listeners.let_in()
        self._look()
        return True

    def cut_short(self) -> None:
        """Wait no more."""
        self._cut_short = True
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _look(self) -> None:
        assert self._until is not None
        self._due = None
        if self._clock.seconds() < self._until and self._listeners.any_outside():
            self._due = self._clock.callLater(_LOOK, self._look)
        else:
            self._close().addErrback(_told).addCallback(self._end)

    def _end(self, closed: object) -> None:
        if self._cut_short:
            return
        for arrival in self._reception.take_waiting():
            try:
                (self._reception.wait if arrival.idle else self._place)(arrival)
            except Exception:  # the others, and the end, do not depend on this one
                log.failure("A connection could not be dealt with.")
                arrival.sock.close()
        self._over()


def _told(failure: Failure) -> None:
    """Tell of a socket that does not close as it should; the cluster stops all the same."""
    log.failure("A listening socket could not be closed.", failure)
