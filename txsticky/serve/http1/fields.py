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

from twisted.web.http_headers import Headers

from ...core.http.head import Head
from ...core.memo import entries

#: Only short blocks, so that the bound on entries bounds the memory.
_CACHED_BLOCK = 2048
_CACHED_BLOCKS = entries(1024, _CACHED_BLOCK)

Fields = tuple[tuple[bytes, tuple[bytes, ...]], ...]


class ParsedHeaders(Headers):
    """
    Headers that are known to be well formed.

    :param fields: each name in twisted.web's spelling, once, with its values.
    """

    __slots__ = ()

    def __init__(self, fields: Iterable[tuple[bytes, tuple[bytes, ...]]] = ()) -> None:
        super().__init__()
        self._rawHeaders = {name: list(values) for name, values in fields}

    def copy(self) -> Headers:
        """Return a copy."""
        return ParsedHeaders((name, tuple(values)) for name, values in self._rawHeaders.items())


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
