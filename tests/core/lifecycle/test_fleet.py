"""The life of the workers: starts, deaths, reloads, stops."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.fleet import ATTEMPTS
from txsticky.core.lifecycle.states import (
    BACKOFF_MOST,
    SETTLED,
    Effect,
    Ended,
    Kill,
    Reloading,
    Say,
    Spawn,
    WorkerStage,
    pause,
)
from txsticky.core.lifecycle.timing import QUICK, killed

from .story import DRAIN, START, Story


class StartTests(SynchronousTestCase):
    """The first start, and fleets that cannot."""

    def test_one_for_each_slot(self) -> None:
        """A start spawns one worker a slot."""
        self.assertEqual(Story(2).start(), [Spawn(1, 1, 1), Spawn(2, 2, 1)])

    def test_load_failure(self) -> None:
        """An application that does not load at the first start ends everything."""
        story = Story(2)
        story.start()
        self.assertEqual(story.load_failed(2, "No module x."), [Kill(1, hard=True)])
        self.assertEqual(story.exited(2, 3), [])
        self.assertEqual(story.exited(1, -9), [Ended(3, "No module x.")])

    def test_load_failure_without_a_word(self) -> None:
        """The exit code 3 alone says that the application does not load."""
        story = Story(1)
        story.start()
        [ended] = story.exited(1, 3)
        self.assertEqual(ended.exit_code, 3)

    def test_load_failure_that_does_not_leave(self) -> None:
        """A worker that reports a load failure and then stays is killed."""
        story = Story(1)
        story.start()
        story.load_failed(1, "No module x.")
        self.assertEqual(story.after(killed(QUICK) - 0.01), [])
        self.assertEqual(story.after(0.01), [Kill(1, hard=True)])
        self.assertEqual(story.exited(1, -9)[-1].exit_code, 3)
        self.assertIn("did not end within 10 s of its failed start and was killed", story.told())

    def test_start_timeout(self) -> None:
        """A worker that is not ready in time is killed and replaced."""
        story = Story(1)
        story.start()
        self.assertEqual(story.after(START - 0.01), [])
        self.assertEqual(story.after(0.01), [Kill(1, hard=True)])
        self.assertEqual(story.after(pause(1)), [Spawn(2, 1, 1)])

    def test_no_start_timeout(self) -> None:
        """With no bound on its start a worker may take for ever."""
        story = Story(1)
        story.fleet.start_timeout = 0.0
        story.start()
        self.assertIs(story.fleet.wake(), None)
        self.assertEqual(story.after(100_000), [])

    def test_start_timeout_is_named(self) -> None:
        """The log names the option, and so does the reason if the fleet gives up for it."""
        story = Story(1)
        story.start()
        for number in range(1, ATTEMPTS + 1):
            self.assertEqual(story.after(START), [Kill(number, hard=True)])
            texts = [say.text.format(**say.fields) for say in story.said]
            self.assertIn("was not ready within --start-timeout 60 s and is killed", texts[-1])
            effects = story.exited(number, -9)
            story.after(pause(number))
        [ended] = effects
        self.assertEqual(ended.exit_code, 1)
        self.assertIn("--start-timeout 60 s", ended.reason)

    def test_ready_too_late(self) -> None:
        """READY from a worker that is being killed changes nothing."""
        story = Story(1)
        story.start()
        story.after(START)
        self.assertEqual(story.ready(1), [])
        self.assertEqual(story.after(pause(1)), [Spawn(2, 1, 1)])

    def fail_all(self, story: Story, status: int) -> list[Effect]:
        """Let every start fail until the fleet gives up; what it wanted to the very end."""
        effects: list[Effect] = []
        for _ in range(20):
            effects += story.after(BACKOFF_MOST)
            for id in [*story.fleet.instances]:
                effects += story.exited(id, status)
        return effects

    def test_gives_up(self) -> None:
        """Workers that die before they are ready, five times each, end the fleet with 1."""
        story = Story(2)
        story.start()
        effects = self.fail_all(story, 1)
        self.assertEqual(effects[-1].exit_code, 1)
        self.assertEqual(story.fleet.next_id - 1, 2 * ATTEMPTS)

    def test_gives_up_on_what_no_longer_loads(self) -> None:
        """An application that loaded once and does not any more ends the fleet with 3, later."""
        story = Story(1).serving()
        story.exited(1, -9)
        effects = self.fail_all(story, 3)
        self.assertEqual([type(effect) for effect in effects], [Spawn] * ATTEMPTS + [Ended])
        self.assertEqual(effects[-1].exit_code, 3)

    def test_stays_while_one_serves(self) -> None:
        """One worker that serves is enough to go on, whatever the others do."""
        story = Story(2).serving()
        story.exited(1, -9)
        for _ in range(30):
            story.after(BACKOFF_MOST)
            for id in story.fleet.instances.keys() - {2}:
                self.assertEqual(story.exited(id, 3), [])

    def test_stays_while_one_retires(self) -> None:
        """A worker that drains still serves; the fleet gives up when it has gone."""
        story = Story(2).serving()
        story.scale(-1)
        story.exited(1, -9)
        story.fleet.slots[1].failures = ATTEMPTS
        story.after(pause(1))
        self.assertEqual(story.exited(3, 1), [])
        story.exited(2, 0)
        story.after(BACKOFF_MOST / 2)
        [ended] = story.exited(4, 1)
        self.assertEqual(ended.exit_code, 1)

    def test_ready_counts_for_all(self) -> None:
        """One worker that gets ready gives every slot its attempts back."""
        story = Story(2)
        story.start()
        story.fleet.slots[1].failures = ATTEMPTS - 1
        story.ready(2)
        story.exited(2, -9)
        story.fleet.slots[2].failures = ATTEMPTS
        self.assertEqual(story.exited(1, 1), [])

    def test_process_that_cannot_be_created(self) -> None:
        """A worker that could not even be spawned is tried again after the pause, not before."""
        story = Story(1)
        story.start()
        self.assertEqual(story.not_spawned(1, "no memory"), [])
        self.assertEqual(story.after(pause(1) - 0.01), [])
        self.assertEqual(story.after(0.01), [Spawn(2, 1, 1)])

    def test_processes_that_cannot_be_created(self) -> None:
        """If no process can be created again and again, the cluster ends with code 1."""
        story = Story(1)
        effects = story.start()
        for id in range(1, ATTEMPTS + 1):
            self.assertEqual(effects, [Spawn(id, 1, 1)])
            effects = story.not_spawned(id, "no memory") + story.after(BACKOFF_MOST)
        [ended] = effects
        self.assertEqual(ended.exit_code, 1)
        self.assertIn("no memory", ended.reason)


class DeathTests(SynchronousTestCase):
    """Workers that die or hang."""

    def test_first_death(self) -> None:
        """A worker that dies is back at once, under a new id."""
        story = Story(1).serving()
        story.after(SETTLED)
        self.assertEqual(story.exited(1, -9), [])
        self.assertEqual(story.fleet.wake(), story.now)
        self.assertEqual(story.after(0), [Spawn(2, 1, 1)])

    def test_back_off(self) -> None:
        """The pause doubles with each further death in a row, up to half a minute."""
        story = Story(2).serving()
        pauses = []
        for _ in range(11):
            story.exited(story.fleet.slots[1].current.id, 1)
            pauses.append(round(story.fleet.wake() - story.now, 3))
            [spawn] = story.after(BACKOFF_MOST)
            story.ready(spawn.id)
        self.assertEqual(pauses, [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30])

    def test_settled(self) -> None:
        """A death after a settled life begins a new row."""
        story = Story(1).serving()
        for _ in range(3):
            story.exited(story.fleet.slots[1].current.id, 1)
            [spawn] = story.after(BACKOFF_MOST)
            story.ready(spawn.id)
        story.after(SETTLED)
        story.exited(spawn.id, 1)
        self.assertEqual(story.fleet.wake(), story.now)

    def test_a_death_is_local(self) -> None:
        """The other workers are left alone."""
        story = Story(3).serving()
        story.exited(2, -11)
        self.assertEqual(story.after(START / 2), [Spawn(4, 2, 1)])

    def test_silent(self) -> None:
        """A worker without a sign of life is fenced, and its successor starts at once."""
        story = Story(2).serving()
        self.assertEqual(story.silent(1), [Kill(1, hard=True), Spawn(3, 1, 1)])
        self.assertEqual(story.exited(1, -9), [])

    def test_takes_nothing(self) -> None:
        """A worker that lives and takes nothing is replaced as a silent one is."""
        effects = Story(2).serving().fleet.silent(1, 100.0, takes=False)
        done = [effect for effect in effects if not isinstance(effect, Say)]
        self.assertEqual(done, [Kill(1, hard=True), Spawn(3, 1, 1)])
        (said,) = [e for e in effects if isinstance(e, Say)]
        self.assertIn("takes no connections", said.text.format(**said.fields))

    def test_silent_with_a_successor(self) -> None:
        """If the successor of a silent worker is starting already, no other one starts."""
        story = Story(1).serving()
        story.reload()
        self.assertEqual(story.silent(1), [Kill(1, hard=True)])
        self.assertEqual(story.ready(2), [Reloading(False)])

    def test_silent_counts_as_a_death(self) -> None:
        """A hang counts in the row of deaths."""
        story = Story(1).serving()
        [_, spawn] = story.silent(1)
        story.ready(spawn.id)
        story.exited(spawn.id, 1)
        self.assertEqual(story.fleet.wake(), story.now + pause(1))

    def test_silent_start(self) -> None:
        """A worker that is starting has its time for that, and no heartbeat."""
        story = Story(1)
        story.start()
        self.assertEqual(story.silent(1), [])

    def test_silent_retiring(self) -> None:
        """A retiring worker that hangs is killed; it has its successor already."""
        story = Story(2).serving()
        story.scale(-1)
        self.assertEqual(story.silent(2), [Kill(2, hard=True)])

    def test_leaving(self) -> None:
        """A worker that serves no more unasked is replaced, and has its time to end."""
        story = Story(2).serving()
        story.after(SETTLED)
        self.assertEqual(story.leaving(1), [])
        self.assertIs(story.fleet.instances[1].stage, WorkerStage.RETIRING)
        self.assertEqual(story.after(pause(1)), [Spawn(3, 1, 1)])
        self.assertEqual(story.after(killed(DRAIN) - pause(1) - 0.01), [])
        self.assertEqual(story.after(0.01), [Kill(1, hard=True)])
        self.assertIn("error", story.levels())

    def test_leaving_as_told(self) -> None:
        """A worker that was told to leave and serves no more is no event."""
        story = Story(1).serving()
        story.stop(True)
        story.after(DRAIN - 1)
        self.assertEqual(story.leaving(1), [])
        self.assertEqual(story.after(killed(DRAIN) - DRAIN + 1), [Kill(1, hard=True)])

    def test_leaving_with_a_successor(self) -> None:
        """If the successor of a worker that leaves is starting, no other one starts."""
        story = Story(1).serving()
        story.reload()
        self.assertEqual([story.leaving(1), story.after(1)], [[], []])
        self.assertEqual(story.ready(2), [Reloading(False)])

    def test_unknown(self) -> None:
        """Events of a worker that is not known are ignored."""
        story = Story(1).serving()
        for event, *rest in (
            ["ready"],
            ["load_failed", "x"],
            ["not_spawned", "x"],
            ["exited", 0],
            ["silent"],
            ["leaving"],
            ["retire_request"],
            ["drain"],
        ):
            self.assertEqual(getattr(story, event)(77, *rest), [])
