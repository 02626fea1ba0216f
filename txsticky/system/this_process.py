"""What a process sets for itself: its title, its signals, its end after its parent's; and forks."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import mmap
import os
import signal
import sys
import threading
import time

from .startup import tell_operator

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
#: Seconds between two looks for a new parent, which comes as soon as the old one ends.
_MOMENT = 0.0002
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
#: Signals that Python ignores (https://docs.python.org/3/library/signal.html): programs that it
#: starts would ignore them, too.
_PYTHON_IGNORES = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


def nothing(number: int, frame: object) -> None:
    """Do nothing about a signal."""


def heed() -> None:
    """
    Let signals through that may come to all processes, and do nothing about them.

    What they mean is for the primary to decide.

    They are not ignored, for that would be inherited by every program that the application starts;
    a handler is not (execve(2), signal(7)). Nor are those that Python ignores.
    """
    for number in FOR_ALL | _PYTHON_IGNORES:
        signal.signal(number, nothing)
        signal.siginterrupt(number, False)
    # Python takes its handlers away as it ends, and what then comes would be the process's end.
    # What is registered first is called last: no program is started any more.
    atexit.register(ignore_at_the_end)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def ignore_at_the_end() -> None:
    """Ignore the signals that may come to all processes: this process is ending already."""
    for number in FOR_ALL:
        signal.signal(number, signal.SIG_IGN)


def end_with(status: int, reason: str) -> None:
    """
    Have this process end with an exit status, whatever the program that runs in it ends with.

    The process ends when it would, after the program's own clean-up: a service runner like
    ``twistd`` first removes its pid file. The reason is the last line that the process prints: what
    the reactor and the runner log of their end would hide it.

    :param status: the exit status; 0 leaves it to the program.
    :param reason: the sentence for the operator.
    """
    global _status, _reason
    _status, _reason = status, reason


#: What `end_with` was told.
_status, _reason = 0, ""


def _end() -> None:
    if _status:
        # Not `sys.stderr`: twistd has put its log there, which is closed by now.
        tell_operator(_reason, sys.__stderr__)
        os._exit(_status)


# What is registered first is called last, so that nothing that the program registers is left out.
atexit.register(_end)


def end_after_parent(seconds: float) -> None:
    """
    End this process some time after its parent has ended, whatever it is busy with by then.

    The kernel tells with a signal (prctl(2), PR_SET_PDEATHSIG), on Linux; elsewhere nothing
    happens. To change the user undoes this, so that has to come before.
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


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, even if it is stopped (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def fork_orphan() -> int:
    """
    Fork a process whose parent is the ancestor that is `process.adopting`.

    So this process forks an intermediate one, which forks it and ends.

    :returns: 0 in the new process, which has its parent already; here, its pid.
    :raises OSError: there cannot be one more process.
    """
    with mmap.mmap(-1, mmap.PAGESIZE) as page:  # what the intermediate writes there is seen here
        intermediate = os.fork()
        if not intermediate:
            _fork_again(page)
            return 0
        _, status = os.waitpid(intermediate, 0)
        problem = os.waitstatus_to_exitcode(status)
        if problem:
            raise OSError(problem, os.strerror(problem) if problem > 0 else "killed")
        return int.from_bytes(page[:8], sys.byteorder)


def _fork_again(page: mmap.mmap) -> None:
    """Go on as the child, with its parent; the intermediate ends, with its errno if it failed."""
    before = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os._exit(error.errno or 1)
    if pid:
        page[:8] = pid.to_bytes(8, sys.byteorder)
        os._exit(0)
    while os.getppid() == before:
        time.sleep(_MOMENT)


def reseed() -> None:
    """
    Have chance differ from that of the processes that were forked from the same one.

    Python's `random` and its other sources see to it themselves, OpenSSL does since its version
    1.1.1 (RAND_DRBG(7)); NumPy's global generator (`numpy.random.seed`) does not.
    """
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    ssl = sys.modules.get("ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    openssl = sys.modules.get("OpenSSL.rand")
    if openssl is not None:
        openssl.add(os.urandom(32), 32)
