"""Shared by the tests of the intake: a reception, an acceptor, and what clients send."""

from __future__ import annotations

import re
import socket
import struct
from typing import Any

import attrs

from tests.fakes import FakeSystem
from tests.shells import ShellCase, ended, received
from txsticky.core.messages.origin import Address, Origin
from txsticky.intake.acceptor import Acceptor
from txsticky.intake.arrival import Arrival
from txsticky.intake.reception import Reception

GET = b"GET /chat?sid=1 HTTP/1.1\r\nHost: example\r\n\r\n"
PROXY = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n"
PROXY_2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"
    + bytes([203, 0, 113, 9, 192, 0, 2, 1])
    + struct.pack("!HH", 4711, 80)
    + b"\x04\0\x01x"
)


@attrs.define
class Limits:
    """What the operator allows."""

    head_timeout: float = 10.0
    head_limit: int = 4096
    head_backlog: int = 10_000
    keep_alive: float = 60.0


class PeekCase(ShellCase):
    """
    A reception, and what it placed.

    :ivar placed: the arrivals that can be handed off.
    """

    def setUp(self) -> None:
        super().setUp()
        self.system = FakeSystem(reactor=self.reactor)
        self.placed: list[Arrival] = []
        self.limits = Limits()
        self.reception = Reception(self.system, self.limits, self.place)
        self.addCleanup(self.close)

    def place(self, arrival: Arrival) -> None:
        """Take an arrival."""
        self.placed.append(arrival)

    def expect(self, **fields: Any) -> None:
        """Change what clients are expected to send."""
        self.reception.expectations = attrs.evolve(self.reception.expectations, **fields)

    def close(self) -> None:
        """Give up what is here."""
        for arrival in self.placed:
            arrival.sock.close()
        self.reception.close()
        self.assertEqual(self.reactor.getReaders() + self.reactor.getWriters(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def arrive(
        self, data: bytes = b"", peer: Address = ("192.0.2.7", 50000), **fields: Any
    ) -> socket.socket:
        """Have a connection arrive with some bytes read; returns the client's end."""
        server, client = self.pair()
        self.arrival = Arrival(server, Origin(peer), data=data, **fields)
        self.reception.receive(self.arrival)
        return client

    def say(self, client: socket.socket, data: bytes) -> None:
        """Send something, and let the reactor look at it."""
        client.sendall(data)
        self.reactor.settle()

    def status(self, client: socket.socket) -> int:
        """The status of the one response that a client has got, which has to be complete."""
        data = received(client) or b""
        self.assertTrue(ended(client), "the response is not the end")
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        self.assertEqual(int(fields["content-length"]), len(body))
        self.assertEqual(fields["connection"], "close")
        self.assertIn("date", fields)
        found = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z ]+", lines[0])
        assert found is not None, lines[0]
        return int(found[1])

    def watched(self) -> int:
        """How many descriptors the reactor watches."""
        return len({*self.reactor.getReaders(), *self.reactor.getWriters()})


class AcceptCase(PeekCase):
    """A listening socket."""

    family = socket.AF_INET

    def setUp(self) -> None:
        super().setUp()
        self.acceptor = Acceptor(self.listening(self.family), self.reception)
        self.addCleanup(self.acceptor.close)
        self.acceptor.start()

    def client(self, data: bytes = b"") -> socket.socket:
        """Connect, and send something."""
        sock: socket.socket = self.owned(socket.socket(self.family))
        sock.settimeout(60)
        sock.connect(self.acceptor.sock.getsockname())
        sock.sendall(data)
        return sock

    def accept(self, number: int = 1) -> None:
        """Turn until so many more connections were accepted."""
        before = self.acceptor.accepted
        self.until(lambda: self.acceptor.accepted >= before + number)

    def place_all(self, number: int) -> None:
        """Turn until so many were placed."""
        self.until(lambda: len(self.placed) >= number)
