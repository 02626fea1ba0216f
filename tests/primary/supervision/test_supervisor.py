"""The shell around the fleet: hands, clock, log and signs of life."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.fleet import Fleet
from txsticky.core.lifecycle.states import pause
from txsticky.core.lifecycle.timing import killed
from txsticky.primary.supervision.heartbeats import SUSPECT_AFTER
from txsticky.primary.supervision.supervisor import Supervisor

DRAIN = 30.0
BOOT = 60.0
TIMEOUT = 10.0


class FakeHands:
    """Writes down what it is asked to do."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.broken: set[str] = set()

    def take(self) -> list[tuple[Any, ...]]:
        """What the hands were asked since the last time."""
        done, self.done = self.done, []
        return done

    def _do(self, *what: Any) -> None:
        self.done.append(what)
        if what[0] in self.broken:
            raise OSError("out of everything")

    def spawn(self, id: int, slot: int, generation: int) -> None:
        self._do("spawn", id, slot, generation)

    def retire(self, id: int, seconds: float, final: bool) -> None:
        self._do("retire", id, seconds, final)

    def kill(self, id: int, hard: bool) -> None:
        self._do("kill", id, hard)

    def suspect(self, id: int, flag: bool) -> None:
        self._do("suspect", id, flag)

    def ended(self, exit_code: int, reason: str) -> None:
        self._do("ended", exit_code, reason)


class SupervisorCase(SynchronousTestCase):
    """A supervisor of two workers, with nothing real."""

    workers = 2
    timeout = TIMEOUT
    wary = False
    settled = True
    at_a_time = 2

    def setUp(self) -> None:
        self.clock = Clock()
        self.hands = FakeHands()
        self.events: list[dict[str, Any]] = []
        self.reloads: list[bool] = []
        self.supervisor = Supervisor(
            Fleet(self.workers, DRAIN, BOOT),
            self.hands,
            self.clock,
            Logger(observer=self.events.append),
            ended=self.hands.ended,
            reloading=self.reloads.append,
            worker_timeout=self.timeout,
            wary=self.wary,
            settled=lambda generation: self.settled,
            at_a_time=self.at_a_time,
        )

    def serve(self) -> None:
        """Have every worker ready."""
        self.supervisor.start()
        for id in (1, 2):
            self.supervisor.ready(id)
        self.hands.take()

    def live(self, seconds: float, *beating: int) -> None:
        """Let time pass; the workers named give signs of life."""
        for _ in range(int(seconds / 0.5)):
            self.clock.advance(0.5)
            for id in beating:
                self.supervisor.heartbeat(id)


class TurnTests(SupervisorCase):
    """Five workers of which two may be starting at a time."""

    workers = 5

    def spawned(self) -> list[int]:
        """The ids of the workers that were started since the last time."""
        return [what[1] for what in self.hands.take() if what[0] == "spawn"]

    def test_turns(self) -> None:
        """The next worker starts when one is ready, or has failed."""
        self.supervisor.start()
        self.assertEqual(self.spawned(), [1, 2])
        self.supervisor.ready(2)
        self.assertEqual(self.spawned(), [3])
        self.supervisor.exited(1, 1)
        self.assertEqual(self.spawned(), [4])

    def test_own_time(self) -> None:
        """The time to get ready runs from the start: the wait for one's turn is not counted."""
        self.supervisor.start()
        self.clock.advance(BOOT - 1)
        self.supervisor.ready(1)
        self.supervisor.ready(2)
        self.assertEqual(self.spawned(), [1, 2, 3, 4])
        self.clock.pump([BOOT - 1, 0])
        self.assertNotIn("kill", {what[0] for what in self.hands.take()})
        self.clock.pump([1, 0])
        self.assertLessEqual({("kill", 3, True), ("kill", 4, True)}, set(self.hands.take()))

    def test_slow_template(self) -> None:
        """What a template takes is the own time of all that wait for it."""
        self.settled = False
        self.supervisor.start()
        self.clock.pump([BOOT, 0])
        self.assertEqual(len(self.supervisor.fleet.instances), 0)
        self.assertEqual(self.hands.take(), [])

    def test_none_can_be_created(self) -> None:
        """Where no process can be created, all workers have had their turn."""
        self.hands.broken.add("spawn")
        self.supervisor.start()
        self.assertEqual(self.spawned(), [1, 2, 3, 4, 5])

    def test_stop(self) -> None:
        """Workers that wait for their turn are not waited for."""
        self.supervisor.start()
        self.supervisor.stop(True)
        self.assertEqual(set(self.supervisor.fleet.instances), {1, 2})

    def test_unreadable(self) -> None:
        """A template that cannot be asked for is told of, and holds up nothing else."""

        def settled(generation: int) -> bool:
            raise OSError("no key")

        self.supervisor._settled = settled
        self.supervisor.start()
        self.assertEqual((self.spawned(), len(self.flushLoggedErrors(OSError))), ([], 0))
        self.assertIn("A worker could not be started.", [e["log_format"] for e in self.events])


