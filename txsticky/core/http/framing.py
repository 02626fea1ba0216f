"""
Where HTTP/1.1 messages end: RFC 9112 read strictly, for the gate.

The gate moves a connection between two requests, so it has to know for certain where one ends.
Whatever has more than one reading, or only a lenient one, is `Odd`: what to do about that is the
caller's to say. Nothing here answers, decodes or repairs.

Header blocks repeat literally (a client's requests on one connection, a server's responses within
one second), so what short ones say is remembered.
"""

from __future__ import annotations

import enum
import functools
import re
from typing import Final, Protocol

from attrs import frozen

from ..memo import entries
from .head import TCHAR, Head


class Odd(Exception):
    """A message is not the plain RFC 9112 that has exactly one reading; the argument says why."""


class TooLarge(Odd):
    """A line or the trailers of a chunked body are larger than the limit on heads."""


class BodyKind(enum.Enum):
    """How the end of a message body is found (RFC 9112, section 6.3)."""

    NONE = "no body"
    LENGTH = "Content-Length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until the connection closes"


@frozen
class RequestFraming:
    """
    Where a request ends.

    :param kind: how its body is delimited; never `BodyKind.UNTIL_CLOSE`.
    :param length: of a `BodyKind.LENGTH` body, in bytes.
    :param last: no further request may follow: ``Connection: close``, or HTTP/1.0.
    """

    kind: BodyKind
    length: int
    last: bool


@frozen
class ResponseFraming:
    """
    Where a response ends.

    :param status: the status code; below 200 the final response is still to come.
    :param kind: how its body is delimited.
    :param length: of a `BodyKind.LENGTH` body, in bytes.
    :param closes: the server closes the connection behind it.
    """

    status: int
    kind: BodyKind
    length: int
    closes: bool


class Decoder(Protocol):
    """Follows a message body, and decodes it if asked to."""

    @property
    def left(self) -> int:
        """How many bytes are certain to come; perhaps more do."""

    def feed(self, data: bytes, at: int, content: list[bytes] | None = None) -> tuple[int, bool]:
        """
        Pass over the bytes of the body in ``data[at:]``.

        :param content: gets the content that is in these bytes, in pieces.
        :returns: the index behind the last of them, and whether the body is complete.
        :raises Odd: this is not a body in the expected coding.
        """


# Only short blocks, so that the bound on entries bounds the memory.
_CACHED_BLOCK: Final = 2048
_CACHED_BLOCKS: Final = entries(1024, _CACHED_BLOCK)
# 18 digits are beyond any message; the chunk size of as many bytes has 15.
MAX_LENGTH_DIGITS: Final = 18
_MAX_SIZE_DIGITS: Final = 15
#: What a chunk's line and the trailers may take, in bytes, if a caller names no other limit.
_LIMIT: Final = 65536
#: The last chunk and no trailers, in the usual spelling.
_END: Final = b"0\r\n\r\n"

# Visible characters, blanks and obs-text: a field value without the control characters that
# RFC 9110, section 5.5 calls invalid or dangerous.
_TEXT: Final = rb"[^\x00-\x08\x0a-\x1f\x7f]*+"
# RFC 9112, section 5: no blank before the colon, no line folding.
_FIELD_LINE: Final = rb"[%s]++:%s\r\n" % (re.escape(TCHAR), _TEXT)
_BLOCK: Final = re.compile(rb"\r\n(?:%s)*+\r\n" % _FIELD_LINE)
_TRAILER: Final = re.compile(_FIELD_LINE)
_FRAMING_FIELD: Final = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection):[ \t]*([^\r]*)"
)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: %s)?\r\n" % _TEXT)
# RFC 9112, section 7.1; section 7.1.1 has recipients put up with blanks before an extension.
_CHUNK_LINE: Final = re.compile(
    rb"(0*[0-9A-Fa-f]{1,%d})(?:[ \t]*;%s)?\r\n" % (_MAX_SIZE_DIGITS, _TEXT)
)


