"""Reloads, single replacements and changes of the number of workers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.states import (
    BACKOFF_MOST,
    MOST_WORKERS,
    SETTLED,
    Ended,
    Kill,
    Reloading,
    Retire,
    Spawn,
    pause,
)
from txsticky.core.lifecycle.timing import killed

from .story import DRAIN, START, Story


class ReloadTests(SynchronousTestCase):
    """The rolling reload: new code must be ready, else the old stays."""

    def test_one_by_one(self) -> None:
        """Each slot's successor must be ready before its old worker retires and the next begins."""
        story = Story(2).serving()
        self.assertEqual(story.reload(), [Reloading(True), Spawn(3, 1, 2)])
        self.assertEqual(story.ready(3), [Retire(1, DRAIN, False), Spawn(4, 2, 2)])
        self.assertEqual(story.exited(1, 0), [])
        self.assertEqual(story.ready(4), [Retire(2, DRAIN, False), Reloading(False)])
        self.assertEqual(story.levels(), {"info"})

    def test_one_after_the_other(self) -> None:
        """A reload is over with its last successor, and the next one begins at once."""
        story = Story(1).serving()
        for id in (2, 3):
            self.assertEqual(story.reload(), [Reloading(True), Spawn(id, 1, id)])
            self.assertTrue(story.fleet.reloading)
            self.assertIn(Reloading(False), story.ready(id))
            self.assertFalse(story.fleet.reloading)

    def test_time_out(self) -> None:
        """A successor that is not ready in time is killed; the old worker stays."""
        story = Story(2).serving()
        story.reload()
        self.assertEqual(story.after(START), [Kill(3, hard=True), Reloading(False)])
        self.assertEqual(story.exited(3, -9), [])
        self.assertEqual(story.after(1000), [])
        self.assertIn("error", story.levels())

    def test_clean_exit(self) -> None:
        """A successor that leaves with 0 before it is ready ends the reload; the old one stays."""
        story = Story(2).serving()
        story.reload()
        self.assertEqual(story.exited(3, 0), [Reloading(False)])
        self.assertEqual(story.after(1000), [])

    def test_unclean_exit(self) -> None:
        """A successor that dies before it is ready ends the reload; the old worker stays."""
        story = Story(2).serving()
        story.reload()
        self.assertEqual(story.exited(3, -11), [Reloading(False)])
        self.assertEqual(story.after(1000), [])

    def test_load_failure(self) -> None:
        """A successor whose application does not load ends the reload; the old worker stays."""
        story = Story(2).serving()
        story.reload()
        self.assertEqual(story.load_failed(3, "SyntaxError"), [Reloading(False)])
        self.assertEqual(story.exited(3, 3), [])
        self.assertEqual(story.after(1000), [])

    def test_half_way(self) -> None:
        """What was replaced before the failure stays replaced."""
        story = Story(2).serving()
        story.reload()
        story.ready(3)
        story.exited(4, 1)
        self.assertEqual([slot.current.id for slot in story.fleet.slots.values()], [3, 2])

    def test_concurrent(self) -> None:
        """However often a reload is asked for during one, exactly one more follows."""
        story = Story(1).serving()
        story.reload()
        self.assertEqual([story.reload(), story.reload()], [[], []])
        self.assertEqual(
            story.ready(2),
            [Retire(1, DRAIN, False), Reloading(False), Reloading(True), Spawn(3, 1, 3)],
        )
        self.assertEqual(story.ready(3), [Retire(2, DRAIN, False), Reloading(False)])

    def test_concurrent_after_failure(self) -> None:
        """The reload that waits is done even if the one before fails: the code may be mended."""
        story = Story(1).serving()
        story.reload()
        story.reload()
        self.assertEqual(story.exited(2, 1), [Reloading(False), Reloading(True), Spawn(3, 1, 3)])

    def test_cancel(self) -> None:
        """A stop during a reload ends it: the successor is killed, nothing more is spawned."""
        story = Story(2).serving()
        story.reload()
        self.assertEqual(
            story.stop(True),
            [Retire(1, DRAIN, True), Retire(2, DRAIN, True), Kill(3, hard=True)],
        )
        self.assertEqual([story.exited(id, 0) for id in (3, 1)], [[], []])
        self.assertEqual(story.exited(2, 0), [Ended(0, "it was told to stop")])

    def test_old_one_dies(self) -> None:
        """When the old worker dies meanwhile, the successor takes its place; no other starts."""
        story = Story(1).serving()
        story.reload()
        self.assertEqual(story.exited(1, -9), [])
        self.assertEqual(story.after(START / 2), [])
        self.assertEqual(story.ready(2), [Reloading(False)])

    def test_old_one_and_successor_die(self) -> None:
        """When both die, the slot is filled again, and the reload is over."""
        story = Story(1).serving()
        story.reload()
        story.exited(1, -9)
        self.assertEqual(story.exited(2, -9), [Reloading(False)])
        self.assertEqual(story.after(BACKOFF_MOST), [Spawn(3, 1, 2)])

    def test_during_a_pause(self) -> None:
        """A slot that waits after a death is filled at once by a reload."""
        story = Story(1).serving()
        story.exited(1, 1)
        self.assertEqual(story.reload(), [Reloading(True), Spawn(2, 1, 2)])
        self.assertEqual(story.after(1), [])
        self.assertEqual(story.ready(2), [Reloading(False)])

    def test_settled_life(self) -> None:
        """Replacing a worker after a settled life begins a new row of deaths."""
        story = Story(1).serving()
        story.exited(1, 1)
        story.after(pause(1))
        story.ready(2)
        story.after(SETTLED)
        story.reload()
        story.ready(3)
        story.exited(3, 1)
        self.assertEqual(story.fleet.wake(), story.now)

    def test_during_a_start(self) -> None:
        """A worker that was starting when the reload came may have old code: it is replaced."""
        story = Story(1)
        story.start()
        self.assertEqual(story.reload(), [Reloading(True)])
        self.assertEqual(story.ready(1), [Spawn(2, 1, 2)])
        self.assertEqual(story.ready(2), [Retire(1, DRAIN, False), Reloading(False)])

    def test_start_before_the_reload_fails(self) -> None:
        """The failure of a worker with old code does not end the reload."""
        story = Story(1).serving()
        story.exited(1, 1)
        story.after(1)
        story.reload()
        self.assertEqual(story.exited(2, 1), [Spawn(3, 1, 2)])
        self.assertEqual(story.ready(3), [Reloading(False)])

    def test_already_new(self) -> None:
        """A slot whose worker died and came back during the reload is not replaced again."""
        story = Story(2).serving()
        story.reload()
        story.exited(2, 1)
        story.after(1)
        story.ready(4)
        self.assertEqual(story.ready(3), [Retire(1, DRAIN, False), Reloading(False)])

    def test_late_drain(self) -> None:
        """A worker that does not finish within its time, and some grace, is killed."""
        story = Story(1).serving()
        story.reload()
        story.ready(2)
        self.assertEqual(story.after(killed(DRAIN) - 0.01), [])
        self.assertEqual(story.after(0.01), [Kill(1, hard=True)])

    def test_scaled_away(self) -> None:
        """A slot that is removed while it waits for its turn does not hold up the reload."""
        story = Story(2).serving()
        story.reload()
        story.scale(-1)
        self.assertEqual(story.ready(3), [Retire(1, DRAIN, False), Reloading(False)])

    def test_scaled_away_in_its_turn(self) -> None:
        """A slot that is removed in its turn takes its successor along."""
        story = Story(2).serving()
        story.reload()
        story.ready(3)
        self.assertEqual(
            story.scale(-1), [Retire(2, DRAIN, False), Kill(4, hard=True), Reloading(False)]
        )

    def test_when_stopping(self) -> None:
        """A fleet that stops does not reload."""
        story = Story(1).serving()
        story.stop(True)
        self.assertEqual(story.reload(), [])


