"""What a worker is told of pool and table, at whatever pace it reads."""

from __future__ import annotations

from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from tests.raw_frames import FrameReader, Kind, decode_json, encode_json
from txsticky.core.messages.frames import Frame
from txsticky.core.messages.frames import FrameReader as TypedReader
from txsticky.core.messages.frames import encode as encode_typed
from txsticky.core.messages.from_primary import FROM_PRIMARY, Bound, Freed, View
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.table import TOLD_EVERY, Table
from txsticky.primary.replicas.renewal import PAUSE, PIECE
from txsticky.primary.replicas.replica import Replica
from txsticky.primary.replicas.replication import (
    ALL_KNOWN,
    CHANGE_INTERVAL,
    VIEW_INTERVAL,
    VIEWS_AT_ONCE,
    Replication,
)

HIGH, FULL = 200, 500


class Pipe:
    """A channel with little room, whose reader reads when it is told to."""

    #: Whether the kernel takes nothing, so that all waits that was not read.
    slow = False

    def __init__(self) -> None:
        self.backlog = b""
        self.most = 0

    @property
    def waiting(self) -> int:
        return len(self.backlog) if self.slow else 0

    @property
    def behind(self) -> bool:
        return len(self.backlog) > HIGH

    @property
    def full(self) -> bool:
        return len(self.backlog) > FULL

    def write(self, data: bytes) -> None:
        self.backlog += data
        self.most = max(self.most, len(self.backlog))

    def send(self, frame: Frame) -> None:
        self.write(encode_typed(frame))

    def read(self, size: int) -> tuple[bytes, bool]:
        """Read so much; returns it, and whether the reader has caught up by that."""
        was_behind = self.behind
        data, self.backlog = self.backlog[:size], self.backlog[size:]
        return data, was_behind and not self.behind


