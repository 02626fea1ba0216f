"""Whether this worker leads, and since when it does what a leader does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

from ...core.messages.from_worker import Resign
from ...ipc.channel import Channel
from ...system.system import System
from .duty import Duty, nothing

log = Logger()


class Leading:
    """
    Whether this worker leads, and what it does for that long.

    The lease is read from the clock each time, in any thread: a process that was stopped and runs
    again sees at once that its lease is over, whatever its event loop does first.

    :param system: the clock.
    :param channel: leads to the primary.
    :param appoints: whether the primary appoints a leader at all.
    :ivar appoints: the same.
    """

    def __init__(self, system: System, channel: Channel, appoints: bool = True) -> None:
        self._system = system
        self._channel = channel
        self.appoints = appoints
        self._duties: list[Duty] = []
        self._term = 0
        self._until = -math.inf
        self._call: Any = None
        #: Whether no duty is to begin any more, and whether this worker is never to lead again.
        self._leaving = False
        self._over = False

    @property
    def leads(self) -> bool:
        """Whether this worker leads now."""
        return self._system.clock() < self._until

    def on_leader(
        self, start: Callable[[], object], stop: Callable[[], object] | None = None
    ) -> Callable[[], None]:
        """Begin something when this worker begins to lead, and end it then (`api.Here`)."""
        if not self.appoints:
            log.warn(
                "The primary is of an older version and appoints no leader: what one worker is to"
                " do is done by none. Send the primary USR2, or restart the program."
            )
        duty = Duty(start, stop or nothing, lambda: self.leads and not self._leaving)
        self._duties.append(duty)
        duty.begin()

        def unregister() -> None:
            if duty in self._duties:
                self._duties.remove(duty)
                duty.end()

        return unregister

    def appointed(self, term: int, until: float) -> None:
        """
        Take in that this worker leads.

        :param term: which appointment it is; the same one is renewed.
        :param until: when it ends, in seconds of the clock.
        """
        if self._over or (self._leaving and term != self._term):
            self._channel.send(Resign(term))
            return
        if not self.leads:
            self._end()  # of an earlier lease, whose end was not noticed yet
        self._term, self._until = term, until
        self._watch()
        for duty in self._duties:
            duty.begin()

    def _watch(self) -> None:
        """Look again when the lease is over."""
        self._cancel()
        seconds = max(0.0, self._until - self._system.clock())
        self._call = self._system.reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        if self.leads:  # the reactor's clock is a little ahead
            self._watch()
        else:
            log.warn("This worker gave no sign of life for so long that it leads no more.")
            self._end()

    def _end(self) -> Deferred[Any]:
        return DeferredList([duty.end() for duty in self._duties])

    def lose(self) -> None:
        """Lead no more, from now on: the primary has gone."""
        self._step_down()
        self._end()

    def leave(self) -> Deferred[Any]:
        """
        Give the post back, for this worker leaves. It leads until its duties have ended.

        :returns: fires when they have.
        """
        self._leaving = True
        return self._end().addCallback(self._left)

    def before(self, stop: Callable[[float], object]) -> Callable[[float], Deferred[Any]]:
        """
        Have the post given back with the application's stop.

        :param stop: stops the application, given the seconds that there are for it.
        :returns: does both, and waits for both.
        """

        def stop_both(seconds: float) -> Deferred[Any]:
            left = self.leave()
            stopped = maybeDeferred(stop, seconds)
            return stopped.addBoth(lambda result: left.addCallback(lambda _: result))

        return stop_both

    def _left(self, _: object) -> None:
        if self._term and not self._over:
            self._channel.send(Resign(self._term))
        self._step_down()

    def _step_down(self) -> None:
        self._over = True
        self._until = -math.inf
        self._cancel()

    def _cancel(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