class ReplaceTests(SynchronousTestCase):
    """Replacements of one worker, for a reason of its own."""

    def test_max_requests(self) -> None:
        """A worker that asks to be replaced retires when its successor is ready."""
        story = Story(2).serving()
        self.assertEqual(story.retire_request(2), [Spawn(3, 2, 1)])
        self.assertEqual(story.ready(3), [Retire(2, DRAIN, False)])

    def test_asked_twice(self) -> None:
        """A worker is replaced once, however often it asks."""
        story = Story(1).serving()
        story.retire_request(1)
        said = len(story.said)
        self.assertEqual(story.retire_request(1), [])
        self.assertEqual(len(story.said), said)
        self.assertEqual(story.ready(2), [Retire(1, DRAIN, False)])

    def test_not_serving(self) -> None:
        """A worker that is starting or retiring need not be replaced."""
        story = Story(1).serving()
        story.reload()
        self.assertEqual(story.drain(2), [])
        self.assertEqual(story.ready(2), [Retire(1, DRAIN, False), Reloading(False)])
        self.assertEqual(story.drain(1), [])

    def test_one_at_a_time(self) -> None:
        """Workers that ask together are replaced one after the other."""
        story = Story(2).serving()
        story.retire_request(1)
        self.assertEqual(story.retire_request(2), [])
        self.assertEqual(story.ready(3), [Retire(1, DRAIN, False), Spawn(4, 2, 1)])

    def test_failure(self) -> None:
        """If the successor fails the old worker stays, and another successor is tried later."""
        story = Story(1).serving()
        story.retire_request(1)
        self.assertEqual(story.exited(2, 1), [])
        self.assertEqual(story.after(pause(1)), [Spawn(3, 1, 1)])
        self.assertEqual(story.ready(3), [Retire(1, DRAIN, False)])

    def test_waiting_for_its_turn(self) -> None:
        """A successor whose time has come behind another's start is not due any more."""
        story = Story(2).serving()
        story.retire_request(1)
        story.exited(3, 1)
        story.retire_request(2)
        story.after(pause(1))
        self.assertGreater(story.fleet.wake(), story.now)
        self.assertEqual(story.ready(4), [Retire(2, DRAIN, False), Spawn(5, 1, 1)])

    def test_drain(self) -> None:
        """The operator's drain of one worker replaces it as its own request does."""
        story = Story(2).serving()
        self.assertEqual(story.drain(1), [Spawn(3, 1, 1)])
        self.assertEqual(story.ready(3), [Retire(1, DRAIN, False)])

    def test_reload_follows(self) -> None:
        """A successor that started before a reload is replaced by it."""
        story = Story(1).serving()
        story.retire_request(1)
        self.assertEqual(story.reload(), [Reloading(True)])
        self.assertEqual(story.ready(2), [Retire(1, DRAIN, False), Spawn(3, 1, 2)])
        self.assertEqual(story.ready(3), [Retire(2, DRAIN, False), Reloading(False)])

    def test_during_a_reload(self) -> None:
        """A worker that the reload has in hand need not be replaced twice."""
        story = Story(1).serving()
        story.reload()
        story.retire_request(1)
        self.assertEqual(story.ready(2), [Retire(1, DRAIN, False), Reloading(False)])


