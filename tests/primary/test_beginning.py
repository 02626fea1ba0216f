"""Connections for which no worker is ready: the first start, and later."""

from __future__ import annotations

from tests.primary.cases import WAIT, PrimaryCase, get
from tests.shells import (
    received,
)
from txsticky.primary.beginning import OTHERS


class ParkTests(PrimaryCase):
    """When no worker is ready."""

    def test_first_start(self) -> None:
        """Until all workers of the first start are ready, connections wait; then all are routed."""
        clients = [self.arrive(get(f"/{n}")) for n in range(3)]
        first = self.spawn()
        first.ready()
        self.reactor.settle()
        self.assertEqual((self.taken(), len(self.primary.room)), ([], 3))
        self.assertTrue(self.primary.beginning.under_way)
        self.spawn().ready()
        self.reactor.settle()
        self.assertEqual((len(self.taken()), len(self.primary.room)), (3, 0))
        self.assertFalse(self.primary.beginning.under_way)
        self.assertEqual([received(client) for client in clients], [None] * 3)

    def test_one_that_is_slow(self) -> None:
        """If one worker takes much longer than the others, those that are ready serve."""
        self.spawn()
        self.spawn()
        self.reactor.advance(WAIT - 1)
        client = self.arrive()
        self.workers[0].ready()
        self.reactor.settle()
        self.reactor.advance(OTHERS - 0.5)
        self.assertEqual(self.taken(), [])
        self.reactor.advance(0.5)
        self.assertEqual([worker for worker, _ in self.taken()], [1])
        self.arrive()
        self.assertEqual([worker for worker, _ in self.taken()], [1])
        self.assertIsNone(received(client))

    def test_none_is_refused_while_one_is_ready(self) -> None:
        """A client that has waited for its time by then is served by a ready worker, at once."""
        first, second = self.spawn(), self.spawn()
        client = self.arrive()
        self.reactor.advance(WAIT - 1)
        first.ready()
        self.reactor.settle()
        self.reactor.advance(1)
        self.assertEqual([worker for worker, _ in self.taken()], [1])
        self.assertEqual((received(client), self.primary.beginning.under_way), (None, False))
        second.ready()

    def test_ready_and_gone(self) -> None:
        """If the only ready worker dies while it waits, the first start goes on."""
        first, second = self.spawn(), self.spawn()
        first.ready()
        self.reactor.settle()
        first.die(-9)
        self.arrive()
        self.reactor.advance(OTHERS)
        self.assertTrue(self.primary.beginning.under_way)
        second.ready()
        self.reactor.settle()
        self.reactor.advance(OTHERS)
        self.assertEqual([worker for worker, _ in self.taken()], [2])

    def test_slow_first_start(self) -> None:
        """A first start may take long: what waits is refused only when its time is over."""
        refused = self.arrive()
        self.reactor.advance(WAIT - 1)
        self.assertIsNone(received(refused))
        self.reactor.advance(1)
        self.refused(refused)

    def test_half_a_head_at_the_first_start(self) -> None:
        """A client with half a head by then goes on with it, as HTTP or not as the workers say."""
        client = self.arrive(get()[:9])
        self.start()
        client.send(get()[9:])
        self.reactor.settle()
        ((_, handoff),) = self.taken()
        self.assertEqual(handoff.prefix, get())

    def test_nobody(self) -> None:
        """If no worker is ready and none comes, the client is refused at once."""
        self.start()
        for worker in self.workers:
            worker.die()
        self.refused(self.arrive())

    def test_somebody_comes(self) -> None:
        """Connections wait, in order, for a worker that is to come."""
        self.start()
        self.expects = True
        for worker in self.workers:
            worker.die()
        self.spawn()
        clients = [self.arrive(get(f"/{n}")) for n in range(3)]
        self.workers[2].ready()
        self.reactor.settle()
        self.assertEqual(
            [(worker, handoff.prefix) for worker, handoff in self.taken()[0:3]],
            [(3, get(f"/{n}")) for n in range(3)],
        )
        self.assertEqual([received(client) for client in clients], [None] * 3)

    def test_time(self) -> None:
        """Each connection waits for so long, and is refused then."""
        self.start()
        self.expects = True
        for worker in self.workers:
            worker.die()
        self.spawn()
        first = self.arrive()
        self.reactor.advance(WAIT - 1)
        second = self.arrive()
        self.reactor.advance(1)
        self.refused(first)
        self.assertIsNone(received(second))
        self.reactor.advance(WAIT - 2)
        self.assertIsNone(received(second))
        self.reactor.advance(1)
        self.refused(second)
        self.assertEqual(len(self.primary.room), 0)

    def test_too_many(self) -> None:
        """If too many connections wait, the next is refused at once."""
        clients = [self.arrive() for _ in range(self.config.backlog + 1)]
        self.assertIn(b"too many", self.refused(clients[-1]))
        self.assertEqual([received(client) for client in clients[:-1]], [None] * 20)

    def test_gone(self) -> None:
        """A client that has gone meanwhile is dropped, and the others keep their order."""
        clients = [self.arrive(get(f"/{n}")) for n in range(3)]
        clients[1].close()
        self.reactor.settle()
        self.assertEqual(len(self.primary.room), 2)
        self.start()
        took = [handoff.prefix for worker in self.workers for _, handoff in worker.hands]
        self.assertEqual(sorted(took), [get("/0"), get("/2")])

    def test_told_to_stop(self) -> None:
        """When the cluster is told to stop, a client that waits is refused at once."""
        self.start()
        self.expects = True
        for worker in self.workers:
            worker.die()
        client = self.arrive()
        self.primary.stopping()
        self.refused(client)

    def test_told_to_stop_at_the_first_start(self) -> None:
        """Connections that wait in a first start go to ready workers at a stop."""
        self.arrive()
        self.spawn().ready()
        self.reactor.settle()
        self.primary.stopping()
        self.assertEqual(len(self.taken()), 1)

    def test_stop(self) -> None:
        """A client that still waits when all is over is refused."""
        client = self.arrive()
        self.primary._ended(3, "it does not load")
        self.refused(client)
        self.assertEqual(self.told.ended.call_args.args, (3, "it does not load"))

    def test_nonsense(self) -> None:
        """Nonsense that came early gets 400 as soon as it is known what is spoken."""
        client = self.arrive(b"nonsense\r\n")
        self.start()
        self.assertTrue((received(client) or b"").startswith(b"HTTP/1.1 400 "))

    def test_nonsense_and_nobody(self) -> None:
        """Nonsense gets 400, too, if no worker gets ready in time."""
        client = self.arrive(b"nonsense\r\n")
        self.reactor.advance(WAIT)
        self.assertTrue((received(client) or b"").startswith(b"HTTP/1.1 400 "))


class NoWaitTests(PrimaryCase):
    """--queue-timeout 0."""

    options = {"queue_timeout": 0}

    def test_none_ready(self) -> None:
        """Nothing waits for a worker, not even for the first."""
        self.refused(self.arrive())
        self.start()
        self.supervisor.expects.side_effect = lambda seconds: True
        for worker in self.workers:
            worker.die()
        self.refused(self.arrive())
        self.assertEqual(len(self.primary.room), 0)

    def test_the_first_ready(self) -> None:
        """Nothing waits for the other workers of the first start."""
        self.spawn().ready()
        self.spawn()
        self.reactor.settle()
        self.arrive()
        self.assertEqual([worker for worker, _ in self.taken()], [1])

    def test_half_a_head(self) -> None:
        """A client with half a head when the first worker is ready goes on with it."""
        client = self.arrive(get()[:9])
        self.spawn().ready()
        self.reactor.settle()
        client.send(get()[9:])
        self.reactor.settle()
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [get()])
