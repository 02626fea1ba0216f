"""Gates around what tests serve: in memory, and on a port of this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.events import EventConversation
from txsticky.core.http.head import Head
from txsticky.core.http.response import Additions
from txsticky.core.http.steps import Begin, Content
from txsticky.core.routing.verdict import KEEP, Verdict
from txsticky.serve import Serving
from txsticky.transport.adopt import adopt, begin
from txsticky.transport.gate import Gate
from txsticky.transport.gated import GatedServer
from txsticky.transport.nowhere import Nowhere


class KeepingPolicy(Nowhere):
    """
    Keeps every request.

    :ivar added: the header lines that go with every response.
    """

    def __init__(self) -> None:
        self.added = b""

    def whose(self, head: Head, host: str) -> Verdict:
        """Keep the request."""
        return KEEP[How.NEW]

    def additions(
        self, head: Head, host: str, secure: bool, how: How, first: bool
    ) -> Additions | None:
        """The header lines that go with the response."""
        return (lambda status, fields: self.added) if self.added else None


class Transport(StringTransport):
    """A transport in memory, as easy-going as a real one."""

    how: object = None

    def unregisterProducer(self) -> None:
        """Forget the producer, if there is one."""
        if self.producer is not None:
            super().unregisterProducer()


class GatedMemory(Transport):
    """
    A transport in memory with a gate in it (`transport.host.Host`).

    :param reactor: a clock, or a reactor.
    """

    protocol: Any
    connected = True

    def __init__(self, peer: IAddress, reactor: Any) -> None:
        super().__init__(peerAddress=peer)
        self._reactor = reactor
        self._soon: list[Callable[[], None]] = []
        self.gate = Gate(
            self, KeepingPolicy(), EventConversation(1 << 20), "192.0.2.7", secure=False
        )
        self.aborted = False

    def arrived(self, data: bytes) -> None:
        """Have the client send, and the reactor turn."""
        self.gate.arrived(data)
        self.turn()

    def turn(self) -> None:
        """Call what is to be called in the next turn of the reactor."""
        while self._soon and self.connected:
            self._soon.pop(0)()

    def lost(self) -> None:
        """Have the client leave."""
        self.connected = False
        self.gate.closed()
        self.protocol.connectionLost(Failure(ConnectionDone()))

    # ----------------------------------------------------------- the protocol's side

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: there is no packet here."""

    def write(self, data: bytes) -> None:
        """Write through the gate."""
        data = self.gate.wrote(data) if data else data
        if data and self.connected:
            super().write(data)

    def writeSequence(self, data: Any) -> None:
        """Write through the gate."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close."""
        if self.gate.may_close():
            super().loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        self.aborted = True
        super().loseConnection()

    def pauseProducing(self) -> None:
        """Read nothing."""
        self.gate.pause()

    def resumeProducing(self) -> None:
        """Read again."""
        self.gate.resume()

    # --------------------------------------------------------------- the gate's side

    def deliver(self, data: bytes) -> None:
        """Give bytes to the protocol."""
        self.protocol.dataReceived(data)

    def tell(self, step: Begin | Content) -> None:
        """Tell the protocol what has come."""
        step.tell(self.protocol)

    def live(self) -> bool:
        """Whether the connection is open."""
        return self.connected and not self.disconnecting

    def stop_reading(self) -> None:
        """Read nothing."""

    start_reading = stop_reading

    def send(self, data: bytes) -> None:
        """Write to the client."""
        super().write(data)

    def later(self, seconds: float, action: Callable[[], None]) -> Any:
        """Call from the reactor."""
        if seconds:
            return self._reactor.callLater(seconds, action)
        call = _Soon(action)
        self._soon.append(call)
        if isinstance(self._reactor, Clock):
            self._reactor.callLater(0, self.turn)
        return call

    def unsent(self) -> int:
        """No bytes: nothing waits."""
        return 0

    passed = unsent

    def severed(self) -> bool:
        """False: the client is there."""
        return False

    def quiet(self) -> float:
        """Data has just gone."""
        return 0.0

    def flush(self, callback: Callable[[], None]) -> None:
        """Call back: all is sent."""
        callback()

    def guarded(self, action: Callable[[], None]) -> None:
        """Call."""
        action()

    def hang_up(self) -> None:
        """Close."""
        super().loseConnection()

    half_close = gone = dismiss = hang_up

    def depart(self, place: int, held: bytes) -> None:
        """Do nothing: every request is kept."""
        raise NotImplementedError


class _Soon:
    """A call in the next turn of the reactor."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def __call__(self) -> None:
        if self._action is not None:
            self._action()

    def cancel(self) -> None:
        """Do not call."""
        self._action = None


class _Kept:
    """
    What a worker keeps of a connection.

    :ivar transport: what it speaks to.
    :ivar over: how often it was told that the connection is over.
    """

    transport: Any = None
    over = 0

    def delivered(self) -> None:
        """Note that all is delivered which came with the connection."""

    def closed(self) -> None:
        """Count that the connection is over."""
        self.over += 1


class GatedPort:
    """
    A port of this machine, whose connections have gates in them, as a worker's have.

    :param reactor: the reactor.
    :param serving: what is served.
    :param policy: what the gates ask.
    """

    def __init__(self, reactor: Any, serving: Serving, policy: Any = None) -> None:
        self._reactor = reactor
        self._serving = serving
        self._policy = policy or KeepingPolicy()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self.transports: list[Any] = []
        reactor.addReader(self)

    def fileno(self) -> int:
        """The descriptor (`IFileDescriptor`)."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """What log lines begin with (`ILoggingContext`)."""
        return "gated port"

    def connectionLost(self, reason: object) -> None:
        """Close (`IReadDescriptor`)."""
        self.close()

    def close(self) -> None:
        """Accept no more."""
        self._reactor.removeReader(self)
        self._socket.close()

    def doRead(self) -> None:
        """Accept (`IReadDescriptor`)."""
        sock, peer = self._socket.accept()
        sock.setblocking(False)
        factory = self._serving.factory
        transport = adopt(self._reactor, sock, peer, factory, GatedServer, 1)
        if transport is None:
            return
        transport.how = How.NEW
        transport.connection = _Kept()
        kind = EventConversation if self._serving.events else Conversation
        conversation = kind(first_is_ours=False, inside=self._serving.inside)
        transport.gate = Gate(transport, self._policy, conversation, peer[0], secure=False)
        self.transports.append(transport)
        begin(transport, b"")
