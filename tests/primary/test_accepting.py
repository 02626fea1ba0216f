"""Workers that accept themselves, by a primary with played workers."""

from __future__ import annotations

import socket
from typing import Any

from tests.primary.cases import PEER, PrimaryCase, get
from tests.raw_frames import Kind
from tests.shells import (
    PlayedWorker,
)
from txsticky.core.how import How
from txsticky.core.messages.handoff import Handoff, pack_handoff
from txsticky.core.messages.origin import Origin
from txsticky.primary.beginning import OTHERS


class EntranceTests(PrimaryCase):
    """Workers that accept themselves."""

    options = {"accept": "workers"}

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.listening()
        self.primary.listeners.open(0, self.listener.dup(), True)
        self.primary.listeners.start()
        self.addCleanup(self.primary.listeners.close)

    def accepting(self) -> int:
        """At how many sockets the primary accepts."""
        return sum(a in self.reactor.readers for a in self.primary.listeners.acceptors)

    def entrance(self, worker: PlayedWorker, accepted: int, *routes: int, **more: Any) -> None:
        """Have a worker report what it has done at its entrance."""
        counted = {"accepted": accepted, "routes": routes, "refusals": [], "waiting": 0}
        worker.report(entrance={**counted, **more})
        self.reactor.settle()

    def test_inherited(self) -> None:
        """A worker gets the sockets of its slot, with the number of their endpoint."""
        for slot in (1, 2):
            worker = self.spawn()
            ((number, descriptor),) = worker.boot["listeners"]
            with worker.process.socket(descriptor) as sock:
                self.assertEqual(sock.getsockname(), self.listener.getsockname())
            ours = self.primary.listeners.of(slot)
            self.assertEqual([(number, descriptor)], ours)
        self.assertEqual(self.accepting(), 2)

    def test_beginning(self) -> None:
        """No worker is told to accept before connections are routed; then all ready ones are."""
        first, second = self.spawn(), self.spawn()
        first.ready()
        self.reactor.settle()
        self.assertEqual((first.told(Kind.ACCEPT), self.accepting()), ([], 2))
        second.ready()
        self.reactor.settle()
        told = [kind for kind, _ in first.frames() + second.frames()]
        self.assertEqual((told.count(Kind.ACCEPT), self.accepting()), (2, 0))

    def test_pool_comes_first(self) -> None:
        """A worker has the pool before it accepts."""
        worker = self.spawn()
        worker.ready()
        self.reactor.settle()
        self.reactor.advance(OTHERS)
        kinds = [kind for kind, _ in worker.frames()]
        self.assertLess(kinds.index(Kind.POOL), kinds.index(Kind.ACCEPT))

    def test_until_it_ends(self) -> None:
        """Where a worker is silent, drains or has ended, the primary accepts; and no longer."""
        self.start()
        self.assertEqual(self.accepting(), 0)
        self.primary.workers.suspect(1, True)
        self.assertEqual(self.accepting(), 1)
        self.primary.workers.suspect(1, False)
        self.assertEqual(self.accepting(), 0)
        self.primary.workers.retire(1, 5.0, final=False)
        self.assertEqual(self.accepting(), 1)
        self.workers[1].die(-9)
        self.reactor.settle()
        self.assertEqual(self.accepting(), 2)

    def test_counted(self) -> None:
        """What workers accept, place and refuse counts as if the primary had done it."""
        one, other = self.start()
        before = dict(self.primary.dispatcher.routes)
        self.entrance(one, 5, 1, 0, 0, 3, 1, refusals=[[400, 2]])
        self.entrance(one, 9, 1, 0, 0, 7, 1, refusals=[[400, 2], [408, 1]])
        self.entrance(other, 1, 1, 0, 0, 0, 0)
        self.assertEqual(self.primary.listeners.accepted, 10)
        more = {how.name: self.primary.dispatcher.routes[how] - before[how] for how in How}
        self.assertEqual(more, {"TAG": 2, "HIT": 0, "HASH": 0, "NEW": 7, "MISS": 1})
        self.assertEqual(dict(self.primary.reception.refusals), {400: 2, 408: 1})

    def test_counted_beyond_its_end(self) -> None:
        """What a worker has accepted stays counted when it has ended."""
        one, _ = self.start()
        self.entrance(one, 5, 0, 0, 0, 5, 0)
        one.die(-9)
        self.reactor.settle()
        self.assertEqual(self.primary.listeners.accepted, 5)
        self.assertEqual(self.primary.dispatcher.routes[How.NEW], 5)

    def test_short(self) -> None:
        """As long as a worker is short of descriptors the primary accepts, and spares it."""
        one, _ = self.start()
        one.report(short=True)
        self.reactor.settle()
        self.assertEqual(self.accepting(), 1)
        self.assertEqual({self.whose(get()) for _ in range(4)}, {2})
        one.report(short=False)
        self.reactor.settle()
        self.assertEqual(self.accepting(), 0)
        self.assertIn(1, {self.whose(get()) for _ in range(4)})

    def test_fresh(self) -> None:
        """A connection of which a worker has dealt with nothing is one that was just accepted."""
        self.start()
        server, _ = self.pair()
        handoff = Handoff(
            family=socket.AF_UNIX, origin=Origin(PEER), prefix=b"GET", hops=1, fresh=True
        )
        self.primary.returns.desk.fileDescriptorReceived(server.detach())
        self.primary.returns.desk.dataReceived(pack_handoff(handoff))
        (arrival,) = self.primary.reception.arrivals()
        self.assertEqual((arrival.hops, arrival.idle, arrival.proxied), (0, False, False))
