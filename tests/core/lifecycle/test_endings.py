"""How a worker ends: its time, and what is said of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.endings import KILLED, STARTING, end_within, how_it_left
from txsticky.core.lifecycle.states import Instance, WorkerStage
from txsticky.core.lifecycle.timing import killed


class EndWithinTests(SynchronousTestCase):
    """The time that a worker is given."""

    def given(self, deadline: float | None, why: str, seconds: float = 30.0) -> tuple[object, str]:
        """The deadline and the reason of a worker that had these, and is told to end now."""
        worker = Instance(1, 1, 1, deadline=deadline, why=why)
        end_within(worker, seconds, 30.0, "its stop", 0.0)
        return worker.deadline, worker.why

    def test_start(self) -> None:
        """The time to start is none to end: the time to end replaces it, be it longer."""
        why = "did not end within the graceful timeout of 30 s"
        self.assertEqual(self.given(5.0, ""), (killed(30), why))

    def test_killed_already(self) -> None:
        """A reason without a deadline does not count."""
        why = "did not end within 10 s of its stop"
        self.assertEqual(self.given(None, "first", 10.0), (killed(10), why))

    def test_not_prolonged(self) -> None:
        """A time that ends sooner, or at the same time, stays with its reason."""
        for deadline in (5.0, killed(30)):
            self.assertEqual(self.given(deadline, "first"), (deadline, "first"))

    def test_shortened(self) -> None:
        """A time that ends later is cut."""
        found = self.given(killed(30) + 1, "first")
        self.assertEqual(found, (killed(30), "did not end within the graceful timeout of 30 s"))


class HowItLeftTests(SynchronousTestCase):
    """What the log says of a worker that was to end."""

    def told(
        self, stage: WorkerStage, status: int, deadline: float | None = None, why: str = "was slow"
    ) -> tuple[str, str]:
        """The level and the words."""
        return how_it_left(Instance(1, 1, 1, stage, deadline=deadline, why=why), status)

    def test_killed(self) -> None:
        """A worker whose time was over was killed, which is no wonder if it was starting."""
        leaving = WorkerStage.LEAVING
        self.assertEqual(self.told(leaving, KILLED), ("warn", "was slow and was killed"))
        self.assertEqual(self.told(leaving, KILLED, why=STARTING)[0], "info")

    def test_by_itself(self) -> None:
        """A worker that ended in its time has left, however; a retiring one should exit with 0."""
        leaving, retiring = WorkerStage.LEAVING, WorkerStage.RETIRING
        by_signal = "has left: it was ended by signal 9"
        self.assertEqual(self.told(leaving, KILLED, deadline=5.0), ("info", by_signal))
        self.assertEqual(self.told(retiring, KILLED), ("warn", by_signal))
        self.assertEqual(self.told(leaving, 3), ("info", "has left: it exited with code 3"))
        self.assertEqual(self.told(retiring, 0), ("info", "has left: it exited with code 0"))
