"""How other threads have something done in the thread of the reactor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from twisted.internet.defer import maybeDeferred

from ..errors import WorkerEnds


class ReactorThread:
    """
    Calls functions in the thread of the reactor, which is the one that makes this.

    :param reactor: an `IReactorFromThreads` and `IReactorCore`.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._thread = threading.get_ident()
        self._waiting: set[Future[Any]] = set()
        self._over = False
        reactor.addSystemEventTrigger("after", "shutdown", self._end)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """
        Call a function; in another thread, wait for what it returns, a Deferred's result included.

        :raises WorkerEnds: the reactor has stopped, so that another thread would wait for ever.
        """
        if threading.get_ident() == self._thread:
            return function(*arguments)
        future: Future[Any] = Future()
        self._waiting.add(future)
        if self._over:  # looked at last: what was added before is in the hands of `_end`
            self._waiting.discard(future)
            raise WorkerEnds()
        self._reactor.callFromThread(self._begin, future, function, arguments)
        return future.result()

    def _begin(
        self, future: Future[Any], function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        done = maybeDeferred(function, *arguments)
        done.addCallback(lambda result: self._settle(future, future.set_result, result))
        done.addErrback(lambda why: self._settle(future, future.set_exception, why.value))

    def _settle(self, future: Future[Any], how: Callable[[Any], None], what: Any) -> None:
        if future in self._waiting:
            self._waiting.remove(future)
            how(what)

    def _end(self) -> None:
        self._over = True
        while self._waiting:
            self._waiting.pop().set_exception(WorkerEnds())
