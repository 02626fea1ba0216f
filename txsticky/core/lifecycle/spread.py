"""The spread: where idle connections of a worker that leaves wait for their next requests."""

from __future__ import annotations

from collections.abc import Container

from ..routing.pool import MemberState, Pool

_LEAVING = (MemberState.STARTING, MemberState.DRAINING)


class Spread:
    """
    Spreads idle connections by load, also while many workers leave at once.

    What a worker that leaves had is for a while in no report: it is on its way, or waits in a
    mailbox. Until the workers are the same again, a successor counts as having what its predecessor
    had.
    """

    def __init__(self) -> None:
        self._had: dict[int, int] = {}
        self._loads: dict[int, float] = {}
        self._pool: Pool | None = None

    def changed(self, before: Pool, now: Pool) -> None:
        """
        Take in that workers have come, gone, or changed their states.

        :param before: the pool until now, with the loads by the last reports.
        """
        if not now.in_state(*_LEAVING):
            self._had.clear()
        for member in before.in_state(MemberState.READY):
            if not now.is_ready(member.id):
                self._had[member.slot] = member.live

    def choose(self, pool: Pool, own: int, slot: int, reached: Container[int]) -> int | None:
        """
        Choose the worker at which an idle connection of a worker waits.

        It is the one with the least load among those that began after that worker, so that the
        connection moves once in a reload; among all others, if none did.

        :param own: the id of the worker that lets the connection go, and `slot` its place.
        :param reached: the ids of the workers whose mailboxes are there.
        :returns: the id; None if there is no other worker.
        """
        others = [each for each in pool.candidates() if each.id != own and each.id in reached]
        others = [each for each in others if each.id > own] or others
        if not others:
            return None
        loads, had = self._loads, self._had
        if pool is not self._pool:
            self._pool = pool
            for each in others:
                load = each.load if each.slot == slot else had.get(each.slot, each.load)
                loads[each.id] = max(loads.get(each.id, load), load, each.load)
        chosen = min(others, key=lambda each: loads.get(each.id, each.load))
        loads[chosen.id] = loads.get(chosen.id, chosen.load) + 1
        return chosen.id
