"""
The pipe: how a request that came over TLS reaches another worker.

TLS cannot leave the process that holds its keys.  So the worker that has them makes a socket pair,
gives one end away like any other connection, and passes the decrypted bytes on.  `Relay` is this
worker's end; `RelayedServer` is what the other end is, wherever it is served.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..core.http.refusal import refusal
from ..system.system import http_date
from ..transport.adopt import begin, peer_address
from ..transport.gated import GatedUNIXServer
from ..transport.movable import MovableUNIXServer
from .transport import SecureMixin

log = Logger()


@implementer(IPushProducer)
class Relay(Protocol):
    """
    Serves a client by passing its bytes on, both ways, each way only as fast as they are taken.

    Its transport has `unfinished` and `cut`, as `transport.SecureTransport`.

    :param reactor: the reactor.
    :param give: takes one end of the pair and the first bytes; called with the first bytes.
    """

    def __init__(self, reactor: Any, give: Callable[[socket.socket, bytes], None]) -> None:
        self._reactor = reactor
        self._give = give
        self._far: _FarEnd | None = None

    def dataReceived(self, data: bytes) -> None:
        """Pass on bytes that have come from the client (`IProtocol`)."""
        if self._far is not None:
            self._far.write(data)
        else:
            self._open(data)

    def _open(self, data: bytes) -> None:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            log.error("A request cannot be passed on: {reason}", reason=error.strerror)
            self._write(refusal(503, "The request cannot be passed on.", http_date(), 1))
            self._close()
            return
        self._far = far = _FarEnd(self)
        pipe = MovableUNIXServer(ours, far, "", None, 0, self._reactor)
        begin(pipe, b"")
        self.transport.registerProducer(pipe, True)  # type: ignore[union-attr]
        pipe.registerProducer(self, True)
        self._give(theirs, data)

    def pauseProducing(self) -> None:
        """Read nothing from the client: the other worker is behind (`IPushProducer`)."""
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def resumeProducing(self) -> None:
        """Read from the client again (`IPushProducer`)."""
        self.transport.resumeProducing()  # type: ignore[union-attr]

    def stopProducing(self) -> None:
        """Do nothing: the pipe is lost, and `far_left` is called next, with the reason."""

    def far_wrote(self, data: bytes) -> None:
        """Send the client what the worker that serves the request has written."""
        self._write(data)

    def far_left(self, reason: Failure) -> None:
        """
        End the client's transport: the worker that serves the request has closed, or is no more.

        A response that stops short must not look complete to the client.
        """
        self._far = None
        transport: Any = self.transport
        transport.unregisterProducer()
        # A worker that closes with bytes of the client unread resets the pipe, also if its response
        # is whole.
        if transport.unfinished(cleanly=bool(reason.check(ConnectionDone))):
            transport.cut()
        else:
            transport.loseConnection()

    def _write(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]

    def _close(self) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Close the pipe: the client has left, or its next request belongs elsewhere."""
        far, self._far = self._far, None
        if far is not None:
            far.leave(reason)


class _FarEnd(Protocol):
    """The protocol of this worker's end of the pair."""

    def __init__(self, relay: Relay) -> None:
        self._relay: Relay | None = relay

    def write(self, data: bytes) -> None:
        """Pass bytes on."""
        self.transport.write(data)  # type: ignore[union-attr]

    def leave(self, reason: Failure) -> None:
        """Close the pipe: nothing more will be passed on."""
        self._relay = None
        transport: Any = self.transport
        transport.unregisterProducer()
        if reason.check(ConnectionDone):
            transport.loseConnection()
        else:
            transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._relay is not None:
            self._relay.far_wrote(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.far_left(reason)


class RelayedServer(SecureMixin, GatedUNIXServer):
    """
    The other end: a connection over which another worker passes on what it decrypts.

    The addresses are those of the client's own connection.
    """

    def getHost(self) -> Any:
        """Tell the address that the client connected to."""
        host, port = self.connection.handoff.origin.host
        return peer_address(host, port) if host else super().getHost()

    def ended(self) -> bool:
        """Lose the connection: the client has left, for the relay has no half-close."""
        return True
