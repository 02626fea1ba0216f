"""
Telling the service manager how the service does: sd_notify(3), sd_watchdog_enabled(3).

A message is one datagram of ``NAME=value`` lines to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_USEC: Final = 1_000_000


class Notifier:
    """
    Speaks to the service manager; without one it does nothing.  No method raises.

    :param clock: for the watchdog.
    :param environ: NOTIFY_SOCKET, a path or, after an ``@``, an abstract name; WATCHDOG_USEC and
        WATCHDOG_PID.
    :param monotonic: seconds of CLOCK_MONOTONIC (clock_gettime(2)).
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        environ: Mapping[str, str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._interval = watchdog_interval(environ, os.getpid()) if self._address else 0.0
        self._monotonic = monotonic
        self._complained = False
        self._watchdog = LoopingCall(self._send, "WATCHDOG=1")
        self._watchdog.clock = clock

    def ready(self, status: str = "") -> None:
        """Say that the service is up, at first or after a reload; begin to feed the watchdog."""
        self._send("READY=1", *_status(status))
        if self._interval and not self._watchdog.running:
            self._watchdog.start(self._interval)

    def reloading(self, status: str = "") -> None:
        """Say that a reload begins; `ready` ends it."""
        now = int(self._monotonic() * _USEC)
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", *_status(status))

    def stopping(self, status: str = "") -> None:
        """Say that the service begins to stop; the watchdog is still fed."""
        self._send("STOPPING=1", *_status(status))

    def status(self, status: str) -> None:
        """Show one line in ``systemctl status``."""
        self._send(*_status(status))

    def close(self) -> None:
        """Feed the watchdog no longer."""
        if self._watchdog.running:
            self._watchdog.stop()

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode("utf-8", "replace"), address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._log.warn(
                    "The service manager cannot be told {line} at NOTIFY_SOCKET={address}: {error}",
                    line=lines[0],
                    address=self._address,
                    error=error,
                )


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float:
    """
    How often the service manager wants a sign of life: half of its limit, as it advises.

    :param pid: of this process; a watchdog that watches another one is not ours.
    :returns: seconds; 0 if there is no watchdog.
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return int(microseconds) / _USEC / 2 if microseconds.isdecimal() else 0.0


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()
