"""The pool of workers."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.pool import Member, MemberState, Pool

live_states = st.sampled_from([MemberState.STARTING, MemberState.READY, MemberState.DRAINING])


def pool_of(*states: MemberState) -> Pool:
    """A pool whose worker 1, 2, ... is in these states."""
    pool = Pool()
    for id, state in enumerate(states, 1):
        pool.add(id, slot=id)
        if state is not MemberState.STARTING:
            pool.set_ready(id)
        if state is MemberState.DRAINING:
            pool.set_draining(id)
    return pool


def ids(members: tuple[Member, ...]) -> list[int]:
    """The ids of members."""
    return [member.id for member in members]


def member(pool: Pool, id: int) -> Member:
    """A member that is there."""
    found = pool.get(id)
    assert found is not None
    return found


class StateTests(SynchronousTestCase):
    """The workers that may get a connection, by their states."""

    def test_candidates(self) -> None:
        """Only workers that are ready get what nothing pins."""
        pool = pool_of(
            MemberState.STARTING, MemberState.READY, MemberState.DRAINING, MemberState.READY
        )
        self.assertEqual(ids(pool.candidates()), [2, 4])

    def test_suspects(self) -> None:
        """A suspect gets nothing new while another is ready."""
        pool = pool_of(MemberState.READY, MemberState.READY)
        pool.suspect(1, True)
        self.assertEqual(ids(pool.candidates()), [2])
        pool.suspect(1, False)
        self.assertEqual(ids(pool.candidates()), [1, 2])

    def test_only_suspects(self) -> None:
        """Suspects are better than no worker at all."""
        pool = pool_of(MemberState.READY, MemberState.READY, MemberState.DRAINING)
        pool.suspect(1, True)
        pool.suspect(2, True)
        self.assertEqual(ids(pool.candidates()), [1, 2])

    def test_candidates_are_kept(self) -> None:
        """The tuple of candidates is the same object until a state changes."""
        pool = pool_of(MemberState.READY, MemberState.READY)
        first = pool.candidates()
        pool.reserve(1)
        pool.report(2, live=9, taken=0, lag=1.0)
        self.assertIs(pool.candidates(), first)
        pool.set_draining(1)
        self.assertIsNot(pool.candidates(), first)

    def test_reachable(self) -> None:
        """What is pinned to a worker reaches it while it is ready or draining, suspect or not."""
        pool = pool_of(
            MemberState.STARTING, MemberState.READY, MemberState.DRAINING, MemberState.READY
        )
        pool.suspect(4, True)
        pool.add(5, slot=2)
        pool.set_gone(5)
        self.assertEqual([pool.reachable(id) for id in range(7)], [0, 0, 1, 1, 1, 0, 0])

    def test_gone(self) -> None:
        """A worker that is gone is forgotten, and late words about it are no error."""
        pool = pool_of(MemberState.READY, MemberState.READY)
        gone = member(pool, 1)
        pool.set_gone(1)
        self.assertIs(gone.state, MemberState.GONE)
        for late in (pool.set_gone, pool.set_ready, pool.set_draining, pool.reserve, pool.release):
            late(1)
        pool.suspect(1, True)
        pool.report(1, 1, 1, 0.0)
        self.assertIsNone(pool.get(1))
        self.assertEqual((len(pool), ids(pool.members)), (1, [2]))

    def test_added(self) -> None:
        """A worker that is added is the member that is found."""
        pool = Pool()
        member = pool.add(7, 2)
        self.assertIs(pool.get(7), member)
        self.assertEqual((member.id, member.slot), (7, 2))

    def test_added_without_load(self) -> None:
        """A worker that is added carries nothing, and its event loop is not late."""
        member = Pool().add(7, 2)
        self.assertEqual((member.load, member.live, member.lag), (0, 0, 0.0))

    def test_ids_are_unique(self) -> None:
        """A worker's id is not given to another while it lives."""
        pool = pool_of(MemberState.READY)
        self.assertRaises(ValueError, pool.add, 1, 2)

    def test_order(self) -> None:
        """Members are listed by slot and then by age, whatever the order of their coming."""
        pool = Pool()
        for id, slot in ((3, 2), (1, 2), (2, 1)):
            pool.add(id, slot)
        self.assertEqual(ids(pool.members), [2, 1, 3])

    def test_in_state(self) -> None:
        """Workers are found by their states."""
        pool = pool_of(MemberState.STARTING, MemberState.READY, MemberState.DRAINING)
        self.assertEqual(ids(pool.in_state(MemberState.STARTING, MemberState.DRAINING)), [1, 3])

    def test_takers(self) -> None:
        """Of those that get new connections some take WebSockets that move."""
        pool = pool_of(MemberState.READY, MemberState.READY, MemberState.DRAINING)
        self.assertEqual(len(pool.takers()), 0)
        pool.let_move(2)
        pool.let_move(3)
        self.assertEqual(ids(pool.takers().candidates()), [2])


