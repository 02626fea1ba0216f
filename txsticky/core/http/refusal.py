"""The response to a request that is refused, before or in the place of the application's."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

#: Seconds for which a refused client may go on sending: closing at once would reset the connection,
#: and the refusal could be lost (RFC 9112, section 9.6).
LINGER: Final = 2.0


def refusal(
    status: int, reason: str, date: str, retry_after: int | None = None, head_only: bool = False
) -> bytes:
    """
    Make a complete HTTP/1.1 response that ends the connection (RFC 9110, section 15).

    :param status: 400 or above.
    :param reason: a sentence for the client, which becomes the body.
    :param date: the present time (RFC 9110, section 5.6.7), e.g. ``Sun, 06 Nov 1994 08:49:37 GMT``.
    :param retry_after: when the client may try again, in seconds; None to say nothing of it.
    :param head_only: whether the request's method is HEAD, whose response has no body.
    """
    body = reason.encode() + b"\n"
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Date: {date}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if retry_after is not None:
        lines.append(f"Retry-After: {retry_after}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if head_only else body)
