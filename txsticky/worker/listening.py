"""
Listening in a worker: with ``--accept workers``, and for the next requests of idle connections.

The worker reads heads and refuses as the primary does, with the same code.  Then the policy is
asked, as at every later request: a connection that is the worker's own is served here and has never
left the process; one that is another worker's goes into that one's mailbox.  A connection that
nothing pins stays where the kernel put it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import attrs
from twisted.logger import Logger

from ..config import Config
from ..core.how import How
from ..core.http.head import Head
from ..core.messages.from_worker import ListeningLoad
from ..core.messages.handoff import Handoff
from ..core.messages.origin import Stage
from ..core.routing.verdict import FRONT_DESK, Give, GiveBack, Keep, Verdict
from ..intake.acceptor import Acceptor
from ..intake.arrival import Arrival
from ..intake.expectations import expectations_for
from ..intake.reception import Reception
from ..system.descriptors import own
from ..system.system import System

log = Logger()

#: Connections accepted in one turn of the reactor, each served before the next: what was accepted
#: dies with the worker; what waits in the kernel's queue is accepted by other workers.
BATCH = 4


#: As a number: Python's socket makes a member of an enumeration of it, each time.
_family = socket.SocketType.family.__get__


class Whose(Protocol):
    """The policy's decision (`policy.RequestPolicy.whose`)."""

    def __call__(self, head: Head | None, host: str, settled: bool) -> Verdict:
        """Decide where a request is served."""


@attrs.frozen
class ListeningSettings:
    """
    What listening needs to know.

    :ivar config: the configuration.
    :ivar needs_head: whether a request's head can matter to where it goes (`Router.needs_head`).
    :ivar http: whether the application speaks HTTP.
    """

    config: Config
    needs_head: bool
    http: bool


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


class Listening:
    """
    The listening sockets of a worker.

    :param listeners: the number of its `--listen` and the descriptor, for each listening socket;
        owned from here on. There may be none.
    :param settings: what is known of the clients.
    :param whose: the policy's decision.
    :param adopt: serves a connection here.
    :param give: gives a connection away.
    :param short: called when descriptors are short.
    :param system: the operating system.
    :ivar routes: how many connections were routed, by reason.
    """

    def __init__(
        self,
        listeners: Iterable[tuple[int, int]],
        settings: ListeningSettings,
        *,
        whose: Whose,
        adopt: Callable[[socket.socket, Handoff], None],
        give: Callable[[socket.socket, int, Handoff], None],
        short: Callable[[], None],
        system: System,
    ) -> None:
        self.routes: dict[How, int] = dict.fromkeys(How, 0)
        self._settings = settings
        self._whose = whose
        self._adopt = adopt
        self._give = give
        self._accepts = False
        self._leaving = False
        self.reception = _Reception(short, system, settings.config, self._place)
        self.reception.expectations = expectations_for(
            settings.config, settings.needs_head, settings.http
        )
        self.acceptors = [
            Acceptor(socket.socket(fileno=own(descriptor)), self.reception, BATCH, socket.socket)
            for _, descriptor in listeners
        ]

    def start(self) -> None:
        """Begin to accept."""
        self._accepts = True
        for acceptor in self.acceptors:
            acceptor.start()

    def stop(self, final: bool) -> None:
        """
        Accept no more: the worker is leaving.

        :param final: whether the whole cluster stops. Then connections in the backlog are accepted
            and served, even if their first request is incomplete; else they are left to other
            workers, and connections whose first request is incomplete are given back.
        """
        accepts, self._accepts, self._leaving = self._accepts, False, True
        if final and accepts:
            self._accept_all()
        for acceptor in self.acceptors:
            acceptor.close()
        if not final:
            for arrival in self.reception.take_waiting():
                self._send(arrival, FRONT_DESK, How.NEW, fresh=not arrival.proxied)

    def take(self, sock: socket.socket, handoff: Handoff) -> None:
        """
        Serve a connection that was handed here, or wait for its next request.

        An idle connection that another worker let go has no transport and no protocol here until
        its client speaks: thousands come at once when a worker leaves.  One whose first request is
        not complete, which the primary gives out when the cluster stops, is received as if it had
        just been accepted here.

        :param sock: the connection; owned from here on.
        :param handoff: what came with it.
        """
        # What brings bytes is not idle, which is told sooner than the stage.
        idle = not handoff.prefix and handoff.stage is Stage.IDLE
        if handoff.fresh:
            self.reception.receive(Arrival(sock, handoff.origin, handoff.prefix))
        elif idle and self._settings.http and not self._leaving:
            self.reception.wait(Arrival(sock, handoff.origin, idle=True, proxied=True))
        else:
            self._adopt(sock, handoff)

    def _accept_all(self) -> None:
        """
        Accept all connections in the backlog, and only then serve them.

        A client that is answered might connect again at once, and so on without an end.
        """
        arrivals: list[Arrival] = []
        self.reception.place = arrivals.append
        for acceptor in self.acceptors:
            acceptor.shut()
            acceptor.accept_all()
            acceptor.close()
        self.reception.place = self._place
        for arrival in arrivals:
            try:
                self._place(arrival)
            except Exception:
                log.failure("A connection could not be dealt with.")
                arrival.sock.close()

    @property
    def awaited(self) -> int:
        """How many connections there are whose first request is not complete."""
        return len(self.reception.fresh)

    def give_up_silent(self) -> None:
        """Close connections over which nothing has come: the worker is leaving."""
        for arrival in self.reception.take_silent():
            arrival.sock.close()

    def close(self) -> None:
        """Close connections whose first request has not arrived: the worker ends."""
        self.reception.close()

    @property
    def short(self) -> bool:
        """Whether no connection can be accepted at present for want of descriptors."""
        return any(acceptor.resting for acceptor in self.acceptors)

    def load(self) -> ListeningLoad | None:
        """Return what was done here so far; None if there is no socket."""
        if not self.acceptors:
            return None
        return ListeningLoad(
            accepted=sum(acceptor.accepted for acceptor in self.acceptors),
            waiting=self.reception.waiting,
            routes=[self.routes[how] for how in How],
            refusals=list(self.reception.refusals.items()),
        )

    def _place(self, arrival: Arrival) -> None:
        """Serve a connection here, or give it to the worker that its first request belongs to."""
        verdict = self._whose(arrival.head, arrival.origin.peer[0], settled=True)
        match verdict:
            case Keep(how):
                self.routes[how] += 1
                self._adopt(_whole_socket(arrival), _handoff(arrival, how))
            case Give(worker, how):
                self.routes[how] += 1
                self._send(arrival, worker, how)
            case GiveBack(how):  # the primary counts it
                self._send(arrival, FRONT_DESK, how)

    def _send(self, arrival: Arrival, place: int, how: How, fresh: bool = False) -> None:
        handoff = _handoff(arrival, how, hops=1, fresh=fresh)
        self._give(_whole_socket(arrival), place, handoff)


def _whole_socket(arrival: Arrival) -> socket.socket:
    sock = arrival.sock
    assert isinstance(sock, socket.socket)  # the acceptors here wrap them so
    return sock


def _handoff(arrival: Arrival, how: How, hops: int = 0, fresh: bool = False) -> Handoff:
    return Handoff(
        family=_family(arrival.sock),
        origin=arrival.origin,
        prefix=arrival.data,
        how=how,
        hops=hops,
        fresh=fresh,
    )
