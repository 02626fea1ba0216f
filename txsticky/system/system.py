"""The operating system as one argument: processes, clock and chance, so that tests can swap it."""

from __future__ import annotations

import email.utils
import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ..core.memo import entries
from .privileges import executed_as
from .process import Process
from .this_process import FOR_ALL
from .trust import Identity

#: What the service manager says to the primary alone: sd_notify(3), sd_listen_fds(3).
_FOR_THE_PRIMARY = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
    }
)
#: Seconds that only go forward, to measure with (clock_gettime(2), CLOCK_MONOTONIC).
monotonic = time.monotonic


def working_folder(environ: Mapping[str, str]) -> str | None:
    """
    The working directory as PWD names it; None if PWD does not name it.

    The name may be a symbolic link: a new release of an application is often a directory of its
    own, and a link leads to the present one.
    """
    path = environ.get("PWD", "")
    try:
        return path if os.path.isabs(path) and os.path.samefile(path, ".") else None
    except OSError:
        return None


@attrs.define
class System:
    """
    What a process asks of its operating system.

    :param reactor: the reactor: descriptors and delayed calls.
    :param clock: seconds, monotonic.
    :param rng: chance.
    :param folder: where processes are started, if it is there; else where this one is.
    :param wall: seconds since the epoch.
    :param adopts: whether a worker that a template forks can become a child of this process.
    """

    reactor: Any
    clock: Callable[[], float] = monotonic
    rng: random.Random = attrs.field(factory=random.Random)
    folder: str | None = attrs.field(factory=lambda: working_folder(os.environ))
    wall: Callable[[], float] = time.time
    adopts: bool = False

    def spawn(
        self,
        arguments: Sequence[str],
        descriptors: Sequence[int],
        environ: Mapping[str, str],
        said: Callable[[str], None],
        exited: Callable[[int], None],
        identity: Identity | None = None,
    ) -> Process:
        """
        Start a Python process, in which signals that may come to all are blocked (`FOR_ALL`).

        :param arguments: what follows the interpreter on its command line.
        :param descriptors: inherited under the same numbers; no other descriptor is.
        :param environ: added to this process's environment, less what the service manager means for
            this process.
        :param identity: the user that it is executed as, if it is another than this process's.
        :raises OSError: it cannot be started.
        """
        inherited = {k: v for k, v in os.environ.items() if k not in _FOR_THE_PRIMARY}
        folder = self.folder_there()
        reading, writing = os.pipe()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_ALL)
        try:
            # The reactor never waits on Popen: the pidfd does. Popen is here for its spawning
            # alone.
            child = subprocess.Popen(
                [sys.executable, *arguments],
                pass_fds=tuple(descriptors),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env={**inherited, **environ},
                **executed_as(identity),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(writing)
        child.returncode = 0  # so that Popen's destructor leaves the reaping to us
        return Process(self.reactor, child.pid, reading, said, exited)

    def folder_there(self) -> str | None:
        """Where processes are started, if it is there."""
        return self.folder if self.folder and os.path.isdir(self.folder) else None

    def watch(
        self,
        pid: int,
        output: int,
        said: Callable[[str], None],
        exited: Callable[[int], None],
    ) -> Process:
        """
        Take up a process that this one started when it was another program.

        :param output: the reading end of the pipe that its output goes to; owned from here on.
        """
        return Process(self.reactor, pid, output, said, exited)

    def random_bytes(self, size: int) -> bytes:
        """Bytes that cannot be guessed."""
        return os.urandom(size)


def http_date() -> str:
    """The present time for a Date header (RFC 9110, section 5.6.7)."""
    return _dated(int(time.time()))


@functools.lru_cache(entries(1, 16))
def _dated(second: int) -> str:
    return email.utils.formatdate(second, usegmt=True)
