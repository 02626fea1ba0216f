"""How a worker ends: the time that it has for it, and what the log says afterwards."""

from __future__ import annotations

from typing import Final

from .states import Instance, WorkerStage, how_it_ended
from .timing import killed

#: The exit status of a process that was killed (signal(7), SIGKILL).
KILLED: Final = -9
#: Why workers are killed; each follows the name of one.
STARTING: Final = "was still starting"
NOT_READY: Final = "was not ready in time"
SILENT: Final = "gave no sign of life"
HURRIED: Final = "had not ended when the stop was hurried once more"


def end_within(
    worker: Instance, seconds: float, graceful_timeout: float, since: str, now: float
) -> None:
    """
    Give a worker its time to end; a deadline that runs already is not put off.

    :param seconds: the time.
    :param graceful_timeout: the operator's, which the log names where it is the same.
    :param since: what the time begins with, for the log.
    """
    deadline = now + killed(seconds)
    if worker.why and worker.deadline is not None and worker.deadline <= deadline:
        return
    worker.deadline = deadline
    if seconds == graceful_timeout:
        worker.why = f"did not end within the graceful timeout of {seconds:g} s"
    else:
        worker.why = f"did not end within {seconds:g} s of {since}"


def not_ready(start_timeout: float) -> str:
    """Tell why a start failed that took too long, and what the operator can do."""
    return (
        f"it was not ready within --start-timeout {start_timeout:g} s and is killed; raise it if"
        " the application needs longer"
    )


def how_it_left(worker: Instance, status: int) -> tuple[str, str]:
    """
    Tell for the log how a worker ended that had been told to.

    :param status: its exit code, or the negative number of the signal that ended it.
    :returns: the name of a log level, and what follows the worker's name.
    """
    if worker.stage is WorkerStage.LEAVING and worker.deadline is None and status == KILLED:
        return "info" if worker.why == STARTING else "warn", f"{worker.why} and was killed"
    level = "warn" if status and worker.stage is WorkerStage.RETIRING else "info"
    return level, f"has left: it {how_it_ended(status)}"
