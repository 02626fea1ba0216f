"""What a client is told that is refused: by the primary, by a door, or by a gate."""

from __future__ import annotations

import email.utils
from http import HTTPStatus

#: Seconds for which a refused client may go on sending: closing at once would reset the connection,
#: and the refusal could be lost (RFC 9112 section 9.6).
LINGER = 2.0


def refusal(
    status: int, reason: str, retry_after: int | None = None, head_only: bool = False
) -> bytes:
    """A complete HTTP/1.1 response that ends the connection (RFC 9110 section 15)."""
    body = reason.encode() + b"\n"
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Date: {email.utils.formatdate(usegmt=True)}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if retry_after is not None:
        lines.append(f"Retry-After: {retry_after}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if head_only else body)
