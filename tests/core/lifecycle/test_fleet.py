"""The life of the workers: starts, deaths, reloads, stops."""

from __future__ import annotations

import json
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

from txsticky.core.lifecycle.fleet import ATTEMPTS, Fleet
from txsticky.core.lifecycle.snapshot import restore, snapshot
from txsticky.core.lifecycle.states import (
    BACKOFF_FIRST,
    BACKOFF_MOST,
    MOST_WORKERS,
    PLACED,
    SERVING,
    SETTLED,
    Effect,
    Ended,
    Kill,
    Phase,
    Reloading,
    Retire,
    Say,
    Spawn,
    WorkerStage,
    how_it_ended,
    pause,
)
from txsticky.core.lifecycle.timing import LATE, QUICK, killed

DRAIN = 30.0
START = 60.0


class ValuesTests(SynchronousTestCase):
    """Values that operators know, and words."""

    def test_times(self) -> None:
        """The pauses, and what makes an end of them, are in seconds what they always were."""
        self.assertEqual((BACKOFF_FIRST, BACKOFF_MOST, SETTLED), (0.1, 30.0, 10.0))

    def test_pauses(self) -> None:
        """However many have died, the pause is half a minute at most."""
        self.assertEqual([pause(1), pause(9), pause(10), pause(10_000)], [0.1, 25.6, 30, 30])

    def test_how_it_ended(self) -> None:
        """A negative status is a signal, any other one an exit code (wait(2))."""
        self.assertEqual(how_it_ended(-9), "was ended by signal 9")
        self.assertEqual(how_it_ended(0), "exited with code 0")
        self.assertEqual(how_it_ended(3), "exited with code 3")


class Story:
    """A fleet and a clock; every event returns what has to be brought about, without the log."""

    def __init__(self, workers: int) -> None:
        self.fleet = Fleet(workers, graceful_timeout=DRAIN, start_timeout=START)
        self.now = 1000.0
        self.said: list[Say] = []
        self.ticks = 0

    def __getattr__(self, event: str) -> Any:
        def happen(*arguments: object) -> list[Effect]:
            effects = getattr(self.fleet, event)(*arguments, self.now)
            self.said += [effect for effect in effects if isinstance(effect, Say)]
            return [effect for effect in effects if not isinstance(effect, Say)]

        return happen

    def after(self, seconds: float) -> list[Effect]:
        """Let time pass, with a tick whenever the fleet wants one."""
        end = self.now + seconds
        effects = []
        while (wake := self.fleet.wake()) is not None and wake <= end:
            self.now = max(self.now, wake)
            effects += self.tick()
            self.ticks += 1
            assert self.ticks < 1000, "what is due stays due"
        self.now = end
        return effects

    def serving(self) -> Story:
        """Start, with every worker ready."""
        for effect in self.start():
            self.ready(effect.id)
        return self

    def told(self) -> str:
        """The last thing that was said."""
        return self.said[-1].text.format(**self.said[-1].fields)

    def levels(self) -> set[str]:
        """How loud it was."""
        return {say.level for say in self.said}


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
        """With no bound it may take for ever."""
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
        """A worker that could not even be spawned is tried again after the pause."""
        story = Story(1)
        story.start()
        self.assertEqual(story.not_spawned(1, "no memory"), [])
        self.assertEqual(story.after(pause(1)), [Spawn(2, 1, 1)])