class ScaleTests(SynchronousTestCase):
    """More workers, or less."""

    def test_more(self) -> None:
        """New slots follow the highest."""
        self.assertEqual(Story(1).serving().scale(2), [Spawn(2, 2, 1), Spawn(3, 3, 1)])

    def test_most(self) -> None:
        """Beyond the most workers there may be, none is started, and that is said."""
        story = Story(MOST_WORKERS - 1).serving()
        self.assertEqual(story.scale(3), [Spawn(MOST_WORKERS, MOST_WORKERS, 1)])
        self.assertIn("warn", story.levels())
        self.assertEqual(story.scale(1), [])
        self.assertEqual(len(story.fleet.slots), MOST_WORKERS)
        self.assertEqual(story.scale(-1), [Kill(MOST_WORKERS, hard=True)])

    def test_less(self) -> None:
        """The highest slots go first, in peace."""
        self.assertEqual(
            Story(3).serving().scale(-2), [Retire(3, DRAIN, False), Retire(2, DRAIN, False)]
        )

    def test_never_none(self) -> None:
        """One worker always stays."""
        story = Story(2).serving()
        self.assertEqual(story.scale(-5), [Retire(2, DRAIN, False)])
        self.assertEqual(story.scale(-1), [])

    def test_starting(self) -> None:
        """A worker that is starting holds nothing, so it is killed."""
        story = Story(1).serving()
        story.scale(1)
        self.assertEqual(story.scale(-1), [Kill(2, hard=True)])

    def test_waiting(self) -> None:
        """A slot that waits after a death simply goes."""
        story = Story(2).serving()
        story.exited(2, 1)
        self.assertEqual(story.scale(-1), [])
        self.assertEqual(story.after(1000), [])

    def test_back_again(self) -> None:
        """A slot may return while its former worker still drains."""
        story = Story(2).serving()
        story.scale(-1)
        self.assertEqual(story.scale(1), [Spawn(3, 2, 1)])
        self.assertEqual(story.exited(2, 0), [])
        self.assertEqual(story.ready(3), [])

    def test_when_stopping(self) -> None:
        """A fleet that stops does not grow."""
        story = Story(1).serving()
        story.stop(True)
        self.assertEqual(story.scale(1), [])
