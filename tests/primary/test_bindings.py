"""What workers are told of pool and table: a primary with played workers."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

from tests.primary.cases import PEER, PrimaryCase, get
from tests.raw_frames import Kind, decode_json, encode
from txsticky.core.how import How
from txsticky.core.messages.from_worker import Bind, Free
from txsticky.core.messages.handoff import Handoff, pack_handoff
from txsticky.core.messages.origin import Origin
from txsticky.ipc.channel import FULL
from txsticky.primary.supervision.worker_handle import WorkerHandle


class ReadyTests(PrimaryCase):
    """A worker gets ready."""

    def test_introductions(self) -> None:
        """A worker and those before it get the sending ends of each other's mailboxes."""
        self.count = 3
        self.start(3)
        for worker in self.workers:
            self.assertEqual(set(worker.peers), {1, 2, 3} - {worker.id})
        message = pack_handoff(Handoff(family=socket.AF_UNIX, origin=Origin(PEER)))
        server, _ = self.pair()
        self.workers[0].peers[3].sendFileDescriptor(server.detach())
        self.workers[0].peers[3].write(message)
        self.assertEqual(len(self.workers[2].take()), 1)

    def test_not_before(self) -> None:
        """A worker that is not ready is not introduced, and told nothing."""
        self.start(1)
        second = self.spawn()
        self.workers[0].send(Kind.BIND, b"key")
        self.reactor.settle()
        second.take()
        self.assertEqual((second.peers, second.frames()), ({}, []))
        self.assertEqual(self.workers[0].peers, {})

    def test_bindings(self) -> None:
        """A worker gets all bindings before it is told that it is in the pool."""
        self.start(1)
        for number in range(3):
            self.workers[0].send(Kind.BIND, b"key %d" % number)
        self.reactor.settle()
        second = self.spawn()
        second.ready()
        self.reactor.settle()
        frames = second.frames()
        self.assertEqual(frames[:3], [(Kind.BIND, b"1 key %d" % number) for number in range(3)])
        self.assertIs(frames[3][0], Kind.POOL)

    def test_pool(self) -> None:
        """All workers that are ready are told which workers there are."""
        self.start(1)
        self.spawn().ready()
        self.reactor.settle()
        for worker in self.workers:
            (body,) = worker.told(Kind.POOL)
            members = decode_json(body)["pool"]["members"]
            self.assertEqual([member[:3] for member in members], [[1, 1, "ready"], [2, 2, "ready"]])

    def test_suspect(self) -> None:
        """All workers hear at once that one is suspect, and avoid it from then on."""
        self.start(2)
        self.primary.workers.suspect(2, True)
        self.reactor.settle()
        for worker in self.workers:
            (body,) = worker.told(Kind.POOL)
            members = decode_json(body)["pool"]["members"]
            self.assertEqual([member[3] for member in members], [False, True])

    def test_supervisor(self) -> None:
        """The supervisor is told that a worker is ready."""
        self.start()
        self.assertEqual(self.supervisor.ready.call_args_list, [mock.call(1), mock.call(2)])

    def test_interface(self) -> None:
        """What the application is is known from the first ready worker on."""
        self.assertEqual(self.primary.spoken.interface, "auto")
        self.start()
        self.assertEqual((self.primary.spoken.interface, self.primary.spoken.http), ("web", True))


