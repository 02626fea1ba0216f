"""A producer that has to be asked for each piece, as one that is only told to pause and go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

log = Logger()

#: Pieces that are asked for in one turn of the reactor.
_PIECES = 8


@implementer(IPushProducer)
class Pulling:
    """
    Asks an `IPullProducer` for pieces until it is told to pause.

    :param producer: the producer.
    :param later: calls a function from the reactor, after some seconds.
    :param failed: called when the producer has raised something, which is logged.
    """

    def __init__(
        self,
        producer: Any,
        later: Callable[[float, Callable[[], None]], Any],
        failed: Callable[[], None],
    ) -> None:
        self._producer = producer
        self._later = later
        self._failed = failed
        self._flows = True
        self._call: Any = later(0, self._pull)

    def pauseProducing(self) -> None:
        """Ask for no more pieces (`IPushProducer`)."""
        self._flows = False
        self._cancel()

    def resumeProducing(self) -> None:
        """Ask for pieces again (`IPushProducer`)."""
        self._flows = True
        if self._call is None:
            self._call = self._later(0, self._pull)

    def stopProducing(self) -> None:
        """Tell the producer that the connection is lost (`IPushProducer`)."""
        self.end()
        self._producer.stopProducing()

    def end(self) -> None:
        """Ask for nothing any more: the producer was unregistered."""
        self._flows = False
        self._later = _never
        self._cancel()

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _pull(self) -> None:
        self._call = None
        try:
            for _ in range(_PIECES):
                self._producer.resumeProducing()
                if not self._flows:
                    return
        except Exception:
            log.failure("A producer failed, and its connection is closed.")
            self.end()
            self._failed()
            return
        self._call = self._later(0, self._pull)


def _never(seconds: float, action: Callable[[], None]) -> None:
    """Call nothing."""
