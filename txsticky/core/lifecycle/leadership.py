"""
Which worker leads: one of those that are ready, and never two; a machine without I/O.

The leader has a lease: the time until which it leads, on the monotonic clock, which is the same for
all processes of a machine (clock_gettime(2)). Each sign of life renews the lease. Another worker is
appointed only when the leader has resigned, when its process has ended, or when its lease is over:
a leader that was stopped (SIGSTOP) sees on its own clock, as soon as it runs again, that it does
not lead any more.

The newest worker is appointed, so that a rolling reload changes the leader once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

#: Seconds of a lease where silent workers are not killed (``--worker-timeout 0``).
LEASE: Final = 15.0
#: Seconds by which a lease is longer than ``--worker-timeout``. A leader whose event loop does not
#: run is killed first, so that nothing of it runs any more when another worker is appointed.
MARGIN: Final = 5.0
#: Seconds of a lease that pass before a sign of life renews it.
RENEW_AFTER: Final = 1.0


@attrs.frozen
class Appointment:
    """
    A worker that leads.

    :param id: the worker's id.
    :param term: which appointment it is; each new one has a higher number.
    :param until: when the lease ends, in seconds of the monotonic clock.
    """

    id: int
    term: int
    until: float


def lease_of(worker_timeout: float) -> float:
    """
    Return the seconds of a lease.

    :param worker_timeout: seconds after which a silent worker is killed; 0 is never.
    """
    return worker_timeout + MARGIN if worker_timeout else LEASE


class Leadership:
    """
    The post of the leader.

    :param lease: seconds of a lease.
    :param last: the last appointment, of the program before this one.
    :ivar last: the last appointment.
    """

    def __init__(self, lease: float, last: Appointment | None = None) -> None:
        self._lease = lease
        self.last = last
        self._vacant = last is None
        #: Workers whose lease ran out, and that have given no sign of life since.
        self._lapsed: set[int] = set()

    @property
    def leader(self) -> Appointment | None:
        """The present appointment; its lease may be over."""
        return None if self._vacant else self.last

    def heard(self, id: int, now: float) -> Appointment | None:
        """
        Take in a worker's sign of life.

        :returns: the renewed appointment, if the worker is to be told one.
        """
        self._lapsed.discard(id)
        leader = self.leader
        if leader is None or leader.id != id:
            return None
        if not leader.until - self._lease + RENEW_AFTER <= now < leader.until:
            return None
        self.last = attrs.evolve(leader, until=now + self._lease)
        return self.last

    def elect(self, candidates: Iterable[int], now: float) -> Appointment | None:
        """
        Appoint a worker if none leads.

        :param candidates: the ids of the workers that may lead.
        :returns: the appointment, if there is a new one.
        """
        leader = self.leader
        if leader is not None:
            if now < leader.until:
                return None
            self._lapsed.add(leader.id)
            self._vacant = True
        newest = max(set(candidates) - self._lapsed, default=None)
        if newest is None:
            return None
        term = self.last.term + 1 if self.last is not None else 1
        self.last, self._vacant = Appointment(newest, term, now + self._lease), False
        return self.last

    def resigned(self, id: int, term: int) -> None:
        """Take in that a worker has ended what it did as the leader of a term."""
        leader = self.leader
        if leader is not None and (leader.id, leader.term) == (id, term):
            self._vacant = True

    def gone(self, id: int) -> None:
        """Take in that a worker's process has ended."""
        self._lapsed.discard(id)
        if self.leader is not None and self.leader.id == id:
            self._vacant = True
