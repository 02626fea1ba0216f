"""What the ways to other machines are tested with: a hub, a system and a Redis, all played."""

from __future__ import annotations

from typing import Any

import attrs
import hiredis
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.fakes import FakeSystem
from txsticky.bus.entries import later


@attrs.define
class Shore:
    """A `backplane.Shore` that notes what it is told."""

    _told: list[tuple[Any, ...]] = attrs.field(factory=list, init=False)

    def arrived(self, topic: bytes, message: bytes) -> None:
        self._told.append(("arrived", topic, message))

    def missed(self, topic: bytes, count: int) -> None:
        self._told.append(("missed", topic, count))

    def gap(self, since: float, until: float) -> None:
        self._told.append(("gap", since, until))

    def outage(self, since: float | None) -> None:
        self._told.append(("outage", since))

    def take(self) -> list[tuple[Any, ...]]:
        """What the shore was told since the last call."""
        told, self._told = self._told, []
        return told


class MarkedSystem(FakeSystem):
    """A system whose random bytes are the test's."""

    mark = b""

    def random_bytes(self, size: int) -> bytes:
        return self.mark[:size]


def system_of(reactor: Any, mark: bytes) -> MarkedSystem:
    """Make a system with the reactor's clock on the wall."""
    system = MarkedSystem(reactor=reactor, wall=reactor.seconds)
    system.mark = mark
    return system


class PlayedRedis:
    """
    A Redis with one stream, as far as `bus.stream` needs it.

    :ivar entries: what is in the stream: id and fields.
    :ivar time: what the next id begins with.
    :ivar refusing: the error that XADD is answered with; None: none.
    :ivar silent: whether nothing is answered.
    :ivar said: the commands so far.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[bytes, list[bytes]]] = []
        self.time = 1000
        self.refusing: str | None = None
        self.silent = False
        self.said: list[list[bytes]] = []
        self._connections: dict[Any, tuple[Any, list[list[bytes]]]] = {}

    def accept(self, protocol: Any) -> None:
        """Take a connection."""
        protocol.makeConnection(StringTransport())
        self._connections[protocol] = (hiredis.Reader(), [])
        self.serve()

    def drop(self) -> None:
        """End all connections."""
        connections, self._connections = self._connections, {}
        for protocol in connections:
            protocol.connectionLost(Failure(ConnectionDone()))

    def serve(self) -> None:
        """Answer all that can be answered, and end the connections that were left."""
        busy = not self.silent
        while busy:
            busy = False
            for protocol, (reader, waiting) in list(self._connections.items()):
                reader.feed(protocol.transport.value())
                protocol.transport.clear()
                while (command := reader.gets()) is not False:
                    waiting.append(command)
                if protocol.transport.disconnecting:
                    del self._connections[protocol]
                    protocol.connectionLost(Failure(ConnectionDone()))
                    busy = True
                elif waiting and (answer := self._answer(*waiting[0])) is not None:
                    self.said.append(waiting.pop(0))
                    protocol.dataReceived(answer)
                    busy = True

    def unblock(self) -> None:
        """Answer those that wait for an entry: their time is over."""
        for protocol, (_, waiting) in list(self._connections.items()):
            if waiting and waiting[0][0] == b"XREAD":
                waiting.pop(0)
                protocol.dataReceived(b"*-1\r\n")
        self.serve()

    def add(self, *fields: bytes) -> bytes:
        """Append an entry."""
        self.time += 1
        id = b"%d-0" % self.time
        self.entries.append((id, list(fields)))
        return id

    def _answer(self, name: bytes, *arguments: bytes) -> bytes | None:
        """The answer to a command; None while there is none."""
        match name:
            case b"PING":
                return b"+PONG\r\n"
            case b"SELECT":
                return b"+OK\r\n" if arguments == (b"3",) else b"-ERR DB index is out of range\r\n"
            case b"XADD" if self.refusing:
                return f"-{self.refusing}\r\n".encode()
            case b"XADD":
                return _bulk(self.add(*arguments[5:]))
            case b"XRANGE":
                return _bulk([[i, fields] for i, fields in self.entries if i == arguments[1]])
        assert name == b"XREAD", name
        new = [[id, fields] for id, fields in self.entries if later(id, arguments[-1])]
        return _bulk([[arguments[-2], new[: int(arguments[1])]]]) if new else None


def _bulk(value: Any) -> bytes:
    """Encode an answer (RESP)."""
    if isinstance(value, bytes):
        return b"$%d\r\n%b\r\n" % (len(value), value)
    return b"*%d\r\n%b" % (len(value), b"".join(map(_bulk, value)))
