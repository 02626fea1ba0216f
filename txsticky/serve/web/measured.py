"""Requests of twisted.web whose responses are as long as their Content-Length says."""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

from twisted.logger import Logger
from twisted.web import http

from ...transport.ending import tell_surplus

_log = Logger()


class MeasuredRequest(http.Request):
    """
    A request whose response cannot differ in length from its Content-Length.

    A longer response is cut off; after a shorter one the connection is closed (RFC 9112, sections
    6.3 and 11.1). Else a client would take the surplus for the next response on the connection, or
    the beginning of the next response for what is missing.
    """

    #: Bytes of the response that are still to come; None for an unknown length or no body.
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
        """Return the Content-Length of the response; None if there is no valid one, or no body."""
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
