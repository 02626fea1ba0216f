"""Which slots are to get a new worker, one after the other; a reload is a run of such steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from .states import Instance, Slot, WorkerStage


@attrs.frozen
class Step:
    """Bring a slot to a ready worker whose id is at least `first_new`."""

    slot: int
    first_new: int
    reload: bool

    def is_done(self, slot: Slot) -> bool:
        """Whether the slot is there already."""
        current = slot.current
        if current is None or current.stage is not WorkerStage.READY:
            return False
        return current.id >= self.first_new


class Plan:
    """
    The replacements that are due, in their order; the first one is under way.

    :ivar reloading: whether a reload is among them.
    :ivar again: whether another reload follows that one.
    """

    def __init__(self) -> None:
        self.reloading = False
        self.again = False
        self._steps: deque[Step] = deque()

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        steps = [[step.slot, step.first_new, step.reload] for step in self._steps]
        return {"steps": steps, "reloading": self.reloading, "again": self.again}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Plan:
        """Undo `to_json`."""
        plan = cls()
        plan.reloading, plan.again = fields["reloading"], fields["again"]
        plan._steps.extend(Step(*step) for step in fields["steps"])
        return plan

    @property
    def first(self) -> Step | None:
        """The step that is under way, if there is one."""
        return self._steps[0] if self._steps else None

    def replace(self, worker: Instance) -> None:
        """Plan a successor of one worker."""
        self._steps.append(Step(worker.slot, worker.id + 1, reload=False))

    def reload(self, slots: Iterable[int], first_new: int) -> None:
        """
        Plan a new worker for each slot.

        :param first_new: the id from which on a worker is new.
        """
        self.reloading = True
        self._steps.extend(Step(number, first_new, reload=True) for number in slots)

    def step_done(self) -> bool:
        """
        Go on to the next step.

        :returns: whether the one that is done was the last of a reload.
        """
        step = self._steps.popleft()
        return step.reload and not any(step.reload for step in self._steps)

    def failed(self, worker: Instance) -> bool:
        """
        Give up the step under way if it waited for a worker that has failed, and with a step of a
        reload the whole reload.

        :returns: whether a reload was given up.
        """
        step = self.first
        if step is None or step.slot != worker.slot or worker.id < step.first_new:
            return False
        if step.reload:
            self._steps = deque(step for step in self._steps if not step.reload)
        else:
            self._steps.popleft()
        return step.reload

    def reload_is_over(self) -> bool:
        """
        End the reload.

        :returns: whether another one follows.
        """
        again = self.again
        self.reloading = self.again = False
        return again

    def clear(self) -> None:
        """Plan nothing any more."""
        self._steps.clear()
        self.reloading = self.again = False
