"""
The head of a request as far as routing needs it: bytes -> `Head` | `NEED_DATA` | `Malformed`.

This is the routing view of HTTP/1.x, not a server's parser. It is lenient about what does not
matter for finding a worker (a missing Host, a folded line, two lengths): that worker's server
answers in its own words. It says no as soon as the bytes do: a request line or a header line that
can no longer become one, stray control bytes, a TLS handshake, a head beyond the limit.

The verdict depends on the bytes alone, never on how they were cut into pieces: it is the verdict
of the shortest prefix that has one.
"""

from __future__ import annotations

import enum
import re
from typing import Final, Literal

from attrs import define, field, frozen


class NeedData(enum.Enum):
    """The type of `NEED_DATA`."""

    NEED_DATA = "need data"


NEED_DATA: Final = NeedData.NEED_DATA
"""The bytes so far are a beginning, not yet the whole."""


@frozen
class Malformed:
    """
    The bytes can never become a request that is routed.

    :param status: the HTTP status to refuse with: 400, 431 or 505.
    :param reason: a sentence for the response body and the log.
    """

    status: int
    reason: str


# RFC 9110, section 5.6.2: the characters of a token, of which a method is one.
TCHAR: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# RFC 9112, section 3.2: a target is visible ASCII. DEL passes, because twisted.web takes it; raw
# UTF-8 is refused, because every server behind refuses it too.
_TARGET: Final = bytes(range(0x21, 0x80))
_METHOD_AND_TARGET: Final = rb"([%s]++) ([\x21-\x7f]++) " % re.escape(TCHAR)
_LINE: Final = re.compile(_METHOD_AND_TARGET + rb"HTTP/(1\.[01])\r\n")
#: A whole head without folded lines, as nearly all are: one look instead of several.
_USUAL: Final = re.compile(
    rb"%bHTTP/(1\.[01])\r\n(?:[%b]++:[^\r\n\0]*+\r\n)*+\r\n"
    % (_METHOD_AND_TARGET, re.escape(TCHAR))
)
_ANY_VERSION: Final = re.compile(_METHOD_AND_TARGET + rb"HTTP/[0-9]\.[0-9]\r\n")
_VERSION_BEGUN: Final = re.compile(rb"(?:H(?:T(?:T(?:P(?:/(?:\d(?:\.(?:\d\r?)?)?)?)?)?)?)?)?")
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")
_AUTHORITY: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")

# RFC 9112, section 5: a name is a token, and no blank stands before the colon. Folded lines are the
# server's to refuse or to unfold (section 5.2).
_NO_FIELD: Final = re.compile(rb"\r\n(?![%s]++:|[ \t]|\r\n|\Z)" % re.escape(TCHAR))

# RFC 9112, section 6.3: a length that is none cannot be recovered from. One value repeated is the
# server's to judge, and so is a line that is folded, which the byte behind it tells.
_NO_LENGTH: Final = re.compile(
    rb"\r\ncontent-length:[ \t]*+"
    rb"(?![0-9]++(?:[ \t]*+,[ \t]*+[0-9]++)*+[ \t]*+\r\n)[^\r]*+\r\n[^ \t]"
)

# RFC 9112, section 2.2: at least one empty line before the request line is skipped. A bound keeps
# a client that sends nothing else from being read for ever.
_MAX_EMPTY_LINES: Final = 8

_BAD_LINE: Final = Malformed(
    400, "The request line is not of the form 'METHOD target HTTP/1.1' ended by CR LF."
)
_TLS: Final = Malformed(
    400, "This port speaks plain HTTP, and the client began a TLS handshake; use http:// here."
)
#: One verdict for all of them, because the first of several faults is the one that counts.
_BAD_FIELD: Final = Malformed(
    400,
    "The request head contains a line that is not of the form 'Name: value', or a NUL, a bare CR or"
    " a bare LF.",
)
_VERSION: Final = Malformed(
    505, "This port speaks HTTP/1.1 and HTTP/1.0, and the client began with another version."
)
TOO_LARGE: Final = Malformed(431, "The request head is larger than this server allows.")


