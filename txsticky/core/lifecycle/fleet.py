"""
The life of the workers: which one is started, retired or killed, and when; a machine without I/O.

A fleet has slots, 1 to N. Each has one current worker, perhaps a successor that is starting, and
workers of earlier days that are on their way out. The supervisor calls a method of the fleet for
each event, and brings about the effects that it returns, in their order:

======================  =============================================================
event                   effects
======================  =============================================================
`Fleet.start`           Spawn in each empty slot
`Fleet.ready`           Retire the worker that this one replaces; next step of a reload
`Fleet.load_failed`     at the very first start Kill all: give up; else as `not_spawned`
`Fleet.not_spawned`     Spawn after a pause; end of a reload that waited for it
`Fleet.exited`          Spawn after a pause, unless it was to leave; Ended after the last
`Fleet.leaving`         Spawn after a pause, and a time for its end
`Fleet.silent`          Kill and Spawn, at once
`Fleet.retire_request`  Spawn a successor; so does `Fleet.drain`
`Fleet.reload`          Reloading; Spawn slot by slot; Reloading at its end
`Fleet.scale`           Spawn in new slots, Retire the workers of those that go
`Fleet.stop`            Retire, or Kill if not graceful; what only starts is Killed
`Fleet.tick`            Kill what is overdue; Spawn what is due
======================  =============================================================

Every event may bring a `Say` besides. The rules:

* A worker is replaced by starting its successor first. Only when that one is ready does the old
  one retire; if it fails, the old one stays. There is one replacement under way at a time.
* A worker that dies is started again: at once, but after a pause that doubles with each further
  death in a row. A death after a settled life begins a new row.
* The fleet gives up only while no worker serves: at once if the application does not load at the
  very first start, else when every slot has failed `ATTEMPTS` times in a row.
* A worker that is told to leave has a time for it (`timing`), and is killed only when that is over.
"""

from __future__ import annotations

from typing import Final

from .crew import Crew
from .endings import HURRIED, NOT_READY, SILENT, STARTING, how_it_left, not_ready
from .plan import Plan
from .states import (
    BEFORE_STOP,
    MOST_WORKERS,
    SERVING,
    STOPPING,
    Effect,
    Ended,
    Instance,
    Phase,
    Reloading,
    Slot,
    WorkerStage,
    how_it_ended,
)
from .timing import quick

#: Failed starts in a row, in every slot, after which a fleet without a serving worker gives up.
ATTEMPTS: Final = 5
#: What a worker exits with when its application does not load, and so does the cluster (gunicorn).
LOAD_FAILURE: Final = 3


