"""One connection over TLS: which worker serves its requests, and how it ends."""

from __future__ import annotations

import socket
import typing
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Protocol

from ..core.how import How
from ..core.http.conversation import Conversation
from ..core.http.head import Head
from ..core.http.refusal import refusal
from ..core.http.response import LAST, Additions
from ..core.http.steps import Known
from ..core.lifecycle.timing import NEXT_REQUEST
from ..core.messages.handoff import Handoff
from ..core.messages.origin import NOWHERE, Origin
from ..core.routing.verdict import FRONT_DESK, KEEP, Give, Verdict, place_of
from ..system.system import http_date
from ..transport.gate import Gate
from ..transport.policy import Policy
from .relay import Relay
from .transport import SecureTransport


class SettledPolicy(Policy, typing.Protocol):
    """A worker's policy, to which a gate over TLS says that its connection cannot move."""

    def whose(self, head: Head, host: str, settled: bool = False) -> Verdict:
        """
        Decide where a request is served.

        :param settled: whether the connection cannot move, so that a new session begins here.
        """


@attrs.frozen(kw_only=True)
class TlsServices:
    """
    What connections over TLS need of their worker.

    :ivar here: the worker's id.
    :ivar policy: the worker's policy.
    :ivar factory: makes the application's protocols.
    :ivar converse: makes what follows a new conversation; `first_is_ours` says whether its first
        request was decided about already.
    :ivar follow: the same for requests that another worker serves.
    :ivar give: gives one end of a relay to a worker: the socket, the place, what travels with it.
    :ivar reactor: the reactor that serves.
    """

    here: int
    policy: SettledPolicy
    factory: IProtocolFactory
    converse: Callable[..., Conversation]
    follow: Callable[..., Conversation]
    give: Callable[[socket.socket, int, Handoff], None]
    reactor: Any