@define
class Head:
    """
    A complete request head; header lines are looked at only when asked for.

    :param raw: from the request line to the final CR LF CR LF.
    :param size: bytes of input it took: `raw` and the empty lines skipped before it.
    :param method: as sent (methods are case-sensitive), e.g. ``b"GET"``.
    :param target: the request target as sent, any form (RFC 9112, section 3.2).
    :param version: ``b"1.1"`` or ``b"1.0"``.
    :param fields_at: offset in `raw` of the first header line.
    """

    raw: bytes
    size: int
    method: bytes
    target: bytes
    version: bytes
    fields_at: int
    _lowered: bytes = field(default=b"", init=False, eq=False, repr=False)
    _split: tuple[bytes, bytes] | None = field(default=None, init=False, eq=False, repr=False)

    @property
    def path(self) -> bytes:
        """The target's path, not decoded; of an absolute-form target the path of its URL."""
        return (self._split or self._split_target())[0]

    @property
    def query(self) -> bytes:
        """The target's query, not decoded, without the question mark; empty if there is none."""
        return (self._split or self._split_target())[1]

    def header(self, name: bytes) -> bytes | None:
        """
        The first value of a header, without the blanks around it; None if absent.

        :param name: the header's name in lower case, e.g. ``b"cookie"``.
        """
        return self._value(name, self.fields_at - 2)[0]

    def headers(self, name: bytes) -> tuple[bytes, ...]:
        """
        Every value of a header in the order sent, without the blanks around them.

        :param name: the header's name in lower case.
        """
        values = []
        value, at = self._value(name, self.fields_at - 2)
        while value is not None:
            values.append(value)
            value, at = self._value(name, at)
        return tuple(values)

    def has_prefix(self, prefix: bytes) -> bool:
        """
        Whether some header's name begins so.

        :param prefix: in lower case.
        """
        lowered = self._lowered
        if not lowered:
            lowered = self._lowered = self.raw.lower()
        return lowered.find(b"\r\n" + prefix, self.fields_at - 2) >= 0

    def _value(self, name: bytes, at: int) -> tuple[bytes | None, int]:
        """The first value from the line end `at` on, and the line end behind it."""
        lowered = self._lowered
        if not lowered:
            lowered = self._lowered = self.raw.lower()
        found = lowered.find(b"\r\n%b:" % name, at)
        if found < 0:
            return None, found
        begin = found + len(name) + 3
        end = lowered.index(b"\r\n", begin)
        return self.raw[begin:end].strip(b" \t"), end

    def _split_target(self) -> tuple[bytes, bytes]:
        target = self.target
        if target[:1] != b"/":
            absolute = _AUTHORITY.match(target)
            if absolute is not None:
                target = target[absolute.end() :]
                if target[:1] != b"/":  # RFC 9110, section 4.2.3: an empty path is "/"
                    target = b"/" + target
        path, _, query = target.partition(b"?")
        self._split = path, query
        return self._split


#: The very object that was looked at last, with the limit, and its head: where connections are
#: accepted and served in one process, it is looked at twice.
_last: tuple[bytes, int, Head] = b"", -1, Head(b"", 0, b"", b"", b"", 0)


def parse_head(
    data: bytes, limit: int, start: int = 0
) -> Head | Literal[NeedData.NEED_DATA] | Malformed:
    """
    Look for a request head at the beginning of `data`.

    :param data: everything the client has sent from a message boundary on.
    :param limit: the largest head allowed in bytes, skipped empty lines included.
    :param start: how many of these bytes an earlier call answered with `NEED_DATA`, so that a head
        that arrives a byte at a time is not scanned anew with every byte.
    :returns: the head; or `NEED_DATA`; or `Malformed` with 400 (the bytes are no HTTP request), 431
        (the head is larger than `limit`) or 505 (neither HTTP/1.1 nor 1.0; of HTTP/2 that is the
        preface, RFC 9113, section 3.4).
    """
    seen, seen_limit, known = _last
    if seen is data and seen_limit == limit:
        return known
    skip = _skip_empty_lines(data, limit) if data[:1] == b"\r" else 0
    if not start:
        usual = _USUAL.match(data, skip, limit)
        if usual is not None:
            return _complete(data, limit, skip, usual.end(), usual)
    end = data.find(b"\r\n\r\n", start - 3 if start - 3 > skip else skip, limit) + 4
    if end < 4:
        return _unfinished(data, limit, skip, start)
    line = _LINE.match(data, skip)
    if line is None:
        return _bad_line(data, skip)
    raw = data[skip:end]
    lines = raw.count(b"\n")
    if lines != raw.count(b"\r\n") or lines != raw.count(b"\r") or b"\0" in raw:
        return _BAD_FIELD
    begin = line.end() - skip
    if raw[begin] in b" \t" or _NO_FIELD.search(raw, begin - 2):
        return _BAD_FIELD
    return _complete(data, limit, skip, end, line)


