"""The plan of replacements: its steps, their order and their end."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.plan import Plan, Step
from txsticky.core.lifecycle.states import Instance, Slot, WorkerStage


class StepTests(SynchronousTestCase):
    """When a step is done."""

    def done(self, current: Instance | None) -> bool:
        """Whether a slot with this worker is what the step wants."""
        return Step(1, first_new=5, reload=True).is_done(Slot(1, current))

    def test_done(self) -> None:
        """A step is done once a worker that is new enough is ready in its slot."""
        self.assertTrue(self.done(Instance(5, 1, 2, WorkerStage.READY)))
        self.assertIs(self.done(Instance(4, 1, 1, WorkerStage.READY)), False)
        self.assertIs(self.done(Instance(5, 1, 2, WorkerStage.STARTING)), False)
        self.assertIs(self.done(None), False)


class PlanTests(SynchronousTestCase):
    """What is planned."""

    def test_reload(self) -> None:
        """A reload is over with its last step, whatever else is planned."""
        plan = Plan()
        self.assertIsNone(plan.first)
        plan.reload([1, 2], 3)
        plan.replace(Instance(7, 2, 1))
        self.assertEqual(plan.first, Step(1, 3, True))
        self.assertEqual([plan.step_done() for _ in range(3)], [False, True, False])
        self.assertIsNone(plan.first)

    def test_failed_reload(self) -> None:
        """A worker that fails ends the reload that waits for it; single replacements stay."""
        plan = Plan()
        plan.reload([1, 2], 3)
        plan.replace(Instance(7, 2, 1))
        self.assertTrue(plan.failed(Instance(3, 1, 2)))
        self.assertEqual(plan.first, Step(2, 8, False))

    def test_failed_replacement(self) -> None:
        """A successor that fails ends its own step alone."""
        plan = Plan()
        plan.replace(Instance(7, 2, 1))
        plan.reload([1], 9)
        self.assertFalse(plan.failed(Instance(8, 2, 1)))
        self.assertEqual(plan.first, Step(1, 9, True))

    def test_another_one_failed(self) -> None:
        """A failure in another slot, or of an older worker, changes nothing."""
        plan = Plan()
        self.assertIs(plan.failed(Instance(1, 1, 1)), False)
        plan.reload([1], 3)
        self.assertFalse(plan.failed(Instance(4, 2, 1)))
        self.assertFalse(plan.failed(Instance(2, 1, 1)))
        self.assertEqual(plan.first, Step(1, 3, True))

    def test_again(self) -> None:
        """The end of a reload says whether another one follows, once."""
        plan = Plan()
        plan.reload([1], 3)
        plan.again = True
        self.assertTrue(plan.reload_is_over())
        self.assertFalse(plan.reloading)
        self.assertFalse(plan.reload_is_over())

    def test_clear(self) -> None:
        """A plan that is cleared is as a new one."""
        plan = Plan()
        plan.reload([1], 3)
        plan.again = True
        plan.clear()
        self.assertEqual(plan.to_json(), Plan().to_json())

    def test_round_trip(self) -> None:
        """A plan goes on as it was in the next program."""
        plan = Plan()
        plan.reload([1, 2], 3)
        plan.replace(Instance(7, 2, 1))
        plan.again = True
        again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
        self.assertEqual(again.to_json(), plan.to_json())
        self.assertEqual(again.first, Step(1, 3, True))
