"""The end of a response and of a connection: what is cut off, and the time that is left."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from ..core.http.refusal import LINGER, refusal
from ..core.http.steps import Refuse
from ..system.system import http_date
from .host import Cancelable, Host

log = Logger()

#: Seconds for the answer to a request that stalled to leave.
_LAST_WORD = 1.0


class Ending:
    """
    Closes a connection after some time.

    :param host: the transport.
    :param seconds: from now.
    :param close: how the host closes it.
    """

    __slots__ = ("_call", "_close")

    def __init__(self, host: Host, seconds: float, close: Callable[[], None]) -> None:
        self._close = close
        self._call: Cancelable | None = host.later(seconds, self._act)

    def _act(self) -> None:
        self._call = None
        self._close()

    def cancel(self) -> None:
        """Leave the connection as it is."""
        if self._call is not None:
            self._call.cancel()
            self._call = None


def linger(host: Host) -> Cancelable | None:
    """
    Close a connection after what was written, once the client has had time to read it: to close at
    once could reset the connection (RFC 9112 section 9.6).

    :returns: what is under way; None if the connection is closed already.
    """
    host.half_close()
    if not host.live():
        return None
    host.start_reading()
    return Ending(host, LINGER, host.hang_up)


def last_word(host: Host, answer: bytes) -> Cancelable:
    """
    Answer a request that stalled, and close the connection whether the answer left or not.

    :returns: what is under way.
    """
    host.stop_reading()
    host.send(answer)
    return Ending(host, _LAST_WORD, host.dismiss)


def refused(step: Refuse) -> bytes:
    """
    The answer to input that is not served.

    :returns: a whole response; nothing if a response is under way already.
    """
    fault = step.fault
    if fault is None:
        return b""
    return refusal(fault.status, fault.reason, http_date(), head_only=step.head_only)


def tell_surplus(request_line: bytes) -> None:
    """
    Tell the operator that the end of a response was cut off.

    :param request_line: of the request, without the CR LF.
    """
    log.warn(
        "The response to {line!r} is longer than its Content-Length, its last chunk or the"
        " request's method allows: the rest is cut off.",
        line=request_line.decode("latin-1"),
    )