class BindTests(PrimaryCase):
    """Keys that applications bind."""

    count = 3

    def test_everybody_first(self) -> None:
        """When a worker hears that its key is bound, all others have the frame already."""
        self.start()
        order = []
        for handle in self.primary.workers.handles.values():
            real = handle.channel.send

            def send(frame: Any, real: Any = real, handle: Any = handle) -> None:
                real(frame)
                order.append((handle.id, Kind(frame.KIND), handle.channel.waiting))

            handle.channel.send = send
        self.workers[1].send(Kind.BIND, b"key")
        self.reactor.settle()
        self.assertEqual(order[-1], (2, Kind.BOUND, 0))
        self.assertEqual(sorted(order[:-1]), [(1, Kind.BIND, 0), (3, Kind.BIND, 0)])
        self.assertEqual(self.workers[0].told(Kind.BIND), [b"2 key"])
        self.assertEqual(self.workers[1].told(Kind.BIND, Kind.BOUND), [b""])

    def test_any_key(self) -> None:
        """A key may have any bytes, blanks included."""
        self.start()
        self.workers[0].send(Kind.BIND, b" a b\0\xff ")
        self.reactor.settle()
        self.assertEqual(self.workers[1].told(Kind.BIND), [b"1  a b\0\xff "])

    def change(self, change: Bind | Free) -> None:
        """Have worker 1 change the table, and worker 2 read what it is told."""
        self.primary.heard(self.primary.workers.handles[1], change)
        self.workers[1].frames()
        self.reactor.turn()

    def stopped(self) -> tuple[WorkerHandle, list[bytes]]:
        """
        Have worker 1 bind keys until worker 3, which does not read, is told no more.

        :returns: the handle of worker 3, and the keys.
        """
        self.start()
        third = self.primary.workers.handles[3]
        keys = []
        while not self.primary.replication.replica(3).stale:
            keys.append(b"%06d" % len(keys) + b"k" * 4000)
            self.change(Bind(keys[-1]))
            assert len(keys) < 2 * FULL // 4000, "there is no bound"
        return third, keys

    def read(self, handle: WorkerHandle) -> list[tuple[Kind, bytes]]:
        """Have a worker read all that waits for it."""
        got = []
        while handle.channel.waiting or not got:
            got += self.workers[handle.id - 1].frames()
            self.reactor.turn()
        return got + self.workers[handle.id - 1].frames()

    def test_stopped(self) -> None:
        """A worker that does not read makes the primary grow to a bound, and is given nothing."""
        third, _ = self.stopped()
        before = third.channel.waiting
        self.assertLess(before, FULL + 5000)
        for number in range(3000):
            self.change(Bind(b"%d" % number + b"l" * 4000))
            self.change(Free(b"%d" % number + b"l" * 4000))
            self.primary.replication.tell_pool()
        self.assertEqual(third.channel.waiting, before)
        self.assertEqual([member.id for member in self.primary.pool.candidates()], [1, 2])

    def test_continued(self) -> None:
        """A worker that reads again gets the pool and the table as they are, and connections."""
        third, keys = self.stopped()
        self.change(Free(keys[-1]))
        self.change(Bind(b"last"))
        told = self.read(third)
        (anew,) = [
            number
            for number, (kind, body) in enumerate(told)
            if kind is Kind.POOL and decode_json(body).get("anew")
        ]
        self.assertEqual(
            [body for kind, body in told[anew + 1 :] if kind is Kind.BIND],
            [b"1 %b" % key for key, _ in self.primary.replication.table.items()],
        )
        self.assertEqual(self.primary.replication.table.items()[-1], (b"last", 1))
        self.assertEqual([member.id for member in self.primary.pool.candidates()], [1, 2, 3])
        self.change(Bind(b"next"))
        self.assertEqual(self.workers[2].told(Kind.BIND), [b"1 next"])

    def test_killed(self) -> None:
        """Nothing is kept of a worker that is killed while it does not read."""
        self.stopped()
        self.workers[2].die(-9)
        self.primary.workers.suspect(3, True, "anything")
        self.assertEqual(self.primary.workers.suspicions.of(3), ())

    def test_views_are_replaced(self) -> None:
        """A worker that is behind gets no view of the pool until it has caught up, then one."""
        self.start()
        third = self.primary.workers.handles[3]
        while not third.channel.behind:
            third.channel.write(encode(Kind.MESSAGE, bytes(1 << 20)))
        before = third.channel.waiting
        for _ in range(100):
            self.primary.replication.tell_pool()
        self.assertEqual(third.channel.waiting, before)
        views = [decode_json(body) for kind, body in self.read(third) if kind is Kind.POOL]
        self.assertEqual(views, [{"pool": self.primary.pool.view()}])

    def test_free(self) -> None:
        """A freed key is freed everywhere."""
        self.start()
        self.workers[0].send(Kind.BIND, b"key")
        self.workers[1].send(Kind.FREE, b"key")
        self.reactor.settle()
        self.assertEqual(self.workers[0].told(Kind.FREE), [b"key"])
        self.assertEqual(self.workers[2].told(Kind.FREE), [b"key"])
        self.assertEqual(len(self.primary.replication.table), 0)

    def test_gone(self) -> None:
        """The keys of a worker that is gone belong to none."""
        self.start()
        self.workers[0].send(Kind.BIND, b"key")
        self.reactor.settle()
        self.workers[0].die(-9)
        self.arrive(get("/?sid=key"))
        ((_, handoff),) = self.taken()
        self.assertEqual((handoff.how, len(self.primary.replication.table)), (How.MISS, 0))
