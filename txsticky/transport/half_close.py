"""
Clients that have closed their sending side while a response is owed to them.

Such a client may be wholly gone, which looks the same until something is written to it. A long
poll and an event stream want to know of that, so the client is looked at, and asked where HTTP
allows it.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.http.conversation import Conversation
from .host import Cancelable, Host

#: Seconds for which nothing may be written after the client closed its sending side.
HALF_CLOSE_GRACE = 3.0
#: Looks at the client in this time.
_LOOKS = 4
#: Looks in silence before the client is asked whether it is still there, if it can be. It is asked
#: again after twice as many, and so on.
_SILENT_LOOKS = 2
#: The question: a client that waits for a response skips an interim one (RFC 9110 section 15.2);
#: the system of a client that has gone answers with a reset.
_ASK = b"HTTP/1.1 100 Continue\r\n\r\n"
#: The part of the time of grace in which that reset should have come.
_ECHO = 1 / 32


class HalfClose:
    """
    Watches one client that has closed its sending side, until the response is complete.

    :param host: the transport; told (`Host.gone`) when the client turns out to be gone.
    :param conversation: says whether the client can be asked.
    :param withheld: whether output waits for a binding to be confirmed.
    """

    __slots__ = ("_call", "_conversation", "_host", "_quiet", "_withheld")

    def __init__(
        self, host: Host, conversation: Conversation, withheld: Callable[[], bool]
    ) -> None:
        self._host = host
        self._conversation = conversation
        self._withheld = withheld
        self._call: Cancelable | None = None
        #: Consecutive looks between which nothing was written.
        self._quiet = 0

    def watch(self) -> None:
        """Look at the client from time to time from now on."""
        self._call = self._host.later(HALF_CLOSE_GRACE / _LOOKS, self._look)

    def wrote(self) -> None:
        """Take note that something is written: the next look is too soon to count."""
        self._quiet = -1

    def _look(self) -> None:
        self._call = None
        host = self._host
        waits = self._withheld() or host.unsent()
        quiet = self._quiet = 0 if waits else self._quiet + 1
        asks = self._conversation.interim
        if host.severed() or (quiet >= _LOOKS and not asks):
            host.gone()
            return
        seconds = HALF_CLOSE_GRACE / _LOOKS
        if asks and quiet >= _SILENT_LOOKS and quiet & (quiet - 1) == 0:
            host.send(_ASK)
            seconds = HALF_CLOSE_GRACE * _ECHO
        self._call = host.later(seconds, self._look)

    def cancel(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
