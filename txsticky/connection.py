"""What a worker keeps of one connection."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from .core.wire import Handoff
from .descriptor import MovableServer, MovableUNIXServer

if TYPE_CHECKING:
    from .worker import Worker


class Connection:
    """What the worker keeps of one connection."""

    __slots__ = ("_worker", "handoff", "transport")

    def __init__(self, worker: Worker, handoff: Handoff) -> None:
        self._worker = worker
        self.handoff = handoff
        self.transport: Any = None

    def closed(self) -> None:
        """The connection is over, and its transport is let go."""
        self._worker.forget(self)
        self.transport = None

    def departed(self, sock: socket.socket, place: int, held: bytes) -> None:
        """The connection has been taken away from its transport, to go to `place`."""
        self._worker.forget(self)
        transport, self.transport = self.transport, None
        handoff = self.handoff.moved(held, transport.gate.served, transport.how)
        self._worker.give(sock, place, handoff)


class PlainMixin:
    """A movable transport without a gate."""

    connection: Connection

    def closed(self) -> None:
        self.connection.closed()


class PlainServer(PlainMixin, MovableServer):
    """A TCP connection without a gate."""


class PlainUNIXServer(PlainMixin, MovableUNIXServer):
    """A connection over a UNIX socket without a gate."""
