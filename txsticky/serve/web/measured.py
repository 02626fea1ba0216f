"""Requests of twisted.web whose responses are as long as their Content-Length says."""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

from twisted.logger import Logger
from twisted.web import http

from ...transport.surplus import tell_surplus

_log = Logger()


class MeasuredRequest(http.Request):
    """
    A request whose response is cut off at its Content-Length, and whose connection is closed if it
    is shorter (RFC 9112, sections 6.3 and 11.1): what is too much, or missing, would be taken for
    the next response on the connection, or from it.
    """

    #: Bytes that are still to come; None if that is not known, or none are sent.
    _left: int | None = None
    _cut = False

    def write(self, data: bytes) -> None:
        if not self.startedWriting:
            self._left = self._promised()
        left = self._left
        if left is not None:
            if len(data) > left:
                self._surplus()
                data = data[:left]
            self._left = left - len(data)
        super().write(data)

    def finish(self) -> None:
        if not (self.startedWriting or self.finished):
            self.write(b"")
        if self._left and isinstance(self.channel, http.HTTPChannel):
            _log.warn(
                "The response to {line!r} is {left} bytes shorter than its Content-Length: the"
                " connection is closed.",
                line=self._line().decode("latin-1"),
                left=self._left,
            )
            self.channel.persistent = False
        super().finish()

    def _promised(self) -> int | None:
        """The length that the head of the response names."""
        values = self.responseHeaders.getRawHeaders(b"content-length") or []
        bodiless = self.method == b"HEAD" or self.code in http.NO_BODY_CODES
        if bodiless or len(values) != 1 or not values[0].isdigit():
            return None
        return int(values[0])

    def _surplus(self) -> None:
        if not self._cut:
            self._cut = True
            tell_surplus(self._line())

    def _line(self) -> bytes:
        return b" ".join((self.method, self.uri, self.clientproto))
