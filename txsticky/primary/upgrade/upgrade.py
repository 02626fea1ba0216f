"""The upgrade in place: first the new program is tried, then it is executed."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.logger import Logger

from ...system.system import System
from ...system.trust import Identity
from .execute import execute
from .state import UpgradeState
from .trial import Trial

log = Logger(namespace="txsticky.cluster")
#: The process that has imported this: one that it forks to run in the background is another.
_PROCESS = os.getpid()


class Upgrade:
    """
    What a cluster does to be replaced by a new version of its program.

    :param system: the operating system.
    :param identity: the workers' user if it is another than this process's, whose code is not to be
        run.
    :param state: looks at everything that the new program needs: the state, and the descriptors in
        it.
    :param held: tells what is listened on (`Trial`).
    """

    def __init__(
        self,
        system: System,
        identity: Identity | None,
        state: Callable[[], tuple[UpgradeState, list[int]]],
        held: Callable[[], list[tuple[str, int | str]]],
    ) -> None:
        self._system = system
        self._identity = identity
        self._state = state
        self._held = held
        self._trial: Trial | None = None

    @property
    def under_way(self) -> bool:
        """Whether the new program is being tried."""
        return self._trial is not None

    def begin(self, stopping: bool) -> None:
        """
        Try the new program, and execute it if it starts; else this one goes on.

        :param stopping: whether the cluster is told to stop, so that there is no upgrade.
        """
        why = _hindrance(stopping, self.under_way)
        if why:
            log.warn("There is no upgrade now: {why}.", why=why)
            return
        log.info("Checking that the new program starts.")
        try:
            self._trial = Trial(self._system, self._tried, self._identity, self._held())
        except OSError as error:
            self._tried(f"its process cannot be started: {error}")

    def cancel(self) -> None:
        """Call the upgrade off."""
        if self._trial is not None:
            self._trial.cancel()
            self._trial = None

    def _tried(self, problem: str) -> None:
        """Execute the new program, if nothing is wrong with it."""
        self._trial = None
        if problem:
            log.error("The new program does not start: {why}. This one goes on.", why=problem)
            return
        state, descriptors = self._state()
        try:
            execute(state.write(), descriptors, self._identity)
        except OSError as error:
            log.error("The program cannot be executed anew ({why}). This one goes on.", why=error)


def _hindrance(stopping: bool, under_way: bool) -> str:
    """Say why there can be no upgrade; nothing if there can."""
    if stopping:
        return "the cluster stops"
    if under_way:
        return "an upgrade is under way already"
    if os.getpid() != _PROCESS:
        return (
            "the program has put itself into the background, and would do so once more; start it in"
            " the foreground (twistd --nodaemon)"
        )
    return ""
