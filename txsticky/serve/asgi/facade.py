"""asyncio protocols on transports of Twisted, for connections over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import attrs
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ...core.how import How
from .transport import GatedTransport

if TYPE_CHECKING:
    from ...tls.transport import SecureTransport

#: When a transport of Twisted resumes its producer, and when it pauses it, in bytes
#: (`twisted.internet.abstract.FileDescriptor.bufferSize`).
LIMITS = (0, 65536)


@implementer(IPushProducer)
class FacadeHost(Protocol):
    """
    One connection: Twisted's transport outside, asyncio's protocol inside.

    :param protocol: the protocol inside.
    :param entering: called with how the request was routed before the protocol gets anything; None
        if that is not asked for.
    """

    def __init__(
        self, protocol: asyncio.BaseProtocol, entering: Callable[[How], object] | None
    ) -> None:
        self.protocol: Any = protocol
        self.extra: dict[str, Any] = {"sslcontext": True}
        self._entering = entering

    # ------------------------------------------------------------ what Twisted says

    def connectionMade(self) -> None:
        """Connect the protocol."""
        outside = self.outside
        for name, address in (("peername", outside.getPeer()), ("sockname", outside.getHost())):
            if hasattr(address, "port"):
                self.extra[name] = (address.host, address.port)
        outside.registerProducer(self, True)
        self._inner = GatedTransport(self)
        self.protocol.connection_made(self._inner)

    def dataReceived(self, data: bytes) -> None:
        """Give the protocol bytes of the client."""
        if self._entering is not None:
            self._entering(self.outside.how)
        self.protocol.data_received(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Tell the protocol that the client has left."""
        protocol, lost = self.protocol, reason.value
        try:
            if isinstance(lost, Exception) and not isinstance(lost, ConnectionDone):
                protocol.connection_lost(lost)
                return
            try:
                protocol.eof_received()
            finally:
                protocol.connection_lost(None)
        finally:
            self._inner.over()

    def pauseProducing(self) -> None:
        """Tell the protocol that the client does not keep up."""
        self.protocol.pause_writing()

    def resumeProducing(self) -> None:
        """Tell the protocol that the client has caught up."""
        self.protocol.resume_writing()

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost, and `connectionLost` is called next."""

    # ------------------------------------------- what the protocol's transport asks

    @property
    def outside(self) -> SecureTransport:
        """The transport outside."""
        return cast("SecureTransport", self.transport)

    @property
    def gate(self) -> Any:
        """The gate of the transport outside."""
        return self.outside.gate

    @property
    def native(self) -> FacadeHost:
        """The host itself, which tells the buffer limits (`asgi.transport.BufferLimits`)."""
        return self

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Tell when the protocol is told to resume, and to pause."""
        return LIMITS

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: Twisted's limits stay."""

    def live(self) -> bool:
        """Whether the connection is open and not being closed."""
        return self.outside.live()

    def write(self, data: bytes) -> None:
        """Send to the client, unless the protocol has closed (`asyncio.Transport`)."""
        if self.outside.live():
            self.outside.write(data)

    def close(self) -> None:
        """Close for the protocol, after what it has written."""
        self.outside.loseConnection()

    def abort(self) -> None:
        """Close for the protocol at once."""
        self.outside.abortConnection()

    def unsent(self) -> int:
        """Bytes that are not in the kernel."""
        return self.outside.unsent()


@attrs.frozen
class FacadeFactory:
    """
    A factory of Twisted's that makes asyncio protocols.

    :param make: makes the protocol inside.
    :param entering: see `FacadeHost`.
    """

    make: Callable[[], asyncio.BaseProtocol]
    entering: Callable[[How], object] | None

    def buildProtocol(self, address: object) -> FacadeHost:
        """Make the protocol for a connection."""
        return FacadeHost(self.make(), self.entering)
