"""
What a protocol behind TLS takes for its transport, with a gate in it.

A transport lasts for as long as the requests of a connection are served by the same protocol; then
the next transport takes its place (see `connection`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IConsumer, IPushProducer, ISSLTransport, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from ..core.how import How
from ..core.http.conversation import Conversation
from ..core.http.steps import Begin, Content
from ..system.descriptors import quiet
from ..transport.gate import Gate
from ..transport.host import Cancelable
from ..transport.policy import Policy
from ..transport.withheld import hold_producer


class Owner(Policy, Protocol):
    """
    The connection that a transport is for, and the policy that its gate asks.

    :ivar how: how the last request was routed.
    :ivar over: whether the connection is being closed.
    :ivar last: whether the last request was answered: what follows it is dropped.
    """

    how: How
    over: bool
    last: bool

    def make_protocol(self) -> Any:
        """Make what serves the next requests; None if the application refuses the client."""

    def change(self, place: int, held: bytes) -> None:
        """Let `place` serve the next request, of which `held` has come."""

    def hang_up(self) -> None:
        """Close the connection after what is written."""


class SecureMixin:
    """What tells a protocol that its client came over TLS, whichever worker ends that."""

    def __conform__(self, interface: Any) -> Any:
        """
        Adapt to `ISSLTransport`, which is what makes a request of twisted.web secure.

        It is not declared: autobahn would look for the state of TLS in here, and fail.
        """
        return self if interface is ISSLTransport else None

    def settled(self, messages: int) -> bool:
        """True: no WebSocket moves from here (`transport.host.Host`)."""
        return True

    def getPeerCertificate(self) -> None:
        """Return None: clients are not asked for certificates (`ISSLTransport`)."""

    def getTcpNoDelay(self) -> bool:
        """Return True: it is on for every connection over TLS (`ITCPTransport`)."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Leave it on (`ITCPTransport`)."""


