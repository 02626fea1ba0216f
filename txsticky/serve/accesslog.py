"""The access log: a line a request, in the combined format, then the worker and the route."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.web.http import Request, datetimeToLogString

from ..errors import ConfigError
from ..printable import quotable
from ..system.shared_log import HandedLog, open_log
from . import ServeSettings

#: How many transports are asked for `how`, each being wrapped by the one before (TLS, policies).
_DEPTH = 4


@attrs.frozen
class LogLine:
    """
    What one line says of a request and its response.

    :ivar client: the client's address, without its port; `-` if it has none.
    :ivar length: bytes of the response body.
    :ivar route: how the request came to this worker, from `route_of`.
    """

    client: str
    method: bytes
    target: bytes
    version: bytes
    status: int
    length: int
    referer: bytes | None
    agent: bytes | None
    route: str


class AccessLog:
    """
    An access log that all workers write to the same file.

    Lines do not mix: the file is opened with O_APPEND and each line is one write(2). What cannot
    be written (a full disk) is dropped, since no response is to fail for its log line.

    :param path: the file, or `-` for the standard output.
    :param slot: the worker's number.
    :param seconds: the clock, in seconds since the epoch.
    :param handed: the file, where the primary has opened it.
    """

    _log = Logger()

    def __init__(
        self, path: str, slot: int, seconds: Callable[[], float], handed: HandedLog | None = None
    ) -> None:
        self._path = path
        self._handed = handed
        self._slot = slot
        self._seconds = seconds
        self._fd: int | None = None
        self._second = -1
        self._stamp = ""
        self._failing = False

    def open(self) -> None:
        """
        Open the file, which is made if it is missing.

        :raises ConfigError: it cannot be opened.
        """
        if self._path == "-":
            self._fd = os.dup(1)
            return
        self._fd = open_log(self._path) if self._handed is None else self._handed.open()

    def reopen(self) -> None:
        """Go over to a new file of the same name, after the old one was moved away (logrotate)."""
        old = self._fd
        try:
            self.open()
        except ConfigError as error:
            self._log.error("The old access log stays open: {error}", error=error)
            return
        if old is not None:
            os.close(old)

    def close(self) -> None:
        """Close the file; lines that still come are dropped."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def write(self, entry: LogLine) -> None:
        """Append one line."""
        if self._fd is None:
            return
        line = (
            f"{_word(entry.client)} - - {self._now()} "
            f'"{quotable(entry.method)} {quotable(entry.target)} {quotable(entry.version)}" '
            f"{entry.status} {entry.length or '-'} "
            f'"{quotable(entry.referer or b"-")}" "{quotable(entry.agent or b"-")}" '
            f"{self._slot} {entry.route}\n"
        )
        try:
            os.write(self._fd, line.encode())
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._log.error(
                    "Lines of the access log {path} are being lost: {error}",
                    path=self._path,
                    error=error,
                )
        else:
            self._failing = False

    def _now(self) -> str:
        second = int(self._seconds())
        if second != self._second:
            self._second = second
            self._stamp = datetimeToLogString(second)
        return self._stamp


def access_log_for(settings: ServeSettings, reactor: Any) -> AccessLog | None:
    """Make the access log that the settings ask for, not yet open."""
    if settings.access_log is None:
        return None
    return AccessLog(settings.access_log, settings.slot, reactor.seconds, settings.handed_log)


def log_line_of(request: Request) -> LogLine:
    """Describe a finished request of twisted.web."""
    return LogLine(
        client=getattr(request.getClientAddress(), "host", "") or "-",
        method=request.method,
        target=request.uri,
        version=request.clientproto,
        status=request.code,
        length=request.sentLength,
        referer=request.getHeader(b"referer"),
        agent=request.getHeader(b"user-agent"),
        route=route_of(request.transport),
    )


def route_of(transport: object) -> str:
    """
    Tell how a connection's present request was routed.

    :param transport: any transport, also one that wraps another.
    :return: TAG, HIT, HASH, NEW or MISS; `-` if no transport down the line knows.
    """
    for _ in range(_DEPTH):
        how = getattr(transport, "how", None)
        if how is not None:
            return str(getattr(how, "name", how))
        transport = getattr(transport, "transport", None)
    return "-"


def _word(text: str) -> str:
    """A field without quotes: of one piece."""
    return quotable(text.encode("utf-8", "replace")).replace(" ", "\\x20")
