"""
Listening UNIX sockets, which can be opened again after any end.

The file of a socket stays when its process is killed.  Whether anything listens there tells a
connection, not a number in a file beside it: in a container each life has the same process ids.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError

#: Seconds for which the lock of another process that opens the same socket is waited for.
PATIENCE = 2.0
_POLL = 0.02


class UNIXPort(unix.Port):
    """
    A listening UNIX socket that at its end removes its own file, and no other's.

    :param path: its file; an abstract name begins with a zero byte (unix(7)).
    :param mode: the permissions of the file.
    """

    def __init__(
        self, path: str, factory: Any, backlog: int = 50, mode: int = 0o666, reactor: Any = None
    ) -> None:
        super().__init__(os.fsencode(path), factory, backlog, mode, reactor)
        self.path = path
        self._identity: tuple[int, int] | None = None

    def startListening(self) -> None:
        """Listen; the file gets its mode when it is made, not a moment later."""
        before = os.umask(0o777 & ~self.mode)
        try:
            super().startListening()
        finally:
            os.umask(before)
        self._identity = identity(self.path)

    def connectionLost(self, reason: object) -> None:
        """Remove the file, if it is still this socket's."""
        remove(self.path, self._identity)
        tcp.Port.connectionLost(self, reason)


def identity(path: str) -> tuple[int, int] | None:
    """What tells a file from a later file of the same name; None if there is no file."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):  # an abstract name has a zero byte
        return None
    return found.st_dev, found.st_ino


def remove(path: str, whose: tuple[int, int] | None) -> None:
    """Remove the file of a socket, unless another file has taken its place (`identity`)."""
    if whose is not None and identity(path) == whose:
        with contextlib.suppress(OSError):  # it went meanwhile, or its folder is not ours any more
            os.unlink(path)


def listen(port: UNIXPort) -> UNIXPort:
    """
    Have a port listen. A socket that nothing answers at is replaced.

    :raises CannotListenError: something answers there, or it cannot be.
    """
    path = port.path
    if path[:1] == "\0":
        port.startListening()  # an abstract name goes with its socket (unix(7))
        return port
    try:
        # Two processes that start at the same moment look in turn.
        with _locked(path):
            _make_room(path)
            port.startListening()
    except OSError as error:
        raise CannotListenError(None, path, error) from None
    return port


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """
    Hold the lock for opening a socket: flock(2) on a file beside it, which only this user may open
    and which is removed with the lock.

    :raises OSError: another process holds it for too long.
    """
    name = f"{path}.opening"
    end = time.monotonic() + PATIENCE
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        descriptor = os.open(name, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if time.monotonic() > end:
                reason = f"another process holds the lock {name}"
                raise OSError(errno.EAGAIN, reason) from None
            time.sleep(_POLL)
            continue
        except BaseException:
            os.close(descriptor)
            raise
        held = os.fstat(descriptor)
        if identity(name) == (held.st_dev, held.st_ino):
            break
        os.close(descriptor)  # the process that held the lock before has removed the file
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
        os.close(descriptor)


def _make_room(path: str) -> None:
    """
    Remove a socket that nothing answers at.

    :raises OSError: something does, or it is no socket.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file there that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except (BlockingIOError, TimeoutError):
            pass  # it is busy, hence alive
    raise OSError(errno.EADDRINUSE, "another process answers there")


class UNIXReactor:
    """
    A reactor whose UNIX sockets are opened by `listen`; in everything else the one that it stands
    for.

    :param reactor: that one.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> UNIXPort:
        """
        Listen on a UNIX socket (`IReactorUNIX.listenUNIX`).

        :param wantPID: ignored: no number in a file says whether anything listens.
        :raises CannotListenError: something answers there, or it cannot be.
        """
        return listen(UNIXPort(os.fsdecode(address), factory, backlog, mode, self._reactor))
