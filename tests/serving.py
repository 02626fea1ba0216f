"""What the tests of serving share: applications asked in memory, and over a real connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request

from .gated import GatedMemory, Transport

CLIENT = IPv4Address("TCP", "192.0.2.7", 50000)


class Page(Resource):
    """A resource that answers, for any path, with what a function makes of the request."""

    isLeaf = True

    def __init__(self, answer: Callable[[Request], bytes | int]) -> None:
        super().__init__()
        self._answer = answer

    def render(self, request: Request) -> bytes | int:
        """Answer."""
        return self._answer(request)


class Connection:
    """A connection in memory."""

    def __init__(self, factory: Any, peer: IAddress = CLIENT, how: object = None) -> None:
        self.protocol: Any = factory.buildProtocol(peer)
        self.transport: Any = (
            GatedMemory(peer, factory.reactor)
            if hasattr(self.protocol, "begun")
            else Transport(peerAddress=peer)
        )
        self.transport.how = how
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def ask(self, target: str = "/", *headers: str) -> bytes:
        """Send a GET and return what has come back since."""
        lines = [f"GET {target} HTTP/1.1", "Host: example", *headers, "", ""]
        return self.send("\r\n".join(lines).encode("latin-1"))

    def send(self, data: bytes) -> bytes:
        """Send bytes and return what has come back since."""
        if isinstance(self.transport, GatedMemory):
            self.transport.arrived(data)
        else:
            self.transport.protocol.dataReceived(data)
        answer: bytes = self.transport.value()
        self.transport.clear()
        return answer

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return bool(self.transport.disconnecting)


def header(response: bytes, name: str) -> str | None:
    """Get a response's header."""
    head = response.partition(b"\r\n\r\n")[0].decode("latin-1")
    for line in head.split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.lower() == name.lower():
            return value.strip()
    return None


class Client(Protocol):
    """
    A client on a real connection.

    :ivar received: the bytes that have come.
    :ivar gone: fires with all of them when the connection has ended.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.gone: Deferred[bytes] = Deferred()
        self._wanted: list[tuple[bytes, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        for mark, found in [pair for pair in self._wanted if pair[0] in self.received]:
            self._wanted.remove((mark, found))
            found.callback(bytes(self.received))

    def connectionLost(self, reason: Failure) -> None:
        self.gone.callback(bytes(self.received))

    def until(self, mark: bytes) -> Deferred[bytes]:
        """Fire with what has come once the mark is in it."""
        found: Deferred[bytes] = Deferred()
        self._wanted.append((mark, found))
        self.dataReceived(b"")
        return found


async def connect(port: int, data: bytes = b"") -> Client:
    """Connect to a port of this machine and send something."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    client: Client = await endpoint.connect(Factory.forProtocol(Client))
    client.transport.write(data)
    return client


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    """Write a request whose response ends the connection."""
    lines = [f"{method} {target} HTTP/1.1", "Host: example:8080", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
