"""A duty: what an application does while its worker leads."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()


class Duty:
    """
    One thing that is done while this worker leads.

    What `start` returns, if it is awaitable, may last as long as that: it is cancelled at the end,
    and `stop` is called when it has ended. Starts and ends follow one after the other.

    :param start: begins it.
    :param stop: does what there is to do for its end.
    :param may_begin: whether it may begin now.
    """

    def __init__(
        self,
        start: Callable[[], object],
        stop: Callable[[], object],
        may_begin: Callable[[], bool],
    ) -> None:
        self._start = start
        self._stop = stop
        self._may_begin = may_begin
        self._lock = DeferredLock()
        self._running: Deferred[Any] | None = None

    def begin(self) -> None:
        """Begin, unless it has begun; after an end that is under way."""
        self._lock.run(self._begin)

    def _begin(self) -> None:
        if self._running is None and self._may_begin():
            running = self._running = maybeDeferred(_called, self._start)
            running.addErrback(_failed, "A function that a leader starts has failed.")

    def end(self) -> Deferred[Any]:
        """
        End, if it has begun.

        :returns: fires when it has ended.
        """
        return self._lock.run(self._end)

    def _end(self) -> Deferred[Any]:
        running, self._running = self._running, None
        if running is None:
            return succeed(None)
        running.cancel()
        running.addCallback(lambda _: _called(self._stop))
        return running.addErrback(_failed, "A function that ends what a leader does has failed.")


def nothing() -> None:
    """Have nothing to do for an end."""


def _called(function: Callable[[], object]) -> Any:
    """Call a function, and have Twisted wait for what it returns, a coroutine of asyncio too."""
    result = function()
    if isinstance(result, Deferred) or not inspect.isawaitable(result):
        return result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return Deferred.fromCoroutine(result)  # type: ignore[arg-type]
    return Deferred.fromFuture(asyncio.ensure_future(result))


def _failed(failure: Failure, text: str) -> None:
    if not failure.check(CancelledError, asyncio.CancelledError):
        log.failure(text, failure)
