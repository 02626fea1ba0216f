"""Connections of which the test has the client's end, and what a gate is given in tests."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.core.http.talk import adding
from tests.shells import ReactorCase
from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.head import Head
from txsticky.core.http.response import Additions
from txsticky.core.http.steps import Known
from txsticky.core.routing.verdict import KEEP, Give, Verdict
from txsticky.transport.adopt import adopt, begin
from txsticky.transport.gate import Gate
from txsticky.transport.movable import MovableServer

PEER = ("192.0.2.7", 50000)


class Inner(Protocol):
    """
    Records what it is told.

    :ivar on_made: called with the protocol when it is connected.
    :ivar on_data: called with the protocol and each piece.
    """

    on_made: Callable[[Inner], object] = lambda self: None
    on_data: Callable[[Inner, bytes], object] = lambda self, data: None

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.lost: list[type] = []

    @property
    def data(self) -> bytes:
        """All that has come."""
        return b"".join(self.pieces)

    def connectionMade(self) -> None:
        type(self).on_made(self)

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        type(self).on_data(self, data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost.append(reason.type)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Inner):
    """A protocol that goes on when the client has closed its side."""

    half = False

    def readConnectionLost(self) -> None:
        """Note that the client sends no more."""
        self.half = True

    def writeConnectionLost(self) -> None:
        """Note that the server's side is closed."""


def inner(
    on_made: Callable[[Inner], object] = lambda self: None,
    on_data: Callable[[Inner, bytes], object] = lambda self, data: None,
    base: type[Inner] = Inner,
) -> type[Inner]:
    """A class of protocols that do something."""
    return type("Doing", (base,), {"on_made": on_made, "on_data": on_data})


class RecordingServer(MovableServer):
    """Counts how often it was closed."""

    closings = 0

    def closed(self) -> None:
        self.closings += 1


class ConnectionCase(ReactorCase):
    """An adopted connection and its client."""

    def run_a_bit(self) -> None:
        """Run the reactor long enough for whatever is under way on this machine to happen."""
        for _ in range(5):
            self.reactor.iterate(0)

    def adopt(
        self,
        protocol: type[Inner] = Inner,
        prefix: bytes = b"",
        server: socket.socket | None = None,
        client: socket.socket | None = None,
    ) -> Any:
        """Adopt a connection, or the given one; sets protocol, transport, and client."""
        if server is None:
            server, client = self.connected()
        self.client = client
        self.transport = adopt(
            self.reactor, server, PEER, Factory.forProtocol(protocol), RecordingServer, 1
        )
        self.protocol = self.transport.protocol
        begin(self.transport, prefix)
        return self.transport

    def registered(self) -> set[int]:
        """The descriptors that the kernel watches for the reactor (proc(5), fdinfo)."""
        with open(f"/proc/self/fdinfo/{self.reactor._poller.fileno()}") as info:
            return {int(line.split()[1]) for line in info if line.startswith("tfd:")}

    def events(self) -> list[Any]:
        """What the kernel has to tell the reactor."""
        return list(self.reactor._poller.poll(0))

    def reset_by(self, client: socket.socket) -> None:
        """Have a client reset its connection."""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def to(place: int | str, number: int = 0, body: bytes = b"") -> bytes:
    """A request for a place: 1 is here, 0 is the primary, others are other workers."""
    head = b"POST /%d HTTP/1.1\r\nHost: x\r\nPlace: %d\r\n" % (number, int(place))
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class FakePolicy:
    """
    A worker's policy: where a request belongs stands in its header Place.

    :ivar asked: the targets of the requests that it was asked about.
    :ivar added: the header lines that go with responses.
    :ivar told: the client and whether it is secure, of each request that lines were asked for.
    :ivar first: of each whether it was said to be the first of its connection.
    :ivar done: how many responses were complete.
    """

    def __init__(self) -> None:
        self.first: list[bool] = []
        self.draining = False
        self.movements: Any = None
        self.unconfirmed = 0
        self.known: dict[bytes, Known] = {}
        self.given: dict[bytes, Give] = {}
        self.hosts: dict[str, Verdict] = {}
        self.asked: list[bytes] = []
        self.added = b""
        self.told: list[tuple[str, bool]] = []
        self.done = 0
        self._after: list[Callable[[], None]] = []

    @property
    def bindings(self) -> FakePolicy:
        """The policy's bindings, which it keeps itself."""
        return self

    def whose(self, head: Head, host: str) -> Verdict:
        """Whose a request is, and why."""
        assert host == "192.0.2.7"
        self.asked.append(head.target)
        place = head.header(b"place")
        if place is None:
            return KEEP[How.NEW]
        return KEEP[How.TAG] if place == b"1" else Give(int(place), How.TAG)

    def additions(
        self, head: Head, host: str, secure: bool, how: How, first: bool
    ) -> Additions | None:
        """What goes with the response."""
        self.told.append((host, secure))
        self.first.append(first)
        return adding(self.added.replace(b"HOW", how.name.encode()))

    def when_confirmed(self, action: Callable[[], None]) -> None:
        """Call when nothing is unconfirmed."""
        if self.unconfirmed:
            self._after.append(action)
        else:
            action()

    def confirm(self) -> None:
        """Confirm one binding."""
        self.unconfirmed -= 1
        if not self.unconfirmed:
            after, self._after = self._after, []
            for action in after:
                action()

    def request_done(self) -> None:
        """Count a response that is complete."""
        self.done += 1