def request(head: Head) -> RequestFraming:
    """
    Tell where the request with this head ends.

    :raises Odd: its end has more than one reading, or what follows it is not HTTP.
    """
    if head.method == b"CONNECT":
        raise Odd("what follows a CONNECT is not HTTP")
    return content(head)


def content(head: Head) -> RequestFraming:
    """
    Tell where the content of a request ends by its header lines, even that of a CONNECT.

    :raises Odd: its end has more than one reading.
    """
    block = head.raw[head.fields_at - 2 :]
    read = _request if len(block) <= _CACHED_BLOCK else _request.__wrapped__
    return read(block, head.version)


def response(head: bytes, method: bytes) -> ResponseFraming:
    """
    Tell where the response with this head ends.

    :param head: from the status line to the final CR LF CR LF.
    :param method: of the request that it answers.
    :raises Odd: its end has more than one reading.
    """
    read = _response if len(head) <= _CACHED_BLOCK else _response.__wrapped__
    return read(head, method == b"HEAD")


def body(kind: BodyKind, length: int, limit: int = _LIMIT) -> Decoder:
    """
    Make a follower of a body whose kind is `LENGTH` (`length` bytes, more than none) or `CHUNKED`.

    :param limit: the longest line of a chunk, and the largest trailers, in bytes; the follower
        raises `TooLarge` beyond.
    """
    return _Length(length) if kind is BodyKind.LENGTH else _Chunks(limit)


@functools.lru_cache(_CACHED_BLOCKS)
def _request(block: bytes, version: bytes) -> RequestFraming:
    kind, length, close = _fields(block)
    if version == b"1.0":
        if kind is BodyKind.CHUNKED:  # RFC 9112, section 6.1: faulty framing
            raise Odd("a chunked HTTP/1.0 request")
        close = True
    if kind is BodyKind.UNTIL_CLOSE:  # RFC 9112, section 6.3: of a request that means no body
        kind = BodyKind.NONE
    return RequestFraming(kind, length, close)


@functools.lru_cache(_CACHED_BLOCKS)
def _response(head: bytes, bodiless: bool) -> ResponseFraming:
    line = _STATUS_LINE.match(head)
    if line is None:
        raise Odd("the status line is not 'HTTP/1.1 nnn reason' ended by CR LF")
    kind, length, close = _fields(head[line.end() - 2 :], repeated=True)
    if line[1] == b"0":
        if kind is BodyKind.CHUNKED:
            raise Odd("a chunked HTTP/1.0 response")
        close = True
    status = int(line[2])
    if bodiless or status < 200 or status in (204, 304):
        kind, length = BodyKind.NONE, 0
    return ResponseFraming(status, kind, length, close or kind is BodyKind.UNTIL_CLOSE)


def _fields(block: bytes, repeated: bool = False) -> tuple[BodyKind, int, bool]:
    """
    What header lines say about framing: the kind, the length, whether ``close`` is said.

    :param block: the header lines with the CR LF before the first and the empty line at the end.
    :param repeated: the same may be said twice, and the chunked coding beats a length: RFC 9112,
        section 6.3, has every client read a response so. Applications send such that copy header
        lines from elsewhere. In a request the difference is for smugglers.
    """
    if not _BLOCK.fullmatch(block):
        raise Odd("a header line is not 'Name: value' ended by CR LF")
    kind = BodyKind.UNTIL_CLOSE
    length = 0
    close = False
    for name, value in _FRAMING_FIELD.findall(block.lower()):
        value = value.rstrip(b" \t")
        if name == b"connection":
            close = close or b"close" in [option.strip(b" \t") for option in value.split(b",")]
            continue
        told = told_by(name, value)
        if kind is BodyKind.UNTIL_CLOSE or (repeated and told[0] is BodyKind.CHUNKED is not kind):
            kind, length = told
        elif not repeated or (kind is not BodyKind.CHUNKED and told != (kind, length)):
            raise Odd("more than one Content-Length or Transfer-Encoding")
    return kind, length, close