class VersionTests(SynchronousTestCase):
    """The version counts what the copies have to know."""

    def test_changes_of_state(self) -> None:
        """Each change of state is a new version."""
        pool = Pool()
        seen = [pool.version]
        for change in (
            lambda: pool.add(1, 1),
            lambda: pool.set_ready(1),
            lambda: pool.let_move(1),
            lambda: pool.suspect(1, True),
            lambda: pool.set_draining(1),
            lambda: pool.set_gone(1),
        ):
            change()
            seen.append(pool.version)
        self.assertEqual(seen, [0, 1, 2, 3, 4, 5, 6])

    def test_what_changes_nothing(self) -> None:
        """Load, and a state that is set again, are no new version."""
        pool = pool_of(MemberState.READY)
        pool.let_move(1)
        version = pool.version
        pool.set_ready(1)
        pool.let_move(1)
        pool.let_move(9)
        pool.suspect(1, False)
        pool.reserve(1)
        pool.release(1)
        pool.report(1, 1, 1, 1.0)
        pool.set_gone(9)
        self.assertEqual(pool.version, version)


class LoadTests(SynchronousTestCase):
    """What a worker carries."""

    def test_reserved(self) -> None:
        """A hand-off is load from the decision on, and not twice when the worker reports it."""
        pool = pool_of(MemberState.READY)
        pool.reserve(1)
        pool.reserve(1)
        self.assertEqual(member(pool, 1).load, 2)
        pool.report(1, live=1, taken=1, lag=0.0)
        self.assertEqual(member(pool, 1).load, 2)
        pool.report(1, live=0, taken=2, lag=0.0)
        self.assertEqual(member(pool, 1).load, 0)

    def test_released(self) -> None:
        """A hand-off that did not leave is no load."""
        pool = pool_of(MemberState.READY)
        pool.reserve(1)
        pool.release(1)
        self.assertEqual(member(pool, 1).load, 0)

    def test_lag(self) -> None:
        """Lag beyond 50 ms counts as one connection for each 10 ms."""
        pool = pool_of(MemberState.READY)
        pool.report(1, live=3, taken=0, lag=0.05)
        self.assertEqual(member(pool, 1).load, 3)
        pool.report(1, live=3, taken=0, lag=0.25)
        self.assertAlmostEqual(member(pool, 1).load, 23)


class StuckTests(SynchronousTestCase):
    """A worker that takes nothing."""

    def pool(self) -> Pool:
        """One worker is ready, and two hand-offs are on their way to it."""
        pool = Pool()
        pool.add(1, 1)
        pool.set_ready(1)
        pool.reserve(1)
        pool.reserve(1)
        return pool

    def test_since(self) -> None:
        """A worker is stuck for as long as its reports say the same, while something waits."""
        pool = self.pool()
        self.assertEqual(pool.stuck(1, 100.0), 0.0)
        for now in (10.0, 11.0, 13.0):
            pool.report(1, 5, 0, 0.0, now)
        self.assertEqual(pool.stuck(1, 13.0), 3.0)

    def test_takes_one(self) -> None:
        """A hand-off that is taken begins the time anew."""
        pool = self.pool()
        pool.report(1, 5, 0, 0.0, 10.0)
        pool.report(1, 5, 1, 0.0, 12.0)
        self.assertEqual(pool.stuck(1, 13.0), 1.0)

    def test_nothing_waits(self) -> None:
        """A worker that has taken all is not stuck, however long nothing changes."""
        pool = self.pool()
        pool.report(1, 5, 0, 0.0, 10.0)
        pool.report(1, 5, 2, 0.0, 12.0)
        pool.report(1, 5, 2, 0.0, 50.0)
        self.assertEqual(pool.stuck(1, 60.0), 0.0)

    def test_unknown(self) -> None:
        """A worker that is gone is not stuck."""
        self.assertEqual(self.pool().stuck(7, 10.0), 0.0)

    def test_ready(self) -> None:
        """Only a worker that takes new connections is ready."""
        pool = self.pool()
        self.assertEqual((pool.is_ready(1), pool.is_ready(7)), (True, False))
        pool.set_draining(1)
        self.assertFalse(pool.is_ready(1))


class CopyTests(SynchronousTestCase):
    """The pool in another process."""

    def test_takers(self) -> None:
        """A copy knows which workers take WebSockets that move."""
        pool = pool_of(MemberState.READY, MemberState.READY)
        pool.let_move(2)
        self.assertEqual(ids(Pool.from_view(pool.view()).takers().members), [2])

    def test_takers_of_an_earlier_version(self) -> None:
        """In an earlier version's view no worker takes WebSockets that move."""
        view = pool_of(MemberState.READY, MemberState.READY).view()
        del view["moves"]
        self.assertEqual(len(Pool.from_view(view).takers()), 0)

    @given(st.lists(st.tuples(live_states, st.booleans()), max_size=6))
    @settings(deadline=None)
    def test_same_answers(self, workers: list[tuple[MemberState, bool]]) -> None:
        """A copy that went through JSON gives the same answers."""
        pool = pool_of(*(state for state, _ in workers))
        for id, (_, suspect) in enumerate(workers, 1):
            pool.suspect(id, suspect)
            pool.report(id, live=id, taken=0, lag=0.0)
        copy = Pool.from_view(json.loads(json.dumps(pool.view())))
        self.assertEqual(copy.view(), pool.view())
        self.assertEqual(copy.version, pool.version)
        self.assertEqual(ids(copy.candidates()), ids(pool.candidates()))
        self.assertEqual([m.live for m in copy.members], [m.live for m in pool.members])
        for id in range(len(workers) + 2):
            self.assertEqual(copy.reachable(id), pool.reachable(id))
