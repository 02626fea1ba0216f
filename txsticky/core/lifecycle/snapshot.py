"""A fleet as JSON values: what a primary that executes itself anew hands to the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .fleet import Fleet
from .plan import Plan
from .states import PLACED, Instance, WorkerStage


def snapshot(fleet: Fleet) -> dict[str, Any]:
    """
    Take down the fleet's workers, plan and settings, for `restore` in a process that uses the same
    clock.

    The time for which a slot still waits for its next worker is not part of it.
    """
    return {
        "workers": len(fleet.slots),
        "graceful_timeout": fleet.graceful_timeout,
        "start_timeout": fleet.start_timeout,
        "next_id": fleet.next_id,
        "generation": fleet.generation,
        "ever_ready": fleet.ever_ready,
        "plans": fleet.plan.to_json(),
        "instances": [
            {**attrs.asdict(worker), "stage": worker.stage.value}
            for worker in fleet.instances.values()
        ],
    }


def restore(snapshot: Mapping[str, Any]) -> Fleet:
    """Make a fleet that has these workers already; `Fleet.start` adds the missing ones."""
    fleet = Fleet(snapshot["workers"], snapshot["graceful_timeout"], snapshot["start_timeout"])
    fleet.next_id = snapshot["next_id"]
    fleet.generation = snapshot["generation"]
    fleet.ever_ready = snapshot["ever_ready"]
    fleet.plan = Plan.from_json(snapshot["plans"])
    for fields in snapshot["instances"]:
        worker = Instance(**{**fields, "stage": WorkerStage(fields["stage"])})
        fleet.instances[worker.id] = worker
        if worker.stage in PLACED:
            slot = fleet.slots[worker.slot]
            if slot.current is None:
                slot.current = worker
            else:  # they come in the order of their ids
                slot.successor = worker
    return fleet
