"""The access log: a line for each request, in the combined format, with worker and route added."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.web.http import Request, datetimeToLogString

from ..errors import ConfigError
from ..printable import quotable
from ..system.logs.patience import PatientWriter
from ..system.logs.shared import HandedLog, open_log
from . import ServeSettings

#: How many wrapped transports (TLS, policies) are searched for the attribute `how`.
_DEPTH = 4


@attrs.frozen
class LogLine:
    """
    What the access log says of one request and its response.

    :ivar client: the client's address, without port; `-` for a UNIX socket.
    :ivar length: bytes of the response body.
    :ivar route: how the request was routed, as `route_of` tells.
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
    An access log, in a file that all workers append to.

    Lines do not mix: the file is opened with O_APPEND and each line is one write(2). A line that
    cannot be written (a full disk, a pipe that is not read) is dropped, because no response is to
    fail or wait for its log line.

    :param path: the file, or `-` for the standard output.
    :param slot: the worker's number.
    :param seconds: the clock, in seconds since the epoch.
    :param handed: the open file, if the primary has opened it for the workers.
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
        self._writer: PatientWriter | None = None
        self._second = -1
        self._stamp = ""
        self._failing = False

    def open(self) -> None:
        """
        Open the file; make it if it is missing.

        :raises ConfigError: the file cannot be opened.
        """
        if self._path == "-":
            self._fd = os.dup(1)
        else:
            self._fd = open_log(self._path) if self._handed is None else self._handed.open()
        self._writer = PatientWriter(self._fd)

    def reopen(self) -> None:
        """Reopen the file by its name, after logrotate has moved the old file away."""
        old = self._fd
        try:
            self.open()
        except ConfigError as error:
            self._log.error(
                "The old access log stays open, because the new one cannot be opened: {error}",
                error=error,
            )
            return
        if old is not None:
            os.close(old)

    def close(self) -> None:
        """Close the file; later lines are dropped."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = self._writer = None

    def write(self, entry: LogLine) -> None:
        """Append one line."""
        if self._writer is None:
            return
        line = (
            f"{_word(entry.client)} - - {self._now()} "
            f'"{quotable(entry.method)} {quotable(entry.target)} {quotable(entry.version)}" '
            f"{entry.status} {entry.length or '-'} "
            f'"{quotable(entry.referer or b"-")}" "{quotable(entry.agent or b"-")}" '
            f"{self._slot} {entry.route}\n"
        )
        try:
            self._writer.write(line.encode())
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._log.error(
                    "The access log {path} cannot be written, and lines are lost: {error}",
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
    """Make the access log that the settings ask for, not yet opened."""
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
    Tell how the present request of a connection was routed.

    :param transport: any transport, also a wrapper of another transport.
    :returns: TAG, HIT, HASH, NEW or MISS; `-` if neither the transport nor one inside it knows.
    """
    for _ in range(_DEPTH):
        how = getattr(transport, "how", None)
        if how is not None:
            return str(getattr(how, "name", how))
        transport = getattr(transport, "transport", None)
    return "-"


def _word(text: str) -> str:
    """Escape a field that stands without quotes: it contains no blank."""
    return quotable(text.encode("utf-8", "replace")).replace(" ", "\\x20")
