"""The operating system as one argument: processes, clock and chance, so that tests can swap it."""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from ..errors import ConfigError
from .process import Process
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
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
#: Signals for the primary that may be sent to all processes at once, by a terminal or a service
#: manager (``systemctl kill``). A process that starts cannot have handlers yet: it is started with
#: these blocked, and lets them through when it has (`heed`).
FOR_ALL = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
    }
)
#: Those that Python ignores (https://docs.python.org/3/library/signal.html): programs that it
#: starts would ignore them, too.
_PYTHON_IGNORES = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
#: What a system call fails with where this process, or the system, has no descriptor left.
OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
#: Seconds until the next attempt then.
RESPITE = 0.1


def working_folder(environ: Mapping[str, str]) -> str | None:
    """
    The working directory as who started us names it, which may be a symbolic link; None if nobody
    did.

    A new release of an application is often a directory of its own, and a link leads to the
    present one.
    """
    path = environ.get("PWD", "")
    try:
        return path if os.path.isabs(path) and os.path.samefile(path, ".") else None
    except OSError:
        return None


@attrs.define
class System:
    """
    What the primary asks of its operating system.

    :param reactor: the reactor: descriptors and delayed calls.
    :param clock: seconds, monotonic.
    :param rng: chance.
    :param folder: where processes are started, if it is there; else where this one is.
    :param wall: seconds since the epoch.
    """

    reactor: Any
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = attrs.field(factory=random.Random)
    folder: str | None = attrs.field(factory=lambda: working_folder(os.environ))
    wall: Callable[[], float] = time.time

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
        Start a Python process. The signals that may come to all processes are blocked in it
        (`FOR_ALL`).

        :param arguments: what follows the interpreter on its command line.
        :param descriptors: inherited under the same numbers; all others stay here.
        :param environ: added to this process's environment, less what the service manager means for
            this process.
        :param identity: the user that it is executed as, if it is another than this process's.
        :raises OSError: it cannot be started.
        """
        inherited = {k: v for k, v in os.environ.items() if k not in _FOR_THE_PRIMARY}
        folder = self.folder if self.folder and os.path.isdir(self.folder) else None
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


def identity_of(user: str | None, group: str | None) -> Identity | None:
    """
    The user that workers are executed as, if it is another than this process's.

    :raises ConfigError: see `account`.
    """
    if not (user or group):
        return None
    uid, gid, name = account(user, group)
    if os.geteuid():
        return None
    return Identity(uid, gid, tuple(os.getgrouplist(name, gid)))


def executed_as(identity: Identity | None) -> dict[str, Any]:
    """Arguments of `subprocess.Popen`: the child is this user before it executes anything."""
    if identity is None:
        return {}
    return {"user": identity.uid, "group": identity.gid, "extra_groups": identity.groups}


def nothing(number: int, frame: object) -> None:
    """Do nothing about a signal."""


def heed() -> None:
    """
    Let signals through that may come to all processes, and do nothing about them: what they mean is
    for the primary to decide.

    They are not ignored, for that would be inherited by every program that the application starts;
    a handler is not (execve(2), signal(7)). Nor are those that Python ignores.
    """
    for number in FOR_ALL | _PYTHON_IGNORES:
        signal.signal(number, nothing)
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def end_after_parent(seconds: float) -> None:
    """
    End this process some time after its parent has ended, whatever it is busy with by then (Linux;
    elsewhere nothing happens).

    The kernel tells with a signal (prctl(2), PR_SET_PDEATHSIG). To change the user undoes this, so
    that has to come before.
    """

    def end(*_: object) -> None:
        timer = threading.Timer(seconds, os._exit, (1,))
        timer.daemon = True
        timer.start()

    try:
        signal.signal(signal.SIGRTMAX, end)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGRTMAX, 0, 0, 0)
    except (OSError, AttributeError):
        pass


def raise_file_limit() -> None:
    """
    Use all the descriptors that the hard limit allows: a process holds one a connection
    (getrlimit(2)).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 1 << 20)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass


def descriptor_ceiling() -> int:
    """
    The number from which on descriptors are not for connections: what is left below the limit is
    for starting processes, for logs and for the application.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft - max(10, min(64, soft // 16))


def has_room(ceiling: int) -> bool:
    """Whether the next descriptor would be below the ceiling (open(2): it is the lowest one)."""
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return False
    os.close(lowest)
    return lowest < ceiling


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
        ctypes.CDLL(None).prctl(_PR_SET_NAME, title.encode(), 0, 0, 0)
    except (OSError, ValueError, IndexError, AttributeError):
        pass
