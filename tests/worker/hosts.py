"""What the tests of hosts share: commands by chance on one kind of host, and clients."""

from __future__ import annotations

import asyncio
import collections
import random
import socket
import unittest
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
from twisted.internet.protocol import Factory, Protocol

from tests.raw_frames import Kind
from tests.shells import received
from tests.worker.cases import WorkerCase
from txsticky.core.how import How
from txsticky.core.lifecycle.life import ANSWERS, LifeAnswer, LifeCommand, LifeState
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.worker.connections import Connection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


#: More than the kernel takes at once.
BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000)


#: So many runs for each host, each with its own seed.
RUNS = 40


STEPS = 60


class Inner:
    """The application's protocol on any host: answers when the test says so, or at once."""

    case: HostCase
    transport: Any
    #: Whether it is to write no more.
    held_up = False

    def hold_up(self) -> None:
        """Write no more until `go_on`."""
        assert not self.held_up, "paused twice"
        self.held_up = True

    def go_on(self) -> None:
        """Write again."""
        assert self.held_up, "resumed twice"
        self.held_up = False

    def produce(self) -> None:
        """Have the transport tell when to write."""

    def came(self) -> None:
        """Note that the protocol is connected."""
        self.got, self.answers, self.over = b"", 0, False
        self.case.inners.append(self)
        self.case.meanwhile(self)

    def take(self, data: bytes) -> None:
        """Take bytes, and answer each request unless the test says so."""
        self.got += data
        if self.case.chance.random() < 0.5:
            self.answer()
        self.case.meanwhile(self)

    def answer(self) -> None:
        """Answer what has been asked."""
        while self.answers < self.got.count(b"\r\n\r\n") and not self.over:
            self.answers += 1
            self.transport.write(self.case.chance.choice((OK, OK, OK, BIG)))


class TwistedInner(Inner, Protocol):
    """A protocol on a transport of Twisted."""

    def connectionMade(self) -> None:
        self.came()

    def dataReceived(self, data: bytes) -> None:
        self.take(data)

    def connectionLost(self, reason: Any = None) -> None:
        assert not self.over, "lost twice"
        self.over = True

    def produce(self) -> None:
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.held_up = True  # Twisted tells it with every piece

    def resumeProducing(self) -> None:
        self.go_on()

    def stopProducing(self) -> None:
        pass

    def close(self) -> None:
        """Close."""
        self.transport.loseConnection()

    def pause(self, flag: bool) -> None:
        """Want no more, or want more."""
        (self.transport.pauseProducing if flag else self.transport.resumeProducing)()


