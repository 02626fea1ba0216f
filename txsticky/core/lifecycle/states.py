"""The stages that a worker and a fleet go through, and the effects that `lifecycle` asks for."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import attrs


class WorkerStage(enum.Enum):
    """Where a worker is in its life."""

    STARTING = "starting"  # it holds no connection yet
    READY = "ready"
    RETIRING = "retiring"  # told to drain; it still serves what it holds
    LEAVING = "leaving"  # failed or killed; only its exit is awaited


#: What may follow.
MOVES: Final = {
    WorkerStage.STARTING: {WorkerStage.READY, WorkerStage.LEAVING},
    WorkerStage.READY: {WorkerStage.RETIRING, WorkerStage.LEAVING},
    WorkerStage.RETIRING: {WorkerStage.LEAVING},
    WorkerStage.LEAVING: set[WorkerStage](),
}
#: Stages of a worker that holds connections, or may get some.
SERVING: Final = {WorkerStage.READY, WorkerStage.RETIRING}
#: Stages of a worker in a slot, as opposed to one on its way out.
PLACED: Final = {WorkerStage.STARTING, WorkerStage.READY}


class Phase(enum.Enum):
    """Where the fleet is in its life."""

    NEW = "new"
    RUNNING = "running"
    DRAINING = "draining"  # told to stop gracefully
    QUITTING = "quitting"  # told to stop quickly, or given up
    ENDED = "ended"


#: The phase that is shown of a cluster told to stop, as long as it serves on: its fleet still runs.
LAME_DUCK: Final = "lame duck"

#: Workers of a cluster, at most: each can have a descriptor for every other's mailbox.
MOST_WORKERS: Final = 512

#: Phases of a fleet that is not yet told to stop.
BEFORE_STOP: Final = {Phase.NEW, Phase.RUNNING}
#: Phases of a fleet that waits for the last worker to exit.
STOPPING: Final = {Phase.DRAINING, Phase.QUITTING}


# ---------------------------------------------------------------------------------- effects


@attrs.frozen
class Spawn:
    """Start a worker."""

    id: int
    slot: int
    generation: int


@attrs.frozen
class Retire:
    """Tell a worker to drain within so many seconds; `final` if the whole cluster stops."""

    id: int
    seconds: float
    final: bool


@attrs.frozen
class Kill:
    """End a worker: at once and for certain if `hard`, else by asking it to quit."""

    id: int
    hard: bool


@attrs.frozen
class Reloading:
    """A rolling reload has begun, or is over."""

    under_way: bool


@attrs.frozen
class Say:
    """Log an event: the name of a level, a format string and its fields (`twisted.logger`)."""

    level: str
    text: str
    fields: Mapping[str, Any]


@attrs.frozen
class Ended:
    """No worker is left and none will come; the process should exit with `exit_code`."""

    exit_code: int
    reason: str


Effect = Spawn | Retire | Kill | Reloading | Say | Ended


# ----------------------------------------------------------------------------------- values

#: Seconds: the pause after the first death in a row, and the longest.
BACKOFF_FIRST: Final = 0.1
BACKOFF_MOST: Final = 30.0
#: Seconds of being ready after which a worker has settled.
SETTLED: Final = 10.0


@attrs.define
class Instance:
    """
    One worker process.

    :param since: when it became ready.
    :param deadline: when the present stage has lasted too long; None for a worker that may stay,
        and for one that has been killed.
    :param why: what the log says of a worker that is to end, if it has to be killed.
    :param unwanted: it is to be replaced for a reason of its own, as opposed to a reload.
    """

    id: int
    slot: int
    generation: int
    stage: WorkerStage = WorkerStage.STARTING
    since: float = 0.0
    deadline: float | None = None
    unwanted: bool = False
    why: str = ""

    def move(self, stage: WorkerStage) -> None:
        """Enter another stage."""
        assert stage in MOVES[self.stage], (self, stage)
        self.stage = stage


@attrs.define
class Slot:
    """
    A worker's place. `current` is None while the next one waits for its time, `due`.

    :param successor: starting, to replace a current worker that is ready.
    :param deaths: in a row, of workers that had not settled; they make the pause.
    :param failures: starts in a row that did not get ready, while no worker of the fleet did.
    """

    number: int
    current: Instance | None = None
    successor: Instance | None = None
    due: float | None = None
    deaths: int = 0
    failures: int = 0

    def start_failed(self, worker: Instance) -> None:
        """Count a worker of this slot that will never be ready."""
        self.failures += 1
        self.deaths += 1
        if self.successor is worker:
            self.successor = None
        else:
            self.current = None

    def lose(self, worker: Instance, now: float) -> None:
        """Count the death of a ready worker, and put a successor that is starting in its place."""
        self.forgive(worker, now)
        self.deaths += 1
        self.current, self.successor = self.successor, None

    def forgive(self, worker: Instance, now: float) -> None:
        """End a row of deaths, if the worker whose life is over had settled."""
        if now - worker.since >= SETTLED:
            self.deaths = 0

    def wait(self, now: float) -> None:
        """Have the next worker started after a pause."""
        self.due = now + pause(self.deaths)

    def go_on(self, now: float) -> None:
        """Have the next worker started: at once, but after a pause if it is not the first death."""
        self.due = now + (pause(self.deaths - 1) if self.deaths > 1 else 0.0)


def pause(deaths: int) -> float:
    """Seconds to wait after so many deaths in a row, 1 or more."""
    return min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(deaths - 1, 32))


def how_it_ended(status: int) -> str:
    """Put an exit status into words: a code, or the negative number of a signal."""
    return f"was ended by signal {-status}" if status < 0 else f"exited with code {status}"
