"""Following a response as the inner protocol writes it, and adding header lines to it."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable
from typing import Final

from ..memo import entries
from .framing import BodyKind, Decoder, Odd, ResponseFraming, body, response


class ResponsePhase(enum.Enum):
    """What the next byte from the inner protocol belongs to."""

    SILENT = "nothing: no response is due"
    HEAD = "a response head"
    BODY = "a response body"
    PASSING = "nothing that is followed"


# Module names, because looking a member up in its class costs 0.1 us on Python 3.11.
SILENT: Final = ResponsePhase.SILENT
HEAD: Final = ResponsePhase.HEAD
BODY: Final = ResponsePhase.BODY
PASSING: Final = ResponsePhase.PASSING
_NONE: Final = BodyKind.NONE
_LENGTH: Final = BodyKind.LENGTH
_UNTIL_CLOSE: Final = BodyKind.UNTIL_CLOSE

#: Looks at the head of a final response and says what is to be added to it. It is called with the
#: status and with the header lines as they are sent: a CR LF before the first, one behind each. It
#: returns header lines, each with its CR LF. None in its place adds nothing and looks at nothing.
Additions = Callable[[int, bytes], bytes]

#: Says that no request can follow on the connection (RFC 9112, section 9.6).
LAST: Final = b"Connection: close\r\n"
_FINAL: Final = re.compile(rb"HTTP/1\.[01] (101|[2-5][0-9][0-9])[ \r]")
_BEGINNING: Final = b"HTTP/1."
#: The longest head that is remembered, in bytes.
_CACHED_HEAD: Final = 1024


@functools.lru_cache(entries(1024, 2 * _CACHED_HEAD))
def _opened(head: bytes) -> tuple[int, int, bytes]:
    """
    Take a response head apart, which repeats within a second.

    :returns: the status of a final response, else 0; where the header lines begin; these lines, as
        `Additions` gets them.
    """
    line_end = head.find(b"\n") + 1
    final = _FINAL.match(head, 0, line_end)
    return int(final[1]) if final else 0, line_end, head[line_end - 2 : -2]


@functools.lru_cache(entries(1024, 2 * _CACHED_HEAD))
def _joined(head: bytes, lines: bytes) -> bytes:
    """Put lines behind the status line of a head."""
    line_end = head.find(b"\n") + 1
    return b"".join((head[:line_end], lines, head[line_end:]))


class Response:
    """
    Follows the responses on one connection, one at a time.

    :param head_limit: the largest response head that is followed, in bytes.
    :ivar phase: where the output stands; `SILENT` again when the response is complete, `PASSING`
        for good when its end cannot be known or HTTP has ended.
    :ivar started: bytes of the final response were written.
    :ivar closes: the final response said that the connection closes behind it.
    :ivar surplus: more was written than the response has; it was cut off.
    :ivar upgraded: HTTP has ended: a 101, or a 2xx to CONNECT.
    """

    __slots__ = (
        "_additions",
        "_begun",
        "_decoder",
        "_head_limit",
        "_last",
        "_method",
        "_withheld",
        "closes",
        "phase",
        "started",
        "surplus",
        "upgraded",
    )

    def __init__(self, head_limit: int) -> None:
        self._head_limit = head_limit
        self._method = b""  # of the last request; there was none
        self._additions: Additions | None = None
        self._last = False
        # What came of a head to which lines may be added.
        self._withheld = b""
        self._begun = b""  # the beginning of a head that came in pieces
        self._decoder: Decoder | None = None
        self.phase: ResponsePhase = SILENT
        self.started = False
        self.closes = False
        self.surplus = False
        self.upgraded = False

    def expect(self, method: bytes, additions: Additions | None, last: bool = False) -> None:
        """
        A request was delivered: its response is due.

        :param method: of the request.
        :param additions: says which lines to add behind the status line of the final response.
        :param last: the connection closes behind the response: ``Connection: close`` is added to
            it, unless it says so, or ends with the connection, or HTTP ends with it.
        """
        self.phase = HEAD
        self.started = False
        self._method = method
        self._additions = additions
        self._last = last

    def follow(self, data: bytes) -> bytes:
        """Take what the inner protocol writes; returns what to send, see `Conversation.wrote`."""
        if self._withheld:
            data = self._withheld + data
            self._withheld = b""
        at = 0
        try:
            while at < len(data):
                if self.phase is HEAD:
                    size = 0 if at or self._begun or self._last else data.find(b"\r\n\r\n") + 4
                    if 4 <= size <= _CACHED_HEAD:  # most heads come so
                        head = data[:size]
                        if self._additions is not None:
                            head = self._added(head)
                            data = head + data[size:]
                        at = self._behind(response(head, self._method), len(head), len(data))
                        continue
                    if (self._additions is not None or self._last) and not self._begun:
                        end = data.find(b"\r\n\r\n", at)
                        if end < 0 and self._may_end(data, at):
                            self._withheld = data[at:]
                            self.started = True
                            return data[:at]
                        data = self._with_lines(data, at, end)
                    at = self._in_head(data, at)
                elif self._decoder is not None:
                    at, done = self._decoder.feed(data, at)
                    if done:
                        self._decoder = None
                        self.phase = SILENT
                elif self.phase is SILENT:
                    if not self._method:
                        raise Odd("output without a request")
                    self.surplus = True
                    return data[:at]
                else:
                    break
        except Odd:
            self._additions = None
            self.phase = PASSING
        return data

    def _may_end(self, data: bytes, at: int) -> bool:
        """Whether the rest of the head that begins at ``data[at:]`` may come."""
        return (
            len(data) - at <= self._head_limit
            and _BEGINNING.startswith(data[at : at + len(_BEGINNING)])
            and data.find(b"\n\n", at) < 0  # where lines end so, no CR LF can be waited for
        )

    def _added(self, head: bytes) -> bytes:
        """Add the lines to a short head, if it is that of a final response; all is remembered."""
        status, _, fields = _opened(head)
        additions = self._additions
        if not status or additions is None:
            return head
        self._additions = None
        lines = additions(status, fields)
        return _joined(head, lines) if lines else head

    def _with_lines(self, data: bytes, at: int, end: int) -> bytes:
        """Add the lines if a final response begins at ``data[at:]``; its header ends at `end`."""
        if end < 0:
            raise Odd("a response head whose end cannot be told")
        head = data[at : end + 4]
        open_ = _opened if end - at <= _CACHED_HEAD else _opened.__wrapped__
        status, line_end, fields = open_(head)
        if not status:
            return data
        lines = b""
        additions, self._additions = self._additions, None
        if additions is not None:
            lines = additions(status, fields)
        if self._last:
            self._last = False
            framing = response(head, self._method)
            if not (framing.closes or self._ends_http(framing.status)):
                lines += LAST
        if not lines:
            return data
        line_end += at
        return b"".join((data[:line_end], lines, data[line_end:]))

    def _ends_http(self, status: int) -> bool:
        """RFC 9110, sections 7.8 and 9.3.6."""
        return status == 101 or (self._method == b"CONNECT" and 200 <= status < 300)

    def _in_head(self, data: bytes, at: int) -> int:
        """Pass over the part of a head in ``data[at:]``; returns the index behind it."""
        begun = self._begun
        text = begun + data[at:] if begun or at else data
        size = text.find(b"\r\n\r\n", max(len(begun) - 3, 0) if begun else 0) + 4
        if size < 4:
            if len(text) > self._head_limit:
                raise Odd("a response head without end")
            self._begun = text
            self.started = True
            return len(data)
        self._begun = b""
        at += size - len(begun)
        return self._behind(response(text[:size], self._method), at, len(data))

    def _behind(self, framing: ResponseFraming, at: int, size: int) -> int:
        """
        Take in how a response is framed.

        :param at: the index behind its head, in data of this size.
        :returns: the index behind the head, or behind the response if its body is there as well.
        """
        status, kind = framing.status, framing.kind
        if status < 200 and status != 101:
            self.started = False
            return at
        self.started = True
        self.closes = framing.closes
        if (status == 101 or self._method == b"CONNECT") and self._ends_http(status):
            self.upgraded = True
            self.phase = PASSING
        elif kind is _UNTIL_CLOSE:
            self.phase = PASSING
        elif kind is _NONE:
            self.phase = SILENT
        elif kind is _LENGTH and framing.length <= size - at:
            self.phase = SILENT
            at += framing.length
        else:
            self.phase = BODY
            self._decoder = body(kind, framing.length, self._head_limit)
        return at
