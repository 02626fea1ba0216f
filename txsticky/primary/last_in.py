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
#: Seconds within which a handshake that has begun ends, across the world.
HANDSHAKE: Final = 0.5


class LastIn:
    """
    What stands between the order to stop and the closing of the sockets; there is one at most.

    The kernel holds back a client that is connected and has sent nothing, and would reset it when
    the sockets close, whatever it has sent by then. Once it is let in, a worker waits for it.
    Then no connection begins any more, and those that have begun come in: none is left to reset.

    :param listeners: the sockets.
    :param reception: has the connections whose first request is not complete.
    :param place: hands such a connection to a worker, which waits for the rest; called with it and
        False.
    :param clock: calls at a time.
    :param let_go: has the sockets be the listeners' alone; its result fires when they are.
    :param over: called when the sockets are closed, unless that was cut short.
    """

    def __init__(
        self,
        listeners: Listeners,
        reception: Reception,
        place: Callable[[Arrival, bool], None],
        clock: IReactorTime,
        let_go: Callable[[], Deferred[Any]],
        over: Callable[[], object],
    ) -> None:
        self._listeners = listeners
        self._reception = reception
        self._place = place
        self._clock = clock
        self._let_go = let_go
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
        if not self._waits(self._look):
            self._let_go().addErrback(_told).addCallback(self._shut)

    def _shut(self, _: object) -> None:
        """Have none come between the last accept(2) and close(2), which follow at once."""
        if self._cut_short:
            return
        self._until = self._clock.seconds() + HANDSHAKE
        self._listeners.shut()
        self._end()

    def _waits(self, look: Callable[[], None]) -> bool:
        """Look again in a moment, as long as there is time and something is outside."""
        assert self._until is not None
        self._due = None
        if self._clock.seconds() >= self._until or not self._listeners.any_outside():
            return False
        self._due = self._clock.callLater(_LOOK, look)
        return True

    def _end(self) -> None:
        if self._waits(self._end):
            return
        try:
            self._listeners.accept_all()
        except Exception:
            log.failure("The last connections could not be accepted.")
        self._listeners.close()
        for arrival in self._reception.take_waiting():
            try:
                if arrival.idle:
                    self._reception.wait(arrival)
                else:
                    self._place(arrival, False)
            except Exception:  # the others, and the end, do not depend on this one
                log.failure("A connection could not be dealt with.")
                arrival.sock.close()
        self._over()


def _told(failure: Failure) -> None:
    """Tell of a socket that does not close as it should; the cluster stops all the same."""
    log.failure("A listening socket could not be closed.", failure)
