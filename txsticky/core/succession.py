"""A fleet as JSON values: what a primary that executes itself anew hands to the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .lifecycle import Fleet
from .stages import PLACED, Instance, Stage


def snapshot(fleet: Fleet) -> dict[str, Any]:
    """
    The fleet's workers and settings, for `restore` in a process that uses the same clock.

    What was planned, a reload for instance, is not part of it; a successor that is starting is.
    """
    return {
        "workers": len(fleet.slots),
        "graceful_timeout": fleet.graceful_timeout,
        "boot_timeout": fleet.boot_timeout,
        "next_id": fleet.next_id,
        "generation": fleet.generation,
        "ever_ready": fleet.ever_ready,
        "instances": [
            {**attrs.asdict(worker), "stage": worker.stage.value}
            for worker in fleet.instances.values()
        ],
    }


def restore(snapshot: Mapping[str, Any]) -> Fleet:
    """A fleet that has these workers already; `Fleet.start` adds what is missing."""
    fleet = Fleet(snapshot["workers"], snapshot["graceful_timeout"], snapshot["boot_timeout"])
    fleet.next_id = snapshot["next_id"]
    fleet.generation = snapshot["generation"]
    fleet.ever_ready = snapshot["ever_ready"]
    for fields in snapshot["instances"]:
        worker = Instance(**{**fields, "stage": Stage(fields["stage"])})
        fleet.instances[worker.id] = worker
        if worker.stage in PLACED:
            slot = fleet.slots[worker.slot]
            if slot.current is None:
                slot.current = worker
            else:  # they come in the order of their ids
                slot.successor = worker
    return fleet
