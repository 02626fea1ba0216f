"""
The header lines of a request as twisted.web and WSGI want them.

Header blocks repeat literally (a client's requests on one connection), so what short ones say is
remembered.
"""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from twisted.web.http_headers import Headers

from ...core.http.head import Head
from ...core.memo import entries

#: Only short blocks, so that the bound on entries bounds the memory.
_CACHED_BLOCK = 2048
_CACHED_BLOCKS = entries(1024, _CACHED_BLOCK)

Fields = tuple[tuple[bytes, tuple[bytes, ...]], ...]


#: Names of header lines, as they are given, in twisted.web's spelling.
_NAMES: dict[Any, bytes] = {}
_MOST_NAMES = 256


class ParsedHeaders(Headers):
    """
    Headers that are known to be well formed, and take the usual ones quickly.

    :param fields: each name in twisted.web's spelling, once, with its values.
    """

    __slots__ = ()

    def __init__(self, fields: Iterable[tuple[bytes, tuple[bytes, ...]]] = ()) -> None:
        self._rawHeaders = {name: list(values) for name, values in fields}

    def setRawHeaders(self, name: Any, values: Any) -> None:
        spelt = _NAMES.get(name)
        if spelt is not None and values.__class__ is list and len(values) == 1:
            value = values[0]
            if value.__class__ is bytes and b"\r" not in value and b"\n" not in value:
                self._rawHeaders[spelt] = [value]
                return
        super().setRawHeaders(name, values)
        if spelt is None and len(_NAMES) < _MOST_NAMES and len(name) < _MOST_NAMES:
            alone = Headers({name: []})
            _NAMES[name] = next(iter(alone.getAllRawHeaders()))[0]

    def copy(self) -> Headers:
        """Return a copy."""
        return ParsedHeaders((name, tuple(values)) for name, values in self._rawHeaders.items())


def head_of(version: bytes, code: bytes, reason: bytes, headers: Headers) -> bytes:
    """The head of a response, from the status line to the empty line."""
    lines = [b"%b %b %b" % (version, code, reason)]
    known = headers.__class__ is ParsedHeaders
    for name, values in headers._rawHeaders.items() if known else headers.getAllRawHeaders():
        for value in values:
            lines.append(b"%b: %b" % (name, value))
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def untouched(headers: Any) -> bool:
    """Whether headers are twisted.web's own, and empty: a subclass of Request may set some."""
    return headers.__class__ is Headers and not headers._rawHeaders


def fields_of(head: Head) -> Fields:
    """
    Read the header lines of a request.

    :param head: one without folded lines.
    """
    block = head.raw[head.fields_at : -2]
    return _read(block) if len(block) <= _CACHED_BLOCK else _read.__wrapped__(block)


def lines_of(head: Head) -> Iterator[tuple[bytes, bytes]]:
    """
    Read the header lines of a request, in their order, names as sent.

    :param head: one without folded lines.
    """
    for line in head.raw[head.fields_at : -2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        yield name, value.strip(b" \t")


@functools.lru_cache(_CACHED_BLOCKS)
def _read(block: bytes) -> Fields:
    headers = Headers()
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        headers.addRawHeader(name, value.strip(b" \t"))
    return tuple((name, tuple(values)) for name, values in headers.getAllRawHeaders())
