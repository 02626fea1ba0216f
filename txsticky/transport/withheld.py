"""
Responses that wait for bindings to be confirmed.

A response that carries a new key must not reach the client before every worker knows the binding:
the client's next request may come to any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .host import Host
from .nowhere import NOWHERE


class Withheld:
    """
    The output of one connection that waits until every binding made before it is confirmed.

    :param host: the transport, which sends it then.
    :param when_confirmed: has a function called once nothing is unconfirmed.
    :param released: called just before the output is sent; raises nothing.
    :ivar size: the bytes that wait.
    """

    __slots__ = ("_host", "_pieces", "_released", "_then", "size")

    def __init__(
        self,
        host: Host,
        when_confirmed: Callable[[Callable[[], None]], None],
        released: Callable[[], None],
    ) -> None:
        self.size = 0
        self._host: Host = host
        self._released = released
        self._pieces: list[bytes] = []
        self._then: Callable[[], None] = _nothing
        when_confirmed(self._confirmed)

    def add(self, data: bytes) -> None:
        """Let bytes wait behind those that wait already."""
        self._pieces.append(data)
        self.size += len(data)
        self._host.withholds(self.size)

    def then(self, action: Callable[[], None]) -> None:
        """Call `action`, and nothing that was asked for before, once the output is sent."""
        self._then = action

    def drop(self) -> None:
        """Send nothing of what waits: the connection is over."""
        self._host = NOWHERE
        self._then = self._released = _nothing

    def _confirmed(self) -> None:
        self._host.guarded(self._release)

    def _release(self) -> None:
        self._released()
        if self._host.live():
            self._host.send(b"".join(self._pieces))
            self._then()
            self._host.withholds(0)


def hold_producer(transport: Any, size: int) -> None:
    """
    Pause the producer of a transport of Twisted if more is withheld than may wait to be sent.

    Twisted resumes it once what is written next, which is what was withheld, has left.

    :param size: the bytes that are withheld.
    """
    producer = transport.producer
    if size > transport.bufferSize and producer is not None and transport.streamingProducer:
        transport.producerPaused = True
        producer.pauseProducing()


def _nothing() -> None:
    """Do nothing behind the output."""