class AsyncioInner(Inner, asyncio.Protocol):
    """A protocol on a transport of asyncio, or on one that looks like it."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.came()

    def data_received(self, data: bytes) -> None:
        self.take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        assert not self.over, "lost twice"
        self.over = True

    def pause_writing(self) -> None:
        self.hold_up()

    def resume_writing(self) -> None:
        self.go_on()

    def close(self) -> None:
        """Close."""
        self.transport.close()

    def pause(self, flag: bool) -> None:
        """Want no more, or want more."""
        (self.transport.pause_reading if flag else self.transport.resume_reading)()


class Peer:
    """
    A client.

    :ivar sent: what it has sent, as the application is to see it.
    :ivar cut: whether the connection was ended for a reason that may cost bytes.
    """

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.sock = sock
        self.sent = b""
        self.cut = False
        self.brought = b""
        self.inners: list[Inner] = []
        self.connection: Connection

    def request(self, elsewhere: str = "") -> bytes:
        """Make a request that says whose it is."""
        query = f"?sid={elsewhere}" if elsewhere else ""
        return f"GET /peer{self.number}/{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    def send(self, data: bytes) -> None:
        """Send bytes, if there is a protocol to take them."""
        try:
            self.sock.send(data)
        except OSError:
            return
        self.sent += data

    def turn(self) -> None:
        """Take what has come."""
        try:
            received(self.sock)
        except OSError:
            pass


class Calm(random.Random):
    """Chance that brings the usual, and nothing at a time of its own."""

    def random(self) -> float:
        return 0.9

    def choice(self, seq: Any) -> Any:
        return seq[0]


class HostCase(WorkerCase):
    """One worker on one kind of host, and clients."""

    make_inner: ClassVar[type[Any]] = TwistedInner
    #: Whether a gate looks for requests; whether another worker has ended TLS.
    framed: ClassVar[bool] = True
    secure: ClassVar[bool] = False
    #: The states in which commands have to come.
    wanted: ClassVar[set[LifeState]] = set()
    seed = 0

    def setUp(self) -> None:
        Inner.case = self
        self.inners: list[Inner] = []
        self.peers: list[Peer] = []
        self.chance = random.Random(self.seed)
        self.acting = False
        super().setUp()
        self.visited: collections.Counter[tuple[LifeState, LifeCommand]] = collections.Counter()

    # ------------------------------------------------------------------ the host

    def prepare(self) -> None:
        """Make ready what serves."""
        self.serving.factory = Factory.forProtocol(self.make_inner)

    def step(self) -> None:
        """Let a little happen."""
        self.reactor.turn()
        for peer in self.peers:
            peer.turn()

    def pass_time(self) -> None:
        """Let deadlines come."""
        self.reactor.advance(self.chance.choice((0.01, 0.2, 1.0, 3.0)))

    def settle(self) -> None:
        """Let everything happen that is to happen."""
        for _ in range(25):
            self.step()

    def adopted(self) -> tuple[Peer, socket.socket, bytes]:
        """A new client, the server's end, and what the connection brings."""
        server, client = socket.socketpair()
        self.owned(client)
        client.setblocking(False)
        peer = Peer(len(self.peers), client)
        whole = peer.request()
        brought = self.chance.choice(
            (whole, whole, whole[:9], b"", whole + whole[:5], whole + peer.request(self.tag(3)))
        )
        peer.sent = peer.brought = brought
        return peer, server, brought

    # ------------------------------------------------------------------ one run

    def run_once(self, seed: int) -> None:
        """Do what chance wants, and look whether the rules hold."""
        self.chance = random.Random(seed)
        self.ends: collections.Counter[Connection] = collections.Counter()
        forget = self.forgetting(lambda connection: None)

        def forgotten(connection: Connection) -> None:
            self.ends[connection] += 1
            forget(connection)

        self.forgetting(forgotten)
        self.begin()
        for _ in range(STEPS):
            self.act()
            if not self.reactor.running:
                break
        self.come_to_rest()
        self.check(seed)

    def forgetting(self, forget: Callable[[Connection], None]) -> Callable[[Connection], None]:
        """Have connections that come from now on forgotten so; returns how it was done before."""
        connections = self.worker.connections
        before = connections._around.forget
        connections._around = attrs.evolve(connections._around, forget=forget)
        return before

    def act(self) -> None:
        """Have one thing happen, from outside or from inside."""
        chance = self.chance
        action = chance.choices(
            (
                self.hand,
                self.step,
                self.pass_time,
                self.command,
                self.client_acts,
                self.inner_acts,
                self.confirm,
            ),
            (5, 12, 1, 6, 6, 4, 1),
        )[0]
        action()

    def meanwhile(self, inner: Inner) -> None:
        """Have something happen inside a callback of the protocol."""
        if not self.acting and self.chance.random() < 0.2:
            self.acting = True
            try:
                self.chance.choice((self.command, self.inner_acts))()
            finally:
                self.acting = False

    def hand(self) -> None:
        """Hand the worker a connection."""
        if len(self.peers) > 5:
            return
        peer, server, brought = self.adopted()
        self.peers.append(peer)
        before, inners = set(self.worker.connections.live), len(self.inners)
        where = ("192.0.2.7", 50000 + peer.number)
        made: list[Connection] = []
        real = self.worker.connections._around.forget

        def made_and_gone(connection: Connection) -> None:
            made.append(connection)
            real(connection)

        self.forgetting(made_and_gone)
        self.worker.connections.adopt(
            server,
            Handoff(
                family=server.family,
                origin=Origin(where, ("", 0), self.secure),
                how=How.NEW,
                prefix=brought,
            ),
        )
        self.forgetting(real)
        peer.connection = [*(self.worker.connections.live.keys() - before), *made][0]
        if not self.framed:
            peer.inners = self.inners[inners : inners + 1]

    def command(self) -> None:
        """Give a command from outside, in whatever state a connection is."""
        if not self.peers:
            return
        command = self.chance.choices(
            (
                LifeCommand.ROOM,
                LifeCommand.LEAVE,
                LifeCommand.STOP,
                LifeCommand.CLOSE,
                LifeCommand.ABORT,
            ),
            (8, 1, 1, 2, 1),
        )[0]
        peer = self.chance.choice(self.peers)
        connection = getattr(peer, "connection", None)
        if connection is None:
            return
        if command in (LifeCommand.LEAVE, LifeCommand.STOP):
            for each in list(self.worker.connections.live):
                self.visited[each.state, command] += 1
            self.worker.drain.begin(30.0, final=command is LifeCommand.STOP)
            return
        before = connection.state
        answer = ANSWERS[before][command]
        self.visited[before, command] += 1
        if command is LifeCommand.ROOM:
            connection.make_room()
        elif command is LifeCommand.CLOSE:
            peer.cut = True
            connection.close()
        else:
            peer.cut = True
            connection.abort()
        if answer in (LifeAnswer.NOTHING, LifeAnswer.LATER):
            self.assertIs(connection.state, before, f"{command} in {before}")

    def client_acts(self) -> None:
        """Have a client send, or leave."""
        if not self.peers:
            return
        peer = self.chance.choice(self.peers)
        what = self.chance.random()
        if what < 0.85:
            behind = peer.sent[peer.sent.rfind(b"\r\n\r\n") + 4 :] if peer.sent else b""
            if b"\r\n\r\n" not in peer.sent:
                behind = peer.sent
            peer.send(peer.request()[len(behind) :] if behind else self.next_request(peer))
        else:
            peer.cut = True
            if what < 0.95:
                self.half_close(peer)
            else:
                peer.sock.close()
                peer.turn = lambda: None  # type: ignore[method-assign]
                peer.send = lambda data: None  # type: ignore[method-assign]

    def next_request(self, peer: Peer) -> bytes:
        """Make a request for this worker or for another one."""
        return peer.request(self.chance.choice(("", "", self.tag(3))))

    def half_close(self, peer: Peer) -> None:
        """Have a client say that it sends no more."""
        try:
            peer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        peer.send = lambda data: None  # type: ignore[method-assign]

    def inner_acts(self) -> None:
        """Have a protocol answer, close, pause, go on or bind a key."""
        inners = [inner for inner in self.inners if not inner.over]
        if not inners:
            return
        inner = self.chance.choice(inners)
        what = self.chance.choices(
            ("answer", "pause", "resume", "close", "bind"), (8, 2, 3, 0.5, 1)
        )[0]
        if what == "answer":
            inner.answer()
        elif what == "bind":
            self.worker.bindings.bind(b"key")
        elif what == "close":
            for peer in self.peers:
                peer.cut = peer.cut or b"/peer%d/" % peer.number in inner.got or not inner.got
            inner.close()  # type: ignore[attr-defined]
        else:
            inner.pause(what == "pause")  # type: ignore[attr-defined]

    def confirm(self) -> None:
        """Confirm all bindings, as the primary does."""
        for _ in range(self.worker.bindings.unconfirmed):
            self.say(Kind.BOUND)

    def come_to_rest(self) -> None:
        """Hold nothing up any more, and have everything answered."""
        self.chance.random = lambda: 0.3  # type: ignore[method-assign]
        self.acting = True
        for _ in range(6):
            self.confirm()
            for inner in list(self.inners):
                if not inner.over:
                    inner.pause(False)  # type: ignore[attr-defined]
                    inner.answer()
            self.settle()

    # ----------------------------------------------------------------- the rules

    def check(self, seed: int) -> None:
        """Assert the rules."""
        told = f"seed {seed}"
        self.assertEqual(self.flushLoggedErrors(), [], told)
        moved: dict[int, bytes] = {}
        self.relayed: dict[int, bytes] = {}
        for box in self.boxes.values():
            box.read()
            for sock, handoff in box.got:
                number = handoff.origin.peer[1] - 50000
                self.assertNotIn(number, moved, f"{told}: in two places")
                try:
                    rest = received(sock) or b""
                except OSError:
                    rest = b""
                place = self.relayed if handoff.origin.secure and not self.secure else moved
                place[number] = handoff.prefix + rest
        for peer in self.peers:
            self.check_peer(peer, moved.get(peer.number), f"{told}, peer {peer.number}")
        for peer in self.peers:
            peer.connection.abort()
        self.settle()
        self.assertEqual(self.worker.connections.live, {}, told)
        for peer in self.peers:
            self.assertIs(peer.connection.state, LifeState.GONE, told)
            self.assertEqual(self.ends[peer.connection], 1, told)
        self.assertEqual(self.flushLoggedErrors(), [], told)

    def check_peer(self, peer: Peer, moved: bytes | None, told: str) -> None:
        """Assert that all that a client has sent is at the application, on its way, or was cut."""
        mark = b"/peer%d/" % peer.number
        inners = peer.inners or [inner for inner in self.inners if mark in inner.got]
        delivered = b"".join(inner.got for inner in inners)
        delivered += self.relayed.get(peer.number, b"")
        if moved is not None:
            self.assertEqual(peer.connection.state, LifeState.GONE, told)
            if not peer.cut:
                self.assertEqual(delivered + moved, peer.sent, told)
            else:
                self.assertTrue(peer.sent.startswith(delivered + moved), told)
        elif not peer.cut:
            first = peer.brought.find(b"\r\n\r\n") + 4
            if first >= 4:
                self.assertTrue(delivered.startswith(peer.brought[:first]), told)
            if peer.connection.state is not LifeState.SERVING:
                # Idle, it was closed, which crosses with what the client has sent meanwhile.
                self.assertTrue(peer.sent.startswith(delivered), told)
                answers = ANSWERS[peer.connection.state].values()
                self.assertNotIn(LifeAnswer.LATER, answers, told)  # all was delivered
            elif peer.number in self.relayed:
                # Nothing answers there, so that what follows is held.
                self.assertTrue(peer.sent.startswith(delivered), told)
            elif not self.framed:
                self.assertEqual(delivered, peer.sent, told)
            else:
                whole = peer.sent[: peer.sent.rfind(b"\r\n\r\n") + 4]
                self.assertEqual(delivered, whole if b"\r\n\r\n" in peer.sent else b"", told)

    def withhold(self) -> None:
        """A binding is not confirmed: a response is produced up to a limit, and goes on then."""
        self.chance = Calm()
        self.begin()
        self.hand()
        self.settle()
        if not self.inners:
            self.peers[0].send(self.peers[0].request())
            self.settle()
        (inner,) = self.inners
        inner.produce()
        self.worker.bindings.bind(b"key")
        inner.transport.write(BIG[:-1_000_000])
        size = 0
        while size < 1_000_000 and not inner.held_up:
            inner.transport.write(bytes(10_000))
            size += 10_000
        self.settle()
        self.assertTrue(inner.held_up)
        self.assertLess(size, 200_000)
        self.say(Kind.BOUND)
        self.settle()
        self.assertFalse(inner.held_up)
        self.peers[0].connection.abort()
        self.settle()

    def one_run(self) -> None:
        """One run, with one seed."""
        self.run_once(self.seed)

    def fuzz(self) -> None:
        """All runs. Commands have to come in these states, or they would not show much."""
        met: collections.Counter[tuple[LifeState, LifeCommand]] = collections.Counter()
        for seed in range(RUNS):
            case = type(self)("one_run")
            case.seed = seed
            result = unittest.TestResult()
            case.run(result)
            for _, trace in (*result.errors, *result.failures):
                self.fail(f"seed {seed}: {trace}")
            met += case.visited
        states = {state for state, _ in met}
        self.assertEqual(self.wanted - states, set(), met)
