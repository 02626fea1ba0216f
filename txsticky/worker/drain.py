"""
How a worker leaves: what it holds is served to its end, given away or closed, and then it goes.

What is pinned to a draining worker still comes to it: its sessions end one by one, and its
long-lived connections are closed one by one, so that their clients do not come back as a herd.  For
the rest of its time it is withdrawn: nothing comes any more, and what is under way may finish.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..core.lifecycle.timing import QUIET, pinned_end, requests_end
from ..core.messages.from_worker import Withdraw
from ..socketio.sessions import drain as end_sessions

if TYPE_CHECKING:
    from .worker import Worker


class Drain:
    """
    The end of one worker.

    :param worker: which.
    :param reactor: the reactor that serves it.
    """

    def __init__(self, worker: Worker, reactor: Any) -> None:
        #: Whether it has begun.
        self.under_way = False
        #: Whether the whole cluster stops, so that there is nobody to give a connection to.
        self.final = False
        self._worker = worker
        self._reactor = reactor
        self._withdrawn = False
        self._quiet_since = 0.0

    def begin(self, seconds: float, final: bool) -> None:
        """
        Begin, or hurry.

        :param seconds: by then the worker has ended. It leaves whatever is still open when it has
            just the time for its application to stop (`core.timing`).
        :param final: the whole cluster stops: idle connections are closed.
        """
        worker = self._worker
        self.final = self.final or final
        worker.end_within(seconds)
        self._reactor.callLater(requests_end(seconds), worker.leave, 0)
        if not self.under_way:
            worker.entrance.close(final)
        lasting = [c for c in list(worker.live) if not c.let_go(self.final)]
        if not self.under_way:
            self.under_way = True
            worker.desk.draining = True
            worker.desk.changed()
            spread = pinned_end(seconds)
            end_sessions(0 if final else spread)
            for index, connection in enumerate(lasting):
                self._reactor.callLater(spread * index / len(lasting), connection.close)
            self._reactor.callLater(spread, self._last_part)
        self.look()

    def _last_part(self) -> None:
        """Nothing more is to come here, and what has become long-lived since ends now."""
        self._withdraw()
        for connection in list(self._worker.live):
            if not connection.let_go(self.final):
                connection.close()

    def _withdraw(self) -> None:
        """Have the primary route nothing here any more; it answers with `Withdrawn`."""
        self._worker.channel.send(Withdraw())

    def withdrawn(self) -> None:
        """The primary routes nothing here any more; nor does this worker."""
        worker = self._worker
        self._withdrawn = True
        worker.pool.set_gone(worker.id)
        worker.table.forget(worker.id)
        worker.desk.changed()
        self.look()

    def emptied(self) -> None:
        """The last connection has just gone."""
        self._quiet_since = 0.0
        self.look()

    def look(self) -> None:
        """Leave if there is nothing left to do."""
        if not self.under_way or self._worker.live or self._worker.serving.busy:
            self._quiet_since = 0.0
            return
        now = time.monotonic()
        if self.final or self._withdrawn:
            self._worker.take_all()
            if not self._worker.live:
                self._worker.leave(0)
        elif not self._quiet_since:
            self._quiet_since = now
        elif now - self._quiet_since >= QUIET:
            self._withdraw()
