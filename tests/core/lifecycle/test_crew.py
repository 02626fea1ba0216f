"""Workers that wait for their turn to start, and those that start."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.fleet import Fleet

from .story import START, Story


class TurnTests(SynchronousTestCase):
    """A worker's time to get ready."""

    def test_starting(self) -> None:
        """Workers that are not ready yet are counted."""
        story = Story(3)
        story.start()
        story.ready(2)
        self.assertEqual(story.fleet.starting, 2)

    def test_turn(self) -> None:
        """The time does not run while a worker waits for its turn, and runs from its start on."""
        story = Story(1)
        story.start()
        story.fleet.queue(1)
        self.assertEqual(story.after(2 * START), [])
        story.fleet.begun(1, story.now)
        self.assertEqual(story.fleet.instances[1].deadline, story.now + START)

    def test_no_time(self) -> None:
        """Nothing runs where there is no limit, for a worker that is ready, or has gone."""
        endless, story = Fleet(1, start_timeout=0), Story(1).serving()
        endless.start(5.0)
        for fleet, id in ((endless, 1), (story.fleet, 1), (story.fleet, 9)):
            fleet.begun(id, 5.0)
            self.assertIsNone(fleet.instances[1].deadline)
