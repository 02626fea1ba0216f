"""Leadership: one leader at a time, whatever becomes of the workers."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.leadership import (
    LEASE,
    MARGIN,
    RENEW_AFTER,
    Appointment,
    Leadership,
    lease_of,
)


class LeadershipTests(SynchronousTestCase):
    """Appointments."""

    def setUp(self) -> None:
        self.post = Leadership(10.0)

    def test_newest(self) -> None:
        """The newest worker is appointed."""
        self.assertEqual(self.post.elect([1, 3, 2], 5.0), Appointment(3, 1, 15.0))
        self.assertEqual(self.post.leader, Appointment(3, 1, 15.0))

    def test_none(self) -> None:
        """Without a candidate none leads."""
        self.assertIsNone(self.post.elect([], 5.0))
        self.assertIsNone(self.post.leader)

    def test_stays(self) -> None:
        """A leader is not replaced by a newer worker, nor when it is no candidate any more."""
        self.post.elect([1], 0.0)
        self.assertIsNone(self.post.elect([2], 9.9))

    def test_renewed(self) -> None:
        """A sign of life renews the lease, once in a while."""
        self.post.elect([1], 0.0)
        self.assertIsNone(self.post.heard(1, RENEW_AFTER / 2))
        self.assertEqual(self.post.heard(1, 9.0), Appointment(1, 1, 19.0))
        self.assertIsNone(self.post.elect([2], 18.9))

    def test_renewed_in_time(self) -> None:
        """A lease is renewed as soon as `RENEW_AFTER` of it has passed."""
        self.post.elect([1], 0.0)
        self.assertEqual(self.post.heard(1, RENEW_AFTER), Appointment(1, 1, 10.0 + RENEW_AFTER))

    def test_without_leader(self) -> None:
        """Where no worker leads, none can resign, and one that goes changes nothing."""
        self.post.resigned(1, 1)
        self.post.gone(1)
        self.assertEqual(self.post.elect([1], 0.0), Appointment(1, 1, 10.0))

    def test_forgotten(self) -> None:
        """Of a worker whose lease is over nothing is kept once it has gone."""
        self.post.elect([1], 0.0)
        self.assertIsNone(self.post.elect([1], 10.0))
        self.post.gone(1)
        self.assertEqual(self.post.elect([1], 11.0), Appointment(1, 2, 21.0))

    def test_not_renewed_for_others(self) -> None:
        """A sign of life of another worker renews nothing."""
        self.post.elect([1], 0.0)
        self.assertIsNone(self.post.heard(2, 9.0))
        self.assertEqual(self.post.elect([2], 10.0), Appointment(2, 2, 20.0))

    def test_over(self) -> None:
        """A lease that is over is not renewed: the worker knows by its clock that it is."""
        self.post.elect([1], 0.0)
        self.assertIsNone(self.post.heard(1, 10.0))

    def test_lapsed(self) -> None:
        """A worker whose lease ran out leads again only after a sign of life."""
        self.post.elect([1], 0.0)
        self.assertIsNone(self.post.elect([1], 10.0))
        self.assertIsNone(self.post.elect([1], 11.0))
        self.post.heard(1, 12.0)
        self.assertEqual(self.post.elect([1], 12.0), Appointment(1, 2, 22.0))

    def test_resigned(self) -> None:
        """Another worker follows as soon as the leader has resigned."""
        self.post.elect([1], 0.0)
        self.post.resigned(1, 1)
        self.assertIsNone(self.post.leader)
        self.assertEqual(self.post.elect([2], 1.0), Appointment(2, 2, 11.0))

    def test_resigned_from_before(self) -> None:
        """To resign from an earlier term, or another's, has no effect."""
        self.post.elect([1], 0.0)
        self.post.elect([1, 2], 10.0)
        for id, term in ((1, 1), (1, 2), (2, 1)):
            self.post.resigned(id, term)
        self.assertEqual(self.post.leader, Appointment(2, 2, 20.0))

    def test_gone(self) -> None:
        """Another worker follows as soon as the leader's process has ended."""
        self.post.elect([1], 0.0)
        self.post.gone(2)
        self.assertIsNone(self.post.elect([3], 1.0))
        self.post.gone(1)
        self.assertEqual(self.post.elect([3], 1.0), Appointment(3, 2, 11.0))

    def test_restored(self) -> None:
        """The post goes on with the last appointment, and with its number."""
        post = Leadership(10.0, Appointment(4, 7, 12.0))
        self.assertIsNone(post.elect([5], 11.0))
        self.assertEqual(post.elect([5], 12.0), Appointment(5, 8, 22.0))

    def test_lease(self) -> None:
        """A silent leader is killed before its lease is over, if silent workers are killed."""
        self.assertEqual(lease_of(30.0), 30.0 + MARGIN)
        self.assertEqual(lease_of(0), LEASE)
        self.assertGreater(MARGIN, RENEW_AFTER)


