"""A connection's life: the table, and what the worker keeps of a connection."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.how import How
from txsticky.core.lifecycle.life import ANSWERS, BEFORE, MOVES, Answer, Command, Life, State
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.worker.connections import Connection, make_room


class TableTests(SynchronousTestCase):
    """The table of answers, and that of moves."""

    def test_whole(self) -> None:
        """Every command has an answer in every state, and every state has its moves."""
        for state in State:
            self.assertEqual(set(ANSWERS[state]), set(Command))
        self.assertEqual(set(MOVES), set(State))

    def test_not_before_it_serves(self) -> None:
        """Before all is delivered nothing but an abort ends a connection or sends it elsewhere."""
        wanted = (Command.ROOM, Command.LEAVE, Command.STOP, Command.CLOSE)
        answers = {ANSWERS[state][command] for state in BEFORE for command in wanted}
        self.assertEqual(answers, {Answer.LATER, Answer.NOTHING})
        self.assertTrue(all(ANSWERS[state][Command.ABORT] is Answer.END for state in BEFORE))

    def test_later_has_a_later(self) -> None:
        """What is put off can be done: only states that lead to the one that serves put off."""
        putting_off = {state for state in State if Answer.LATER in ANSWERS[state].values()}
        self.assertEqual(putting_off, set(BEFORE))

    def test_on_its_way_out(self) -> None:
        """A connection that is on its way out is not sent anywhere else."""
        for state in (State.FLUSHING, State.CLOSING, State.DEPARTING):
            for command in (Command.ROOM, Command.LEAVE, Command.STOP, Command.CLOSE):
                self.assertIs(ANSWERS[state][command], Answer.NOTHING)

    def test_gone(self) -> None:
        """What is gone answers nothing and goes nowhere."""
        self.assertEqual(set(ANSWERS[State.GONE].values()), {Answer.NOTHING})
        self.assertEqual(MOVES[State.GONE], set())

    def test_may_be_lost(self) -> None:
        """A connection can be lost in every state."""
        self.assertTrue(
            all(State.GONE in MOVES[state] for state in State if state is not State.GONE)
        )


class LifeTests(SynchronousTestCase):
    """One life."""

    def test_owed(self) -> None:
        """What was put off is told once, in its order, and the same command once."""
        life = Life()
        for command in (Command.STOP, Command.CLOSE, Command.STOP):
            self.assertIs(life.answer(command), Answer.LATER)
        self.assertEqual(life.owed(), (Command.STOP, Command.CLOSE))
        self.assertEqual(life.owed(), ())

    def test_better_known(self) -> None:
        """The answer is that of the state that is known better."""
        life = Life()
        life.move(State.MADE), life.move(State.BEGUN), life.move(State.SERVING)
        self.assertIs(life.answer(Command.ROOM), Answer.NOW)
        self.assertIs(life.answer(Command.ROOM, State.CLOSING), Answer.NOTHING)

    @given(st.lists(st.sampled_from(State)))
    def test_moves(self, wanted: list[State]) -> None:
        """Whatever is asked for, only steps of the table are made."""
        life = Life()
        for state in wanted:
            before = life.state
            moved = life.move(state)
            self.assertEqual(moved, state in MOVES[before])
            self.assertIs(life.state, state if moved else before)


class FakeGate:
    """As much of a gate as a connection asks for."""

    def __init__(self, idle: bool = True, served: bool = True) -> None:
        self.exchange = SimpleNamespace(idle=idle, tunnel=False)
        self.leaving = self.closing = False
        self.served = served
        self.calls: list[str] = []
        self.failing = False

    def finish(self) -> None:
        """Close."""
        self._called("finish")

    def drain(self) -> bool:
        """Leave if idle."""
        self._called("drain")
        return bool(self.exchange.idle)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failing:
            raise ZeroDivisionError(name)


class FakeHost:
    """A host of a connection."""

    protocol = "the protocol"
    how = How.NEW

    def __init__(self, **gate: bool) -> None:
        self.gate = FakeGate(**gate)
        self.calls: list[str] = []
        self.open = True

    def live(self) -> bool:
        """Whether it is open."""
        return self.open

    def loseConnection(self) -> None:
        """Close."""
        self.calls.append("close")

    def abortConnection(self) -> None:
        """Close now."""
        self.calls.append("abort")


class FakeWorker:
    """A worker."""

    def __init__(self) -> None:
        self.desk = SimpleNamespace(draining=False)
        self.final = False
        self.serving = SimpleNamespace(close_politely=lambda protocol: False)
        self.forgotten: list[Any] = []
        self.given: list[tuple[Any, int, Handoff]] = []

    def forget(self, connection: Connection) -> None:
        """It is no longer here."""
        self.forgotten.append(connection)

    def give(self, sock: Any, place: int, handoff: Handoff) -> None:
        """Give it away."""
        self.given.append((sock, place, handoff))


class ConnectionTests(SynchronousTestCase):
    """What the worker keeps of a connection."""

    def setUp(self) -> None:
        self.worker = FakeWorker()

    def connection(self, host: FakeHost | None = None) -> Connection:
        """One that is handed here, and has a host if one is given."""
        worker: Any = self.worker
        connection = Connection(
            worker, Handoff(family=socket.AF_INET, origin=Origin(("a", 1)), prefix=b"x")
        )
        if host is not None:
            connection.made(host)
        return connection

    def serving(self, host: FakeHost) -> Connection:
        """One of which all is delivered."""
        connection = self.connection(host)
        connection.begun()
        connection.delivered()
        return connection

    def test_states(self) -> None:
        """Its state is what its host says, and while it is served what the gate says."""
        host = FakeHost()
        connection = self.connection()
        states = [connection.state]
        for step in (lambda: connection.made(host), connection.begun, connection.delivered):
            step()
            states.append(connection.state)
        host.gate.leaving = True
        states.append(connection.state)
        host.gate.closing = True
        states.append(connection.state)
        connection.departing()
        states.append(connection.state)
        connection.closed()
        states.append(connection.state)
        self.assertEqual(
            states,
            [
                State.HANDED, State.MADE, State.BEGUN, State.SERVING, State.FLUSHING,
                State.CLOSING, State.DEPARTING, State.GONE,
            ],
        )  # fmt: skip

    def test_not_yet(self) -> None:
        """Before all is delivered it is not idle, and is neither closed for room nor let go."""
        host = FakeHost()
        for connection in (self.connection(), self.connection(host)):
            connection.make_room()
            self.assertEqual((connection.idle, connection.let_go(True)), (False, True))
        self.assertEqual((host.gate.calls, host.calls), ([], []))

    def test_later(self) -> None:
        """What was wanted before is done when all is delivered."""
        host = FakeHost()
        connection = self.connection(host)
        connection.close()
        connection.begun()
        self.assertEqual(host.calls, [])
        connection.delivered()
        self.assertEqual(host.calls, ["close"])

    def test_comes_to_a_leaving_worker(self) -> None:
        """One that comes while the worker leaves is let go as soon as all is delivered."""
        self.worker.desk.draining = True
        host = FakeHost()
        self.serving(host)
        self.assertEqual(host.gate.calls, ["drain"])

    def test_comes_to_the_end(self) -> None:
        """When the whole cluster stops, it is closed then."""
        self.worker.desk.draining = self.worker.final = True
        host = FakeHost()
        self.serving(host)
        self.assertEqual(host.gate.calls, ["finish"])

    def test_ends_once(self) -> None:
        """It ends in one place: what is closed departs no more, nor the other way round."""
        left, right = socket.socketpair()
        self.addCleanup(right.close)
        connection = self.serving(FakeHost())
        connection.closed()
        connection.departed(left, 3, b"held")
        connection.closed()
        self.assertEqual((self.worker.forgotten, self.worker.given), ([connection], []))
        self.assertEqual(right.recv(1), b"")
        other = self.serving(FakeHost())
        other.departed(right, 3, b"held")
        other.closed()
        self.assertEqual(self.worker.forgotten, [connection, other])
        ((_, place, handoff),) = self.worker.given
        self.assertEqual((place, handoff.prefix), (3, b"held"))

    def test_failing(self) -> None:
        """One that fails is closed, the failure is logged, and nothing is raised."""
        for command in (Connection.make_room, lambda c: c.let_go(False), lambda c: c.let_go(True)):
            host = FakeHost()
            host.gate.failing = True
            command(self.serving(host))
            self.assertEqual(host.calls, ["abort"])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_room(self) -> None:
        """Of those that are idle a part makes room, those first that were served."""
        hosts = [FakeHost(served=False), FakeHost(idle=False), FakeHost(), FakeHost()]
        connections = [self.serving(host) for host in hosts]
        make_room([*connections, self.connection()])
        self.assertEqual([host.gate.calls for host in hosts], [[], [], ["finish"], []])

    def test_room_by_the_unserved(self) -> None:
        """If none was served yet, those are closed that have asked for nothing."""
        host = FakeHost(served=False)
        make_room([self.serving(host)])
        self.assertEqual(host.gate.calls, ["finish"])

    def test_room_and_a_failure(self) -> None:
        """One that fails keeps no other from being closed."""
        hosts = [FakeHost() for _ in range(20)]
        hosts[0].gate.failing = True
        make_room([self.serving(host) for host in hosts])
        self.assertEqual(sum(host.gate.calls == ["finish"] for host in hosts), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
