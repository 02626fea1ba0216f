"""The leader: has one of the workers that are ready know that it leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...core.lifecycle.leadership import Appointment, Leadership, lease_of
from ...core.messages.from_primary import Lead
from ...core.routing.pool import Pool
from .worker_handle import WorkerHandle


class Appointing:
    """
    Appoints the leader, and renews its lease.

    :param pool: the workers as the router sees them.
    :param handles: the workers' handles by their ids.
    :param clock: the monotonic clock, in seconds.
    :param worker_timeout: seconds after which a silent worker is killed; 0 is never.
    """

    def __init__(
        self,
        pool: Pool,
        handles: Mapping[int, WorkerHandle],
        clock: Callable[[], float],
        worker_timeout: float,
    ) -> None:
        self._pool = pool
        self._handles = handles
        self._clock = clock
        self._lease = lease_of(worker_timeout)
        self._post = Leadership(self._lease)
        self._appointable: set[int] = set()

    @property
    def id(self) -> int | None:
        """The id of the worker that leads."""
        leader = self._post.leader
        return leader.id if leader is not None else None

    def ready(self, id: int, appointable: bool) -> None:
        """
        Appoint a worker that is ready, if none leads.

        :param appointable: whether the worker understands that it is appointed.
        """
        if appointable:
            self._appointable.add(id)
        self.look()

    def heard(self, id: int) -> None:
        """Take in a worker's sign of life: renew its lease if it leads."""
        self._tell(self._post.heard(id, self._clock()))
        self.look()

    def look(self) -> None:
        """Appoint a worker if none leads."""
        candidates = (  # nothing is looked at while a worker leads: each sign of life comes here
            member.id
            for member in self._pool.candidates()
            if member.id in self._appointable and not member.suspect
        )
        self._tell(self._post.elect(candidates, self._clock()))

    def _tell(self, appointment: Appointment | None) -> None:
        if appointment is not None:
            handle = self._handles[appointment.id]
            handle.channel.send(Lead(appointment.term, appointment.until))

    def resigned(self, id: int, term: int) -> None:
        """Take in that a worker has given the post back, and appoint another."""
        self._post.resigned(id, term)
        self.look()

    def gone(self, id: int) -> None:
        """Forget a worker whose process has ended, and appoint another if it led."""
        self._appointable.discard(id)
        self._post.gone(id)
        self.look()

    def snapshot(self) -> dict[str, Any]:
        """The post as JSON values, for `restore`."""
        last = self._post.last
        until = last.until if last is not None and self._post.leader is not None else 0.0
        return {
            "last": [] if last is None else [last.id, last.term, until],
            "appointable": sorted(self._appointable),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the post as the program before left it; it may have known none."""
        self._appointable.update(state.get("appointable", ()))
        last = state.get("last")
        if last:
            self._post = Leadership(self._lease, Appointment(*last))
