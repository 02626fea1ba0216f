"""The warning about an application that sends more than its response has."""

from __future__ import annotations

from twisted.logger import Logger

log = Logger()


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
