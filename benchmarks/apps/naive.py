"""
What one writes first: Twisted's port, a protocol that peeks, `sendFileDescriptor`, a receipt.

``python -m benchmarks.apps.naive PORT``. The parent accepts and gives connections to its two
children in turn; they serve them with `adoptStreamConnection`.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from typing import Any

WORKERS = 2
_SID = re.compile(rb"[?&]sid=([^&\s]+)")
_LENGTH = struct.Struct("!I")


def child(end: socket.socket) -> None:
    """Serve what comes."""
    from twisted.internet import reactor
    from twisted.internet.interfaces import IFileDescriptorReceiver
    from twisted.internet.protocol import Protocol
    from zope.interface import implementer

    from .site import site

    @implementer(IFileDescriptorReceiver)
    class Adopting(Protocol):
        """A descriptor, then the length of what was read, then that."""

        def __init__(self) -> None:
            self.descriptors: list[int] = []
            self.data = b""

        def fileDescriptorReceived(self, descriptor: int) -> None:
            self.descriptors.append(descriptor)

        def dataReceived(self, data: bytes) -> None:
            self.data += data
            while len(self.data) >= _LENGTH.size:
                end = _LENGTH.size + _LENGTH.unpack_from(self.data)[0]
                if len(self.data) < end:
                    return
                prefix, self.data = self.data[_LENGTH.size : end], self.data[end:]
                descriptor = self.descriptors.pop(0)
                built: list[Any] = []

                class Once:
                    """Remembers the protocol, to give it what was read."""

                    def buildProtocol(self, addr: Any, built: list[Any] = built) -> Any:
                        built.append(site.buildProtocol(addr))
                        return built[0]

                reactor.adoptStreamConnection(  # type: ignore[attr-defined]
                    descriptor, socket.AF_INET, Once()
                )
                os.close(descriptor)
                self.transport.write(b".")  # type: ignore[union-attr]
                built[0].dataReceived(prefix)

    adopted(end, Adopting())
    reactor.run()  # type: ignore[attr-defined]


def adopted(end: socket.socket, protocol: Any) -> None:
    """Connect a protocol to a UNIX stream socket that can carry descriptors."""
    from twisted.internet import reactor, unix

    end.setblocking(False)
    protocol.makeConnection(unix.Server(end, protocol, "", None, 0, reactor))


def parent(port: int, ends: list[socket.socket]) -> None:
    """Accept, peek, give away."""
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    turn = 0

    class Giving(Protocol):
        """Holds the connections that were sent until their receipt comes."""

        def __init__(self) -> None:
            self.sent: list[Any] = []

        def give(self, peer: Any, data: bytes) -> None:
            self.transport.sendFileDescriptor(peer.fileno())  # type: ignore[union-attr]
            self.transport.write(_LENGTH.pack(len(data)) + data)  # type: ignore[union-attr]
            self.sent.append(peer)

        def dataReceived(self, data: bytes) -> None:
            for _ in data:
                peer = self.sent.pop(0)
                peer.stopReading()
                peer.connected = 0
                peer.socket.close()

    class Peek(Protocol):
        """Reads a head and gives the connection away."""

        data = b""

        def dataReceived(self, data: bytes) -> None:
            nonlocal turn
            self.data += data
            if b"\r\n\r\n" in self.data:
                self.transport.pauseProducing()  # type: ignore[union-attr]
                found = _SID.search(self.data)
                turn += 1
                number = hash(found[1]) if found else turn
                givers[number % WORKERS].give(self.transport, self.data)

    givers = [Giving() for _ in ends]
    for end, giver in zip(ends, givers, strict=True):
        adopted(end, giver)
    reactor.listenTCP(  # type: ignore[attr-defined]
        port, Factory.forProtocol(Peek), backlog=4096, interface="127.0.0.1"
    )
    reactor.run()  # type: ignore[attr-defined]


def main() -> None:
    """Fork the children before Twisted's reactor exists."""
    ends = []
    for _ in range(WORKERS):
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            child(theirs)
            return
        theirs.close()
        ends.append(ours)
    parent(int(sys.argv[1]), ends)


if __name__ == "__main__":
    main()
