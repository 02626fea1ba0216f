"""
The entrance: where a worker accepts connections itself, with ``--accept workers``.

It reads heads and refuses as the primary does, with the same code.  Then the desk is asked, as at
every later request: what is this worker's is served here and has never left the process; what is
another's goes into that one's mailbox.  A connection that nothing pins stays where the kernel put
it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from ..core.how import How
from ..core.messages.from_worker import ListeningLoad
from ..core.messages.handoff import Handoff
from ..core.messages.origin import Origin
from ..intake.acceptor import Acceptor
from ..intake.reception import Arrival, Reception, manners_for
from ..system.descriptors import own
from ..system.system import System
from ..transport.movable import open_socket
from .policy import FRONT_DESK

if TYPE_CHECKING:
    from .worker import Worker

log = Logger()

#: Connections accepted in one turn of the reactor. What was accepted dies with the worker; for what
#: waits in the kernel's queue there are others.
BATCH = 1


class _Reception(Reception):
    """
    A reception in a process that serves as well.

    :param short: called when descriptors are short.
    """

    def __init__(self, short: Callable[[], None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._short = short

    def free_descriptors(self) -> None:
        """Give up connections that wait here, and have idle ones closed."""
        super().free_descriptors()
        self._short()


class Entrance:
    """
    What a worker accepts on.

    :param worker: whose entrance it is.
    :param reactor: the reactor that serves.
    :param listeners: the number of its `--listen` and the descriptor, for each listening socket;
        owned from here on. There may be none.
    :param short: called when descriptors are short.
    """

    def __init__(
        self,
        worker: Worker,
        reactor: Any,
        listeners: Iterable[tuple[int, int]],
        short: Callable[[], None],
    ) -> None:
        self.routes: dict[How, int] = dict.fromkeys(How, 0)
        self._worker = worker
        self._open = False
        system = System(reactor, reactor.seconds)
        self.reception = _Reception(short, system, worker.config, self._place)
        self.acceptors = [
            Acceptor(socket.socket(fileno=own(descriptor)), number, self.reception, BATCH)
            for number, descriptor in listeners
        ]

    def open(self) -> None:
        """Begin to accept."""
        worker, self._open = self._worker, True
        needs_head, http = worker.router.needs_head, worker.serving.http
        self.reception.manners = manners_for(worker.config, needs_head, http)
        for acceptor in self.acceptors:
            acceptor.start()

    def close(self, final: bool) -> None:
        """
        Accept no more: the worker is leaving.

        :param final: the whole cluster stops. Who is there already is served, and so is who is
            about to say what he wants; else all of them are for others.
        """
        accepts, self._open = self._open, False
        if final and accepts:
            self._accept_all()
        for acceptor in self.acceptors:
            acceptor.close()
        if not final:
            for arrival in self.reception.take_waiting():
                self._give(arrival, FRONT_DESK, How.NEW, fresh=not arrival.proxied)

    def _accept_all(self) -> None:
        """
        Accept everybody who is there already, and only then serve: who is answered might be there
        again at once, and so on without an end.
        """
        arrivals: list[Arrival] = []
        self.reception.place = arrivals.append
        for acceptor in self.acceptors:
            acceptor.accept_all()
            acceptor.close()
        self.reception.place = self._place
        for arrival in arrivals:
            try:
                self._place(arrival)
            except Exception:
                log.failure("A connection could not be dealt with.")
                arrival.sock.close()

    def leave(self) -> None:
        """The worker ends: whoever has not said what he wants by now is let go."""
        self.reception.close()

    @property
    def short(self) -> bool:
        """Whether nobody can be accepted at present, for descriptors are short."""
        return any(acceptor.resting for acceptor in self.acceptors)

    def report(self) -> ListeningLoad | None:
        """What was done here so far; None if there is no socket."""
        if not self.acceptors:
            return None
        return ListeningLoad(
            accepted=sum(acceptor.accepted for acceptor in self.acceptors),
            waiting=self.reception.waiting,
            routes=[self.routes[how] for how in How],
            refusals=list(self.reception.refusals.items()),
        )

    def _place(self, arrival: Arrival) -> None:
        """Serve a connection here, or give it to whom its first request belongs."""
        worker = self._worker
        place, how = worker.desk.whose(arrival.head, arrival.peer[0], settled=True)
        if place != FRONT_DESK:  # where it is counted
            self.routes[how] += 1
        if place is not None:
            self._give(arrival, place, how)
            return
        handoff = _handoff(arrival, how)
        worker.adopt(open_socket(arrival.sock.detach(), handoff.family), handoff)

    def _give(self, arrival: Arrival, place: int, how: How, fresh: bool = False) -> None:
        handoff = _handoff(arrival, how, hops=1, fresh=fresh)
        self._worker.give(open_socket(arrival.sock.detach(), handoff.family), place, handoff)


def _handoff(arrival: Arrival, how: How, hops: int = 0, fresh: bool = False) -> Handoff:
    return Handoff(
        family=arrival.sock.family,
        origin=Origin(arrival.peer, arrival.host),
        prefix=arrival.data,
        how=how,
        hops=hops,
        fresh=fresh,
    )