def told_by(name: bytes, value: bytes) -> tuple[BodyKind, int]:
    """
    Tell what one header line says of the content: how its end is told, and its length.

    :param name: ``transfer-encoding`` or ``content-length``.
    :param value: in lower case, without blanks around it.
    :raises Odd: it is not plain (RFC 9112, section 6).
    """
    if name == b"transfer-encoding":
        if value != b"chunked":
            raise Odd("a Transfer-Encoding other than 'chunked'")
        return BodyKind.CHUNKED, 0
    if not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
        raise Odd("a Content-Length that is not a plain number")
    length = int(value)
    return (BodyKind.LENGTH if length else BodyKind.NONE), length


class _Length:
    """A body of a known number of bytes."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    def feed(self, data: bytes, at: int, content: list[bytes] | None = None) -> tuple[int, bool]:
        taken = min(self.left, len(data) - at)
        self.left -= taken
        if content is not None:
            content.append(data[at : at + taken])
        return at + taken, not self.left


def _whole_chunk(data: bytes, at: int, limit: int) -> tuple[int, int] | None:
    """Where the data of the chunk at ``data[at:]`` is; None if not there whole, or the last."""
    line = _CHUNK_LINE.match(data, at, at + limit)
    if line is None:
        return None
    size = int(line[1], 16)
    behind = line.end() + size
    return (line.end(), behind) if size and data[behind : behind + 2] == b"\r\n" else None


class _Chunks:
    """A body in the chunked coding (RFC 9112, section 7.1)."""

    __slots__ = ("_limit", "_line", "_trailers", "left")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.left = 0  # of the current chunk: its data and the CR LF behind it
        self._line = b""  # the beginning of a line that came in pieces
        self._trailers = -1  # bytes of trailer lines so far; -1: the last chunk has not come

    def feed(self, data: bytes, at: int, content: list[bytes] | None = None) -> tuple[int, bool]:
        end, limit = len(data), self._limit
        while at < end:
            if self.left:
                at = self._chunk_data(data, at, content)
                continue
            if self._trailers < 0 and not self._line:
                if data.startswith(_END, at):
                    return at + len(_END), True
                whole = _whole_chunk(data, at, limit)
                if whole is not None:
                    begin, behind = whole
                    if content is not None:
                        content.append(data[begin:behind])
                    at = behind + 2
                    continue
            line_end = data.find(b"\n", at, at + limit) + 1
            line = self._line + data[at : line_end or end]
            if len(line) > limit:
                raise TooLarge("a line of a chunked body is too long")
            if not line_end:
                self._line = line
                return end, False
            self._line = b""
            at = line_end
            if self._trailers < 0:
                self._chunk_line(line)
            elif line == b"\r\n":
                return at, True
            else:
                self._trailer_line(line)
        return at, False

    def _chunk_data(self, data: bytes, at: int, content: list[bytes] | None) -> int:
        """Pass over chunk data, then over the CR LF, of which `left` counts two bytes."""
        end = len(data)
        taken = min(self.left - 2, end - at)
        if taken > 0:
            if content is not None:
                content.append(data[at : at + taken])
            self.left -= taken
            at += taken
        while at < end and self.left:
            if data[at] != b"\n\r"[self.left - 1]:
                raise Odd("chunk data is not followed by CR LF")
            self.left -= 1
            at += 1
        return at

    def _chunk_line(self, line: bytes) -> None:
        size = _CHUNK_LINE.fullmatch(line)
        if size is None:
            raise Odd("a chunk does not begin with a plain size")
        length = int(size[1], 16)
        if length:
            self.left = length + 2
        else:
            self._trailers = 0

    def _trailer_line(self, line: bytes) -> None:
        self._trailers += len(line)
        if self._trailers > self._limit:
            raise TooLarge("the trailers are too large")
        if not _TRAILER.fullmatch(line):
            raise Odd("a trailer is not 'Name: value'")
