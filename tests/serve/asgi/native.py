"""A connection of asyncio's with a gate in it, for tests."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, ClassVar

from tests.asgi import FakeDesk, Kept, LoopCase, pair
from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.serve.asgi.native import NativeHost
from txsticky.transport.gate import Gate
from txsticky.transport.write_batch import WriteBatch

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


ELSEWHERE = b"GET / HTTP/1.1\r\nHost: x\r\nPlace: 3\r\n\r\n"


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


SEEN = b"HTTP/1.1 200 OK\r\nX-How: NEW\r\nContent-Length: 2\r\n\r\nok"


UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"


SWITCHING = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: any\r\n\r\n"


class Inner(asyncio.Protocol):
    """
    The protocol inside: does what the test says.

    :ivar got: what has come.
    :ivar calls: what asyncio has called, but for data_received.
    :ivar on: what to do at a call, by its name.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.calls: list[str] = []
        self.on: dict[str, Any] = {}

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.on.get(name, lambda: None)()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._called("made")

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.on.get("data", lambda: None)()

    def eof_received(self) -> None:
        self._called("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self._called("lost" if exc is None else "broken")

    def pause_writing(self) -> None:
        self._called("pause")

    def resume_writing(self) -> None:
        self._called("resume")


class NativeCase(LoopCase):
    """One connection, a protocol inside, and the client's end."""

    family: ClassVar[int] = socket.AF_INET

    def setUp(self) -> None:
        super().setUp()
        self.desk = FakeDesk()
        self.inner = Inner()
        ours, self.client = pair(self.family)
        self.client.setblocking(False)
        self.addCleanup(self.client.close)
        self.ours: socket.socket | None = ours
        self.entered: list[How] = []

    def adopt(self, prefix: bytes = b"") -> NativeHost:
        """Make the host; its transport comes when the loop runs."""
        self.kept = Kept(
            Handoff(family=self.family, origin=Origin(("", 0)), how=How.NEW, prefix=prefix)
        )
        host = NativeHost(
            self.loop,
            self.inner,
            self.kept,
            {"peername": ("a", 1)},
            How.NEW,
            self.entered.append,
            WriteBatch(self.loop.call_soon, self.loop.time),
        )
        host.gate = Gate(host, self.desk, Conversation(), "192.0.2.7", False)
        self.kept.transport = host
        return host

    def take(self, host: NativeHost) -> None:
        """Give the connection to asyncio, and its transport to the host."""
        ours, self.ours = self.ours, None
        ours.setblocking(False)
        self.wait(self.loop.connect_accepted_socket(lambda: host, ours))

    def connect(self, prefix: bytes = b"") -> NativeHost:
        """Give the connection to a host, and the host its transport."""
        host = self.adopt(prefix)
        self.take(host)
        self.until(lambda: "made" in self.inner.calls)
        self.turn()
        return host

    def answer_much(self) -> int:
        """Answer more than the kernel takes at once; returns what the client will get, in bytes."""
        size = 1 << 24
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        self.inner.transport.write(head)
        self.inner.transport.write(bytes(size))
        return len(head) + len(b"X-How: NEW\r\n") + size

    def send(self, data: bytes) -> None:
        """Have the client send, until all of it has come."""
        before = len(self.inner.got)
        self.client.sendall(data)
        self.until(lambda: len(self.inner.got) >= before + len(data))

    def received(self, size: int) -> bytes:
        """The next so many bytes that the client gets."""
        data = bytearray()

        def more() -> bool:
            try:
                data.extend(self.client.recv(size - len(data)))
            except BlockingIOError:
                pass
            return len(data) >= size

        self.until(more)
        return bytes(data)

    def ended(self) -> bool:
        """Whether the client sees that the connection is closed, cleanly."""
        try:
            return self.client.recv(1 << 20) == b""
        except BlockingIOError:
            return False
