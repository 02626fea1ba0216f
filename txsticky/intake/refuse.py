"""Refusing a connection so that its client can read why: send, close one side, linger."""

from __future__ import annotations

import socket

from ..system.deadlines import Deadlines
from ..system.system import System
from .watched_socket import WatchedSocket

#: Bytes that are thrown away at once.
_THROWN_AWAY = 65536


class Lingerer(WatchedSocket):
    """
    A connection that gets its refusal, and time to read it.

    To close at once would reset the connection while the client still sends, and the refusal could
    be lost (RFC 9112, section 9.6).

    :param response: a complete HTTP response.
    """

    def __init__(
        self, system: System, sock: socket.SocketType, deadlines: Deadlines, response: bytes
    ) -> None:
        super().__init__(system, sock, deadlines)
        self._response = response
        self.watch()

    def doWrite(self) -> None:
        """
        Send what the kernel takes of the response.

        That is all of it, unless the connection has moved and an earlier response is still on its
        way.
        """
        reactor = self._system.reactor
        try:
            self._response = self._response[self.sock.send(self._response) :]
        except BlockingIOError:
            pass
        except OSError:
            self.closed()
            return
        if self._response:
            reactor.addWriter(self)
            return
        reactor.removeWriter(self)
        reactor.addReader(self)
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.closed()

    def withdraw(self) -> None:
        super().withdraw()
        self._system.reactor.removeWriter(self)

    def doRead(self) -> None:
        """Throw away what the client still sends."""
        try:
            if self.sock.recv(_THROWN_AWAY):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        if self._response:  # the client sends no more, and reads
            self._system.reactor.removeReader(self)
        else:
            self.closed()
