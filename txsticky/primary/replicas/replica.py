"""The replicas of one worker, and what becomes of them when it does not read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.logger import Logger

from ...core.messages.from_primary import Bound, Freed, View
from ...ipc.channel import Channel

log = Logger()


class Replica:
    """
    A worker's replicas of the pool and the table, seen from the primary.

    :param name: what the log calls the worker.
    :param channel: leads to it; has `caught_up` called when the worker is behind no longer.
    :param view: makes the frame that tells the pool; it is given whether every binding follows.
    :param table: the whole table as control frames, in pieces.
    :param distrust: called with True when the worker's table is out of date, so that no connection
        is to go there that may go elsewhere, and with False when it is not any more.
    """

    def __init__(
        self,
        name: str,
        channel: Channel,
        view: Callable[[bool], View],
        table: Callable[[], Iterable[bytes]],
        distrust: Callable[[bool], object],
    ) -> None:
        self._name = name
        self._channel = channel
        self._view = view
        self._table = table
        self._distrust = distrust
        self._pool_due = False
        #: Whether bindings were not sent.
        self.stale = False

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

    def tell_used(self, frames: bytes) -> None:
        """
        Send which keys were used elsewhere, unless something waits.

        :param frames: the control frames, the same for every worker.
        """
        if not (self.stale or self._channel.behind):
            self._channel.write(frames)

    def missed(self) -> None:
        """Have the worker begin anew when it has caught up: something may not have been sent."""
        self.stale = True
        if not self._channel.behind:
            self.caught_up()

    def caught_up(self) -> None:
        """Send what was not sent meanwhile: the worker is no longer behind."""
        if self.stale:
            self.stale = self._pool_due = False
            self._channel.send(self._view(True))
            self._channel.write(b"".join(self._table()))
            self._distrust(False)
        elif self._pool_due:
            self._pool_due = False
            self._channel.send(self._view(False))
