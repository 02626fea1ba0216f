"""A WebSocket of a WSGI application whose bytes the reactor carries: over TLS, among others."""

from __future__ import annotations

import re
import socket
from array import array
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..http1.exchange import Exchange

log = Logger()

_STATUS = re.compile(rb"HTTP/1\.1 101 ?([^\r\n]*)")
#: Bytes that the head of the response may have.
_LONGEST = 65536
#: How many times in a row, every 20 ms, a WebSocket has to be found quiet before it may move: a
#: thread that has read a message is expected to answer it in that time.
QUIET: Final = 5


class SocketRelay(Protocol):
    """
    The reactor's end of the pair of which the application has the other.

    The application writes the response to the handshake, by itself; the channel sends it.

    :param exchange: the handshake.
    :param sock: the reactor's end; owned from here on.
    :param reactor: the reactor.
    """

    transport: Any

    def __init__(self, exchange: Exchange, sock: socket.socket, reactor: Any) -> None:
        self._exchange = exchange
        self._head: bytes | None = b""
        #: Whether something has passed since the last look, and how many looks found nothing.
        self._passed = False
        self._quiet = 0
        with sock:
            sock.setblocking(False)
            reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, _Once(self))
        self.transport.registerProducer(_Pace(exchange), True)
        exchange.stay_while(self._busy)

    def dataReceived(self, data: bytes) -> None:
        """Send on what the application says (`IProtocol`)."""
        self._passed = True
        if self._head is None:
            self._exchange.write(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            self._head = None
            self._respond(head.split(b"\r\n"), rest)
        elif len(head) > _LONGEST:
            self._exchange.abort()

    def _respond(self, lines: list[bytes], rest: bytes) -> None:
        exchange = self._exchange
        found = _STATUS.fullmatch(lines[0])
        if found is None:
            log.warn("A WSGI application answers the handshake of a WebSocket with no 101.")
            exchange.abort()
            self.lost()
            return
        pairs = (line.partition(b":") for line in lines[1:])
        headers = [(name, value.strip()) for name, _, value in pairs]
        exchange.respond(101, found[1], headers)
        exchange.register_producer(self.transport, True)
        if rest:
            exchange.write(rest)

    def came(self, data: bytes) -> None:
        """Take what the client has sent behind the handshake."""
        self._passed = True
        self.transport.write(data)

    def _busy(self) -> bool:
        """Whether the application has not read all, or may be about to answer it."""
        if not self.transport.connected:
            return False  # it has closed its end
        unread = array("i", [0])
        ioctl(self.transport.getHandle().fileno(), TIOCOUTQ, unread)  # unix(7), SIOCOUTQ
        self._quiet = 0 if self._passed or unread[0] else self._quiet + 1
        self._passed = False
        return self._quiet < QUIET

    def lost(self) -> None:
        """Take note that the client has left."""
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Close the connection: the application has (`IProtocol`)."""
        exchange = self._exchange
        if exchange.open:
            exchange.unregister_producer()
            exchange.transport.loseConnection()


class _Once(Factory):
    """Has one protocol, which is there already."""

    noisy = False

    def __init__(self, relay: SocketRelay) -> None:
        self._relay = relay

    def buildProtocol(self, addr: object) -> SocketRelay:
        return self._relay


@implementer(IPushProducer)
class _Pace:
    """Has the client not be read while the application does not read."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def pauseProducing(self) -> None:
        """Read the client no more (`IPushProducer`)."""
        self._exchange.pause()

    def resumeProducing(self) -> None:
        """Read the client again (`IPushProducer`)."""
        self._exchange.resume()

    def stopProducing(self) -> None:
        """Do nothing: the application's end is told otherwise (`IPushProducer`)."""
