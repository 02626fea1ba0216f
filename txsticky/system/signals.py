"""Signals, for a program whose main thread runs the reactor; not for one that embeds a cluster."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from twisted.logger import Logger


def once(
    action: Callable[[], object], seconds: float, clock: Callable[[], float]
) -> Callable[[], None]:
    """
    Have an action called once where it is called several times in a row.

    :param seconds: within which after a call another one has no effect.
    :param clock: seconds, monotonic.
    """
    before = -math.inf

    def act() -> None:
        nonlocal before
        since, before = clock() - before, clock()
        if since >= seconds:
            action()

    return act


class SignalTable:
    """
    What each signal does, while the reactor runs.

    The reactor sets handlers of its own for INT and TERM when it starts, so `install` is to be
    called by `reactor.callWhenRunning`.  The handlers found there come back after the shutdown.

    :param reactor: an `IReactorCore` and `IReactorFromThreads`.
    :param actions: functions by the names of signals, such as ``SIGHUP``.  They are called by the
        reactor, between two of its other calls.
    """

    _log = Logger()

    def __init__(self, reactor: Any, actions: Mapping[str, Callable[[], object]]) -> None:
        self._reactor = reactor
        self._actions = {signal.Signals[name]: action for name, action in actions.items()}
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take over the signals, until the reactor has shut down."""
        for number in self._actions:
            self._before[number] = signal.signal(number, self._caught)
        self._reactor.addSystemEventTrigger("after", "shutdown", self.restore)

    def restore(self) -> None:
        """Restore the handlers that `install` has found."""
        before, self._before = self._before, {}
        for number, handler in before.items():
            # None: it was not set from Python and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        # Whatever the main thread was doing is half done: leave the rest to the reactor.
        self._reactor.callFromThread(self._act, signal.Signals(number))

    def _act(self, number: signal.Signals) -> None:
        self._log.info("Received {name}.", name=number.name)
        self._actions[number]()
