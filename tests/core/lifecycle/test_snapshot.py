"""A fleet that goes on in another process."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.snapshot import restore, snapshot
from txsticky.core.lifecycle.states import Kill, Reloading, Retire, Spawn
from txsticky.core.lifecycle.timing import killed

from .story import DRAIN, Story


class SuccessionTests(SynchronousTestCase):
    """A fleet that passes from one primary to the next."""

    def passed_on(self, story: Story) -> Story:
        """The same story, told by the next primary."""
        next_one = Story(1)
        next_one.now = story.now
        next_one.fleet = restore(json.loads(json.dumps(snapshot(story.fleet))))
        return next_one

    def test_nothing_changes(self) -> None:
        """A fleet that serves goes on as it is, and ids go on where they were."""
        story = self.passed_on(Story(2).serving())
        self.assertEqual(story.start(), [])
        self.assertEqual(story.scale(1), [Spawn(3, 3, 1)])

    def test_successor(self) -> None:
        """A successor that was starting still takes over when it is ready."""
        story = Story(1).serving()
        story.drain(1)
        story = self.passed_on(story)
        self.assertEqual(story.start(), [])
        self.assertEqual(story.ready(2), [Retire(1, DRAIN, False)])

    def test_reload(self) -> None:
        """A reload that was under way goes on, and so does one that was to follow it."""
        story = Story(2).serving()
        story.reload()
        story.reload()
        story = self.passed_on(story)
        self.assertEqual(story.start(), [])
        self.assertEqual(story.ready(3), [Retire(1, DRAIN, False), Spawn(4, 2, 2)])
        self.assertEqual(
            story.ready(4),
            [Retire(2, DRAIN, False), Reloading(False), Reloading(True), Spawn(5, 1, 3)],
        )

    def test_loaded_once(self) -> None:
        """The next primary knows that the application has loaded: a failure ends a reload only."""
        story = self.passed_on(Story(2).serving())
        story.start()
        story.reload()
        self.assertEqual(story.load_failed(3, "No module x."), [Reloading(False)])

    def test_deadlines(self) -> None:
        """A worker that was retiring keeps its deadline, and is not replaced."""
        story = Story(2).serving()
        story.scale(-1)
        story.after(20)
        story = self.passed_on(story)
        self.assertEqual(story.start(), [])
        self.assertEqual(story.after(killed(DRAIN) - 20), [Kill(2, hard=True)])

    def test_empty_slot(self) -> None:
        """A slot that waited is filled at once."""
        story = Story(2).serving()
        story.exited(2, 1)
        self.assertEqual(self.passed_on(story).start(), [Spawn(3, 2, 1)])

    def test_unwanted(self) -> None:
        """A worker that asked to be replaced need not ask again."""
        story = Story(2).serving()
        story.retire_request(1)
        story.retire_request(2)
        story = self.passed_on(story)
        self.assertEqual(story.start(), [])
        self.assertEqual(story.ready(3), [Retire(1, DRAIN, False), Spawn(4, 2, 1)])
