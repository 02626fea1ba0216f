"""What the tests of the I/O shells share: descriptors looked at, and sockets in every state."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.wire import FrameReader, Kind
from txsticky.testing import FakeReactor


def is_open(descriptor: int) -> bool:
    """Whether a descriptor of this process is open."""
    try:
        os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return True


def open_descriptors() -> set[int]:
    """The descriptors of this process, but for the one that looks."""
    return {number for number in map(int, os.listdir("/proc/self/fd")) if is_open(number)}


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Within this, the process is at its limit of open files; there is not one left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 1, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def not_waiting(sock: socket.socket) -> Iterator[None]:
    """Within this, a socket does not block."""
    timeout = sock.gettimeout()
    sock.setblocking(False)
    try:
        yield
    finally:
        sock.settimeout(timeout)


def received(sock: socket.socket) -> bytes | None:
    """What has come so far, without waiting: b"" is the end, None is nothing yet."""
    pieces = []
    with not_waiting(sock):
        while True:
            try:
                piece = sock.recv(1 << 20)
            except BlockingIOError:
                return b"".join(pieces) if pieces else None
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)


def ended(sock: socket.socket) -> bool:
    """Whether the other side has closed; bytes that have come are left where they are."""
    with not_waiting(sock):
        try:
            return sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False


def frames(sock: socket.socket) -> list[tuple[Kind, bytes]]:
    """The control frames that have come on a channel so far."""
    return FrameReader(1 << 22).feed(received(sock) or b"")


class ShellCase(SynchronousTestCase):
    """
    A test with a reactor of its own, which leaves no descriptor open and none watched.

    :ivar reactor: the reactor.
    """

    def setUp(self) -> None:
        """Begin."""
        self._before = open_descriptors()
        self._owned: list[Any] = []
        self.reactor = FakeReactor()

    def tearDown(self) -> None:
        """Close what is owned, after all cleanups (trial's order), and look for leaks."""
        for thing in reversed(self._owned):
            thing.close()
        self.assertEqual(open_descriptors() - self._before, set(), "leaks")

    def until(self, done: Callable[[], object]) -> None:
        """Turn until something is so; the kernel may take a moment between two sockets."""
        for _ in range(5000):
            busy = self.reactor.turn()
            if done():
                return
            if not busy:
                time.sleep(0.001)
        raise AssertionError("it never came to be")

    def owned(self, thing: Any) -> Any:
        """Close this at the end."""
        self._owned.append(thing)
        return thing

    def pair(self, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
        """Two sockets connected to each other, non-blocking."""
        one, other = socket.socketpair(socket.AF_UNIX, kind)
        for end in (one, other):
            end.setblocking(False)
            self.owned(end)
        return one, other

    def listening(self, family: int = socket.AF_INET) -> socket.socket:
        """A socket that listens on the loopback interface."""
        sock: socket.socket = self.owned(socket.socket(family, socket.SOCK_STREAM))
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        sock.listen(50)
        return sock

    def connected(self, family: int = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
        """The two ends of a TCP connection: (server's, client's)."""
        listener = self.listening(family)
        client: socket.socket = self.owned(socket.socket(family, socket.SOCK_STREAM))
        client.settimeout(10)
        client.connect(listener.getsockname())
        server: socket.socket = self.owned(listener.accept()[0])
        server.setblocking(False)
        return server, client