class FakeHost:
    """
    A transport: the protocol in it does what the test says.

    :ivar delivered: what the protocol got, piece by piece.
    :ivar sent: what went to the client.
    :ivar departed: (place, held bytes) when the connection was given away.
    :ivar buffered: how many bytes the kernel has not taken.
    :ivar taken: how many it has.
    :ivar halved: whether the client was told that nothing follows.
    :ivar reset: whether the kernel knows that the client has gone.
    :ivar withheld: how many bytes wait in the gate, each time that this was told.
    :ivar dealt_with: how many messages the application has dealt with.
    :ivar react: called with each piece that the protocol gets.
    """

    gate: Gate

    def __init__(self, clock: Clock) -> None:
        self.dealt_with = 1_000_000
        self.clock = clock
        self.how = How.MISS
        self.delivered: list[bytes] = []
        self.sent = b""
        self.departed: tuple[int, bytes] | None = None
        self.reading = True
        self.open = True
        self.closing = False
        self.lost = False
        self.buffered = 0
        self.taken = 0
        self.reset = False
        self.halved = False
        self.withheld: list[int] = []
        self.flushed: Callable[[], None] | None = None
        self.react: Callable[[bytes], object] = lambda data: None

    def _alive(self) -> None:
        assert self.open, "a call after the end"

    def deliver(self, data: bytes) -> None:
        """Give the protocol bytes."""
        self._alive()
        assert not self.closing, "the protocol has closed"
        self.delivered.append(data)
        self.react(data)

    def live(self) -> bool:
        """Whether the transport is open and not being closed."""
        return self.open and not self.closing

    def stop_reading(self) -> None:
        """Read no more."""
        self.reading = False

    def start_reading(self) -> None:
        """Read again."""
        self._alive()
        self.reading = True

    def send(self, data: bytes) -> None:
        """Send bytes to the client."""
        self._alive()
        self.sent += data

    def withholds(self, size: int) -> None:
        """Note how many bytes wait in the gate."""
        self.withheld.append(size)

    def later(self, seconds: float, action: Callable[[], None]) -> IDelayedCall:
        """Have the reactor call later."""
        assert seconds >= 0, "a reactor refuses a time that has passed"

        def act() -> None:
            self._alive()
            action()

        return self.clock.callLater(seconds, act)

    def guarded(self, action: Callable[[], None]) -> None:
        """Call what may fail."""
        action()

    def unsent(self) -> int:
        """Bytes that the kernel has not taken."""
        return self.buffered

    def passed(self) -> int:
        """Bytes that the kernel has taken."""
        return self.taken

    def settled(self, messages: int) -> bool:
        """Whether the application has dealt with so many messages."""
        return messages <= self.dealt_with

    def severed(self) -> bool:
        """Whether the kernel knows that the client has gone."""
        self._alive()
        return self.reset

    def quiet(self) -> float:
        """Data has just gone."""
        return 0.0

    def flush(self, callback: Callable[[], None]) -> None:
        """Call back when the kernel has taken all."""
        self._alive()
        if self.buffered:
            self.flushed = callback
        else:
            callback()

    def drained(self) -> None:
        """Have the kernel take all."""
        self.buffered = 0
        flushed, self.flushed = self.flushed, None
        if flushed is not None:
            flushed()
        if self.closing:
            self.end()

    def depart(self, place: int, held: bytes) -> None:
        """Give the connection away."""
        self._alive()
        assert not self.buffered, "given away with output that is not in the kernel"
        self.departed = (place, held)
        self.open = False

    def hang_up(self) -> None:
        """Close after what is written."""
        self._alive()
        self.closing = True
        self.reading = False
        if not self.buffered:
            self.end()

    def half_close(self) -> None:
        """Tell the client that nothing follows what is written."""
        self._alive()
        self.halved = True

    def gone(self) -> None:
        """Tell the protocol that the client has left."""
        self._alive()
        self.end()

    dismiss = gone

    def end(self) -> None:
        """End the connection."""
        self.lost = True
        self.open = False
        self.gate.closed()


class GateCase(SynchronousTestCase):
    """A gate between a fake transport and a fake policy."""

    def setUp(self) -> None:
        self.make()

    def make(self, hold_limit: int = 65536, secure: bool = False) -> None:
        """Make the gate."""
        self.clock = Clock()
        self.host = FakeHost(self.clock)
        self.policy = FakePolicy()
        exchange = Conversation(hold_limit=hold_limit, head_limit=min(hold_limit, 65536))
        self.gate = Gate(self.host, self.policy, exchange, "192.0.2.7", secure)
        self.host.gate = self.gate

    def arrive(self, data: bytes) -> None:
        """Have the client send."""
        assert self.host.reading, "nothing is read now"
        self.gate.arrived(data)
        self.turn()

    def turn(self) -> None:
        """Have the reactor turn, without time passing."""
        self.clock.advance(0)

    def end(self) -> bool:
        """Have the client close its sending side; returns whether the connection is lost now."""
        assert self.host.reading, "nothing is read now"
        if self.gate.ended():
            self.host.end()
            return True
        self.turn()
        return False

    def write(self, data: bytes) -> None:
        """Have the protocol inside write, now and not in a turn of its own."""
        out = self.gate.wrote(data)
        if out:
            self.host.send(out)

    def answer(self, data: bytes = OK) -> None:
        """Have the protocol answer, and the reactor turn."""
        self.write(data)
        self.turn()

    def close(self) -> None:
        """Have the protocol inside close."""
        if self.gate.may_close():
            self.host.hang_up()

    @property
    def got(self) -> bytes:
        """All that the protocol got."""
        return b"".join(self.host.delivered)
