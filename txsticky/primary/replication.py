"""
What the primary tells a worker again and again: the pool and the table, of which it has replicas.

A worker that reads slowly, or not at all because it was stopped, must not make the primary grow.
A view of the pool is replaced by the next one, so that none is sent while much waits.  Bindings
come one by one; when too much waits they are no longer sent, and the worker gets the table as a
whole when it reads again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger

from ..core.messages.frames import encode
from ..core.messages.from_primary import Bound, Freed, View
from ..ipc.channel import Channel

log = Logger()


class Replica:
    """
    A worker's replicas of the pool and the table, seen from the primary.

    :param name: what the log calls the worker.
    :param channel: leads to it; has `caught_up` called when the worker is behind no longer.
    :param view: the pool as JSON values.
    :param bindings: every (key, worker's id) of the table.
    :param distrust: called with True when the worker's table is out of date, so that no connection
        is to go there that may go elsewhere, and with False when it is not any more.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        view: Callable[[], dict[str, Any]],
        bindings: Callable[[], Iterable[tuple[bytes, int]]],
        distrust: Callable[[bool], None],
    ) -> None:
        self._name = name
        self._channel = channel
        self._view = view
        self._bindings = bindings
        self._distrust = distrust
        self._pool_due = False
        #: Whether bindings were not sent.
        self.stale = False

    def renew(self) -> None:
        """Send the whole table to a worker that has nothing of it."""
        self._channel.write(b"".join(encode(Bound(key, owner)) for key, owner in self._bindings()))

    def tell_pool(self, frame: bytes) -> None:
        """
        Send the pool as it is: now, or as it will be when the worker is no longer behind.

        :param frame: the control frame, the same for every worker.
        """
        self._pool_due = self._channel.behind
        if not self._pool_due:
            self._channel.write(frame)

    def tell(self, change: Bound | Freed) -> None:
        """Send a change of the table, unless too much waits."""
        if self.stale:
            return
        if not self._channel.full:
            self._channel.send(change)
            return
        self.stale = True
        log.warn(
            "{worker} does not read what it is told: it gets the bindings of keys anew when it"
            " does.",
            worker=self._name,
        )
        self._distrust(True)

    def missed(self) -> None:
        """Something may not have been sent: have the worker begin anew when it has caught up."""
        self.stale = True
        if not self._channel.behind:
            self.caught_up()

    def caught_up(self) -> None:
        """The worker is no longer behind."""
        if self.stale:
            self.stale = self._pool_due = False
            self._channel.send(View(self._view(), anew=True))
            self.renew()
            self._distrust(False)
        elif self._pool_due:
            self._pool_due = False
            self._channel.send(View(self._view()))
