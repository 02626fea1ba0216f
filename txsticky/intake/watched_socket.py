"""A socket that the reactor watches while a connection waits for its worker or for its end."""

from __future__ import annotations

import socket

from ..system.deadlines import Deadlines
from ..system.system import System


class WatchedSocket:
    """
    A non-blocking socket that the reactor watches, under one of several deadlines.

    :param system: the operating system; its reactor watches.
    :param sock: the connection; owned from here on.
    :param deadlines: those under which the socket waits.
    """

    def __init__(self, system: System, sock: socket.SocketType, deadlines: Deadlines) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.deadlines = deadlines
        self._system = system

    def watch(self) -> None:
        """Begin to wait for input, under the deadline."""
        self.deadlines.add(self)
        self._system.reactor.addReader(self)

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return type(self).__name__

    def withdraw(self) -> None:
        """Unregister, before anything is done with the descriptor."""
        self._system.reactor.removeReader(self)
        self.deadlines.discard(self)

    def expired(self) -> None:
        """Close the socket, whose time is over."""
        self.closed()

    def closed(self) -> None:
        """Close the socket."""
        self.withdraw()
        self.sock.close()

    def connectionLost(self, reason: object) -> None:
        """Close the socket, whose descriptor the reactor has lost."""
        self.closed()