class ReplicaMachine(RuleBasedStateMachine):
    """A table that changes, and a worker that reads a piece of what it is told at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.pipe = Pipe()
        self.table: dict[bytes, int] = {}
        self.version = 0
        self.distrusted = False
        self.replica = Replica(
            "worker 1",
            self.pipe,  # type: ignore[arg-type]
            lambda anew: View({"version": self.version}, anew),
            lambda: [encode_typed(Bound(key, owner)) for key, owner in self.table.items()],
            self.distrust,
        )
        self.frames = FrameReader(1 << 20)
        self.known: dict[bytes, int] = {}
        self.seen = 0
        self.tell_pool()

    def distrust(self, flag: bool) -> None:
        """Note that connections avoid the worker."""
        assert flag != self.distrusted, "told twice"
        self.distrusted = flag

    @rule(key=st.sampled_from([b"a", b"b", b"c", b"d"]), worker=st.integers(1, 3))
    def bind(self, key: bytes, worker: int) -> None:
        """Bind a key."""
        key += b"k" * 40
        self.table[key] = worker
        self.replica.tell(Bound(key, worker))

    @rule(key=st.sampled_from([b"a", b"b", b"c", b"d"]))
    def free(self, key: bytes) -> None:
        """Free a key."""
        key += b"k" * 40
        self.table.pop(key, None)
        self.replica.tell(Freed(key))

    @rule()
    def tell_pool(self) -> None:
        """Have the pool change."""
        self.version += 1
        self.replica.tell_pool(encode_json(Kind.POOL, pool={"version": self.version}))

    @rule()
    def upgrade(self) -> None:
        """Have another program take over, which does not know what was not sent."""
        if self.pipe.behind:
            if not self.replica.stale:
                self.distrusted = True  # what it begins with, as far as this test can tell
            self.replica.missed()

    @rule(size=st.integers(1, 400))
    def read(self, size: int) -> None:
        """Have the worker read a piece."""
        data, relieved = self.pipe.read(size)
        for kind, body in self.frames.feed(data):
            if kind is Kind.POOL:
                fields = decode_json(body)
                self.seen = fields["pool"]["version"]
                if fields.get("anew"):
                    self.known.clear()
            elif kind is Kind.BIND:
                owner, _, key = body.partition(b" ")
                self.known[key] = int(owner)
            else:
                self.known.pop(body, None)
        if relieved:
            self.replica.caught_up()

    @invariant()
    def bounded(self) -> None:
        """What waits is bounded: by what fills it, or by a table on top of the high water."""
        assert self.pipe.most <= FULL + 4 * 60 + 100

    @invariant()
    def distrusted_if_stale(self) -> None:
        """Exactly a worker whose table is out of date is avoided."""
        assert self.replica.stale == self.distrusted

    def teardown(self) -> None:
        """When everything is read the worker knows what the primary knows."""
        for _ in range(100):
            self.read(400)
        assert not self.pipe.backlog
        assert (self.known, self.seen) == (self.table, self.version)
        assert not self.replica.stale


class ReplicaTests(SynchronousTestCase):
    """A replica, as the primary sees it."""

    def test_any_story(self) -> None:
        """However a worker reads, what waits is bounded, and in the end it knows everything."""
        run_state_machine_as_test(
            ReplicaMachine,
            settings=settings(max_examples=60, stateful_step_count=50, deadline=None),
        )


class Worker:
    """A worker that is told things."""

    name = "a worker"

    def __init__(self, id: int) -> None:
        self.id = id
        self.slot = (id - 1) % 40 + 1
        self.channel = Pipe()
        self.introduced: list[int] = []

    def introduce(self, other: Worker) -> None:
        self.introduced.append(other.id)

    def heard(self) -> list[Frame]:
        """What the worker was told since the last call."""
        data, self.channel.backlog = self.channel.backlog, b""
        return list(TypedReader(FROM_PRIMARY, 1 << 20).feed(data))


class ReplicationCase(SynchronousTestCase):
    """Three workers, and what each is told."""

    def setUp(self) -> None:
        self.system = FakeSystem()
        self.pool = Pool()
        self.table = Table(100, 60.0)
        self.joined: list[int] = []
        self.replication = Replication(self.pool, self.table, self.system, mock.Mock())
        self.workers = [self.join(id) for id in (1, 2, 3)]

    def join(self, id: int, together: bool = True) -> Worker:
        """Have a worker become ready."""
        worker = Worker(id)
        self.pool.add(id, id)
        joined = lambda: self.joined.append(id)  # noqa: E731
        self.replication.join(worker, together, joined)  # type: ignore[arg-type]
        return worker

    def heard(self) -> list[list[Frame]]:
        """What each worker was told since the last call."""
        return [worker.heard() for worker in self.workers]


class ReplicationTests(ReplicationCase):
    """What is told of loads and uses."""

    def test_used(self) -> None:
        """The use of a key in one worker is told to the others, and counts here."""
        self.table.bind(b"a", 2, self.system.clock())
        self.system.reactor.advance(50.0)
        self.replication.used(1, [b"a", b"unknown"])
        self.assertEqual(self.heard(), [[], [Bound(b"a", 2)], [Bound(b"a", 2)]])
        self.system.reactor.advance(50.0)
        self.assertEqual(self.table.find(b"a", self.system.clock()), 2)

    def test_used_here(self) -> None:
        """The use of a key in the primary is told with the loads, once."""
        self.table.bind(b"a", 2, self.system.clock())
        self.system.reactor.advance(TOLD_EVERY)
        self.table.find(b"a", self.system.clock())
        self.replication.tell_pool()
        self.heard()
        for told in ([Bound(b"a", 2)], []):
            self.replication.tell_pool_soon()
            self.system.reactor.advance(VIEW_INTERVAL)
            self.assertEqual(self.heard(), [told] * 3)

    def test_used_and_behind(self) -> None:
        """A worker that does not read is not told of uses."""
        self.table.bind(b"a", 2, self.system.clock())
        self.workers[2].channel.write(b"x" * (HIGH + 1))
        before = self.workers[2].channel.backlog
        self.replication.used(1, [b"a"])
        self.assertEqual(self.workers[2].channel.backlog, before)

    def test_loads(self) -> None:
        """Views are sent when loads have changed, and are not when they have not."""
        self.replication.tell_pool()
        self.heard()
        self.replication.tell_pool_soon()
        self.system.reactor.advance(VIEW_INTERVAL)
        self.assertEqual(self.heard(), [[], [], []])
        self.pool.report(1, 7, 0, 0.0)
        self.replication.tell_pool_soon()
        self.system.reactor.advance(VIEW_INTERVAL)
        self.assertEqual(self.heard(), [[View(self.pool.view())]] * 3)

    def test_lame_duck(self) -> None:
        """Workers are told at once that the cluster is to stop, and later ones as they come."""
        self.replication.tell_lame_duck()
        self.workers.append(self.join(4))
        self.replication.tell_pool()
        told = [[frame.lame_duck for frame in worker] for worker in self.heard()]  # type: ignore[attr-defined]
        self.assertEqual(told, [[True, True]] * 3 + [[True]])

    def test_many(self) -> None:
        """With twice as many workers a view comes half as often."""
        self.workers += [self.join(id) for id in range(4, 2 * VIEWS_AT_ONCE + 1)]
        self.pool.report(1, 7, 0, 0.0)
        self.replication.tell_pool_soon()
        self.system.reactor.advance(1.9 * VIEW_INTERVAL)
        self.assertEqual(self.workers[0].heard(), [])
        self.system.reactor.advance(0.1 * VIEW_INTERVAL)
        self.assertEqual(self.workers[0].heard(), [View(self.pool.view())])

    def test_changes_of_many(self) -> None:
        """Changes are told together to many workers; one that needs them gets them at once."""
        self.workers += [self.join(id) for id in range(4, 2 * VIEWS_AT_ONCE + 1)]
        self.pool.set_ready(1)
        self.replication.tell_pool(2)
        self.replication.tell_pool(99)
        first, second = self.workers[:2]
        self.assertEqual((first.heard(), second.heard()), ([], [View(self.pool.view())]))
        self.pool.set_ready(2)
        self.replication.tell_pool()
        self.system.reactor.advance(1.9 * CHANGE_INTERVAL)
        self.assertEqual(first.heard(), [])
        self.system.reactor.advance(0.1 * CHANGE_INTERVAL)
        self.assertEqual(first.heard(), [View(self.pool.view())])
        self.assertEqual(self.system.reactor.getDelayedCalls(), [])

    def test_changes_before_the_end(self) -> None:
        """What is to be told soon is told before another program takes over, and once."""
        self.workers += [self.join(id) for id in range(4, 2 * VIEWS_AT_ONCE + 1)]
        self.replication.tell_pool()
        self.replication.finish()
        self.assertEqual(self.workers[0].heard(), [View(self.pool.view())])
        self.replication.tell_pool()
        self.replication.close()
        self.assertEqual(self.system.reactor.getDelayedCalls(), [])

    def test_strangers(self) -> None:
        """A worker of many is introduced to its predecessor, and to a worker that asks."""
        self.workers += [self.join(id) for id in range(4, 42)]
        first, last, newest = self.workers[0], self.workers[15], self.workers[40]
        self.assertEqual(len(last.introduced), ALL_KNOWN - 1)
        self.assertEqual(self.workers[16].introduced, [])
        self.assertEqual((first.introduced[-2:], newest.introduced), ([16, 41], []))
        self.replication.introduce(41, 7)
        self.replication.introduce(41, 99)
        self.replication.introduce(99, 7)
        self.assertEqual(newest.introduced, [7])


class RenewalTests(ReplicationCase):
    """A worker joins while there are bindings for three pieces."""

    def setUp(self) -> None:
        super().setUp()
        self.table = self.replication.table = Table(100_000, 60.0)
        for number in range(2 * PIECE + 1):
            self.table.bind(b"%d" % number, 1 + number % 2, 0.0)
        self.keys = self.table.keys()

    def test_pieces(self) -> None:
        """A worker gets the next piece when the kernel has taken the last; then it has joined."""
        for together in (True, False):
            self.joined.clear()
            worker = self.join(4, together)
            worker.channel.slow = True
            counts = []
            while 4 not in self.joined:
                self.system.reactor.pump([PAUSE] * 3)
                frames = worker.heard()
                counts.append(sum(len(getattr(frame, "keys", [0])) for frame in frames))
            self.assertEqual(counts, [PIECE, PIECE, 1, 0])
            self.replication.leave(4)
            self.pool.set_gone(4)

    def test_changes(self) -> None:
        """What changes while a worker joins is told at once; what was freed stays so."""
        worker = self.join(4)
        known = dict.fromkeys(self.taken(worker.heard()))
        self.replication.free(1, self.keys[-1])
        self.replication.bind(self.workers[0], b"new")
        self.system.reactor.pump([0] * 5)
        frames = worker.heard()
        self.assertEqual(frames[:2], [Freed(self.keys[-1]), Bound(b"new", 1)])
        known.update(dict.fromkeys(self.taken(frames[2:])))
        self.assertEqual(set(known), set(self.keys[:-1]))

    def taken(self, frames: list[Frame]) -> list[bytes]:
        """The keys in frames of a piece."""
        return [key for frame in frames for key in frame.keys]  # type: ignore[attr-defined]

    def test_leaves(self) -> None:
        """A worker that leaves before it has joined is told nothing more."""
        self.join(4)
        self.replication.leave(4)
        self.assertEqual((self.system.reactor.getDelayedCalls(), 4 in self.joined), ([], False))

    def test_finish(self) -> None:
        """The whole rest can be sent at once, for another program that takes over."""
        worker = self.join(4)
        self.replication.finish()
        self.assertEqual(len(self.taken(worker.heard())), len(self.keys))
        self.assertIn(4, self.joined)
        self.assertEqual(self.system.reactor.getDelayedCalls(), [])
