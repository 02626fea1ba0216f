"""What an application gives to `start_response`, checked before anything of it is sent."""

from __future__ import annotations

import functools
import re
from http.client import responses
from typing import Any, Final

from attrs import frozen

from ...core.memo import entries
from ..loading import describe

Headers = list[tuple[str, str]]

_STATUS: Final = re.compile(r"([2-5]\d\d)(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?", re.ASCII)
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: RFC 9110, section 5.5: a field's value has neither CR, LF nor NUL; other control characters are
#: of no use, and dangerous in logs.
_NO_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: The connection is the server's: what PEP 3333 forbids applications to send in "Other HTTP
#: Features" is left out, as gunicorn leaves it out, for applications copy it from elsewhere. A
#: `close` is followed.
_OF_THE_CONNECTION: Final = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "trailers", "transfer-encoding", "upgrade"}
)
_NO_CONTENT: Final = frozenset({204, 304})

#: Texts that are longer together are not remembered.
_LONGEST: Final = 1024


@frozen
class ResponseHead:
    """
    The head of a response.

    :ivar status: 200 to 599.
    :ivar reason: the reason phrase.
    :ivar headers: the header lines.
    :ivar length: the Content-Length; None if there is none.
    :ivar has: the names of Date and Server that are among the header lines, in lower case.
    """

    status: int
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    length: int | None
    has: frozenset[str]

    @property
    def no_content(self) -> bool:
        """Whether the status has no content (RFC 9110, section 6.4.1)."""
        return self.status in _NO_CONTENT

    def with_length(self, length: int) -> ResponseHead:
        """Return the head with a Content-Length, unless it has one."""
        if self.length is not None:
            return self
        line = (b"Content-Length", b"%d" % length)
        return ResponseHead(self.status, self.reason, (*self.headers, line), length, self.has)


def response_head(status: Any, headers: Any) -> ResponseHead:
    """
    Check the head of a response.

    :param status: as the application gave it, for example `200 OK`; without a reason it gets the
        usual one.
    :param headers: as the application gave them.
    :raises ValueError: the status is no HTTP status, a text is not ISO-8859-1 or has control
        characters, a name is none, or there are two lengths.
    :raises TypeError: the status or a header is not a `str`, or a header is not a pair.
    """
    lines = tuple(headers)
    try:
        if len("".join([status, *map("".join, lines)])) <= _LONGEST:
            return _read(status, lines)
    except TypeError:
        pass  # which the long way finds, or it is a list where a tuple should be
    return _read.__wrapped__(status, lines)


@functools.lru_cache(entries(1024, 4 * _LONGEST))
def _read(status: str, headers: tuple[tuple[str, str], ...]) -> ResponseHead:
    if not isinstance(status, str):
        raise TypeError(f"the status has to be str, and is {describe(status)}")
    found = _STATUS.fullmatch(status)
    if found is None:
        raise ValueError(
            f"{status!r} is no HTTP status that a WSGI application can send, such as '200 OK'"
        )
    code, reason = int(found[1]), (found[2] or "").strip()
    lines: list[tuple[bytes, bytes]] = []
    length: int | None = None
    has: set[str] = set()
    for header in headers:
        name, value = _pair(header)
        lower = name.lower()
        if lower in _OF_THE_CONNECTION:
            if lower == "connection" and "close" in value.lower():
                lines.append((b"Connection", b"close"))
            continue
        _check(name, value)
        if lower == "content-length":
            number = value.strip()
            if length is not None or not (number.isascii() and number.isdigit()):
                raise ValueError(f"{value!r} is no Content-Length, or the second one")
            length, value = int(number), number
        elif lower in ("date", "server"):
            has.add(lower)
        lines.append((name.encode("latin-1"), value.encode("latin-1").strip(b" \t")))
    text = reason.encode("latin-1") or responses.get(code, "Status").encode()
    return ResponseHead(code, text, tuple(lines), length, frozenset(has))


def _pair(header: Any) -> tuple[str, str]:
    if not (isinstance(header, tuple | list) and len(header) == 2):
        raise TypeError(f"a header has to be a tuple of name and value, and is {header!r}")
    name, value = header
    for text in (name, value):
        if not isinstance(text, str):
            raise TypeError(f"headers have to be str, and there is {describe(text)}")
    return name, value


def _check(name: str, value: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a header")
    if _NO_VALUE.search(value) is not None:
        raise ValueError(f"the header {name} has a control character in its value: {value!r}")
