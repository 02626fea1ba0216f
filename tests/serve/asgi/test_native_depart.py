"""A connection under asyncio that cannot leave, or not at once."""

from __future__ import annotations

import errno
import os

from tests.asgi import PATIENCE

from .native import ELSEWHERE, GET, OK, SEEN, NativeCase


class DepartTests(NativeCase):
    """A request for another place, and no descriptor to move the connection with."""

    def leave(self, *failures: int) -> None:
        """Have the connection leave, while dup(2) fails so."""
        self.connect(GET)
        self.inner.transport.write(OK)
        self.received(len(SEEN))
        left = iter(failures)
        real = os.dup

        def dup(descriptor: int) -> int:
            for failure in left:
                raise OSError(failure, os.strerror(failure))
            return real(descriptor)

        self.patch(os, "dup", dup)
        self.client.send(ELSEWHERE)

    def check_left(self) -> None:
        """Assert that the connection leaves whole, and is counted once."""
        self.until(lambda: self.kept.left)
        self.assertEqual(self.kept.left[1:], (3, ELSEWHERE))
        self.kept.left[0].close()
        self.assertEqual(self.kept.ends, 1)

    def test_no_descriptor_left(self) -> None:
        """The connection waits until there is a descriptor."""
        self.leave(errno.EMFILE, errno.ENFILE)
        self.check_left()

    def test_written_meanwhile(self) -> None:
        """What the protocol writes while the connection waits is dropped."""
        self.leave(errno.EMFILE)
        self.until(lambda: "lost" in self.inner.calls)
        self.assertIsNone(self.kept.left)
        self.inner.transport.write(OK)
        self.check_left()
        self.turn()
        self.client.settimeout(PATIENCE)
        self.assertEqual(self.client.recv(100), b"")

    def test_lost_meanwhile(self) -> None:
        """A client that goes while the connection waits is lost, and the protocol told but once."""
        self.leave(errno.EMFILE)
        self.until(lambda: "lost" in self.inner.calls)
        self.kept.transport.abort()
        self.until(lambda: self.kept.ends)
        self.assertEqual((self.inner.calls.count("lost"), self.kept.left), (1, None))

    def test_cannot_move(self) -> None:
        """A connection that can never move is closed, and counted once."""
        self.leave(errno.EBADF)
        self.until(lambda: self.kept.ends)
        self.until(self.ended)
        self.assertEqual((self.inner.calls[-1], self.kept.left), ("lost", None))
        self.assertEqual(self.kept.ends, 1)


class UvloopDepartTests(DepartTests):
    """On uvloop."""

    loop_name = "uvloop"
