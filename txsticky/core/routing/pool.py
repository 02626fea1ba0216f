"""The pool: which workers there are, what state each is in, and how much it carries."""

from __future__ import annotations

import enum
from typing import Any, Final

import attrs


class MemberState(enum.Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


_STATES: Final = {state.value: state for state in MemberState}
#: Event-loop lag up to here is no load, in seconds.
LAG_FREE: Final = 0.05
#: Lag beyond that counts as one connection for each of these, in seconds.
LAG_STEP: Final = 0.01


@attrs.define(eq=False)
class Member:
    """
    One worker as the pool knows it.

    :param id: unique for the life of the cluster; a respawned worker has a new one.
    :param slot: its place, from 1; a respawned worker keeps it.
    :param state: a worker that is ready takes anything, a draining one only what is pinned to it.
    :param sent: hand-offs reserved for it so far.
    :param taken: of these, how many it had taken out of its mailbox at its last report.
    :param live: connections it held at its last report.
    :param lag: how late its event loop ran at its last report, in seconds.
    :param suspect: it missed its heartbeat; it gets nothing new as long as others are ready.
    :param moves: it takes WebSockets that move.
    :param waited_for: since when it has taken nothing, though hand-offs wait for it; None if none
        wait.
    """

    id: int
    slot: int
    state: MemberState = MemberState.STARTING
    sent: int = 0
    taken: int = 0
    live: int = 0
    lag: float = 0.0
    suspect: bool = False
    moves: bool = False
    waited_for: float | None = None

    @property
    def load(self) -> float:
        """Connections held and on their way, and the lag as so many connections more."""
        load = self.live + self.sent - self.taken
        if self.lag > LAG_FREE:
            return load + (self.lag - LAG_FREE) / LAG_STEP
        return load


class Pool:
    """
    The workers of a cluster.

    Only the primary changes a pool; the workers hold copies (`view`, `from_view`). To name a
    worker that the pool does not have is no error in any method: the worker has just gone, and its
    last frames are still on their way.
    """

    def __init__(self) -> None:
        #: Counts the changes that matter to the copies: members and their states, not their load.
        self.version = 0
        self._members: dict[int, Member] = {}
        self._candidates: tuple[Member, ...] | None = None
        self._reachable: frozenset[int] | None = None

    def __len__(self) -> int:
        return len(self._members)

    @property
    def members(self) -> tuple[Member, ...]:
        """All workers, by slot and then by age."""
        return tuple(sorted(self._members.values(), key=lambda member: (member.slot, member.id)))

    def get(self, id: int) -> Member | None:
        """Find the worker with this id."""
        return self._members.get(id)

    def in_state(self, *states: MemberState) -> tuple[Member, ...]:
        """The workers in one of these states, by slot and then by age."""
        return tuple(member for member in self.members if member.state in states)

    def candidates(self) -> tuple[Member, ...]:
        """
        The workers that may get a connection that no key pins.

        They are the ready ones that are not suspect, or else all that are ready. The tuple is the
        same object until a state changes.
        """
        if self._candidates is None:
            ready = self.in_state(MemberState.READY)
            self._candidates = tuple(member for member in ready if not member.suspect) or ready
        return self._candidates

    def is_ready(self, id: int) -> bool:
        """Whether a worker is there, and takes new connections."""
        member = self._members.get(id)
        return member is not None and member.state is MemberState.READY

    def reachable(self, id: int) -> bool:
        """Whether a connection pinned to this worker can still go there: ready or draining."""
        if self._reachable is None:
            reachable = self.in_state(MemberState.READY, MemberState.DRAINING)
            self._reachable = frozenset(member.id for member in reachable)
        return id in self._reachable

    def takers(self, but: int = 0) -> Pool:
        """
        The pool of those that may get a WebSocket that moves; the members are the same ones.

        :param but: the id of one that is to get none; 0 for none.
        """
        part = Pool()
        takers = (member for member in self.candidates() if member.moves)
        part._members = {member.id: member for member in takers if member.id != but}
        return part

    # ------------------------------------------------------------- changes of state

    def add(self, id: int, slot: int) -> Member:
        """
        Add a worker that has been started.

        :raises ValueError: the id was used before.
        """
        if id in self._members:
            raise ValueError(
                f"There is a worker with the id {id} already; ids are never used again."
            )
        member = self._members[id] = Member(id, slot)
        self._changed()
        return member

    def set_ready(self, id: int) -> None:
        """Let a worker get new connections."""
        self._set_state(id, MemberState.READY)

    def let_move(self, id: int) -> None:
        """Let a worker get WebSockets that move: it knows what to do with them."""
        member = self._members.get(id)
        if member is not None and not member.moves:
            member.moves = True
            self._changed()

    def set_draining(self, id: int) -> None:
        """Let a worker get only what is pinned to it."""
        self._set_state(id, MemberState.DRAINING)

    def set_gone(self, id: int) -> None:
        """Forget a worker that has left."""
        member = self._members.pop(id, None)
        if member is not None:
            member.state = MemberState.GONE
            self._changed()

    def suspect(self, id: int, flag: bool) -> None:
        """Note whether a worker misses its heartbeats."""
        member = self._members.get(id)
        if member is not None and member.suspect != flag:
            member.suspect = flag
            self._changed()

    def _set_state(self, id: int, state: MemberState) -> None:
        member = self._members.get(id)
        if member is not None and member.state is not state:
            member.state = state
            self._changed()

    def _changed(self) -> None:
        """Count a change; what follows from the states is worked out when it is asked for."""
        self.version += 1
        self._candidates = self._reachable = None

    # ------------------------------------------------------------------------- load

    def reserve(self, id: int) -> None:
        """Count a hand-off as load from its decision on, long before the worker reports it."""
        member = self._members.get(id)
        if member is not None:
            member.sent += 1

    def release(self, id: int) -> None:
        """Take back a reserved hand-off that did not leave."""
        member = self._members.get(id)
        if member is not None:
            member.sent -= 1

    def report(self, id: int, live: int, taken: int, lag: float, now: float | None = None) -> None:
        """
        Take in a worker's report of its load.

        :param live: connections it holds.
        :param taken: reserved hand-offs that it has taken out of its mailbox, ever.
        :param lag: how late its event loop runs, in seconds.
        :param now: the time, in seconds, if `stuck` is to be asked.
        """
        member = self._members.get(id)
        if member is not None:
            if member.sent <= taken:
                member.waited_for = None
            elif member.waited_for is None or taken != member.taken:
                member.waited_for = now
            member.live, member.taken, member.lag = live, taken, lag

    def stuck(self, id: int, now: float) -> float:
        """
        The seconds for which a worker has taken no hand-off though some wait for it.

        The worker's own reports tell.
        """
        member = self._members.get(id)
        if member is None or member.waited_for is None:
            return 0.0
        return now - member.waited_for

    # ---------------------------------------------------------------------- copies

    def view(self) -> dict[str, Any]:
        """The pool as JSON values, for a copy in another process."""
        return {
            "version": self.version,
            "members": [
                [member.id, member.slot, member.state.value, member.suspect, member.live]
                for member in self.members
            ],
            # A field of its own: an earlier version takes a member for five values.
            "moves": [member.id for member in self.members if member.moves],
        }

    @classmethod
    def from_view(cls, view: dict[str, Any]) -> Pool:
        """Make the copy: the same answers of `candidates` and `reachable`, loads as they were."""
        pool = cls()
        for id, slot, state, suspect, live in view["members"]:
            pool._members[id] = Member(id, slot, _STATES[state], live=live, suspect=suspect)
        for id in view.get("moves", ()):
            pool._members[id].moves = True
        pool.version = view["version"]
        return pool