def _complete(
    data: bytes, limit: int, skip: int, end: int, line: re.Match[bytes]
) -> Head | Malformed:
    """
    Return the head in ``data[skip:end]``, whose lines are what they should be, unless it lies.

    :param line: what matched its request line.
    """
    global _last
    raw = data[skip:end]
    begin = line.end(3) + 2 - skip
    lowered = raw.lower()
    if _NO_LENGTH.search(lowered, begin - 2):
        return _BAD_FIELD
    method, target, version = line.groups()
    head = Head(raw, end, method, target, version, begin)
    head._lowered = lowered
    _last = data, limit, head
    return head


def _skip_empty_lines(data: bytes, limit: int) -> int:
    """How many bytes of empty lines to skip; one more line than allowed is a bad request line."""
    empty = _EMPTY_LINES.match(data, 0, min(limit, 2 * _MAX_EMPTY_LINES))
    return empty.end() if empty else 0


def _unfinished(
    data: bytes, limit: int, skip: int, start: int
) -> Literal[NeedData.NEED_DATA] | Malformed:
    """The verdict on a head whose end has not come within the limit."""
    end = min(len(data), limit)
    line_end = data.find(b"\n", skip, end)
    if line_end < 0:
        fault = _unfinished_line(data, skip, max(skip, start), end)
    elif line_end >= start and not _LINE.match(data, skip):
        fault = _bad_line(data, skip)
    else:
        fault = _stray(data, max(line_end + 1, start), end) or _bad_field(
            data, line_end + 1, start, end
        )
    return fault or (TOO_LARGE if len(data) > limit else NEED_DATA)


def _unfinished_line(data: bytes, skip: int, seen: int, end: int) -> Malformed | None:
    """
    What a request line without its line end already says; bytes before `seen` are known good.

    Only the search for the two spaces looks at every byte again, and that is a memchr.
    """
    if data[skip : skip + 1] == b"\r":  # the first half of one more empty line, or nothing
        return None if end <= skip + 1 else _BAD_LINE
    method_end = data.find(b" ", skip, end)
    if method_end < 0:
        bad = data[seen:end].translate(None, TCHAR) != b""
        return _bad_line(data, skip) if bad else None
    target_end = data.find(b" ", method_end + 1, end)
    target = data[max(seen, method_end + 1) : end if target_end < 0 else target_end]
    if (
        method_end == skip
        or target_end == method_end + 1
        or data[seen:method_end].translate(None, TCHAR)
        or target.translate(None, _TARGET)
        or (target_end >= 0 and not _VERSION_BEGUN.fullmatch(data, target_end + 1, end))
    ):
        return _bad_line(data, skip)
    return None


def _stray(data: bytes, begin: int, end: int) -> Malformed | None:
    """NUL, bare CR or bare LF in header lines; a CR at the very end may still get its LF."""
    if data[begin - 1 : begin] == b"\r":
        begin -= 1
    pairs = data.count(b"\r\n", begin, end)
    returns = data.count(b"\r", begin, end)
    if data[end - 1 : end] == b"\r":
        returns -= 1
    if data.count(b"\n", begin, end) != pairs or returns != pairs:
        return _BAD_FIELD
    return _BAD_FIELD if data.find(b"\0", begin, end) >= 0 else None


def _bad_field(data: bytes, begin: int, seen: int, end: int) -> Malformed | None:
    """
    Header lines that are none, the last of them without its end; bytes before `seen` are good.

    RFC 9112, section 2.2, has no blank behind the request line; later ones fold a line.
    """
    if begin == end:
        return None
    line = data.rfind(b"\n", begin - 1, max(seen, begin)) + 1  # in which the first new byte is
    last = data.rfind(b"\n", line - 1, end) + 1  # which has not ended
    if data[begin] in b" \t" or (last > line and _NO_FIELD.search(data, line - 2, last)):
        return _BAD_FIELD
    if seen <= last:  # it is known now whether the line before is folded
        before = data.rfind(b"\n", begin - 1, max(line - 1, begin)) + 1
        if _NO_LENGTH.search(data[before - 2 : min(last + 1, end)].lower()):
            return _BAD_FIELD
    if last == end or data[last] in b" \t\r":
        return None
    colon = data.find(b":", last, end)
    name = data[max(last, seen) : end if colon < 0 else colon]
    return _BAD_FIELD if colon == last or name.translate(None, TCHAR) else None


def _bad_line(data: bytes, skip: int) -> Malformed:
    """Why a request line is refused."""
    if data.startswith(b"\x16", skip):  # RFC 8446, section 5.1: the record of a TLS handshake
        return _TLS
    return _VERSION if _ANY_VERSION.match(data, skip) else _BAD_LINE
