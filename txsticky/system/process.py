"""
Child processes: their ends, their output, orphans that become children, and the reaping of those.

A child whose parent ends is given to the nearest ancestor that has marked itself for that
(PR_SET_CHILD_SUBREAPER of prctl(2), Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

#: A line of a worker's output is cut here.
LINE_LIMIT = 16384
_POLL = 0.05
_READ = 1 << 16
#: The most that a pipe holds (pipe(7), pipe-max-size).
_FULL_PIPE = 1 << 20
_PR_SET_CHILD_SUBREAPER = 36
#: Seconds between two looks for orphans.
REAP_EVERY = 1.0


class Process:
    """
    A child process: told when it ends, and its output line by line.

    It is watched through a pidfd (pidfd_open(2)), not through SIGCHLD, so that the watch can be
    taken up again by a primary that has re-executed itself; where there is no pidfd the child is
    polled.

    :param pid: a child of this process.
    :param output: the reading end of the pipe that its standard output and error go to; owned from
        here on. -1 if there is none.
    :param said: called with each line of output.
    :param exited: called once with the exit code, or the negative number of the signal that ended
        it.
    :cvar living: the pids that are watched.
    """

    living: ClassVar[set[int]] = set()

    def __init__(
        self,
        reactor: Any,
        pid: int,
        output: int,
        said: Callable[[str], None],
        exited: Callable[[int], None],
    ) -> None:
        self.pid = pid
        self._reactor = reactor
        self._exited = exited
        self._lines = _Lines(reactor, output, said)
        self._watch = _open_pidfd(pid)
        self._over = False
        self.living.add(pid)
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

    @property
    def output(self) -> int:
        """The reading end of the pipe; -1 once every writing end is closed."""
        return self._lines.fileno()

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self._watch

    def logPrefix(self) -> str:
        """A name for the log."""
        return f"process {self.pid}"

    def doRead(self) -> None:
        """Tell that the process has ended: its pidfd is readable."""
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
        self.living.discard(self.pid)
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
        self._reactor = reactor
        self._descriptor = descriptor
        self._said = said
        self._part = b""
        if descriptor >= 0:
            os.set_blocking(descriptor, False)
            reactor.addReader(self)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "output"

    def doRead(self) -> None:
        self._read_once()

    def _read_once(self) -> bool:
        try:
            data = os.read(self._descriptor, _READ)
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
        """Take what the process wrote before it ended; what its own children write is endless."""
        for _ in range(_FULL_PIPE // _READ):
            if self._descriptor < 0 or not self._read_once():
                break
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


class Reaper:
    """
    Reaps the orphans of a PID namespace (pid_namespaces(7)).

    As its first process, in a container, this one is the parent of every process that loses its
    own. The processes that are watched (`Process`) are left alone (waitid(2), WNOWAIT).

    :param reactor: an `IReactorTime`.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._call: Any = None

    def start(self) -> None:
        """Look now and then."""
        self._call = self._reactor.callLater(REAP_EVERY, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self.start()
        try:
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in Process.living:
                    return  # it hides the orphans behind it until it is reaped, which is soon
                os.waitpid(found.si_pid, os.WNOHANG)
        except ChildProcessError:
            return


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """
    Be, within this, the one to whom orphans among the descendants are given.

    :raises OSError: this system does not know of that.
    """
    _adopt(True)
    try:
        yield
    finally:
        _adopt(False)


def _adopt(flag: bool) -> None:
    try:
        failed = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, flag, 0, 0, 0)
    except AttributeError:
        raise OSError("this system has no prctl") from None
    if failed:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def can_adopt() -> bool:
    """Whether orphans may be given to this process."""
    try:
        with adopting():
            return True
    except OSError:
        return False


def is_child(pid: int) -> bool:
    """Whether a process is a child of this one that was not yet waited for."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def reap_strays(name: str) -> None:
    """
    Reap children that have ended, are not watched (`Process`), and are called so (proc(5), comm).

    Where the system does not list children, nothing happens.
    """
    for pid in _children():
        if pid not in Process.living and _name(pid) == name:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            return [int(pid) for pid in children.read().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as comm:
            return comm.read().rstrip("\n")
    except OSError:
        return ""


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, or traced (proc(5), /proc/pid/stat)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False
