"""
The operating system as one argument: processes, descriptors, clock and chance, so that tests can
swap it.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.logger import Logger

from .errors import ConfigError

log = Logger()

#: A line of a worker's output is cut here.
LINE_LIMIT = 16384
_POLL = 0.05


class Process:
    """
    A child process: told when it ends, and its output line by line.

    It is watched through a pidfd (pidfd_open(2)), not through SIGCHLD, so that the watch can be
    taken up again by a primary that has re-executed itself; where there is no pidfd the child is
    polled.

    :param pid: a child of this process.
    :param output: the reading end of the pipe that its standard output and error go to; owned from
        here on.
    :param said: called with each line of output.
    :param exited: called once with the exit code, or the negative number of the signal that ended
        it.
    """

    def __init__(
        self,
        reactor: Any,
        pid: int,
        output: int,
        said: Callable[[str], None],
        exited: Callable[[int], None],
    ) -> None:
        self.pid = pid
        self.output = output
        self._reactor = reactor
        self._exited = exited
        self._lines = _Lines(reactor, output, said)
        self._watch = _open_pidfd(pid)
        self._over = False
        if self._watch >= 0:
            reactor.addReader(self)
        else:
            reactor.callLater(_POLL, self._poll)

    def send_signal(self, number: int) -> None:
        """Send a signal, if the process still lives."""
        if not self._over:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self._watch

    def logPrefix(self) -> str:
        """A name for the log."""
        return f"process {self.pid}"

    def doRead(self) -> None:
        """The pidfd is readable: the process has ended."""
        self._reap()

    def _poll(self) -> None:
        if not self._over and not self._reap():
            self._reactor.callLater(_POLL, self._poll)

    def _reap(self) -> bool:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self.pid, 0
        if not pid:
            return False
        self._over = True
        self.forget()
        self._lines.drain()
        self._exited(os.waitstatus_to_exitcode(status))
        return True

    def forget(self) -> None:
        """Stop watching."""
        if self._watch >= 0:
            self._reactor.removeReader(self)
            os.close(self._watch)
            self._watch = -1

    def connectionLost(self, reason: object) -> None:
        """The reactor is stopping."""
        self.forget()


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


class _Lines:
    """The output of a process, line by line."""

    def __init__(self, reactor: Any, descriptor: int, said: Callable[[str], None]) -> None:
        os.set_blocking(descriptor, False)
        self._reactor = reactor
        self._descriptor = descriptor
        self._said = said
        self._part = b""
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "output"

    def doRead(self) -> None:
        self._read_once()

    def _read_once(self) -> bool:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.connectionLost(None)
            return False
        *lines, self._part = (self._part + data).split(b"\n")
        if len(self._part) > LINE_LIMIT:
            lines.append(self._part)
            self._part = b""
        for line in lines:
            if line.strip():
                self._said(line.decode("utf-8", "replace").rstrip())
        return True

    def drain(self) -> None:
        """Take what the process wrote before it ended."""
        while self._descriptor >= 0 and self._read_once():
            pass
        self.connectionLost(None)

    def connectionLost(self, reason: object) -> None:
        if self._descriptor < 0:
            return
        self._reactor.removeReader(self)
        os.close(self._descriptor)
        self._descriptor = -1
        if self._part.strip():
            self._said(self._part.decode("utf-8", "replace").rstrip())
        self._part = b""


@attrs.define
class System:
    """
    What the primary asks of its operating system.

    :param reactor: the reactor: descriptors and delayed calls.
    :param clock: seconds, monotonic.
    :param rng: chance.
    """

    reactor: Any
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = attrs.field(factory=random.Random)

    def spawn(
        self,
        arguments: Sequence[str],
        descriptors: Sequence[int],
        environ: Mapping[str, str],
        said: Callable[[str], None],
        exited: Callable[[int], None],
    ) -> Process:
        """
        Start a Python process.

        :param arguments: what follows the interpreter on its command line.
        :param descriptors: inherited under the same numbers; all others stay here.
        :param environ: added to this process's environment.
        """
        reading, writing = os.pipe()
        try:
            # The reactor never waits on Popen: the pidfd does. Popen is here for its spawning
            # alone.
            child = subprocess.Popen(
                [sys.executable, *arguments],
                pass_fds=tuple(descriptors),
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env={**os.environ, **environ},
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        child.returncode = 0  # so that Popen's destructor leaves the reaping to us
        return Process(self.reactor, child.pid, reading, said, exited)

    def random_bytes(self, size: int) -> bytes:
        """Bytes that nobody can guess."""
        return os.urandom(size)


def account(user: str | None, group: str | None) -> tuple[int, int, str]:
    """
    Look a user and a group up.

    :param user: a name or a number; None is the user that this process runs as.
    :param group: likewise; None is the user's own group.
    :returns: the numbers of both, and the user's name.
    :raises ConfigError: there is no such user or group, or only root could become it.
    """
    try:
        entry = _lookup(pwd.getpwnam, pwd.getpwuid, user) if user else pwd.getpwuid(os.geteuid())
    except (KeyError, OverflowError):
        raise ConfigError(
            option="--user", value=user, hint="this system has no such user"
        ) from None
    gid = entry.pw_gid
    if group:
        try:
            gid = _lookup(grp.getgrnam, grp.getgrgid, group).gr_gid
        except (KeyError, OverflowError):
            raise ConfigError(
                option="--group", value=group, hint="this system has no such group"
            ) from None
    if os.geteuid() and (entry.pw_uid, gid) != (os.geteuid(), os.getegid()):
        raise ConfigError(
            option="--user", value=user, hint="only root can run workers as somebody else"
        )
    return entry.pw_uid, gid, entry.pw_name


def _lookup(by_name: Callable[[str], Any], by_number: Callable[[int], Any], text: str) -> Any:
    return by_number(int(text)) if text.isdigit() else by_name(text)


def become(user: str | None, group: str | None) -> None:
    """
    Give up this process's privileges for good (setuid(2)).

    :raises ConfigError: see `account`.
    """
    if not (user or group):
        return
    uid, gid, name = account(user, group)
    if not os.geteuid():
        os.initgroups(name, gid)
        os.setgid(gid)
        os.setuid(uid)


def ignore_terminal_signals() -> None:
    """
    Ctrl-C goes to every process of the terminal; in a worker the primary decides what it means.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def set_title(title: str) -> None:
    """
    Make the process show as `title` in ps and /proc (Linux; elsewhere nothing happens).

    The kernel shows the memory in which the process got its arguments (proc(5), /proc/pid/cmdline),
    so the title is written there, cut to the room there is; /proc/pid/comm gets its first 15 bytes
    (prctl(2), PR_SET_NAME).
    """
    try:
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = (
            int(fields[45]),
            int(fields[46]),
        )  # arg_start and arg_end, fields 48 and 49 of proc(5)
        room = end - start
        if not start or room <= 0:
            return
        ctypes.memmove(start, title.encode().ljust(room, b"\0")[: room - 1] + b"\0", room)
        ctypes.CDLL(None).prctl(15, title.encode(), 0, 0, 0)
    except (OSError, ValueError, IndexError, AttributeError):
        pass
