"""
How a worker leaves: what it holds is served to its end, given away or closed, and then it goes.

What is pinned to a draining worker still comes to it: its sessions end one by one, and its
long-lived connections are closed one by one, so that their clients do not come back as a herd.  For
the rest of its time it is withdrawn: nothing comes any more, and what is under way may finish.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

import attrs

from ..core.lifecycle.timing import NEXT_REQUEST, QUIET, pinned_end, requests_end
from ..serve import Serving
from ..socketio.sessions import drain as end_sessions
from ..system.system import System
from .connections import Connection
from .view import ClusterView

#: Seconds between two looks whether there is anything left to do.
LOOK = 0.5


class Listens(Protocol):
    """What accepts connections, and has those whose first request is awaited (`Listening`)."""

    @property
    def awaited(self) -> int:
        """How many connections there are whose first request is not complete."""

    def stop(self, final: bool) -> None:
        """Accept no more."""

    def give_up_silent(self) -> None:
        """Close connections over which nothing has come."""


@attrs.define(kw_only=True)
class Drain:
    """
    How one worker leaves.

    :param view: gets that the worker drains, and whether the whole cluster stops.
    :param live: the worker's connections.
    :param serving: says whether the application is at work without a connection.
    :param give_post_back: has another worker lead, if this one does.
    :param listening: stops once, and has the connections whose first request is not complete.
    :param withdraw: asks the primary to route nothing here any more; `withdrawn` is the answer.
    :param take_all: takes all that is in the mailbox.
    :param end_within: sets the seconds in which the worker has to end.
    :param leave: ends the worker.
    :param system: the clock.
    """

    _view: ClusterView
    _live: Collection[Connection]
    _serving: Serving
    _give_post_back: Callable[[], object]
    _listening: Listens
    _withdraw: Callable[[], None]
    _take_all: Callable[[], None]
    _end_within: Callable[[float], None]
    _leave: Callable[[], None]
    _system: System
    _withdrawn: bool = attrs.field(default=False, init=False)
    _quiet_since: float = attrs.field(default=0.0, init=False)

    def begin(self, seconds: float, final: bool) -> None:
        """
        Begin to leave, or hurry.

        :param seconds: by then the worker has ended. It leaves whatever is still open when it has
            just the time for its application to stop (`core.lifecycle.timing`).
        :param final: whether the whole cluster stops: idle connections are closed.
        """
        view, call_later = self._view, self._system.reactor.callLater
        view.final = view.final or final
        self._end_within(seconds)
        call_later(requests_end(seconds), self._leave)
        if not view.draining:
            self._give_post_back()
            self._listening.stop(final)
        if final:  # a client that has connected is about to ask
            call_later(NEXT_REQUEST, self._listening.give_up_silent)
        lasting = [each for each in list(self._live) if not each.let_go(view.final)]
        if not view.draining:
            view.drain()
            spread = pinned_end(seconds)
            end_sessions(0 if final else spread)
            for index, connection in enumerate(lasting):
                call_later(spread * index / len(lasting), connection.close)
            call_later(spread, self._last_part, (requests_end(seconds) - spread) / 2)
            call_later(LOOK, self._look_on)
        self.look()

    def _last_part(self, rest: float) -> None:
        """
        Have nothing more come here, and end what has become long-lived since.

        :param rest: seconds that WebSockets have to move, before they are closed as well.
        """
        self._withdraw()
        late = []
        for connection in list(self._live):
            if connection.insist():
                late.append(connection)
            elif not connection.let_go(self._view.final):
                connection.close()
        if late:
            self._system.reactor.callLater(rest, self._close, late)

    def _close(self, late: Iterable[Connection]) -> None:
        """Close those of which the time is over."""
        for connection in late:
            connection.close()

    def withdrawn(self) -> None:
        """Take in that the primary routes nothing here any more; nor does this worker."""
        self._withdrawn = True
        self._view.withdraw()
        self.look()

    def emptied(self) -> None:
        """Look anew: the last connection has just gone."""
        self._quiet_since = 0.0
        self.look()

    def _look_on(self) -> None:
        self._system.reactor.callLater(LOOK, self._look_on)
        self.look()

    def look(self) -> None:
        """Leave if there is nothing left to do."""
        view = self._view
        if not view.draining or self._live or self._serving.busy:
            self._quiet_since = 0.0
            return
        now = self._system.clock()
        if view.final or self._withdrawn:
            self._take_all()
            if not (self._live or self._listening.awaited):
                self._leave()
        elif not self._quiet_since:
            self._quiet_since = now
        elif now - self._quiet_since >= QUIET:
            self._withdraw()
