"""
The watch for clients that stall: within a request, or while they are to take a response.

One look at all connections of a worker, now and then, costs less than a timer for each request.
The gates tell what is on its way, whatever serves the connection.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from ..core.http.refusal import refusal
from ..core.http.stall import Pauses
from ..system.system import System, http_date
from ..transport.gate import Gate
from .connections import Connection

log = Logger()

#: The part of the stall timeout after which is looked again, and how many seconds that is at most.
LOOK_PART = 1 / 8
LOOK_MOST = 15.0


class StallWatch:
    """
    Ends connections whose clients pause for too long.

    A pause ends them after `seconds` at the earliest and a quarter of that, or half a minute, later
    at the latest.

    :param system: the clock.
    :param seconds: how long a pause may be; 0 is without end.
    :param live: the connections of the worker.
    :param upgrades: whether the application may upgrade a connection to another protocol, whose
        pauses are its own.
    """

    def __init__(
        self, system: System, seconds: float, live: Iterable[Connection], upgrades: bool
    ) -> None:
        self._system = system
        self._seconds = seconds
        self._live = live
        self._upgrades = upgrades
        self._period = min(LOOK_MOST, seconds * LOOK_PART)
        self._pauses: Pauses[Connection] = Pauses(seconds, self._period)

    def start(self) -> None:
        """Begin to look."""
        if self._seconds:
            self._system.reactor.callLater(self._period, self._look)

    def _look(self) -> None:
        self.start()
        waiting = {}
        for connection in list(self._live):
            gate = connection.gate
            mark = awaited(gate, self._upgrades) if gate is not None else None
            if mark is not None:
                waiting[connection] = mark
        for connection in self._pauses.look(waiting, self._system.clock()):
            gate = connection.gate
            if gate is None:
                continue  # the end of another one was the end of this one, too
            log.debug(
                "A client has paused for {seconds:g} seconds: {client}",
                seconds=self._seconds,
                client=gate.client,
            )
            try:
                gate.stalled(refusal(408, "The request did not come in time.", http_date()))
            except Exception:
                log.failure("A connection that has stalled could not be ended.")


def awaited(gate: Gate, upgrades: bool) -> int | None:
    """
    How many bytes have moved on a connection, either way, if its client is to move the next.

    It is if it owes the rest of a request, or is to take its response. None if it is not to,
    because everything has come and gone, because it is not read from, or because it speaks another
    protocol.

    :param upgrades: whether there may be such a protocol.
    """
    conversation, host = gate.exchange, gate.host
    if upgrades and conversation.upgraded:
        return None
    owes = conversation.body_due and gate.reads
    return gate.come + host.passed() if owes or host.unsent() else None
