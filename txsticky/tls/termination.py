"""
The door: connections over TLS, in the worker that ends it.

::

    socket - TlsLayer - SecureConnection - SecureTransport - the application
                                                        or - Relay - another worker

The connection stays; what serves it changes.  At each request boundary, from the first on, the gate
asks whose the request is.  If it is this worker's, the application serves it through a
`SecureTransport`, with nothing in between.  If not, the transport in use ends, for the protocol in
it as if an idle client had left, and the next one has a `Relay` in the application's place.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure

from ..core.how import How
from ..core.http.conversation import Exchange
from ..core.http.head import Head
from ..core.http.refusal import refusal
from ..core.http.steps import Known
from ..core.lifecycle.timing import NEXT_REQUEST
from ..core.messages.handoff import Handoff
from ..core.messages.origin import NOWHERE, Origin
from ..system.deadlines import Deadlines
from ..system.system import System
from ..transport.gate import Gate
from ..worker.policy import FRONT_DESK, WorkerDesk
from .certificates import Certificates
from .relay import Relay
from .transport import SecureTransport

if TYPE_CHECKING:
    from ..worker.worker import Worker

#: Seconds for which a client may answer the close of TLS before the connection is closed regardless
#: (RFC 8446, section 6.1, does not want it waited for).
LINGER = 2.0

_LAST = b"Connection: close\r\n"


class TlsLayer(BufferingTLSTransport):
    """
    TLS on one connection. The handshake has to come in time, and for HTTP the first head with it;
    and the end comes whatever the client does.

    :ivar deadlines: where it waits.
    :ivar connection: what the worker keeps of the connection.
    """

    deadlines: Deadlines
    connection: Any
    _linger: Any = None
    _cut = False

    def makeConnection(self, transport: Any) -> None:
        """The TCP connection is there (`IProtocol`)."""
        inside = self.wrappedProtocol
        self.connection.made(inside if isinstance(inside, SecureConnection) else self)
        self.deadlines.add(self)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come (`IProtocol`)."""
        super().dataReceived(data)
        inside = self.wrappedProtocol
        outer: Any = self.transport
        if outer.disconnecting and isinstance(inside, SecureConnection):
            # TLS is over: the client has closed it, or broken it. What was encrypted before is
            # still to be sent, and a producer that was paused for it would keep it from ending.
            inside.left()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The TCP connection is lost (`IProtocol`)."""
        self.deadlines.discard(self)
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        closed = self.getHandle().get_shutdown() & SSL.RECEIVED_SHUTDOWN
        if not closed and reason.check(error.ConnectionDone):
            # The client has closed TCP alone: what it has sent need not be all (RFC 8446, 6.1).
            reason = Failure(error.ConnectionLost())
        super().connectionLost(reason)

    def closed(self) -> None:
        """It is to wait no more, and ends (`deadlines.Waiter`)."""
        self.abortConnection()

    # ------------------------------------------------------------------------ the end

    def loseConnection(self) -> None:
        """
        Close after what is written, and once no producer is registered any more (`ITransport`).

        TLS is closed first. The client may leave that unanswered (RFC 8446, section 6.1).
        """
        super().loseConnection()
        self._half_close()
        self.linger()

    def unregisterProducer(self) -> None:
        """The producer has come to its end (`IConsumer`): what waited for it is closed."""
        super().unregisterProducer()
        self._half_close()

    def _half_close(self) -> None:
        """
        End what is sent over TCP right behind the close of TLS: there are clients that look for
        nothing else.
        """
        outer: Any = self.transport
        if self.disconnecting and outer.live() and self._closed_tls():
            outer.end_output()

    def _closed_tls(self) -> bool:
        return self._cut or bool(self.getHandle().get_shutdown() & SSL.SENT_SHUTDOWN)

    def cut(self) -> None:
        """
        Close TCP after what is written, but not TLS, so that it cannot look whole (RFC 9112,
        section 9.8).
        """
        outer: Any = self.transport
        if outer.live():
            self._cut = True
            outer.resumeProducing()  # or what the client still sends would reset what it is to get
            outer.end_output()
            self.linger()

    def linger(self) -> None:
        """Close TCP before long, though the client may not have closed its side of TLS."""
        outer: Any = self.transport
        if self._linger is None and outer.connected:
            reactor = outer.reactor
            self._linger = reactor.callLater(LINGER, self._linger_ends, outer.unsent())

    def _linger_ends(self, unsent: int) -> None:
        """
        The client has had its time.

        :param unsent: what was unsent when the wait began.
        """
        self._linger = None
        outer: Any = self.transport
        if outer.disconnecting and outer.unsent() == unsent:
            outer.abortConnection()  # the client has closed TLS, and takes no more
        elif outer.disconnecting or not self._closed_tls():
            self.linger()
        else:
            outer.loseConnection()

    # ------------------------------------------------------------------- the deadline

    def expired(self) -> None:
        """The time is over."""
        self.deadlines.discard(self)
        inside = self.wrappedProtocol
        if self.getHandle().get_peer_finished() is None:
            self.abortConnection()
        elif isinstance(inside, SecureConnection):
            inside.expired()


@attrs.frozen
class _Sealed:
    """Stands where a factory is wanted, for one connection."""

    door: SecureDoor
    connection: Any

    def buildProtocol(self, address: Any) -> TlsLayer | None:
        return self.door.build(address, self.connection)


class SecureDoor:
    """
    Where a worker ends TLS.

    :param worker: whose door it is.
    :param reactor: the reactor that serves.
    :param certificates: what it shows.
    """

    def __init__(self, worker: Worker, reactor: Any, certificates: Certificates) -> None:
        self.here = worker.id
        self.desk: WorkerDesk = worker.desk
        self.reactor = reactor
        self.serving = worker.serving
        self._worker = worker
        self._deadlines = Deadlines(System(reactor, reactor.seconds), worker.config.head_timeout)
        self._factory = TLSMemoryBIOFactory(certificates, False, worker.serving.factory, reactor)

    def factory_for(self, connection: Any) -> _Sealed:
        """Make what builds the protocol for one connection."""
        return _Sealed(self, connection)

    def build(self, address: Any, connection: Any) -> TlsLayer | None:
        """Make the protocol for a connection; None if the application refuses it."""
        if self.serving.http:
            inside: Any = SecureConnection(self, connection)
        else:
            inside = self.serving.factory.buildProtocol(address)
            if inside is None:
                return None
        layer = TlsLayer(self._factory, inside)
        layer.deadlines, layer.connection = self._deadlines, connection
        return layer

    def exchange(self, first_is_ours: bool) -> Exchange:
        """Make a follower for a conversation."""
        return self._worker.exchange(first_is_ours)

    def give(self, sock: socket.socket, place: int, handoff: Handoff) -> None:
        """Hand one end of a pipe to the place."""
        self._worker.give(sock, place, handoff)


class SecureConnection(Protocol):
    """
    A client behind TLS, and the desk that its gates ask.

    :param door: where it came in.
    :param connection: what the worker keeps of it.
    """

    def __init__(self, door: SecureDoor, connection: Any) -> None:
        self.door = door
        self.handoff: Handoff = connection.handoff
        #: How the last request was routed.
        self.how = self.handoff.how
        #: Who serves it at present: a worker's id, or the front desk if that is to find out.
        self.place = door.here
        #: The last request has been answered, and was told so: what follows it is dropped.
        self.last = False
        #: It is being closed.
        self.over = False
        #: The gate is to leave as soon as nothing is under way: for good.
        self.draining = False
        self._announced = False
        self._inside: SecureTransport

    # ---------------------------------------------------------------- what TLS says

    def connectionMade(self) -> None:
        """TLS is set up; the handshake begins."""
        outer = self.outer
        if outer.socket.family != socket.AF_UNIX:
            outer.setTcpNoDelay(True)
        self._inside = SecureTransport(self, first_is_ours=False)

    def dataReceived(self, data: bytes) -> None:
        """Decrypted bytes have come."""
        if self._inside.live():
            self._inside.gate.arrived(data)

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is over."""
        self.connected = 0
        self._inside.lost(reason)

    @property
    def layer(self) -> Any:
        """The TLS layer."""
        return self.transport

    @property
    def outer(self) -> Any:
        """The transport that carries TLS."""
        return self.layer.transport

    # ------------------------------------------------------- what the gate asks: Desk

    @property
    def known(self) -> dict[bytes, Known]:
        """Requests that are served here, by this worker's application, with nothing added."""
        desk = self.door.desk
        return {} if self.place != self.door.here or desk.draining else desk.known

    @property
    def unconfirmed(self) -> int:
        """How many bindings the primary has not confirmed."""
        return self.door.desk.unconfirmed

    def whose(self, head: Head, host: str) -> tuple[int | None, How]:
        """The place that a request belongs to, if it is another than where the last was served."""
        place, self.how = self.door.desk.whose(head, host, settled=True)
        wanted = self.door.here if place is None else place
        return (None if wanted == self.place != FRONT_DESK else wanted), self.how

    def extra_headers(self, head: Head, host: str, secure: bool, how: How) -> bytes:
        """The sticky cookie, unless another worker adds its own; and whether it is the last."""
        desk = self.door.desk
        lines = desk.extra_headers(head, host, secure, how) if self.place == self.door.here else b""
        if desk.draining and head.header(b"upgrade") is None:
            self._announced = True
            lines += _LAST
        return lines

    def when_confirmed(self, action: Callable[[], None]) -> None:
        """Call once nothing is unconfirmed."""
        self.door.desk.when_confirmed(action)

    def request_done(self) -> None:
        """A response is complete."""
        if self.place == self.door.here:
            self.door.desk.request_done()
        if self._announced:
            self.last = True
            self._inside.later(0, self._inside.gate.finish)

    # ------------------------------------------------------------ who serves it

    def make_protocol(self) -> Any:
        """Make what serves the next requests: the application's protocol, or a relay."""
        if self.place != self.door.here:
            return Relay(self.door.reactor, self._give)
        return self.door.serving.factory.buildProtocol(self.outer.getPeer())

    def _give(self, sock: socket.socket, data: bytes) -> None:
        local = self.outer.getHost()
        host = (local.host, local.port) if hasattr(local, "port") else NOWHERE
        handoff = attrs.evolve(
            self.handoff.moved(data, True, self.how),
            family=socket.AF_UNIX,
            origin=Origin(self.handoff.origin.peer, host, secure=True),
        )
        self.door.give(sock, self.place, handoff)

    def change(self, place: int, held: bytes) -> None:
        """The next request belongs to `place`; `held` is what has come of it."""
        if self.draining and not held:
            self.hang_up()
            return
        self.place = place
        self._inside = SecureTransport(self, first_is_ours=True)
        self._inside.start_reading()
        self._inside.gate.arrived(held)

    # ------------------------------------------------------------------- the end

    def expired(self) -> None:
        """The first request should have come by now."""
        if self._inside.protocol is not None or not self._inside.live():
            return
        if self._inside.gate.exchange.held:
            self._inside.send(refusal(408, "The request head did not come in time."))
        self._inside.end()

    def left(self) -> None:
        """The client has closed TLS, of which there is no half: it wants nothing any more."""
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
    def gate_now(self) -> Any:
        """The gate that watches it at present; None before there is one."""
        inside: SecureTransport | None = getattr(self, "_inside", None)
        return None if inside is None else inside.gate

    @property
    def protocol(self) -> Any:
        """What serves it."""
        return self._inside.protocol

    @property
    def gate(self) -> Gate:
        """The gate in what serves it."""
        return self._inside.gate

    def live(self) -> bool:
        """Whether it is open and not being closed."""
        return self._inside.live()

    def loseConnection(self) -> None:
        """Close after what is written."""
        self._inside.loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        self.over = True
        self.layer.abortConnection()

    def let_go(self, final: bool) -> bool:
        """
        The worker is leaving. Whether the connection will end by itself, or has to stay until the
        worker goes because another one serves it.

        :param final: the whole cluster stops.
        """
        if self._inside.gate.exchange.tunnel:
            return self.place != self.door.here
        # A client that is still in its handshake, or has just come out of it, is about to ask.
        if final and self._inside.protocol is not None:
            self._leave_when_idle()
        else:
            self._inside.later(NEXT_REQUEST, self._leave_when_idle)
        return True

    def _leave_when_idle(self) -> None:
        self.draining = True
        self._inside.gate.drain()
