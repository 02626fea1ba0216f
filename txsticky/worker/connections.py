"""The connections of a worker: how each is adopted, what is kept of it, and how it leaves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

import attrs
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger

from ..core.http.conversation import Conversation
from ..core.http.websocket.passport import Passport
from ..core.lifecycle.life import Life, LifeAnswer, LifeCommand, LifeState
from ..core.lifecycle.timing import NEXT_REQUEST
from ..core.messages.handoff import Handoff
from ..core.replay import Replay
from ..serve import Serving
from ..system.system import System
from ..tls.relay import RelayedServer
from ..transport.adopt import adopt, begin
from ..transport.gate import Gate
from ..transport.gated import GatedServer, GatedUNIXServer
from ..transport.plain import PlainServer, PlainUNIXServer
from ..transport.write_batch import WriteBatch
from .policy import RequestPolicy
from .view import ClusterView

log = Logger()


@attrs.frozen
class Surroundings:
    """
    What the connections of one worker need of it.

    :ivar view: says whether the worker drains, and whether the whole cluster stops.
    :ivar forget: called with each connection once it is no longer here.
    :ivar give: gives a connection away: its socket, the place, what travels with it.
    :ivar replay: makes what goes with a WebSocket that leaves, of its passport.
    :ivar close_politely: asks the client at the other end of a protocol to go away
        (`Serving.close_politely`).
    """

    view: ClusterView
    forget: Callable[[Connection], None]
    give: Callable[[socket.socket, int, Handoff], None]
    close_politely: Callable[[object], bool]
    replay: Callable[[Passport], Replay]


class Connection:
    """
    What the worker keeps of one connection: the same for every host.

    The host tells how far the connection is (`made`, `begun`, `delivered`, `departing`, `departed`,
    `closed`).  The worker says what it wants (`make_room`, `let_go`, `close`, `abort`), and the
    table of `core.lifecycle.life` what that does.  The worker's calls raise nothing: a connection
    that fails is closed, and stops no loop over all.

    :param around: what the connection needs of its worker.
    :param handoff: what came with the connection.
    :ivar transport: its host, once there is one. A host has `live()`, `protocol`,
        `loseConnection()`, `abortConnection()`, and a `gate` if there is one in it; and
        `let_go(at_once)`, if it is not the gate's to know whether it can leave.
    """

    __slots__ = ("_around", "_life", "handoff", "transport")

    def __init__(self, around: Surroundings, handoff: Handoff) -> None:
        self._around = around
        self._life = Life()
        self.handoff = handoff
        self.transport: Any = None

    # ------------------------------------------------------------------ how far it is

    @property
    def state(self) -> LifeState:
        """Where the connection is in its life."""
        state = self._life.state
        if state is LifeState.SERVING:
            gate = self.gate
            if not self.transport.live() or (gate is not None and gate.closing):
                return LifeState.CLOSING
            if gate is not None and gate.leaving:
                return LifeState.FLUSHING
        return state

    @property
    def gate(self) -> Gate | None:
        """The gate that watches the connection now; None if there is none, or not yet."""
        gate: Gate | None = getattr(self.transport, "gate", None)
        return gate

    def made(self, transport: Any) -> None:
        """Take in that the host is made; one that was made before is inside of it."""
        self.transport = transport
        self._life.move(LifeState.MADE)

    def begun(self) -> None:
        """Take in that the protocol is connected."""
        self._life.move(LifeState.BEGUN)

    def delivered(self) -> None:
        """
        Take in that all is delivered that the connection brought.

        What was put off until then is done now; and a worker that is leaving lets go of the
        connection if it can.
        """
        if not self._life.move(LifeState.SERVING):
            return
        for command in self._life.owed():
            if command is LifeCommand.CLOSE:
                self.close()
        view = self._around.view
        if view.draining:
            self.let_go(view.final)

    def departing(self) -> None:
        """Take in that the descriptor is being taken away, for the conversation is over here."""
        self._life.move(LifeState.DEPARTING)

    def closed(self) -> None:
        """Take in that the connection is over, and let its transport go."""
        if self._life.move(LifeState.GONE):
            self._around.forget(self)
            self.transport = None

    def departed(self, sock: socket.socket, place: int, held: bytes) -> None:
        """
        Give the connection away, which has been taken from its transport.

        :param sock: the connection; owned from here on.
        :param place: the id of a worker, or `FRONT_DESK`.
        :param held: the bytes of the stream that were read and not delivered.
        """
        if not self._life.move(LifeState.GONE):
            sock.close()  # it was closed on the way
            return
        self._around.forget(self)
        transport, self.transport = self.transport, None
        gate = transport.gate
        replay = None if gate.mover is None else self._around.replay(gate.mover.passport)
        handoff = self.handoff.moved(held, gate.served, transport.how, replay)
        self._around.give(sock, place, handoff)

    # ---------------------------------------------------------------- what is wanted of it

    @property
    def idle(self) -> bool:
        """Whether the connection could be closed to make room: nothing is under way on it."""
        return self.state is LifeState.SERVING and _idle(self.gate)

    @property
    def served(self) -> bool:
        """Whether a request has been served over the connection here."""
        gate = self.gate
        return gate is not None and gate.served

    @property
    def quiet(self) -> float:
        """Seconds for which no data has gone either way; 0 where that is not known."""
        gate = self.gate
        return 0.0 if gate is None else gate.host.quiet()

    def make_room(self) -> None:
        """Close if idle: descriptors are short."""
        gate = self.gate
        if self._life.answer(LifeCommand.ROOM, self.state) is LifeAnswer.NOW and _idle(gate):
            self._try(gate.finish)

    def let_go(self, final: bool) -> bool:
        """
        Go elsewhere if idle, for the worker is leaving.

        :param final: whether the whole cluster stops: then an idle connection is closed; of a lame
            duck a moment later.
        :returns: whether the connection will end by itself: it is idle, or ends with its response.
            If not, it may last, as a WebSocket does, and is to be closed some time.
        """
        answer = self._life.answer(LifeCommand.STOP if final else LifeCommand.LEAVE, self.state)
        if answer is not LifeAnswer.NOW:
            return True
        leaves = self._try(lambda: self._let_go(final))
        return leaves is None or leaves

    def _let_go(self, final: bool) -> bool:
        # A proxy may send over what it has kept since before the end of a lame duck.
        at_once = final and not self._around.view.lame_duck
        if hasattr(self.transport, "let_go"):
            return bool(self.transport.let_go(at_once))
        gate = self.gate
        if gate is None:
            return False
        if not final:
            return gate.drain() or not gate.exchange.tunnel
        if gate.exchange.idle and at_once:
            gate.finish()
        elif gate.exchange.idle:  # it is told that its next request is the last
            gate.host.later(NEXT_REQUEST, self.make_room)
        return not gate.exchange.tunnel

    def insist(self) -> bool:
        """
        Go elsewhere at the next end of a message, for the time of the worker is nearly over.

        :returns: whether the connection may, which only a WebSocket that moves may.
        """
        gate = self.gate
        if gate is None or gate.mover is None or self._around.view.final:
            return False
        return bool(self._try(gate.mover.insist))

    def close(self) -> None:
        """Close as politely as the protocol can."""
        answer = self._life.answer(LifeCommand.CLOSE, self.state)
        if answer is LifeAnswer.NOW:
            self._try(self._close)

    def _close(self) -> None:
        transport, gate = self.transport, self.gate
        if gate is not None and gate.mover is not None and gate.mover.leave_now():
            return
        protocol = transport.protocol  # behind TLS there is none before the first request
        if protocol is None or not self._around.close_politely(protocol):
            transport.loseConnection()

    def abort(self) -> None:
        """Close now, whatever is under way."""
        if self._life.answer(LifeCommand.ABORT) is not LifeAnswer.END or self.transport is None:
            return
        try:
            self.transport.abortConnection()
        except Exception:
            log.failure("A connection could not be closed.")
            self.closed()

    def _try(self, action: Callable[[], Any]) -> Any:
        """Return what the action does; None if it fails, and then the connection is closed."""
        try:
            return action()
        except Exception:
            log.failure("A connection failed, and is closed.")
            self.abort()
            return None


def _idle(gate: Gate | None) -> TypeGuard[Gate]:
    return gate is not None and gate.exchange.idle


def make_room(connections: Iterable[Connection]) -> None:
    """
    Close a part of the idle connections, those first that were served already.

    Descriptors are short, and clients that have something to ask need them.  Those go first that
    have been idle for longest or, where the kernel does not tell, that came first.

    :param connections: in the order in which they came.
    """
    idle = [connection for connection in connections if connection.idle]
    idle.sort(key=lambda connection: (not connection.served, -connection.quiet))
    for connection in idle[: 1 + len(idle) // 16]:
        connection.make_room()


class Connections:
    """
    The connections that are served here.

    :param live: the dictionary that is to hold the connections, for its order.
    :param policy: what their gates ask.
    :param serving: the application, wrapped for its interface.
    :param converse: makes what follows a new conversation; `first_is_ours` says whether its first
        request was decided about already (`core.http.conversation`).
    :param secured: makes what builds the protocol of a connection over TLS; None if there is none.
    :param view: says whether the worker drains, and whether the whole cluster stops.
    :param give: gives a connection away: its socket, the place, what travels with it.
    :param changed: called whenever there is one more, or one less.
    :param system: the clock, and the reactor that serves.
    :ivar live: the connections, in the order in which they came.
    :ivar policy: what their gates ask.
    :ivar adopted: how many came so far.
    """

    def __init__(
        self,
        live: dict[Connection, None],
        policy: RequestPolicy,
        serving: Serving,
        converse: Callable[..., Conversation],
        secured: Callable[[Connection], IProtocolFactory] | None,
        *,
        view: ClusterView,
        give: Callable[[socket.socket, int, Handoff], None],
        changed: Callable[[], None],
        system: System,
    ) -> None:
        self.live = live
        self.policy = policy
        self.adopted = 0
        self._serving = serving
        self._native = getattr(serving, "adopt", None)
        self._converse = converse
        self._secured = secured
        self._changed = changed
        self._reactor = reactor = system.reactor
        self._turn = WriteBatch(lambda end: reactor.callLater(0, end), system.clock)
        self._around = Surroundings(
            view,
            self._forget,
            give,
            serving.close_politely,
            lambda passport: policy.movements.replay(passport),
        )

    def adopt(self, sock: socket.socket, handoff: Handoff) -> None:
        """
        Serve a connection that was handed here; one that fails is closed.

        :param sock: the connection; owned from here on.
        :param handoff: what came with it.
        """
        if handoff.replay is not None:
            handoff = handoff.shown()
        connection = Connection(self._around, handoff)
        self.adopted += 1
        self.live[connection] = None
        try:
            adopted = self._serve(sock, connection)
        except Exception:
            log.failure("A connection could not be served, and is closed.")
            sock.close()
            adopted = False
        if not adopted:
            connection.closed()
        if connection in self.live:
            connection.handoff = handoff.begun()  # the connection may last for days
            self._changed()

    def _serve(self, sock: socket.socket, connection: Connection) -> bool:
        """Have the right transport serve a connection; False if the application refuses it."""
        handoff = connection.handoff
        origin = handoff.origin
        factory, gated = self._serving.factory, self._serving.http
        if self._secured is not None and not origin.secure:
            factory, gated = self._secured(connection), False
        elif self._native is not None:
            self._native(sock, connection, self.policy, self._converse(replay=handoff.replay))
            return True
        make = _transport_for(handoff, gated)
        transport = adopt(self._reactor, sock, origin.peer, factory, make, self.adopted)
        if transport is None:
            return False
        connection.made(transport)
        transport.connection = connection
        transport.how = handoff.how
        if origin.host[0]:
            transport.own_name = origin.host
        if gated:
            conversation = self._converse(replay=handoff.replay)
            transport.gate = Gate(
                transport, self.policy, conversation, origin.peer[0], origin.secure
            )
        connection.begun()
        begin(transport, handoff.prefix)  # what answers that leaves at once
        transport.turn = self._turn
        return True

    def _forget(self, connection: Connection) -> None:
        self.live.pop(connection, None)
        self._changed()

    def make_room(self) -> None:
        """Close a part of the idle connections: descriptors are short."""
        make_room(self.live)


def _transport_for(handoff: Handoff, gated: bool) -> Callable[..., Any]:
    """Choose the transport for a connection by where it comes from, and whether a gate watches."""
    unix = handoff.family == socket.AF_UNIX
    if handoff.origin.secure:
        return RelayedServer
    if gated:
        return GatedUNIXServer if unix else GatedServer
    return PlainUNIXServer if unix else PlainServer