class DeathTests(SynchronousTestCase):
    """Workers that die or hang."""

    def test_first_death(self) -> None:
        """A worker that dies is back after a tenth of a second, under a new id."""
        story = Story(1).serving()
        story.after(SETTLED)
        self.assertEqual(story.exited(1, -9), [])
        self.assertEqual(story.fleet.wake(), story.now + 0.1)
        self.assertEqual(story.after(0.1), [Spawn(2, 1, 1)])

    def test_back_off(self) -> None:
        """The pause doubles with each death in a row, up to half a minute."""
        story = Story(2).serving()
        pauses = []
        for _ in range(11):
            story.exited(story.fleet.slots[1].current.id, 1)
            pauses.append(round(story.fleet.wake() - story.now, 3))
            [spawn] = story.after(BACKOFF_MOST)
            story.ready(spawn.id)
        self.assertEqual(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])

    def test_settled(self) -> None:
        """A death after a settled life begins a new row."""
        story = Story(1).serving()
        for _ in range(3):
            story.exited(story.fleet.slots[1].current.id, 1)
            [spawn] = story.after(BACKOFF_MOST)
            story.ready(spawn.id)
        story.after(SETTLED)
        story.exited(spawn.id, 1)
        self.assertEqual(story.fleet.wake(), story.now + pause(1))

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
        """A worker that lives and takes nothing is replaced in the same way."""
        effects = Story(2).serving().fleet.silent(1, 100.0, takes=False)
        done = [effect for effect in effects if not isinstance(effect, Say)]
        self.assertEqual(done, [Kill(1, hard=True), Spawn(3, 1, 1)])
        (said,) = [e for e in effects if isinstance(e, Say)]
        self.assertIn("takes no connections", said.text.format(**said.fields))

    def test_silent_with_a_successor(self) -> None:
        """If its successor is starting already, no other one starts."""
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
        self.assertEqual(story.fleet.wake(), story.now + pause(2))

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
        self.assertEqual(story.after(pause(1)), [Spawn(3, 1, 1)])
        self.assertEqual(story.after(killed(DRAIN) - pause(1) - 0.01), [])
        self.assertEqual(story.after(0.01), [Kill(1, hard=True)])
        self.assertIn("error", story.levels())

    def test_leaving_as_told(self) -> None:
        """That a worker which was told to leave serves no more is no event."""
        story = Story(1).serving()
        story.stop(True)
        story.after(DRAIN - 1)
        self.assertEqual(story.leaving(1), [])
        self.assertEqual(story.after(killed(DRAIN) - DRAIN + 1), [Kill(1, hard=True)])

    def test_leaving_with_a_successor(self) -> None:
        """If a successor is starting already, no other one starts."""
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
        self.assertEqual(story.fleet.wake(), story.now + pause(1))

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
    """One worker is to go, for a reason of its own."""

    def test_max_requests(self) -> None:
        """A worker that asks to be replaced retires when its successor is ready."""
        story = Story(2).serving()
        self.assertEqual(story.retire_request(2), [Spawn(3, 2, 1)])
        self.assertEqual(story.ready(3), [Retire(2, DRAIN, False)])

    def test_asked_twice(self) -> None:
        """It is replaced once, however often it asks."""
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
        """The operator's drain of one worker does the same."""
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


class StopTests(SynchronousTestCase):
    """The end."""

    def test_graceful(self) -> None:
        """All workers are told to finish, and it ends with the last."""
        story = Story(2).serving()
        self.assertEqual(story.stop(True), [Retire(1, DRAIN, True), Retire(2, DRAIN, True)])
        self.assertEqual(story.exited(2, 0), [])
        self.assertEqual(story.exited(1, 0), [Ended(0, "it was told to stop")])
        self.assertIs(story.fleet.wake(), None)

    def test_graceful_deadline(self) -> None:
        """Who does not finish in time, and some grace, is killed."""
        story = Story(1).serving()
        story.stop(True)
        self.assertEqual(story.after(killed(DRAIN)), [Kill(1, hard=True)])

    def test_retiring_keeps_its_deadline(self) -> None:
        """A worker that was retiring gets no new time, but learns that nobody is left."""
        story = Story(2).serving()
        story.scale(-1)
        story.after(20)
        self.assertIn(Retire(2, DRAIN - 20, True), story.stop(True))

    def test_quick(self) -> None:
        """A quick stop asks them to quit, and kills who is there when its time is over."""
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
        """Whoever dies during a stop is not replaced."""
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
        """It ends once."""
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

    def test_deadlines(self) -> None:
        """Who was retiring keeps its deadline, and is not replaced."""
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
        """The fleet may stop by itself, but not while somebody serves."""
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
    def nobody_is_lost(self) -> None:
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
        """Whoever is in a stage that must not last has a deadline, and wake knows the first."""
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
