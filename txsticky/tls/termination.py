"""
TLS termination: connections over TLS, in the worker that ends it.

::

    socket - TlsLayer - SecureConnection - SecureTransport - the application
                                                        or - Relay - another worker

The connection stays; what serves it changes.  At each request boundary, from the first on, the gate
asks where the request belongs.  If it is this worker's, the application serves it through a
`SecureTransport`, with nothing in between.  If not, the transport in use ends, for the protocol in
it as if an idle client had left, and the next one has a `Relay` in the application's place.
"""

from __future__ import annotations

from typing import Any

import attrs
from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure

from ..system.deadlines import Deadlines
from ..system.system import System
from .certificates import Certificates
from .connection import SecureConnection, TlsServices

#: Seconds for which a client may answer the close of TLS before the connection is closed regardless
#: (RFC 8446, section 6.1, does not want it waited for).
LINGER = 2.0


class TlsLayer(BufferingTLSTransport):
    """
    TLS on one connection.

    The handshake has to come in time, and for HTTP the first head with it; and the connection ends
    whatever the client does.

    :ivar deadlines: where the connection waits.
    :ivar connection: what the worker keeps of the connection.
    """

    deadlines: Deadlines
    connection: Any
    _linger: Any = None
    _cut = False

    def makeConnection(self, transport: Any) -> None:
        """Begin TLS: the TCP connection is there (`IProtocol`)."""
        inside = self.wrappedProtocol
        self.connection.made(inside if isinstance(inside, SecureConnection) else self)
        self.deadlines.add(self)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Decrypt bytes that have come (`IProtocol`)."""
        super().dataReceived(data)
        inside = self.wrappedProtocol
        outer: Any = self.transport
        if outer.disconnecting and isinstance(inside, SecureConnection):
            # TLS is over: the client has closed it, or broken it. What was encrypted before is
            # still to be sent, and a producer that was paused for it would keep it from ending.
            inside.left()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End TLS: the TCP connection is lost (`IProtocol`)."""
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
        """Close the connection, which is to wait no more (`deadlines.Waiter`)."""
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
        """Close what waited for the producer, which has come to its end (`IConsumer`)."""
        super().unregisterProducer()
        self._half_close()

    def _half_close(self) -> None:
        """
        End what is sent over TCP right behind the close of TLS.

        There are clients that look for nothing else.
        """
        outer: Any = self.transport
        if self.disconnecting and outer.live() and self._closed_tls():
            outer.end_output()

    def _closed_tls(self) -> bool:
        return self._cut or bool(self.getHandle().get_shutdown() & SSL.SENT_SHUTDOWN)

    def cut(self) -> None:
        """
        Close TCP after what is written, but not TLS.

        Without the close of TLS, what was sent cannot look whole (RFC 9112, section 9.8).
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
        Close, or wait on if the client still takes bytes.

        :param unsent: the bytes that were unsent when the wait began.
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
        """End the connection: its time is over (`deadlines.Waiter`)."""
        self.deadlines.discard(self)
        inside = self.wrappedProtocol
        if self.getHandle().get_peer_finished() is None:
            self.abortConnection()
        elif isinstance(inside, SecureConnection):
            inside.expired()


@attrs.frozen
class _Sealed:
    """Stands where a factory is wanted, for one connection."""

    terminator: TlsTerminator
    connection: Any

    def buildProtocol(self, address: Any) -> TlsLayer | None:
        return self.terminator.build(address, self.connection)


class TlsTerminator:
    """
    Ends TLS in a worker.

    :param services: what the connections need of the worker.
    :param http: whether the application speaks HTTP, so that gates look for requests.
    :param certificates: what clients are shown.
    :param head_timeout: seconds for the handshake, and for HTTP for the first head with it.
    :param system: the clock, and the reactor that serves.
    """

    def __init__(
        self,
        services: TlsServices,
        http: bool,
        certificates: Certificates,
        head_timeout: float,
        system: System,
    ) -> None:
        self._services = services
        self._http = http
        self._deadlines = Deadlines(system, head_timeout)
        self._factory = TLSMemoryBIOFactory(certificates, False, services.factory, services.reactor)

    def factory_for(self, connection: Any) -> Any:
        """
        Make what builds the protocol for one connection.

        :param connection: what the worker keeps of the connection.
        """
        return _Sealed(self, connection)

    def build(self, address: Any, connection: Any) -> TlsLayer | None:
        """Make the protocol for a connection; None if the application refuses it."""
        if self._http:
            handoff = connection.handoff.begun()  # the connection may last for days
            inside: Any = SecureConnection(self._services, handoff)
        else:
            inside = self._services.factory.buildProtocol(address)
            if inside is None:
                return None
        layer = TlsLayer(self._factory, inside)
        layer.deadlines, layer.connection = self._deadlines, connection
        return layer
