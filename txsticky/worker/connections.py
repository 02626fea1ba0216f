"""What a worker keeps of one connection, and how what comes from outside reaches it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from ..core.lifecycle.life import Answer, Command, Life, State
from ..core.messages.handoff import Handoff
from ..transport.movable import MovableServer, MovableUNIXServer

if TYPE_CHECKING:
    from .worker import Worker

log = Logger()


class Connection:
    """
    What the worker keeps of one connection: the same for every host.

    The host tells how far it is (`made`, `begun`, `delivered`, `departing`, `departed`, `closed`).
    The worker says what it wants (`make_room`, `let_go`, `close`, `abort`): what that does, the
    table of `core.life` says.  These raise nothing: a connection that fails is closed, and stops no
    loop over all.

    :param worker: whose connection it is.
    :param handoff: what came with it.
    :ivar transport: its host, once there is one. A host has `live()`, `protocol`,
        `loseConnection()`, `abortConnection()`, and a `gate` if there is one in it; and
        `let_go(final)`, if it is not the gate's to know whether it can leave.
    """

    __slots__ = ("_life", "_worker", "handoff", "transport")

    def __init__(self, worker: Worker, handoff: Handoff) -> None:
        self._worker = worker
        self._life = Life()
        self.handoff = handoff
        self.transport: Any = None

    # ------------------------------------------------------------------ how far it is

    @property
    def state(self) -> State:
        """Where it is in its life."""
        state = self._life.state
        if state is State.SERVING:
            gate = getattr(self.transport, "gate", None)
            if not self.transport.live() or (gate is not None and gate.closing):
                return State.CLOSING
            if gate is not None and gate.leaving:
                return State.FLUSHING
        return state

    def made(self, transport: Any) -> None:
        """Its host is made; one that was made before is inside of it."""
        self.transport = transport
        self._life.move(State.MADE)

    def begun(self) -> None:
        """Its protocol is connected."""
        self._life.move(State.BEGUN)

    def delivered(self) -> None:
        """
        Everything is delivered that it brought. What was to be done then is done now; and a worker
        that is leaving lets go of it if it can.
        """
        if not self._life.move(State.SERVING):
            return
        for command in self._life.owed():
            if command is Command.CLOSE:
                self.close()
        if self._worker.desk.draining:
            self.let_go(self._worker.final)

    def departing(self) -> None:
        """Its exchange is over, and its descriptor is being taken away."""
        self._life.move(State.DEPARTING)

    def closed(self) -> None:
        """The connection is over, and its transport is let go."""
        if self._life.move(State.GONE):
            self._worker.forget(self)
            self.transport = None

    def departed(self, sock: socket.socket, place: int, held: bytes) -> None:
        """The connection has been taken away from its transport, to go to `place`."""
        if not self._life.move(State.GONE):
            sock.close()  # it was closed on the way
            return
        self._worker.forget(self)
        transport, self.transport = self.transport, None
        handoff = self.handoff.moved(held, transport.gate.served, transport.how)
        self._worker.give(sock, place, handoff)

    # ---------------------------------------------------------------- what is wanted of it

    @property
    def idle(self) -> bool:
        """Whether it could be closed for others: all is delivered, and nothing is under way."""
        return self.state is State.SERVING and _idle(self.transport)

    @property
    def served(self) -> bool:
        """Whether a request has been served over it here."""
        gate = getattr(self.transport, "gate", None)
        return bool(gate is not None and gate.served)

    def make_room(self) -> None:
        """Descriptors are short: close if idle."""
        if self._life.answer(Command.ROOM, self.state) is Answer.NOW and _idle(self.transport):
            self._try(self.transport.gate.finish)

    def let_go(self, final: bool) -> bool:
        """
        The worker is leaving: go elsewhere if idle, or be closed if the whole cluster stops.

        :returns: whether it will end by itself: it is idle, or at the end of its response. If not,
            it may last, as a WebSocket does, and is to be closed some time.
        """
        answer = self._life.answer(Command.STOP if final else Command.LEAVE, self.state)
        if answer is not Answer.NOW:
            return True
        leaves = self._try(lambda: _let_go(self.transport, final))
        return leaves is None or leaves

    def close(self) -> None:
        """Close it, as politely as its protocol can."""
        answer = self._life.answer(Command.CLOSE, self.state)
        if answer is Answer.NOW:
            self._try(self._close)

    def _close(self) -> None:
        transport = self.transport
        protocol = transport.protocol  # behind TLS there is none before the first request
        if protocol is None or not self._worker.serving.close_politely(protocol):
            transport.loseConnection()

    def abort(self) -> None:
        """Close it now, whatever is under way."""
        if self._life.answer(Command.ABORT) is not Answer.END or self.transport is None:
            return
        try:
            self.transport.abortConnection()
        except Exception:
            log.failure("A connection could not be closed.")
            self.closed()

    def _try(self, action: Callable[[], Any]) -> Any:
        """What the action returns; None if it fails, and then the connection is closed."""
        try:
            return action()
        except Exception:
            log.failure("A connection failed, and is closed.")
            self.abort()
            return None


def _idle(transport: Any) -> bool:
    gate = getattr(transport, "gate", None)
    return bool(gate is not None and gate.exchange.idle)


def _let_go(transport: Any, final: bool) -> bool:
    if hasattr(transport, "let_go"):
        return bool(transport.let_go(final))
    gate = getattr(transport, "gate", None)
    if gate is None:
        return False
    if final and gate.exchange.idle:
        gate.finish()
        return True
    return bool(gate.drain()) or not gate.exchange.tunnel


def make_room(connections: Iterable[Connection]) -> None:
    """
    Close a part of the idle connections, for descriptors are short and others have something to
    ask: those first that were served already.
    """
    idle = [connection for connection in connections if connection.idle]
    idle.sort(key=lambda connection: not connection.served)
    for connection in idle[: 1 + len(idle) // 16]:
        connection.make_room()


class PlainMixin:
    """A movable transport without a gate."""

    connection: Connection

    def caught_up(self) -> None:
        self.connection.delivered()

    def closed(self) -> None:
        self.connection.closed()


class PlainServer(PlainMixin, MovableServer):
    """A TCP connection without a gate."""


class PlainUNIXServer(PlainMixin, MovableUNIXServer):
    """A connection over a UNIX socket without a gate."""