class Fleet(Crew):
    """
    All workers of a cluster.

    Times are absolute, in seconds, on any one clock that does not go back. An event about an id
    that is not known, or not any more, has no effect.

    :param workers: how many slots, 1 or more.
    :param graceful_timeout: seconds that a retiring worker gets for its whole end.
    :param start_timeout: seconds after which a worker that is not ready has failed; 0 = never.
    :ivar phase: where the fleet is in its life.
    :ivar plan: the replacements that are due.
    :ivar ever_ready: whether any worker was ever ready.
    """

    def __init__(
        self, workers: int, graceful_timeout: float = 30.0, start_timeout: float = 300.0
    ) -> None:
        super().__init__(workers, graceful_timeout, start_timeout)
        self.phase = Phase.NEW
        self.plan = Plan()
        self.ever_ready = False
        self._verdict = (0, "it was told to stop")

    @property
    def reloading(self) -> bool:
        """Whether a reload is under way."""
        return self.plan.reloading

    # -------------------------------------------------------------------- events: the workers

    def start(self, now: float) -> list[Effect]:
        """Fill the slots."""
        self.phase = Phase.RUNNING
        for slot in self.slots.values():
            if slot.current is None:
                self._spawn(slot, now)
        return self._settle(now)

    def ready(self, id: int, now: float) -> list[Effect]:
        """Take in that the worker's application is loaded and started."""
        worker = self.instances.get(id)
        if worker is None or worker.stage is not WorkerStage.STARTING:
            return []
        worker.move(WorkerStage.READY)
        worker.since, worker.deadline = now, None
        self.ever_ready = True
        for slot in self.slots.values():
            slot.failures = 0
        self._say("info", "Worker {slot} (id {id}) is ready.", worker)
        slot = self.slots[worker.slot]
        if slot.successor is worker and slot.current is not None:
            old, slot.current, slot.successor = slot.current, worker, None
            slot.forgive(old, now)
            self._retire(old, now)
        return self._settle(now)

    def load_failed(self, id: int, reason: str, now: float) -> list[Effect]:
        """Take in that the worker's application does not load; the worker is about to exit."""
        worker = self.instances.get(id)
        if worker is None or worker.stage is not WorkerStage.STARTING:
            return []
        worker.move(WorkerStage.LEAVING)
        self._end_within(worker, quick(self.graceful_timeout), "its failed start", now)
        self._start_failed(worker, reason, LOAD_FAILURE, now)
        return self._settle(now)

    def not_spawned(self, id: int, reason: str, now: float) -> list[Effect]:
        """Take in that the process could not be created: there will be no exit."""
        worker = self.instances.pop(id, None)
        if worker is not None and worker.stage is WorkerStage.STARTING:
            self._start_failed(worker, reason, 1, now)
        return self._settle(now)

    def exited(self, id: int, status: int, now: float) -> list[Effect]:
        """
        The worker's process has ended. Its last frames have to be told to the fleet before.

        :param status: its exit code, or the negative number of the signal that ended it.
        """
        worker = self.instances.pop(id, None)
        if worker is None:
            return []
        how = how_it_ended(status)
        if worker.stage is WorkerStage.STARTING:
            code = LOAD_FAILURE if status == LOAD_FAILURE else 1
            self._start_failed(worker, f"it {how} before it was ready", code, now)
        elif worker.stage is WorkerStage.READY:
            self._lost(worker, now)
            self._say("error", "Worker {slot} (id {id}) {how} unexpectedly.", worker, how=how)
        else:
            level, how = how_it_left(worker, status)
            self._say(level, "Worker {slot} (id {id}) {how}.", worker, how=how)
        return self._settle(now)

    def leaving(self, id: int, now: float) -> list[Effect]:
        """
        The worker serves no more, though its process lives: its application shuts down.

        It has the graceful timeout for that; if nothing had asked it to leave, it is replaced.
        """
        worker = self.instances.get(id)
        if worker is None or worker.stage is not WorkerStage.READY:
            return []
        self._say("error", "Worker {slot} (id {id}) stops serving unasked.", worker)
        worker.move(WorkerStage.RETIRING)
        self._end_within(worker, self.graceful_timeout, "its end of service", now)
        self._lost(worker, now)
        return self._settle(now)

    def silent(self, id: int, now: float, takes: bool = True) -> list[Effect]:
        """
        The worker has given no sign of life for too long: fence it and start anew at once.

        :param takes: False if it lives, but takes no connection that waits for it.
        """
        worker = self.instances.get(id)
        if worker is None or worker.stage not in SERVING:
            return []
        why = "gives no sign of life" if takes else "takes no connections"
        self._say("error", "Worker {slot} (id {id}) {why} and is killed.", worker, why=why)
        was_current = worker.stage is WorkerStage.READY
        self._kill(worker, SILENT)
        if was_current:
            slot = self.slots[worker.slot]
            slot.lose(worker, now)
            if slot.current is None:
                self._spawn(slot, now)
        return self._settle(now)

    def retire_request(self, id: int, now: float) -> list[Effect]:
        """Replace a worker, as it asks: after so many requests, or told to by a signal."""
        return self._unwanted(id, "asks to be replaced", now)

    # ------------------------------------------------------------------- events: the operator

    def drain(self, id: int, now: float) -> list[Effect]:
        """Replace one worker, for the operator."""
        return self._unwanted(id, "is drained for the operator", now)

    def reload(self, now: float) -> list[Effect]:
        """Replace all workers, slot by slot. During a reload, exactly one more is noted."""
        if self.phase is Phase.RUNNING:
            if self.plan.reloading:
                self.plan.again = True
                self._say("info", "A reload is under way; another one follows it.")
            else:
                self._begin_reload()
        return self._settle(now)

    def scale(self, delta: int, now: float) -> list[Effect]:
        """
        Change the number of slots; the highest go first.

        One always stays, and there are never more than `MOST_WORKERS`.

        :param delta: how many more or, if negative, less.
        """
        if self.phase is not Phase.RUNNING:
            return []
        if delta > 0 and len(self.slots) + delta > MOST_WORKERS:
            self._say("warn", "There are never more than {most} workers.", most=MOST_WORKERS)
        wanted = max(1, min(len(self.slots) + delta, MOST_WORKERS))
        for number in range(len(self.slots), wanted, -1):
            slot = self.slots.pop(number)
            for worker in filter(None, (slot.current, slot.successor)):
                self._dismiss(worker, now)
        for number in range(len(self.slots) + 1, wanted + 1):
            self.slots[number] = Slot(number)
            self._spawn(self.slots[number], now)
        self._say("info", "The number of workers is {workers}.", workers=wanted)
        return self._settle(now)

    def stop(self, graceful: bool, now: float) -> list[Effect]:
        """
        End all workers.

        A second call hurries: any ends the wait of a graceful stop for requests, and one that is
        not graceful itself kills what a quick stop waits for.

        :param graceful: whether workers may finish what they hold, within the graceful timeout.
        """
        began = self.phase
        if began is Phase.ENDED:
            return []
        self._clear_plans()
        self.phase = Phase.DRAINING if graceful and began in BEFORE_STOP else Phase.QUITTING
        for worker in self.instances.values():
            if began is Phase.QUITTING:
                if not graceful and worker.deadline is not None:
                    self._kill(worker, HURRIED)
            elif self.phase is Phase.DRAINING:
                self._dismiss(worker, now, final=True)
            elif worker.stage is WorkerStage.STARTING:
                self._kill(worker, STARTING)
            elif worker.stage is not WorkerStage.LEAVING:
                self._quit(worker, now)
        return self._settle(now)

    # ----------------------------------------------------------------------------------- time

    def tick(self, now: float) -> list[Effect]:
        """Do what has become due by now."""
        for worker in list(self.instances.values()):
            if worker.deadline is not None and worker.deadline <= now:
                self._overdue(worker, now)
        for slot in self.slots.values():
            if slot.due is not None and slot.due <= now:
                slot.due = None
                if slot.current is None:
                    self._spawn(slot, now)
                else:
                    self.plan.replace(slot.current)
        return self._settle(now)

    def wake(self) -> float | None:
        """The time of the next `tick`; None if there is nothing to wait for."""
        times = [worker.deadline for worker in self.instances.values()]
        times += [slot.due for slot in self.slots.values()]
        return min((time for time in times if time is not None), default=None)

    # --------------------------------------------------------------------------- replacements

    def _unwanted(self, id: int, why: str, now: float) -> list[Effect]:
        worker = self.instances.get(id)
        if worker is not None and worker.stage is WorkerStage.READY and not worker.unwanted:
            worker.unwanted = True
            self._say("info", "Worker {slot} (id {id}) {why}: a successor is due.", worker, why=why)
            self.plan.replace(worker)
        return self._settle(now)

    def _begin_reload(self) -> None:
        self.generation += 1
        self.plan.reload(self.slots, self.next_id)
        self._effects.append(Reloading(True))
        self._say("info", "The reload begins: generation {generation}.", generation=self.generation)

    def _reload_is_over(self, level: str, text: str) -> None:
        again = self.plan.reload_is_over()
        self._effects.append(Reloading(False))
        self._say(level, text)
        if again:
            self._begin_reload()

    def _advance(self, now: float) -> None:
        """Go on with the plan as far as possible without waiting."""
        while (step := self.plan.first) is not None:
            slot = self.slots.get(step.slot)
            if slot is not None and not step.is_done(slot):
                self._spawn_if_idle(slot, now)
                return  # until the worker that is starting is ready or has failed
            if self.plan.step_done():
                self._reload_is_over("info", "The reload is complete.")

    # ------------------------------------------------------------------------ starts and ends

    def _start_failed(self, worker: Instance, reason: str, exit_code: int, now: float) -> None:
        slot = self.slots[worker.slot]
        slot.start_failed(worker)
        self._say("error", "Worker {slot} (id {id}) did not start: {reason}", worker, reason=reason)
        if exit_code == LOAD_FAILURE and not self.ever_ready:
            self._give_up(exit_code, reason, now)
        elif self._hopeless():
            sentence = "Every worker failed to start, {} times in a row; the last time: {}"
            self._give_up(exit_code, sentence.format(ATTEMPTS, reason), now)
        else:
            if slot.current is None or slot.current.unwanted:
                slot.wait(now)
            if self.plan.failed(worker):
                self._reload_is_over(
                    "error", "The reload is given up; workers that were not yet replaced stay."
                )

    def _hopeless(self) -> bool:
        if any(worker.stage in SERVING for worker in self.instances.values()):
            return False
        return all(slot.failures >= ATTEMPTS for slot in self.slots.values())

    def _give_up(self, exit_code: int, reason: str, now: float) -> None:
        self._verdict = (exit_code, reason)
        self._clear_plans()
        self.phase = Phase.QUITTING
        for worker in self.instances.values():
            if worker.stage is not WorkerStage.LEAVING:
                self._kill(worker, STARTING)

    def _overdue(self, worker: Instance, now: float) -> None:
        if worker.stage is WorkerStage.STARTING:
            self._kill(worker, NOT_READY)
            self._start_failed(worker, not_ready(self.start_timeout), 1, now)
        else:
            self._kill(worker, worker.why)

    def _clear_plans(self) -> None:
        self.plan.clear()
        for slot in self.slots.values():
            slot.due = None

    # --------------------------------------------------------------------------------- effects

    def _settle(self, now: float) -> list[Effect]:
        """End an event: go on with the plan, see whether all is over, and return the effects."""
        if self.phase is Phase.RUNNING:
            self._advance(now)
        elif self.phase in STOPPING and not self.instances:
            self.phase = Phase.ENDED
            self._effects.append(Ended(*self._verdict))
        effects, self._effects = self._effects, []
        return effects
