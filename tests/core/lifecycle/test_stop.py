"""Stopping a fleet, gracefully, quickly and in a hurry."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.states import Ended, Kill, Retire
from txsticky.core.lifecycle.timing import LATE, QUICK, killed

from .story import DRAIN, Story


class StopTests(SynchronousTestCase):
    """The end."""

    def test_graceful(self) -> None:
        """All workers are told to finish, and the fleet ends with the last."""
        story = Story(2).serving()
        self.assertEqual(story.stop(True), [Retire(1, DRAIN, True), Retire(2, DRAIN, True)])
        self.assertEqual(story.exited(2, 0), [])
        self.assertEqual(story.exited(1, 0), [Ended(0, "it was told to stop")])
        self.assertIs(story.fleet.wake(), None)

    def test_graceful_deadline(self) -> None:
        """A worker that does not finish in time, and some grace, is killed."""
        story = Story(1).serving()
        story.stop(True)
        self.assertEqual(story.after(killed(DRAIN)), [Kill(1, hard=True)])

    def test_retiring_keeps_its_deadline(self) -> None:
        """A worker that was retiring gets no new time, but learns that no other is left."""
        story = Story(2).serving()
        story.scale(-1)
        story.after(20)
        self.assertIn(Retire(2, DRAIN - 20, True), story.stop(True))

    def test_retiring_beyond_its_time(self) -> None:
        """A worker whose time is over, and that is not killed yet, has no time left."""
        story = Story(2).serving()
        story.scale(-1)
        story.after(DRAIN + LATE / 2)
        self.assertIn(Retire(2, 0.0, True), story.stop(True))

    def test_quick(self) -> None:
        """A quick stop asks workers to quit, and kills those that stay beyond its time."""
        story = Story(2).serving()
        self.assertEqual(story.stop(False), [Kill(1, hard=False), Kill(2, hard=False)])
        story.exited(1, 0)
        self.assertEqual(story.after(killed(QUICK) - 0.01), [])
        self.assertEqual(story.after(0.01), [Kill(2, hard=True)])
        self.assertEqual(story.exited(2, -9), [Ended(0, "it was told to stop")])
        self.assertIn("did not end within 10 s of being told to stop at once", story.told())

    def test_quick_start(self) -> None:
        """A worker that is starting may not know SIGQUIT yet; it is killed for certain."""
        story = Story(1)
        story.start()
        self.assertEqual(story.stop(False), [Kill(1, hard=True)])

    def test_hurry(self) -> None:
        """A second stop hurries a graceful one; then a quick one does not wait at all."""
        story = Story(1).serving()
        story.stop(True)
        self.assertEqual(story.stop(True), [Kill(1, hard=False)])
        self.assertEqual(story.stop(False), [Kill(1, hard=True)])
        self.assertEqual(story.stop(False), [])
        story.exited(1, -9)
        self.assertIn("had not ended when the stop was hurried once more", story.told())

    def test_quick_with_little_time(self) -> None:
        """A quick stop takes no longer than a graceful one would."""
        story = Story(1)
        story.fleet.graceful_timeout = 3.0
        story.serving().stop(False)
        self.assertEqual(story.after(3.0 + LATE - 0.01), [])
        self.assertEqual(story.after(0.01), [Kill(1, hard=True)])
        story.exited(1, -9)
        self.assertIn("did not end within the graceful timeout of 3 s and was", story.told())

    def test_quick_then_graceful(self) -> None:
        """A graceful stop does not change a quick one that is under way."""
        story = Story(1).serving()
        story.stop(False)
        self.assertEqual(story.stop(True), [])
        self.assertEqual(story.after(killed(QUICK)), [Kill(1, hard=True)])

    def test_quick_after_graceful(self) -> None:
        """A worker has the time of the quick stop, if that is not more than it had left."""
        for waited, left in ((1.0, killed(QUICK)), (25.0, killed(DRAIN) - 25.0)):
            story = Story(1).serving()
            story.stop(True)
            story.after(waited)
            story.stop(False)
            self.assertEqual(story.after(left - 0.01), [])
            self.assertEqual(story.after(0.01), [Kill(1, hard=True)])

    def test_death_while_stopping(self) -> None:
        """A worker that dies during a stop is not replaced."""
        story = Story(2).serving()
        story.stop(True)
        self.assertEqual(story.exited(1, -11), [])
        self.assertEqual(story.silent(2), [Kill(2, hard=True)])

    def test_pause_while_stopping(self) -> None:
        """A slot that waited to be filled stays empty."""
        story = Story(2).serving()
        story.exited(1, -11)
        story.stop(True)
        self.assertEqual(story.after(10), [])

    def test_before_start(self) -> None:
        """A fleet without workers ends at once."""
        self.assertEqual(Story(2).stop(True), [Ended(0, "it was told to stop")])

    def test_once(self) -> None:
        """The fleet ends once."""
        story = Story(1).serving()
        story.stop(True)
        story.exited(1, 0)
        self.assertEqual([story.stop(True), story.tick(), story.exited(1, 0)], [[], [], []])

    def test_stop_after_giving_up(self) -> None:
        """A stop does not hide why the fleet gave up."""
        story = Story(2)
        story.start()
        story.load_failed(1, "No module x.")
        story.stop(True)
        story.exited(1, 3)
        self.assertEqual(story.exited(2, -9), [Ended(3, "No module x.")])
