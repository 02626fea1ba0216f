"""A fleet under any sequence of events: its invariants."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.fleet import Fleet
from txsticky.core.lifecycle.states import (
    PLACED,
    SERVING,
    Effect,
    Ended,
    Kill,
    Phase,
    Reloading,
    Retire,
    Spawn,
    WorkerStage,
)
from txsticky.core.lifecycle.timing import killed

from .story import DRAIN, START


class FleetMachine(RuleBasedStateMachine):
    """Anything may happen at any time; some things must hold nevertheless."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.alive: dict[int, str] = {}  # starting, ready, failed
        self.slot: dict[int, int] = {}
        self.told: set[int] = set()  # to retire or die
        self.reloading = False
        self.ended = 0
        self.stopping = False

    @initialize(workers=st.integers(1, 3))
    def begin(self, workers: int) -> None:
        self.fleet = Fleet(workers, graceful_timeout=DRAIN, start_timeout=START)
        self.obey(self.fleet.start(self.now))

    # ----------------------------------------------------------------- the effects

    def obey(self, effects: list[Effect], voluntary: bool = True) -> None:
        for effect in effects:
            assert not self.ended
            if isinstance(effect, Spawn):
                assert not self.stopping
                assert effect.id == max(self.slot, default=0) + 1
                self.alive[effect.id] = "starting"
                self.slot[effect.id] = effect.slot
            elif isinstance(effect, Retire):
                self.check_retire(effect)
            elif isinstance(effect, Kill):
                assert effect.id in self.alive
                self.told.add(effect.id)
            elif isinstance(effect, Reloading):
                assert self.reloading is not effect.under_way
                self.reloading = effect.under_way
            elif isinstance(effect, Ended):
                assert not self.alive
                self.ended += 1

    def check_retire(self, effect: Retire) -> None:
        assert self.alive[effect.id] == "ready"
        assert effect.final is self.stopping
        if not self.stopping and self.slot[effect.id] in self.fleet.slots:
            successors = {id for id in self.ready() if self.slot[id] == self.slot[effect.id]}
            assert successors - self.told - {effect.id}, "retired without a ready successor"
        self.told.add(effect.id)

    def ready(self) -> set[int]:
        return {id for id, state in self.alive.items() if state == "ready"}

    def pick(self, data: st.DataObject, ids: set[int]) -> int:
        return data.draw(st.sampled_from(sorted(ids)))

    # ------------------------------------------------------------------ the events

    @precondition(lambda self: "starting" in self.alive.values())
    @rule(data=st.data())
    def becomes_ready(self, data: st.DataObject) -> None:
        id = self.pick(data, {i for i, state in self.alive.items() if state == "starting"})
        self.alive[id] = "ready"
        self.obey(self.fleet.ready(id, self.now))

    @precondition(lambda self: "starting" in self.alive.values())
    @rule(data=st.data())
    def does_not_load(self, data: st.DataObject) -> None:
        id = self.pick(data, {i for i, state in self.alive.items() if state == "starting"})
        self.alive[id] = "failed"
        if not self.fleet.ever_ready and id not in self.told:
            self.stopping = True
        self.obey(self.fleet.load_failed(id, "it is broken", self.now))
        self.notice_giving_up()

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), status=st.sampled_from([0, 1, 3, -9]))
    def exits(self, data: st.DataObject, status: int) -> None:
        id = self.pick(data, set(self.alive))
        del self.alive[id]
        effects = self.fleet.exited(id, status, self.now)
        self.notice_giving_up()
        self.obey(effects)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def is_silent(self, data: st.DataObject) -> None:
        self.obey(self.fleet.silent(self.pick(data, set(self.alive)), self.now))

    @precondition(lambda self: "ready" in self.alive.values())
    @rule(data=st.data())
    def serves_no_more(self, data: st.DataObject) -> None:
        id = self.pick(data, self.ready())
        effects = self.fleet.leaving(id, self.now)
        self.told.add(id)
        self.obey(effects)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def asks_to_go(self, data: st.DataObject) -> None:
        self.obey(self.fleet.retire_request(self.pick(data, set(self.alive)), self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cannot_be_created(self, data: st.DataObject) -> None:
        newest = max(self.slot)
        if self.alive.get(newest) == "starting":
            del self.alive[newest]
            effects = self.fleet.not_spawned(newest, "no memory", self.now)
            self.notice_giving_up()
            self.obey(effects)

    @rule()
    def reload(self) -> None:
        self.obey(self.fleet.reload(self.now))

    @rule(delta=st.integers(-2, 2))
    def scale(self, delta: int) -> None:
        self.obey(self.fleet.scale(delta, self.now))

    @rule(seconds=st.sampled_from([0.05, 0.3, 3.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        effects = self.fleet.tick(self.now)
        self.notice_giving_up()
        self.obey(effects)

    @precondition(lambda self: len(self.slot) > 4)
    @rule(graceful=st.booleans())
    def stop(self, graceful: bool) -> None:
        self.stopping = True
        self.reloading = False
        self.obey(self.fleet.stop(graceful, self.now))

    def notice_giving_up(self) -> None:
        """The fleet may stop by itself, but not while a worker serves."""
        if self.fleet.phase in (Phase.QUITTING, Phase.ENDED) and not self.stopping:
            assert not (self.ready() - self.told)
            self.stopping = True

    # -------------------------------------------------------------- what must hold

    @invariant()
    def at_most_one_current(self) -> None:
        """A slot has one worker that serves new clients, and one that starts, at most."""
        for stage in PLACED:
            slots = [w.slot for w in self.instances() if w.stage is stage]
            assert len(slots) == len(set(slots))

    @invariant()
    def none_is_lost(self) -> None:
        """The fleet knows exactly the processes that live."""
        assert {worker.id for worker in self.instances()} == set(self.alive)

    @invariant()
    def every_slot_has_a_future(self) -> None:
        """While the fleet runs, a slot has a worker or will get one."""
        if not self.stopping and hasattr(self, "fleet"):
            for slot in self.fleet.slots.values():
                assert slot.current is not None or slot.due is not None

    @invariant()
    def wakes_in_time(self) -> None:
        """A worker in a stage that must not last has a deadline, and wake knows the first."""
        deadlines = [w.deadline for w in self.instances() if w.deadline is not None]
        assert all(
            w.deadline is not None for w in self.instances() if w.stage is WorkerStage.STARTING
        )
        assert all(
            w.deadline is not None for w in self.instances() if w.stage is WorkerStage.RETIRING
        )
        if deadlines:
            assert self.fleet.wake() <= min(deadlines)

    @invariant()
    def none_is_cut_short(self) -> None:
        """What is to leave has its whole time from the first word on, unless that is hurried."""
        for worker in self.instances():
            if worker.stage is WorkerStage.RETIRING:
                assert worker.deadline <= self.now + killed(DRAIN)
                assert worker.why.startswith("did not end within the graceful timeout")

    def instances(self) -> list[Any]:
        return [*self.fleet.instances.values()] if hasattr(self, "fleet") else []

    def teardown(self) -> None:
        """With workers that behave, the fleet comes to rest: all slots serve, or all has ended."""
        if not hasattr(self, "fleet"):
            return
        for _ in range(200):
            for id in sorted(self.alive):
                if id in self.told or self.alive[id] == "failed":
                    self.alive.pop(id)
                    self.obey(self.fleet.exited(id, 0, self.now))
                elif self.alive[id] == "starting":
                    self.alive[id] = "ready"
                    self.obey(self.fleet.ready(id, self.now))
            wake = self.fleet.wake()
            if wake is not None:
                self.now = max(self.now, wake)
                self.obey(self.fleet.tick(self.now))
        assert self.fleet.wake() is None
        assert self.ended == self.stopping
        if not self.stopping:
            assert not self.reloading
            assert sorted(w.slot for w in self.instances()) == sorted(self.fleet.slots)
            assert all(w.stage in SERVING for w in self.instances())


class InvariantTests(SynchronousTestCase):
    """What holds whatever happens."""

    def test_invariants(self) -> None:
        """Any order of events keeps the invariants, and good workers bring the fleet to rest."""
        run_state_machine_as_test(
            FleetMachine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
        )