class SecureConnection(Protocol):
    """
    A client behind TLS, and the policy that its gates ask.

    :param services: what the connection needs of its worker.
    :param handoff: what came with the connection.
    :ivar how: how the last request was routed.
    :ivar place: the worker that serves the connection at present, or the front desk if the primary
        is to choose that worker.
    :ivar last: whether the last request has been answered, and was told so: what follows it is
        dropped.
    :ivar over: whether the connection is being closed.
    :ivar draining: whether the gate is to leave for good as soon as nothing is under way.
    :ivar bindings: those that the worker makes.
    :ivar movements: None: TLS cannot leave the process that holds its keys, nor a WebSocket in it.
    """

    movements = None

    def __init__(self, services: TlsServices, handoff: Handoff) -> None:
        self.how = handoff.how
        self.place = services.here
        self.last = False
        self.over = False
        self.draining = False
        self.bindings = services.policy.bindings
        self._services = services
        self._handoff = handoff
        self._announced = False
        self._inside: SecureTransport

    # ---------------------------------------------------------------- what TLS says

    def connectionMade(self) -> None:
        """Begin: TLS is set up, and the handshake begins (`IProtocol`)."""
        outer = self.outer
        if outer.socket.family != socket.AF_UNIX:
            outer.setTcpNoDelay(True)
        self._inside = self._make_inside(first_is_ours=False)

    def dataReceived(self, data: bytes) -> None:
        """Have the gate see decrypted bytes (`IProtocol`)."""
        if self._inside.live():
            self._inside.gate.arrived(data)

    def connectionLost(self, reason: Any = None) -> None:
        """End what serves the connection, which is over (`IProtocol`)."""
        self._inside.lost(reason)

    @property
    def layer(self) -> Any:
        """The TLS layer."""
        return self.transport

    @property
    def outer(self) -> Any:
        """The transport that carries TLS."""
        return self.layer.transport

    # ----------------------------------------------------- what the gate asks: policy

    @property
    def known(self) -> dict[bytes, Known]:
        """Requests that are served here, by this worker's application, with nothing added."""
        policy = self._services.policy
        return {} if self.place != self._services.here or policy.draining else policy.known

    @property
    def given(self) -> dict[bytes, Give]:
        """None: here it is asked for each request, for a relay may have to begin or to end."""
        return {}

    @property
    def hosts(self) -> dict[str, Verdict]:
        """Where clients' addresses lead to."""
        return self._services.policy.hosts

    def whose(self, head: Head, host: str) -> Verdict:
        """Decide whether the worker that served the last request serves this one as well."""
        services = self._services
        verdict = services.policy.whose(head, host, settled=True)
        self.how = how = verdict.how
        wanted = place_of(verdict, services.here)
        if wanted == self.place != FRONT_DESK:
            return KEEP[how]
        return Give(wanted, how) if wanted != FRONT_DESK else verdict

    def additions(
        self, head: Head, host: str, secure: bool, how: How, first: bool
    ) -> Additions | None:
        """
        Tell what is to be done with the response.

        What the worker's policy wants, unless another worker serves it, whose policy is asked
        there; and it is said that the response is the last, if it is.
        """
        policy = self._services.policy
        wanted = None
        if self.place == self._services.here:
            wanted = policy.additions(head, host, secure, how, first)
        if policy.draining and head.header(b"upgrade") is None:
            self._announced = True
            return lambda status, fields: (wanted(status, fields) if wanted else b"") + LAST
        return wanted

    def request_done(self) -> None:
        """Count a response that is complete; after the last one the connection closes."""
        if self.place == self._services.here:
            self._services.policy.request_done()
        if self._announced:
            self.last = True
            self._inside.later(0, self._inside.gate.finish)

    # ------------------------------------------------------ what serves it

    def make_protocol(self) -> Any:
        """Make what serves the next requests: the application's protocol, or a relay."""
        services = self._services
        if self.place != services.here:
            return Relay(services.reactor, self._give)
        return services.factory.buildProtocol(self.outer.getPeer())

    def _give(self, sock: socket.socket, data: bytes) -> None:
        local = self.outer.getHost()
        host = (local.host, local.port) if hasattr(local, "port") else NOWHERE
        handoff = attrs.evolve(
            self._handoff.moved(data, True, self.how),
            family=socket.AF_UNIX,
            origin=Origin(self._handoff.origin.peer, host, secure=True),
        )
        self._services.give(sock, self.place, handoff)

    def change(self, place: int, held: bytes) -> None:
        """
        Have another worker serve the connection.

        :param place: the id of that worker, or `FRONT_DESK`.
        :param held: what has come of the next request.
        """
        if self.draining and not held:
            self.hang_up()
            return
        self.place = place
        self._inside = self._make_inside(first_is_ours=True)
        self._inside.start_reading()
        self._inside.gate.arrived(held)

    def _make_inside(self, first_is_ours: bool) -> SecureTransport:
        services = self._services
        converse = services.converse if self.place == services.here else services.follow
        return SecureTransport(
            self,
            self.layer,
            converse(first_is_ours=first_is_ours),
            client=self._handoff.origin.peer[0],
        )

    # ------------------------------------------------------------------- the end

    def expired(self) -> None:
        """Close if the first request has not come, for its time is over."""
        if self._inside.protocol is not None or not self._inside.live():
            return
        if self._inside.gate.exchange.held:
            late = "The request head did not come in time."
            self._inside.send(refusal(408, late, http_date()))
        self._inside.end()

    def left(self) -> None:
        """End: the client has closed TLS, which has no half-close, and wants nothing any more."""
        self._inside.end()

    def hang_up(self) -> None:
        """Close after what is written."""
        if self.over:
            return
        self.over = True
        if self.outer.disconnecting:  # an alert is on its way, which a close would undo
            self.layer.linger()
        else:
            self.outer.resumeProducing()  # so that the client's own close is seen
            self.layer.loseConnection()

    # ---------------------------------------------------- what the worker says

    @property
    def protocol(self) -> Any:
        """The protocol that serves the connection."""
        return self._inside.protocol

    @property
    def gate(self) -> Gate:
        """The gate in the transport of that protocol; there is none before TLS is set up."""
        return self._inside.gate

    def live(self) -> bool:
        """Whether the connection is open and not being closed."""
        return self._inside.live()

    def loseConnection(self) -> None:
        """Close after what is written."""
        self._inside.loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        self.over = True
        self.layer.abortConnection()

    def let_go(self, at_once: bool) -> bool:
        """
        End as soon as nothing is under way, for the worker is leaving.

        :param at_once: whether a client that was served already may not ask once more.
        :returns: whether the connection will end by itself, or has to stay until the worker goes
            because another one serves it.
        """
        if self._inside.gate.exchange.tunnel:
            return self.place != self._services.here
        # A client that is still in its handshake, or has just come out of it, is about to ask.
        if at_once and self._inside.protocol is not None:
            self._leave_when_idle()
        else:
            self._inside.later(NEXT_REQUEST, self._leave_when_idle)
        return True

    def _leave_when_idle(self) -> None:
        self.draining = True
        self._inside.gate.drain()
