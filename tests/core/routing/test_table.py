"""The table of keys that applications made."""

from __future__ import annotations

import gc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.table import KEY_LIMIT, ROOM, TOLD_EVERY, Table


class TableTests(SynchronousTestCase):
    """Single facts."""

    def test_bound(self) -> None:
        """A bound key is found; another is not."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        self.assertEqual((table.find(b"a", 1.0), table.find(b"b", 1.0)), (1, None))

    def test_true(self) -> None:
        """A table is true as long as a key leads to a worker."""
        table = Table(10, 60.0)
        self.assertFalse(table)
        table.bind(b"a", 1, now=0.0)
        self.assertTrue(table)
        table.forget(1)
        self.assertFalse(table)

    def test_bound_all(self) -> None:
        """Many keys at once are as many one by one: for the time, the order and the room."""
        for known, keys in (
            ([], []),
            ([], [b"a", b"b", b"c"]),
            ([b"b"], [b"a", b"b", b"c"]),  # one is bound already
            ([b"x", b"y"], [b"a", b"b", b"c"]),  # too many
            ([], [b"a", b"b" * (KEY_LIMIT + 1), b"a"]),  # too long, and twice
            ([b"x" * KEY_LIMIT], [b"a" * KEY_LIMIT, b"b"]),  # too long together
        ):
            one, many = (Table(4, 60.0, room=2 * KEY_LIMIT) for _ in range(2))
            for table in (one, many):
                for key in known:
                    table.bind(key, 1, 0.0)
            for key in keys:
                one.bind(key, 2, 10.0)
            many.bind_all(keys, 2, 10.0)
            self.assertEqual((one.items(), one._size), (many.items(), many._size))
            self.assertEqual(one.owners(keys), many.owners(keys))
            self.assertEqual(one.keys(), [key for key, _ in many.items()])
            one.forget(2)
            many.forget(2)
            self.assertEqual((one.items(), one._size), (many.items(), many._size))
            self.assertEqual(len(one), len(many))

    def test_bound_all_again(self) -> None:
        """A worker that was forgotten gets back no key but those that are bound to it anew."""
        table = Table(10, 60.0)
        table.bind(b"a", 2, 0.0)
        table.forget(2)
        table.bind_all([b"b", b"c"], 2, 0.0)
        self.assertEqual(table.items(), [(b"b", 2), (b"c", 2)])

    def test_bound_all_is_told(self) -> None:
        """To bind many keys at once is a use of each, which is not told again soon after."""
        table = Table(10, 60.0)
        table.bind_all([b"a", b"b"], 1, 0.0)
        table.find(b"a", TOLD_EVERY - 0.1)
        table.find(b"b", TOLD_EVERY)
        self.assertEqual(table.take_used(), [b"b"])

    def test_forgotten_first(self) -> None:
        """The keys of a worker that is gone make room before any other, however new they are."""
        table = Table(3, 60.0)
        for key, worker in ((b"a", 1), (b"b", 2), (b"c", 2)):
            table.bind(key, worker, 0.0)
        table.forget(2)
        self.assertEqual((len(table), table.use(b"b", 1.0), table.keys()[0]), (1, None, b"a"))
        table.bind(b"d", 2, 2.0)
        table.bind(b"e", 1, 2.0)
        self.assertEqual(table.items(), [(b"a", 1), (b"d", 2), (b"e", 1)])

    def test_owners(self) -> None:
        """Keys that are bound are told by their workers; others are left out."""
        table = Table(10, 60.0)
        table.bind_all([b"a", b"b"], 1, 0.0)
        table.bind(b"c", 2, 0.0)
        self.assertEqual(table.owners([b"b", b"c", b"x", b"a"]), {1: [b"b", b"a"], 2: [b"c"]})

    def test_bound_anew(self) -> None:
        """A key belongs to the worker that bound it last."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.bind(b"a", 2, now=0.0)
        table.forget(1)
        self.assertEqual((table.find(b"a", 1.0), len(table)), (2, 1))

    def test_freed(self) -> None:
        """A freed key is not found; to free an unknown one is no error."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.free(b"a")
        table.free(b"a")
        self.assertEqual((table.find(b"a", 0.0), len(table)), (None, 0))

    def test_expires(self) -> None:
        """An entry lives for the time to live and not longer."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.bind(b"b", 1, now=0.0)
        self.assertEqual(table.find(b"a", 59.9), 1)
        self.assertIsNone(table.find(b"b", 60.0))
        self.assertEqual(table.items(), [(b"a", 1)])

    def test_use_prolongs(self) -> None:
        """Each use begins the time to live anew."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        self.assertEqual(
            [table.find(b"a", now) for now in (50.0, 100.0, 150.0, 211.0)], [1, 1, 1, None]
        )

    def test_use_elsewhere_prolongs(self) -> None:
        """A use that was told prolongs as one here, and says whose the key is."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.bind(b"b", 1, now=1.0)
        self.assertEqual((table.use(b"a", 50.0), table.use(b"c", 50.0)), (1, None))
        self.assertEqual(table.items(), [(b"b", 1), (b"a", 1)])
        self.assertEqual(table.find(b"a", 109.0), 1)

    def test_uses_to_tell(self) -> None:
        """A use is told at most once in a while, and not soon after it was told here."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.find(b"a", TOLD_EVERY - 0.1)
        self.assertEqual(table.take_used(), [])
        table.find(b"a", TOLD_EVERY)
        table.find(b"a", TOLD_EVERY + 0.1)
        self.assertEqual((table.take_used(), table.take_used()), ([b"a"], []))
        table.find(b"a", TOLD_EVERY + 0.2)
        self.assertEqual(table.take_used(), [])
        table.use(b"a", 2 * TOLD_EVERY)
        table.find(b"a", 3 * TOLD_EVERY - 0.1)
        self.assertEqual(table.take_used(), [])

    def test_flood(self) -> None:
        """A key in use outlasts any number of new ones, if they come slower than uses are told."""
        primary, worker = Table(100, 60.0), Table(100, 60.0)
        for table in (primary, worker):
            table.bind(b"used", 1, now=0.0)
        for number in range(2000):
            now = number * TOLD_EVERY / 80
            self.assertEqual(worker.find(b"used", now), 1)
            for key in worker.take_used():
                primary.use(key, now)
            for table in (primary, worker):
                table.bind(b"new-%d" % number, 2, now)
        self.assertEqual((primary.find(b"used", now), len(primary)), (1, 100))

    def test_uses_to_tell_of_short_lives(self) -> None:
        """Keys that live shorter are told four times in their life."""
        table = Table(10, 4.0)
        table.bind(b"a", 1, now=0.0)
        table.find(b"a", 0.9)
        self.assertEqual(table.take_used(), [])
        table.find(b"a", 1.0)
        self.assertEqual(table.take_used(), [b"a"])

    def test_expired_make_room(self) -> None:
        """What has expired is dropped when something is bound."""
        table = Table(10, 60.0)
        for key in (b"a", b"b", b"c"):
            table.bind(key, 1, now=0.0)
        table.find(b"a", 30.0)
        table.bind(b"d", 1, now=70.0)
        self.assertEqual(table.items(), [(b"a", 1), (b"d", 1)])
        table.bind(b"e", 1, now=90.0)  # the moment in which the first expires
        self.assertEqual(table.items(), [(b"d", 1), (b"e", 1)])

    def test_limit(self) -> None:
        """At the limit the key not used for longest makes room."""
        table = Table(2, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.bind(b"b", 2, now=1.0)
        table.find(b"a", 2.0)
        table.bind(b"c", 3, now=3.0)
        self.assertEqual(table.items(), [(b"a", 1), (b"c", 3)])

    def test_bound_anew_at_the_limit(self) -> None:
        """To bind a known key anew drops no other."""
        table = Table(2, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.bind(b"b", 2, now=0.0)
        table.bind(b"b", 3, now=0.0)
        self.assertEqual(table.items(), [(b"a", 1), (b"b", 3)])

    def test_room(self) -> None:
        """Keys that are too long together make room, those not used for longest first."""
        table = Table(10, 60.0, room=KEY_LIMIT)
        for key in (b"a" * 2000, b"b" * 2000, b"c" * 50):
            table.bind(key, 1, now=0.0)
        table.find(b"a" * 2000, 1.0)
        table.bind(b"d" * 1000, 2, now=2.0)
        self.assertEqual(
            [(key[:1], id) for key, id in table.items()], [(b"c", 1), (b"a", 1), (b"d", 2)]
        )
        table.bind(b"e" * KEY_LIMIT, 3, now=3.0)
        self.assertEqual(table.items(), [(b"e" * KEY_LIMIT, 3)])

    def test_too_long(self) -> None:
        """A key that is too long is not kept, and costs no other its place."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.bind(b"b" * (KEY_LIMIT + 1), 1, now=0.0)
        self.assertEqual(table.items(), [(b"a", 1)])

    def test_usual_keys(self) -> None:
        """The room is for as many keys of the usual length as there may be."""
        self.assertGreaterEqual(ROOM, 100_000 * 80)

    def test_cleared_counts_from_nothing(self) -> None:
        """A cleared table has just its room: a key that fills it keeps no other beside it."""
        table = Table(10, 60.0, room=KEY_LIMIT)
        table.clear()
        table.bind(b"a", 1, now=0.0)
        table.bind(b"b" * KEY_LIMIT, 1, now=0.0)
        self.assertEqual(table.items(), [(b"b" * KEY_LIMIT, 1)])

    def test_cleared(self) -> None:
        """A cleared table has all its room again."""
        table = Table(10, 60.0, room=KEY_LIMIT)
        table.bind(b"a" * KEY_LIMIT, 1, now=0.0)
        table.clear()
        self.assertEqual((table.items(), table.find(b"a" * KEY_LIMIT, 0.0)), ([], None))
        for key in (b"b" * 2000, b"c" * 2000):
            table.bind(key, 1, now=0.0)
        self.assertEqual(len(table), 2)

    def test_cleared_of_all(self) -> None:
        """A cleared table has no keys, not even forgotten ones, and no use of one to tell."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.find(b"a", TOLD_EVERY)
        table.bind(b"b", 2, now=0.0)
        table.forget(2)
        table.clear()
        self.assertEqual((bool(table), len(table), table.take_used()), (False, 0, []))

    def test_forgotten(self) -> None:
        """With a worker all its keys go, and only its own."""
        table = Table(10, 60.0)
        for key, worker in ((b"a", 1), (b"b", 2), (b"c", 1)):
            table.bind(key, worker, now=0.0)
        table.forget(1)
        table.forget(9)
        self.assertEqual(table.items(), [(b"b", 2)])

    def test_collected(self) -> None:
        """The garbage collector has nothing to look at in each of a hundred thousand entries."""
        table = Table(10, 60.0)
        table.bind(b"a", 1, now=0.0)
        table.bind_all((b"b", b"c"), 1, now=0.0)
        table.find(b"b", 0.0)
        gc.collect()
        self.assertFalse(any(map(gc.is_tracked, table._entries.values())))


keys = st.sampled_from([b"a", b"bb", b"ccc", b"dddd", b"e"])
workers = st.integers(1, 3)


class TableMachine(RuleBasedStateMachine):
    """The table beside a list that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(3, 10.0)
        self.now = 0.0
        self.model: list[tuple[bytes, int, float]] = []  # the one not used for longest first

    def without(self, key: bytes) -> list[tuple[bytes, int, float]]:
        """The model without a key and without what has expired."""
        return [entry for entry in self.model if entry[0] != key and entry[2] > self.now]

    @rule(seconds=st.integers(0, 6))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.now += seconds

    @rule(key=keys, worker=workers)
    def bind(self, key: bytes, worker: int) -> None:
        """Bind a key."""
        self.table.bind(key, worker, self.now)
        self.model = [*self.without(key)[-2:], (key, worker, self.now + 10)]

    @rule(key=keys)
    def find(self, key: bytes) -> None:
        """Look for a key."""
        expected = None
        for name, worker, expires in self.model:
            if name == key and expires > self.now:
                expected = worker
        assert self.table.find(key, self.now) == expected
        if expected is not None:
            self.model = [*self.without(key), (key, expected, self.now + 10)]

    @rule(key=keys)
    def free(self, key: bytes) -> None:
        """Free a key."""
        self.table.free(key)
        self.model = self.without(key)

    @rule(worker=workers)
    def forget(self, worker: int) -> None:
        """Have a worker go."""
        self.table.forget(worker)
        self.model = [entry for entry in self.model if entry[1] != worker]

    @invariant()
    def agree(self) -> None:
        """The table has what the model has and nothing else that is alive, in the same order."""
        items = self.table.items()
        alive = [(key, worker) for key, worker, expires in self.model if expires > self.now]
        assert [item for item in items if item in alive] == alive
        assert len(items) == len(self.table) <= 3

    @invariant()
    def size_is_exact(self) -> None:
        """The bytes that are counted are those of the keys, also of workers that are gone."""
        assert self.table._size == sum(map(len, self.table.keys()))

    @invariant()
    def index_is_exact(self) -> None:
        """The index by worker has each entry, no other, and no worker without entries."""
        table = self.table
        living, gone = table._owned, table._gone
        index = {(key, worker) for worker, owned in living.items() for key in owned}
        assert index == set(table.items())
        assert all((*living.values(), *gone.values()))
        assert living.keys().isdisjoint(gone)
        assert len(table.keys()) == len(index) + sum(map(len, gone.values())) <= 3


class AnyCourseTests(SynchronousTestCase):
    """Any course of events."""

    def test_agrees_with_the_model(self) -> None:
        """The table does what a list that is searched from end to end does."""
        run_state_machine_as_test(
            TableMachine,
            settings=settings(max_examples=40, stateful_step_count=30, deadline=None),
        )
