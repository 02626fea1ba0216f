"""
Responses that wait for bindings to be confirmed.

A response that carries a new key must not reach the client before every worker knows the binding:
the client's next request may come to any of them.
"""

from __future__ import annotations

from collections.abc import Callable

from .host import Host
from .nowhere import NOWHERE


class Withheld:
    """
    The output of one connection that waits until every binding made before it is confirmed.

    :param host: the transport, which sends it then.
    :param when_confirmed: has a function called once nothing is unconfirmed.
    :param released: called just before the output is sent; raises nothing.
    """

    __slots__ = ("_host", "_pieces", "_released", "_then")

    def __init__(
        self,
        host: Host,
        when_confirmed: Callable[[Callable[[], None]], None],
        released: Callable[[], None],
    ) -> None:
        self._host: Host = host
        self._released = released
        self._pieces: list[bytes] = []
        self._then: Callable[[], None] = _nothing
        when_confirmed(self._confirmed)

    def add(self, data: bytes) -> None:
        """Let bytes wait behind those that wait already."""
        self._pieces.append(data)

    def then(self, action: Callable[[], None]) -> None:
        """Call `action`, and nothing that was asked for before, once the output is sent."""
        self._then = action

    def drop(self) -> None:
        """The connection is over: send nothing."""
        self._host = NOWHERE
        self._then = self._released = _nothing

    def _confirmed(self) -> None:
        self._host.guarded(self._release)

    def _release(self) -> None:
        self._released()
        if self._host.live():
            self._host.send(b"".join(self._pieces))
            self._then()


def _nothing() -> None:
    """Do nothing behind the output."""