class Workers(RuleBasedStateMachine):
    """Workers that live, stop for a while, resign and end; the post, and what each was told."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.post = Leadership(10.0)
        self.alive: set[int] = set()
        self.ready: set[int] = set()
        #: What each worker was told and has not given back: the term, and the end of its lease.
        self.told: dict[int, tuple[int, float]] = {}
        self.terms: list[int] = [0]
        self.newest = 0

    def tell(self, appointment: Appointment | None) -> None:
        """Have a worker told of its appointment."""
        if appointment is not None:
            self.told[appointment.id] = (appointment.term, appointment.until)
            if appointment.term != self.terms[-1]:
                self.terms.append(appointment.term)

    @rule()
    def begins(self) -> None:
        """Have one more worker ready."""
        self.newest += 1
        self.alive.add(self.newest)
        self.ready.add(self.newest)
        self.tell(self.post.elect(self.ready, self.now))

    @rule(seconds=st.floats(0, 12))
    def passes(self, seconds: float) -> None:
        """Let time pass; all workers that do not speak meanwhile were stopped."""
        self.now += seconds

    @rule(data=st.data())
    def beats(self, data: st.DataObject) -> None:
        """Have a worker give a sign of life."""
        if self.alive:
            self.tell(self.post.heard(data.draw(st.sampled_from(sorted(self.alive))), self.now))
            self.tell(self.post.elect(self.ready, self.now))

    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        """Have a worker leave, which resigns if it leads."""
        if self.ready:
            id = data.draw(st.sampled_from(sorted(self.ready)))
            self.ready.remove(id)
            if id in self.told and data.draw(st.booleans()):
                self.post.resigned(id, self.told.pop(id)[0])
            self.tell(self.post.elect(self.ready, self.now))

    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        """Have a worker's process end."""
        if self.alive:
            id = data.draw(st.sampled_from(sorted(self.alive)))
            self.alive.remove(id)
            self.ready.discard(id)
            self.told.pop(id, None)
            self.post.gone(id)
            self.tell(self.post.elect(self.ready, self.now))

    @rule()
    def another_program(self) -> None:
        """Have the primary execute a new version of itself."""
        last, leads = self.post.last, self.post.leader is not None
        if last is not None:
            until = last.until if leads else -math.inf
            self.post = Leadership(10.0, Appointment(last.id, last.term, until))

    @invariant()
    def one_at_most(self) -> None:
        """Never do two workers hold themselves for the leader."""
        assert sum(self.now < until for _, until in self.told.values()) <= 1

    @invariant()
    def terms_grow(self) -> None:
        """Each appointment has a number of its own."""
        assert self.terms == list(range(len(self.terms)))


Workers.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


class MachineTests(Workers.TestCase, SynchronousTestCase):  # type: ignore[misc, name-defined]
    """The rules of leadership, in any order of events."""