class EffectTests(SupervisorCase):
    """What the fleet wants reaches the hands."""

    def test_start(self) -> None:
        """The workers are spawned."""
        self.supervisor.start()
        self.assertEqual(self.hands.take(), [("spawn", 1, 1, 1), ("spawn", 2, 2, 1)])

    def test_reload(self) -> None:
        """A reload spawns, retires, and says that it begins and ends."""
        self.serve()
        self.supervisor.reload()
        self.supervisor.ready(3)
        self.assertEqual(self.reloads, [True])
        self.supervisor.ready(4)
        self.assertEqual(self.reloads, [True, False])
        self.assertEqual(
            self.hands.take(),
            [
                ("spawn", 3, 1, 2),
                ("retire", 1, DRAIN, False),
                ("spawn", 4, 2, 2),
                ("retire", 2, DRAIN, False),
            ],
        )

    def test_scale(self) -> None:
        """To scale by one spawns one more worker."""
        self.serve()
        self.supervisor.scale(1)
        self.assertEqual(self.hands.take(), [("spawn", 3, 3, 1)])

    def test_drain_and_retire_request(self) -> None:
        """A worker that is to go, for the operator or by its own wish, gets a successor."""
        self.serve()
        self.supervisor.drain(2)
        self.supervisor.ready(3)
        self.supervisor.retire_request(1)
        self.assertEqual(
            self.hands.take(),
            [("spawn", 3, 2, 1), ("retire", 2, DRAIN, False), ("spawn", 4, 1, 1)],
        )

    def test_load_failure(self) -> None:
        """An application that does not load ends the cluster with the exit code 3."""
        self.supervisor.start()
        self.supervisor.load_failed(1, "No module x.")
        self.supervisor.exited(2, -9)
        self.supervisor.exited(1, 3)
        self.assertEqual(self.hands.done[-1], ("ended", 3, "No module x."))

    def test_stop(self) -> None:
        """Every stop's Deferred fires when the last worker has gone, and not before."""
        self.serve()
        stopped = [self.supervisor.stop(True), self.supervisor.stop(True)]
        self.supervisor.exited(1, 0)
        for deferred in stopped:
            self.assertNoResult(deferred)
        self.supervisor.exited(2, 0)
        for deferred in [*stopped, self.supervisor.stop(True)]:
            self.assertIs(self.successResultOf(deferred), None)

    def test_nothing_stays(self) -> None:
        """At the end no delayed call is left."""
        self.serve()
        self.supervisor.stop(True)
        for id in (1, 2):
            self.supervisor.exited(id, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_log(self) -> None:
        """What the fleet says goes to the log with its level and fields."""
        self.serve()
        self.events.clear()
        self.supervisor.exited(2, -11)
        [event] = self.events
        self.assertEqual((event["log_level"], event["slot"], event["id"]), (LogLevel.error, 2, 2))
        self.assertIn("signal 11", event["log_format"].format(**event))

    def test_sentences(self) -> None:
        """Each sentence of the log has the fields that it names."""
        self.serve()
        self.supervisor.reload()
        self.supervisor.reload()
        self.supervisor.load_failed(3, "SyntaxError")
        self.supervisor.drain(2)
        self.supervisor.scale(1)
        self.clock.advance(BOOT + TIMEOUT)
        self.clock.advance(pause(2))
        for id in [*self.supervisor.fleet.instances]:
            self.supervisor.exited(id, 1)
        for event in self.events:
            event["log_format"].format(**event)
        self.assertGreater(len(self.events), 8)


class FailureTests(SupervisorCase):
    """Hands that cannot do what they should."""

    def test_no_process(self) -> None:
        """A worker that cannot be spawned is tried again later."""
        self.hands.broken.add("spawn")
        self.supervisor.start()
        self.hands.take()
        self.clock.advance(pause(1))
        self.assertEqual(self.hands.take(), [("spawn", 3, 1, 1), ("spawn", 4, 2, 1)])
        self.assertIn("out of everything", self.events[0]["reason"])

    def test_never_a_process(self) -> None:
        """If no worker can ever be spawned the cluster ends."""
        self.hands.broken.add("spawn")
        self.supervisor.start()
        self.clock.pump([5] * 10)
        self.assertEqual(self.hands.done[-1][:2], ("ended", 1))

    def test_what_remains_is_done(self) -> None:
        """One failure is logged and does not keep the other effects from happening."""
        self.serve()
        self.hands.broken.add("retire")
        self.supervisor.stop(True)
        self.assertEqual([what[0] for what in self.hands.take()], ["retire", "retire"])
        self.assertEqual(self.events[-1]["log_level"], LogLevel.critical)
        self.clock.advance(killed(DRAIN))
        self.assertIn(("kill", 1, True), self.hands.take())

    def test_order(self) -> None:
        """What an effect causes happens when that effect, and those before it, are done."""
        self.serve()

        def kill(id: int, hard: bool) -> None:
            self.supervisor.exited(id, -9)
            self.hands.done.append(("killed", id))

        self.hands.kill = kill  # type: ignore[method-assign]
        self.supervisor.stop(False)
        self.assertEqual(
            [what[:2] for what in self.hands.take()], [("killed", 1), ("killed", 2), ("ended", 0)]
        )


class HeldTests(SupervisorCase):
    """Workers that cannot be started yet."""

    settled = False

    def test_go_on(self) -> None:
        """Workers that could not be started are started when they can be."""
        self.supervisor.start()
        self.assertEqual(self.hands.take(), [])
        self.settled = True
        self.supervisor.go_on()
        self.supervisor.go_on()
        self.assertEqual(self.hands.take(), [("spawn", 1, 1, 1), ("spawn", 2, 2, 1)])

    def test_killed(self) -> None:
        """Workers that wait to be started have ended as soon as they are to end."""
        self.supervisor.start()
        self.supervisor.stop(True)
        self.assertEqual([what[:2] for what in self.hands.take()], [("ended", 0)])

    def test_upgrade(self) -> None:
        """A program that takes over starts what the one before had not started."""
        self.settled = True
        self.supervisor.start()
        self.hands.take()
        self.supervisor.hold({1})
        self.supervisor.start()
        self.assertEqual(self.hands.take(), [("spawn", 2, 2, 1)])


class TimeTests(SupervisorCase):
    """Ticks come when the fleet wants them."""

    def test_back_off(self) -> None:
        """A dead worker is back after its pause, and not before."""
        self.serve()
        self.supervisor.exited(1, -9)
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual(self.hands.take(), [("spawn", 3, 1, 1)])
        self.supervisor.ready(3)
        self.supervisor.exited(3, -9)
        self.clock.advance(pause(1) - 0.001)
        self.assertEqual(self.hands.take(), [])
        self.clock.advance(0.001)
        self.assertEqual(self.hands.take(), [("spawn", 4, 1, 1)])

    def test_earlier(self) -> None:
        """A nearer deadline goes before one that was waited for."""
        self.serve()
        self.supervisor.scale(1)
        self.supervisor.exited(1, -9)
        self.clock.advance(pause(1))
        self.assertIn(("spawn", 4, 1, 1), self.hands.take())

    def test_boot_timeout(self) -> None:
        """A worker that is not ready in time is killed."""
        self.supervisor.start()
        self.hands.take()
        self.clock.advance(BOOT)
        self.assertEqual(self.hands.take(), [("kill", 1, True), ("kill", 2, True)])

    def test_leaving(self) -> None:
        """A worker that serves no more has its graceful timeout, however silent it is."""
        self.serve()
        self.supervisor.stop(True)
        self.supervisor.leaving(1)
        self.hands.take()
        self.live(killed(DRAIN) - 0.5, 2)
        self.assertNotIn(("kill", 1, True), self.hands.take())
        self.live(0.5)
        self.assertIn(("kill", 1, True), self.hands.take())

    def test_leaving_unasked(self) -> None:
        """A worker that was not told to leave is replaced when it does."""
        self.serve()
        self.supervisor.leaving(1)
        self.clock.advance(pause(1))
        self.assertEqual(self.hands.take(), [("spawn", 3, 1, 1)])

    def test_said_in_time(self) -> None:
        """What a worker said while the primary was held up counts before the deadline does."""
        reactor = LateReactor()
        hands = FakeHands()
        supervisor = Supervisor(
            Fleet(1, DRAIN, BOOT),
            hands,
            reactor,
            Logger(),
            ended=hands.ended,
            reloading=self.reloads.append,
            worker_timeout=0,
        )
        supervisor.start()
        reactor.advance(BOOT * 2)
        supervisor.ready(1)
        reactor.turn()
        reactor.turn()
        self.assertEqual(hands.take(), [("spawn", 1, 1, 1)])


class LateReactor(Clock):
    """A clock whose calls made in one turn run in a later one, as those of real reactors do."""

    def advance(self, amount: float) -> None:
        """Let time pass, then run what is due, once."""
        self.rightNow += amount
        self.turn()

    def turn(self) -> None:
        """Run what is due and was there before."""
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class HeartbeatTests(SupervisorCase):
    """Signs of life."""

    def test_beating(self) -> None:
        """Workers that give signs of life are left alone."""
        self.serve()
        self.live(100, 1, 2)
        self.assertEqual(self.hands.take(), [])

    def test_silent(self) -> None:
        """A silent worker is suspect, then killed and replaced at once; the other is not."""
        self.serve()
        self.live(TIMEOUT - 0.5, 2)
        self.assertEqual(self.hands.take(), [("suspect", 1, True)])
        self.live(1.5, 2)
        self.assertEqual(self.hands.take(), [("kill", 1, True), ("spawn", 3, 1, 1)])

    def test_suspect_in_time(self) -> None:
        """A worker is suspect after two seconds, within the next look."""
        self.serve()
        self.live(1.5, 2)
        self.assertEqual(self.hands.take(), [])
        self.live(1.5, 2)
        self.assertEqual(self.hands.take(), [("suspect", 1, True)])

    def test_no_longer_suspect(self) -> None:
        """A sign of life clears the suspicion, once."""
        self.serve()
        self.live(5, 2)
        self.hands.take()
        self.live(2, 1, 2)
        self.assertEqual(self.hands.take(), [("suspect", 1, False)])

    def test_starting(self) -> None:
        """A worker that is starting need not give signs of life."""
        self.supervisor.start()
        self.hands.take()
        self.live(BOOT - 1)
        self.assertEqual(self.hands.take(), [])

    def test_retiring(self) -> None:
        """A retiring worker has to give signs of life; if it hangs it is killed before its time."""
        self.serve()
        self.supervisor.scale(-1)
        self.live(TIMEOUT + 1, 1)
        self.assertIn(("kill", 2, True), self.hands.take())

    def test_killed_once(self) -> None:
        """A worker that was killed for its silence is not killed again."""
        self.serve()
        self.live(TIMEOUT + 1, 2)
        self.hands.take()
        self.live(TIMEOUT + 1, 2)
        self.assertEqual(self.hands.take(), [])

    def test_after_the_exit(self) -> None:
        """A worker that has gone is not missed, whatever still comes in its name."""
        self.serve()
        self.supervisor.exited(1, 0)
        self.supervisor.heartbeat(1)
        self.live(TIMEOUT * 2, 2)
        self.assertEqual(self.hands.take(), [("spawn", 3, 1, 1)])

    def test_takes_nothing(self) -> None:
        """A worker that lives and takes nothing is suspect, and killed in the end."""
        self.serve()
        for _ in range(int(TIMEOUT / 0.5) + 2):
            self.clock.advance(0.5)
            self.supervisor.heartbeat(1)
            self.supervisor.heartbeat(2, takes=False)
        self.assertEqual(self.hands.take()[:2], [("suspect", 2, True), ("kill", 2, True)])

    def test_takes_again(self) -> None:
        """A worker that takes something again is alive."""
        self.serve()
        for number in range(int(TIMEOUT / 0.5) * 3):
            self.clock.advance(0.5)
            self.supervisor.heartbeat(1)
            self.supervisor.heartbeat(2, takes=number % 10 == 9)
        self.assertNotIn(("kill", 2, True), self.hands.take())

    def test_resumed(self) -> None:
        """A worker taken over from a former primary has to give signs of life from then on."""
        self.supervisor.fleet.start(0)
        for id in (1, 2):
            self.supervisor.fleet.ready(id, 0)
            self.supervisor.resume(id)
        self.supervisor.start()
        self.live(TIMEOUT + 1, 1)
        self.assertIn(("kill", 2, True), self.hands.take())

    def test_primary_held_up(self) -> None:
        """A pause of the primary itself, however long, is not held against the workers."""
        self.serve()
        self.live(5, 1, 2)
        self.clock.advance(1000)
        self.assertEqual(self.hands.take(), [])
        self.live(100, 1, 2)
        self.assertEqual(self.hands.take(), [])

    def test_slightly_late(self) -> None:
        """A primary that is a little late, as under load, excuses no worker."""
        self.serve()
        self.clock.pump([1.5] * int(TIMEOUT / 1.5 + 1))
        self.assertIn(("kill", 1, True), self.hands.take())

    def test_hung_before_the_pause(self) -> None:
        """A worker that was silent before a pause, and stays so, is still found out."""
        self.serve()
        self.live(5, 1)
        self.clock.advance(1000)
        self.hands.take()
        self.live(TIMEOUT, 1)
        self.assertIn(("kill", 2, True), self.hands.take())

    def test_pauses_do_not_add_up_to_trust(self) -> None:
        """After a pause a sign of life buys the usual time, not the length of the pause."""
        self.serve()
        self.live(5, 1, 2)
        self.clock.rightNow += 1000
        self.supervisor.heartbeat(2)
        self.live(TIMEOUT + 2, 1)
        self.assertIn(("kill", 2, True), self.hands.take())


class NoTimeoutTests(SupervisorCase):
    """A worker timeout of 0."""

    timeout = 0.0

    def test_never(self) -> None:
        """No worker has to give signs of life."""
        self.serve()
        self.clock.advance(1e6)
        self.assertEqual(self.hands.take(), [])


class WaryTests(SupervisorCase):
    """A worker timeout of 0, of workers that accept."""

    timeout = 0.0
    wary = True

    def test_suspect(self) -> None:
        """A silent worker is suspect until it gives a sign of life, and never killed."""
        self.serve()
        self.live(SUSPECT_AFTER + 1, 1)
        self.assertEqual(self.hands.take(), [("suspect", 2, True)])
        self.live(1000, 1)
        self.supervisor.heartbeat(2)
        self.assertEqual(self.hands.take(), [("suspect", 2, False)])


class ShortTimeoutTests(SupervisorCase):
    """A worker timeout of a second."""

    timeout = 1.0

    def test_looks_often(self) -> None:
        """A worker that is silent is suspect at half of the timeout, and killed at its end."""
        self.serve()
        self.clock.pump([0.25] * 2)
        self.assertEqual(self.hands.take(), [("suspect", 1, True), ("suspect", 2, True)])
        self.clock.pump([0.25] * 2)
        self.assertIn(("kill", 1, True), self.hands.take())
