"""Following a response as the inner protocol writes it, and adding header lines to it."""

from __future__ import annotations

import enum
import re
from typing import Final

from .framing import Decoder, Kind, Odd, body, response


class Phase(enum.Enum):
    """What the next byte from the inner protocol belongs to."""

    SILENT = "nothing: no response is due"
    HEAD = "a response head"
    BODY = "a response body"
    PASSING = "nobody's business any more"


# Module names, because looking a member up in its class costs 0.1 us on Python 3.11.
SILENT: Final = Phase.SILENT
HEAD: Final = Phase.HEAD
BODY: Final = Phase.BODY
PASSING: Final = Phase.PASSING
_NONE: Final = Kind.NONE
_LENGTH: Final = Kind.LENGTH
_UNTIL_CLOSE: Final = Kind.UNTIL_CLOSE

_FINAL: Final = re.compile(rb"HTTP/1\.[01] (?:101|[2-5][0-9][0-9])[ \r]")


class Response:
    """Follows the responses on one connection, one at a time.

    Args:
        head_limit: the largest response head that is followed, in bytes.

    Attributes:
        phase: where the output stands; `SILENT` again when the response is complete, `PASSING`
            for good when its end cannot be known or HTTP has ended.
        started: bytes of the final response were written.
        switched: what follows the response is no HTTP: it was a 101, or a CONNECT has succeeded.
        closes: the final response said that the connection closes behind it.
        until_close: the response lasts until the connection closes.
    """

    __slots__ = (
        "_begun",
        "_decoder",
        "_head_limit",
        "_lines",
        "_method",
        "_withheld",
        "closes",
        "phase",
        "started",
        "switched",
        "until_close",
    )

    def __init__(self, head_limit: int) -> None:
        self._head_limit = head_limit
        self._method = b""
        self._lines = b""
        self._withheld = b""  # a status line that came in pieces, to which lines are to be added
        self._begun = b""  # the beginning of a head that came in pieces
        self._decoder: Decoder | None = None
        self.phase: Phase = SILENT
        self.started = False
        self.switched = False
        self.closes = False
        self.until_close = False

    def alike(self) -> Response:
        """Another follower that stands where this one does and changes nothing."""
        other = Response(self._head_limit)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other._lines = other._withheld = b""
        return other

    def expect(self, method: bytes, lines: bytes) -> None:
        """A request was delivered: its response is due.

        Args:
            method: of the request.
            lines: header lines to add behind the status line of the final response.
        """
        self.phase = HEAD
        self.started = False
        self._method = method
        self._lines = lines

    def release(self) -> None:
        """The connection is a tunnel: follow nothing but a head that lines are to be added to."""
        if not self._lines:
            self.phase = PASSING

    def follow(self, data: bytes) -> bytes:
        """Take what the inner protocol writes; returns what to send, as `Exchange.wrote` does."""
        if self._withheld:
            data = self._withheld + data
            self._withheld = b""
        at = 0
        try:
            while at < len(data):
                if self.phase is HEAD:
                    if self._lines and not self._begun:
                        line_end = data.find(b"\n", at) + 1
                        if not line_end and len(data) - at <= self._head_limit:
                            self._withheld = data[at:]
                            return data[:at]
                        data = self._with_lines(data, at, line_end)
                    at = self._in_head(data, at)
                elif self._decoder is not None:
                    at, done = self._decoder.feed(data, at)
                    if done:
                        self._decoder = None
                        self.phase = SILENT
                elif self.phase is SILENT:
                    raise Odd("output without a request")
                else:
                    break
        except Odd:
            self._lines = b""
            self.phase = PASSING
        return data

    def _with_lines(self, data: bytes, at: int, line_end: int) -> bytes:
        """Add the lines if ``data[at:line_end]`` is the status line of a final response."""
        if not _FINAL.match(data, at, line_end):
            return data
        lines, self._lines = self._lines, b""
        return b"".join((data[:line_end], lines, data[line_end:]))

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
        framing = response(text[:size], self._method)
        status, kind = framing.status, framing.kind
        if status < 200 and status != 101:
            self.started = False
            return at
        self.started = True
        self.closes = framing.closes
        # RFC 9110, section 9.3.6: any 2xx to CONNECT.
        self.switched = status == 101 or (self._method == b"CONNECT" and status < 300)
        self.until_close = kind is _UNTIL_CLOSE and not self.switched
        if self.switched or self.until_close:
            self.phase = PASSING
        elif kind is _NONE:
            self.phase = SILENT
        elif kind is _LENGTH and framing.length <= len(data) - at:
            self.phase = SILENT
            at += framing.length
        else:
            self.phase = BODY
            self._decoder = body(kind, framing.length)
        return at
