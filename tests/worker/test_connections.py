"""What the worker keeps of a connection, and the connections of a worker."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from tests.shells import ShellCase, ended, received
from tests.worker.cases import view
from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.core.lifecycle.life import LifeState
from txsticky.core.lifecycle.timing import NEXT_REQUEST
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.tls.connection import SecureConnection
from txsticky.tls.relay import RelayedServer
from txsticky.transport.gated import GatedServer, GatedUNIXServer
from txsticky.transport.nowhere import NOWHERE
from txsticky.transport.plain import PlainServer, PlainUNIXServer
from txsticky.worker.connections import Connection, Connections, Surroundings, make_room


class FakeGate:
    """As much of a gate as a connection asks for."""

    def __init__(self, idle: bool = True, served: bool = True, quiet: float = 0.0) -> None:
        self.host = SimpleNamespace(quiet=lambda: quiet)
        self.exchange = SimpleNamespace(idle=idle, tunnel=False)
        self.leaving = self.closing = False
        self.mover: Any = None
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

    def __init__(self, **gate: Any) -> None:
        self.gate = FakeGate(**gate)
        self.calls: list[str] = []
        self.open = True

    def live(self) -> bool:
        """Whether the host is open."""
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
        self.view = SimpleNamespace(draining=False, final=False, lame_duck=False)
        self.forgotten: list[Any] = []
        self.given: list[tuple[Any, int, Handoff]] = []

    def forget(self, connection: Connection) -> None:
        """Forget the connection."""
        self.forgotten.append(connection)

    def give(self, sock: Any, place: int, handoff: Handoff) -> None:
        """Give the connection away."""
        self.given.append((sock, place, handoff))


class ConnectionTests(SynchronousTestCase):
    """What the worker keeps of a connection."""

    def setUp(self) -> None:
        self.worker = FakeWorker()

    def connection(self, host: FakeHost | None = None) -> Connection:
        """A connection that is handed here, and has a host if one is given."""
        worker: Any = self.worker
        around = Surroundings(
            worker.view, worker.forget, worker.give, lambda protocol: False, mock.Mock()
        )
        connection = Connection(
            around, Handoff(family=socket.AF_INET, origin=Origin(("a", 1)), prefix=b"x")
        )
        if host is not None:
            connection.made(host)
        return connection

    def serving(self, host: FakeHost) -> Connection:
        """A connection of which all is delivered."""
        connection = self.connection(host)
        connection.begun()
        connection.delivered()
        return connection

    def test_states(self) -> None:
        """The state is the host's word, and while the connection is served the gate's."""
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
                LifeState.HANDED, LifeState.MADE, LifeState.BEGUN, LifeState.SERVING,
                LifeState.FLUSHING, LifeState.CLOSING, LifeState.DEPARTING, LifeState.GONE,
            ],
        )  # fmt: skip

    def test_gate(self) -> None:
        """The gate is the host's; there is none before there is a host, or before TLS is set up."""
        host = FakeHost()
        self.assertIs(self.connection(host).gate, host.gate)
        connection = self.connection()
        self.assertIsNone(connection.gate)
        connection.made(SecureConnection(mock.Mock(), connection.handoff))
        self.assertIsNone(connection.gate)

    def test_not_yet(self) -> None:
        """Before all is delivered a connection is not idle: neither closed for room nor let go."""
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
        """A connection that comes to a leaving worker is let go once all is delivered."""
        self.worker.view.draining = True
        host = FakeHost()
        self.serving(host)
        self.assertEqual(host.gate.calls, ["drain"])

    def test_comes_to_the_end(self) -> None:
        """A connection that comes while the whole cluster stops is closed once all is delivered."""
        self.worker.view.draining = self.worker.view.final = True
        host = FakeHost()
        self.serving(host)
        self.assertEqual(host.gate.calls, ["finish"])

    def test_host_that_decides(self) -> None:
        """A host that decides is told whether to end at once, as at a lame duck it need not."""
        view = self.worker.view
        for final, lame_duck in ((False, False), (True, False), (True, True)):
            host = FakeHost()
            connection = self.serving(host)
            host.let_go = mock.Mock(return_value=True)  # type: ignore[attr-defined]
            view.lame_duck = lame_duck
            self.assertTrue(connection.let_go(final))
            host.let_go.assert_called_once_with(final and not lame_duck)  # type: ignore[attr-defined]

    def test_ends_once(self) -> None:
        """A connection ends in one place: it is closed or departs, and never both."""
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
        self.assertEqual((handoff.how, handoff.replay), (How.NEW, None))

    def test_delivered_twice(self) -> None:
        """A leaving worker lets a connection go once, however often all of it is delivered."""
        self.worker.view.draining = True
        host = FakeHost()
        self.serving(host).delivered()
        self.assertEqual(host.gate.calls, ["drain"])

    def test_without_a_gate(self) -> None:
        """A connection without a gate is served, and is never idle: it lasts until it is closed."""
        host = FakeHost()
        host.gate = None  # type: ignore[assignment]
        connection = self.serving(host)
        self.assertIs(connection.state, LifeState.SERVING)
        told = connection.idle, connection.served, connection.quiet, connection.insist()
        self.assertEqual(told, (False, False, 0.0, False))
        connection.make_room()
        self.assertEqual([connection.let_go(final) for final in (False, True)], [False, False])
        self.assertEqual(host.calls, [])
        connection.close()
        self.assertEqual(host.calls, ["close"])

    def test_end_of_a_lame_duck(self) -> None:
        """An idle connection of a lame duck is closed a while after it was let go."""
        self.worker.view.lame_duck = True
        host = FakeHost()
        later: list[Any] = []
        host.gate.host.later = lambda *call: later.append(call)
        self.assertTrue(self.serving(host).let_go(True))
        self.assertEqual(host.gate.calls, [])
        ((seconds, action),) = later
        action()
        self.assertEqual((seconds, host.gate.calls), (NEXT_REQUEST, ["finish"]))

    def test_end_of_a_busy_one(self) -> None:
        """A connection with a request under way is not closed when the whole cluster stops."""
        host = FakeHost(idle=False)
        self.assertTrue(self.serving(host).let_go(True))
        self.assertEqual((host.gate.calls, host.calls), ([], []))

    def test_failing(self) -> None:
        """A connection that fails is closed, the failure is logged, and nothing is raised."""
        for command in (Connection.make_room, lambda c: c.let_go(False), lambda c: c.let_go(True)):
            host = FakeHost()
            host.gate.failing = True
            command(self.serving(host))
            self.assertEqual(host.calls, ["abort"])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_room(self) -> None:
        """Of idle connections a part makes room, first those that were served."""
        hosts = [FakeHost(served=False), FakeHost(idle=False), FakeHost(), FakeHost()]
        connections = [self.serving(host) for host in hosts]
        make_room([*connections, self.connection()])
        self.assertEqual([host.gate.calls for host in hosts], [[], [], ["finish"], []])

    def test_room_by_age(self) -> None:
        """Idle connections make room the oldest first, and of equals those that came first."""
        ages = [5, 9, 1, 9, 7] + 15 * [0] + [8]
        hosts = [FakeHost(quiet=age) for age in ages]
        connections = [self.serving(host) for host in hosts]
        left = []
        for _ in range(4):
            make_room(connections)
            left += [at for at, host in enumerate(hosts) if host.gate.calls and at not in left]
            for host in hosts:
                host.open = not host.gate.calls
        self.assertEqual(left, [1, 3, 4, 20, 0, 2, 5])

    def test_room_by_the_unserved(self) -> None:
        """If no idle connection was served yet, those that have asked for nothing make room."""
        host = FakeHost(served=False)
        make_room([self.serving(host)])
        self.assertEqual(host.gate.calls, ["finish"])

    def test_websocket_that_may_move(self) -> None:
        """A WebSocket that may move goes by itself, but not while the whole cluster stops."""
        for final in (False, True):
            host = FakeHost(idle=False)
            host.gate.exchange.tunnel = True
            host.gate.mover = mock.Mock()
            host.gate.drain = lambda: True  # type: ignore[method-assign]
            connection = self.serving(host)
            self.worker.view.final = final
            self.assertEqual(connection.let_go(final), not final)
            host.gate.mover.insist.return_value = True
            self.assertEqual(connection.insist(), not final)

    def test_last_moment(self) -> None:
        """A connection that is to be closed moves if it can, and is closed if not."""
        for leaves in (True, False):
            host = FakeHost()
            host.gate.mover = mock.Mock()
            host.gate.mover.leave_now.return_value = leaves
            self.serving(host).close()
            self.assertEqual(host.calls, [] if leaves else ["close"])

    def test_room_and_a_failure(self) -> None:
        """A connection that fails keeps no other from being closed."""
        hosts = [FakeHost() for _ in range(20)]
        hosts[0].gate.failing = True
        make_room([self.serving(host) for host in hosts])
        self.assertEqual(sum(host.gate.calls == ["finish"] for host in hosts), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Answering(Protocol):
    """Answers each piece."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]


class ConnectionsTests(ShellCase):
    """The connections of a worker."""

    def setUp(self) -> None:
        super().setUp()
        self.serving: Any = SimpleNamespace(
            http=False,
            factory=Factory.forProtocol(Answering),
            close_politely=lambda protocol: False,
        )
        self.changed = mock.Mock()
        self.given: list[Any] = []

    def connections(self, **options: Any) -> Connections:
        """The connections of a new worker."""
        made = Connections(
            {},
            NOWHERE,  # type: ignore[arg-type]
            self.serving,
            Conversation,
            options.get("secured"),
            view=view(),
            give=lambda *gift: self.given.append(gift),
            changed=self.changed,
            system=FakeSystem(reactor=self.reactor),
        )
        self.addCleanup(self.end, made)
        return made

    def end(self, connections: Connections) -> None:
        """Close all."""
        for connection in list(connections.live):
            connection.abort()
        self.reactor.settle()

    def hand(
        self, connections: Connections, secure: bool = False, tcp: bool = False
    ) -> socket.socket:
        """Hand a connection; returns the client's end."""
        server, client = self.connected() if tcp else self.pair()
        handoff = Handoff(
            family=server.family, origin=Origin(("192.0.2.7", 1), secure=secure), prefix=b"x"
        )
        connections.adopt(socket.socket(fileno=server.detach()), handoff)
        self.reactor.settle()
        return client

    def test_served(self) -> None:
        """A connection is served from its first bytes on, which are not kept, and is counted."""
        connections = self.connections()
        client = self.hand(connections)
        self.assertEqual(received(client), b"x")
        (connection,) = connections.live
        self.assertEqual((connection.handoff.prefix, connections.adopted), (b"", 1))
        client.close()
        self.reactor.settle()
        self.assertEqual((connections.live, self.changed.call_count), ({}, 2))

    def test_transport(self) -> None:
        """The transport is that of the socket's family, with a gate in it for HTTP."""
        connections = self.connections()
        for tcp in (True, False):
            self.hand(connections, tcp=tcp)
        self.serving.http = True
        for tcp in (True, False):
            self.hand(connections, tcp=tcp)
        self.hand(connections, secure=True)
        self.assertEqual(
            [(type(c.transport), c.gate is not None) for c in connections.live],
            [
                (PlainServer, False),
                (PlainUNIXServer, False),
                (GatedServer, True),
                (GatedUNIXServer, True),
                (RelayedServer, True),
            ],
        )

    def test_secured(self) -> None:
        """A connection goes to what ends TLS, but for one whose TLS another worker ends."""
        secured = mock.Mock(return_value=self.serving.factory)
        self.serving.http = True
        connections = self.connections(secured=secured)
        self.hand(connections)
        self.hand(connections, secure=True)
        self.assertEqual(secured.call_count, 1)

    def test_native(self) -> None:
        """Where the application brings its own transports, a connection that fails is closed."""
        self.serving.adopt = mock.Mock(side_effect=ZeroDivisionError)
        connections = self.connections()
        client = self.hand(connections)
        self.assertEqual((ended(client), connections.live), (True, {}))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_refused(self) -> None:
        """A connection that the application refuses is closed and forgotten."""
        self.serving.factory.buildProtocol = lambda address: None
        connections = self.connections()
        client = self.hand(connections)
        self.assertEqual((ended(client), connections.live), (True, {}))
