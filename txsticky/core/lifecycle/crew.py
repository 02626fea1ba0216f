"""The workers of a fleet and their slots: how one is started, told to leave, or killed."""

from __future__ import annotations

from typing import Any

from .endings import STARTING, end_within
from .states import SERVING, Effect, Instance, Kill, Retire, Say, Slot, Spawn, WorkerStage
from .timing import killed, quick


class Crew:
    """
    What can be done to workers; when it is done is the `fleet.Fleet`'s to say.

    :param workers: how many slots, 1 or more.
    :param graceful_timeout: seconds that a retiring worker gets for its whole end.
    :param start_timeout: seconds after which a worker that is not ready has failed; 0 = never.
    :ivar instances: the processes that live, by id.
    :ivar slots: by number.
    :ivar next_id: the id of the next worker.
    :ivar generation: of the next worker; each reload begins one.
    """

    def __init__(self, workers: int, graceful_timeout: float, start_timeout: float) -> None:
        self.graceful_timeout = graceful_timeout
        self.start_timeout = start_timeout
        self.generation = 1
        self.instances: dict[int, Instance] = {}
        self.slots = {number: Slot(number) for number in range(1, workers + 1)}
        self.next_id = 1
        self._effects: list[Effect] = []

    def _spawn_if_idle(self, slot: Slot, now: float) -> None:
        """Start a worker in the slot unless one is starting there."""
        starts = slot.current is not None and slot.current.stage is WorkerStage.STARTING
        if not starts and slot.successor is None:
            self._spawn(slot, now)

    def _spawn(self, slot: Slot, now: float) -> None:
        deadline = now + self.start_timeout if self.start_timeout else None
        worker = Instance(self.next_id, slot.number, self.generation, deadline=deadline)
        self.next_id += 1
        self.instances[worker.id] = worker
        slot.due = None
        if slot.current is None:
            slot.current = worker
        else:
            slot.successor = worker
        self._effects.append(Spawn(worker.id, worker.slot, worker.generation))

    @property
    def starting(self) -> int:
        """How many workers are not ready yet, those that wait for their turn among them."""
        return sum(each.stage is WorkerStage.STARTING for each in self.instances.values())

    def queue(self, id: int) -> None:
        """Have a worker wait for its turn to start: that is not its own time."""
        self.instances[id].deadline = None

    def begun(self, id: int, now: float) -> None:
        """Have a worker's time to get ready run from now: its process has been started."""
        worker = self.instances.get(id)
        if worker is not None and worker.stage is WorkerStage.STARTING and self.start_timeout:
            worker.deadline = now + self.start_timeout

    def _lost(self, worker: Instance, now: float) -> None:
        """Have the slot of a worker that serves no more filled again."""
        slot = self.slots[worker.slot]
        slot.lose(worker, now)
        if slot.current is None:
            slot.go_on(now)

    def _dismiss(self, worker: Instance, now: float, final: bool = False) -> None:
        """Have a worker leave in its time; one that is starting holds nothing that needs it."""
        if worker.stage is WorkerStage.STARTING:
            self._kill(worker, STARTING)
        elif worker.stage in SERVING:
            self._retire(worker, now, final)

    def _retire(self, worker: Instance, now: float, final: bool = False) -> None:
        seconds = self.graceful_timeout
        if worker.deadline is None:
            worker.move(WorkerStage.RETIRING)
            self._end_within(worker, seconds, "being told to leave", now)
        else:  # it retires already, and the time that it was given runs
            seconds = max(0.0, min(seconds, worker.deadline - killed(0.0) - now))
        self._effects.append(Retire(worker.id, seconds, final))

    def _quit(self, worker: Instance, now: float) -> None:
        """Ask a worker to leave without waiting for requests."""
        worker.move(WorkerStage.LEAVING)
        self._end_within(worker, quick(self.graceful_timeout), "being told to stop at once", now)
        self._effects.append(Kill(worker.id, hard=False))

    def _end_within(self, worker: Instance, seconds: float, since: str, now: float) -> None:
        end_within(worker, seconds, self.graceful_timeout, since, now)

    def _kill(self, worker: Instance, why: str) -> None:
        if worker.stage is not WorkerStage.LEAVING:
            worker.move(WorkerStage.LEAVING)
        worker.deadline, worker.why = None, why
        self._effects.append(Kill(worker.id, hard=True))

    def _say(self, level: str, text: str, worker: Instance | None = None, **fields: Any) -> None:
        if worker is not None:
            fields.update(slot=worker.slot, id=worker.id, generation=worker.generation)
        self._effects.append(Say(level, text, fields))