class _Within:
    """What a transport within TLS knows from its layer, and from what carries that."""

    _layer: Any
    _outer: Any

    def getPeer(self) -> Any:
        """Return the address of the client (`ITransport`)."""
        return self._outer.getPeer()

    def getHost(self) -> Any:
        """Return the address that the client connected to (`ITransport`)."""
        return self._outer.getHost()

    def getHandle(self) -> Any:
        """Return pyOpenSSL's connection (`ISystemHandle`)."""
        return self._layer.getHandle()

    def getTcpKeepAlive(self) -> bool:
        """Tell whether TCP asks an idle client for a sign of life (`ITCPTransport`)."""
        return bool(self._outer.getTcpKeepAlive())

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Have TCP ask an idle client for a sign of life, or not (`ITCPTransport`)."""
        self._outer.setTcpKeepAlive(enabled)


@implementer(ITransport, IPushProducer, IConsumer)
class SecureTransport(_Within, SecureMixin):
    """
    What the protocol inside takes for its transport, with a gate in it (`transport.host.Host`).

    :param owner: the connection that the transport is for.
    :param layer: the TLS layer of the connection.
    :param conversation: follows the requests that are served through this transport.
    :param client: the address of the client.
    """

    protocol: Any = None

    def __init__(self, owner: Owner, layer: Any, conversation: Conversation, client: str) -> None:
        self.connected = True
        self.how: How = owner.how
        #: None once the connection is lost.
        self._connection: Any = owner
        self._layer = layer
        self._outer = layer.transport
        self._producing = self._paces = self._given = False
        self.gate = Gate(self, owner, conversation, client, secure=True)

    # ----------------------------------------------- what the protocol inside does

    @property
    def disconnecting(self) -> bool:
        """Whether the connection is being closed, or is over."""
        return not self.live()

    def write(self, data: bytes) -> None:
        """Send to the client."""
        if data and self.connected and (data := self.gate.wrote(data)):
            self._layer.write(data)

    def writeSequence(self, iovec: Any) -> None:
        """Send the pieces."""
        self.write(b"".join(iovec))

    def together(self, action: Callable[[], object]) -> None:
        """Do something; what it writes leaves together, as TLS has it anyway."""
        action()

    def loseConnection(self) -> None:
        """Close after what was written."""
        if self.connected and self.gate.may_close():
            self.hang_up()

    #: TLS is closed as a whole.
    loseWriteConnection = loseConnection

    def abortConnection(self) -> None:
        """Close at once."""
        if self.connected:
            self._connection.over = True
            self._layer.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let the client's pace set that of `producer`."""
        if not self.connected:
            producer.stopProducing()
            return
        self._layer.registerProducer(producer, streaming)
        self._producing = True
        # A producer that is there before the first byte is not the body of a response.
        self._paces = streaming and not self._given

    def unregisterProducer(self) -> None:
        """Let the producer go, which has come to its end."""
        if self._producing:
            self._producing = False
            self._layer.unregisterProducer()

    def pauseProducing(self) -> None:
        """Read nothing from the client."""
        if self.connected:
            self.gate.pause()

    def resumeProducing(self) -> None:
        """Read from the client again."""
        if self.live():
            self.gate.resume()

    stopProducing = loseConnection

    def unfinished(self, cleanly: bool) -> bool:
        """
        Whether a response is under way that has not come to its end.

        :param cleanly: whether its sender has closed; that is the end of one that has no other.
        """
        conversation = self.gate.exchange
        return conversation.unfinished if cleanly else conversation.request_open

    def cut(self) -> None:
        """
        Close after what was written, but without the close of TLS.

        This shows that what has come is not all there is (RFC 9112, section 9.8).
        """
        if self.connected and not self._connection.over:
            self._connection.over = True
            # TLS keeps what is written until the next turn of the reactor; this is the turn after.
            self.later(0, self._cut_soon)

    def _cut_soon(self) -> None:
        self.later(0, self._layer.cut)

    # ------------------------------------------------------ what the gate asks: Host

    def deliver(self, data: bytes) -> None:
        """Give bytes to the protocol, which is made when there are the first for it."""
        if self._has_protocol():
            self.protocol.dataReceived(data)

    def tell(self, step: Begin | Content) -> None:
        """Tell the protocol, which takes events and is made for the first, what has come."""
        if self._has_protocol():
            step.tell(self.protocol)

    def _has_protocol(self) -> bool:
        """Whether there is a protocol that takes what comes; it is made if there is none yet."""
        if not self.connected or self._connection.last:
            return False
        if self.protocol is None:
            self.protocol = self._connection.make_protocol()
            if self.protocol is None:  # the factory refuses the client
                self.abortConnection()
                return False
            self.protocol.makeConnection(self)
        if self.connected:
            self._given = True
        return self.connected

    def live(self) -> bool:
        """Whether the connection is open and not being closed."""
        return self.connected and not self._connection.over and self._outer.live()

    def stop_reading(self) -> None:
        """Leave the client's bytes in the kernel."""
        self._outer.pauseProducing()

    def start_reading(self) -> None:
        """Read the client's bytes again."""
        self._outer.resumeProducing()

    def send(self, data: bytes) -> None:
        """Write to the client."""
        self._layer.write(data)

    def withholds(self, size: int) -> None:
        """Have the producer, which the outer transport paces, wait while so much is withheld."""
        hold_producer(self._outer, size)

    def later(self, seconds: float, action: Callable[[], None]) -> Cancelable:
        """Call `action` from the reactor, if the connection is still there."""
        outer = self._outer
        call: Cancelable = outer.reactor.callLater(
            seconds, lambda: outer.guarded(action) if outer.connected else None
        )
        return call

    def unsent(self) -> int:
        """Bytes of output that are not in the kernel."""
        return int(self._outer.unsent())

    def passed(self) -> int:
        """Bytes of output that have entered the kernel so far."""
        return int(self._outer.passed())

    def severed(self) -> bool:
        """Whether the kernel knows that the client is gone."""
        return bool(self._outer.severed())

    def quiet(self) -> float:
        """Seconds for which no data has gone either way."""
        return quiet(self._outer.socket)

    def flush(self, callback: Callable[[], None]) -> None:
        """Call back if still open: the connection itself stays, so its output may wait."""
        if self.connected:
            callback()

    def guarded(self, action: Callable[[], None]) -> None:
        """Call `action`; the connection ends if that fails."""
        self._outer.guarded(action)

    def depart(self, place: int, held: bytes) -> None:
        """End, and let `place` serve the next request."""
        try:
            self._leave(Failure(ConnectionDone()))
        finally:
            self._connection.change(place, held)

    def hang_up(self) -> None:
        """
        Close the connection after what is written.

        TLS waits for a producer until it is unregistered. One that only keeps the protocol to the
        client's pace may never be: asyncio's protocols know no such call, and the channel that a
        WebSocket has taken the place of does not get to it.
        """
        conversation = self.gate.exchange
        over = self._connection.last or not (conversation.request_open or conversation.tunnel)
        if over and not self._paces:
            self.unregisterProducer()  # nothing more is to come from it
        self._connection.hang_up()
        if self._producing and self._paces:
            self._outer.when_sent(self.unregisterProducer)

    def half_close(self) -> None:
        """Close: TLS is closed as a whole, and the client has time to do the same."""
        self.hang_up()

    def gone(self) -> None:
        """Close at once, also if the protocol has left already."""
        self._connection.over = True
        self._layer.abortConnection()

    # -------------------------------------------------------------------- the end

    def end(self) -> None:
        """Close the connection; for the protocol the client has left."""
        if self.connected:
            self.gate.closed()
            try:
                self._leave(Failure(ConnectionDone()))
            finally:
                self._connection.hang_up()

    dismiss = end  # TLS is closed in its own way (`transport.host.Host`)

    def lost(self, reason: Any) -> None:
        """Let the connection go, which is lost (see `transport.nowhere`)."""
        try:
            if self.connected:
                self.gate.closed()
                self._leave(reason)
        finally:
            self._connection = None

    def _leave(self, reason: Any) -> None:
        self.connected = False
        self.unregisterProducer()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(reason)
