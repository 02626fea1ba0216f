"""How a cluster starts: fresh, or in place of the program that ran before (`upgrade.execute`)."""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from typing import Protocol

from ...config import Config
from ...system.system import System
from ..primary import Primary, Seed
from .execute import inherited_state
from .inherited_port import InheritedPort
from .state import UpgradeState, restore_connections, restore_members, restore_workers


class Start(Protocol):
    """
    The steps of a start that depend on what was before, in their order.

    :ivar taking_over: whether a program ran before this one, and its clients are still here.
    """

    taking_over: bool

    def seed(self) -> Seed:
        """What the primary begins with."""

    def sockets(self) -> dict[int, int]:
        """The descriptor of each endpoint that is open already, by the number of its `--listen`."""

    def members(self, primary: Primary) -> None:
        """Have the primary know workers, keys and sockets, before it is open."""

    def workers(self, primary: Primary) -> None:
        """Have the primary take up workers that run, once it is open."""

    def connections(self, primary: Primary) -> None:
        """Have the primary take up connections, once the missing workers are started."""


class FreshStart:
    """
    The start of a cluster before which there was none.

    :param system: the operating system.
    :param config: what the cluster is to be.
    """

    taking_over = False

    def __init__(self, system: System, config: Config) -> None:
        self._system = system
        self._config = config

    def seed(self) -> Seed:
        """Make the seed anew (`Start.seed`)."""
        return Seed.new(self._system, self._config)

    def sockets(self) -> dict[int, int]:
        """Name no socket (`Start.sockets`)."""
        return {}

    def members(self, primary: Primary) -> None:
        """Do nothing (`Start.members`)."""

    def workers(self, primary: Primary) -> None:
        """Do nothing (`Start.workers`)."""

    def connections(self, primary: Primary) -> None:
        """Do nothing (`Start.connections`)."""


class Takeover:
    """
    The start in place of a program that has executed this one.

    :param state: what that program has left.
    :param listen: every `--listen` of this program, which need not be those of before.
    """

    taking_over = True

    def __init__(self, state: UpgradeState, listen: Sequence[str]) -> None:
        self._state = state
        self._places = places([text for text, _ in state.listeners], listen)

    def seed(self) -> Seed:
        """Make the seed of what the program before had (`Start.seed`)."""
        return self._state.seed()

    def sockets(self) -> dict[int, int]:
        """Name the endpoints' sockets of the program before, and close others (`Start.sockets`)."""
        sockets = {}
        for number, (_, descriptor) in enumerate(self._state.listeners):
            if descriptor < 0:
                continue  # it could not be listened on
            if number in self._places:
                sockets[self._places[number]] = descriptor
            else:
                InheritedPort(descriptor).stopListening()
        return sockets

    def members(self, primary: Primary) -> None:
        """Restore pool, table and sockets of slots, and close other sockets (`Start.members`)."""
        restore_members(primary, self._state)
        siblings = []
        for slot, number, descriptor in self._state.siblings:
            if number in self._places:
                siblings.append((slot, self._places[number], descriptor))
            else:
                os.close(descriptor)
        primary.listeners.restore(siblings)

    def workers(self, primary: Primary) -> None:
        """Restore the workers and what they subscribed to (`Start.workers`)."""
        restore_workers(primary, self._state)

    def connections(self, primary: Primary) -> None:
        """Restore the connections (`Start.connections`)."""
        restore_connections(primary, self._state)


def places(before: Sequence[str], now: Sequence[str]) -> dict[int, int]:
    """
    Find where each `--listen` of before stands now, by their numbers; one that is gone does not.

    :param before: every `--listen` of the program before, in its order.
    :param now: those of this program.
    """
    free = dict(enumerate(now))
    found = {}
    for number, listen in enumerate(before):
        place = next((place for place, text in free.items() if text == listen), None)
        if place is not None:
            found[number] = place
            del free[place]
    return found


def start_of(system: System, config: Config, environ: MutableMapping[str, str]) -> Start:
    """
    See how a cluster starts.

    :param environ: names the state of the program before, if there is one; the name is taken out.
    :raises UpgradeError: the state is of a form that this program does not know.
    """
    fields = inherited_state(environ)
    if fields is None:
        return FreshStart(system, config)
    state = UpgradeState.read(fields)
    # The name of the working directory may lead elsewhere by now, and still be the one to go by.
    if state.folder != "":
        system.folder = state.folder
    return Takeover(state, config.listen)
