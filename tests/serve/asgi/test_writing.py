"""What a protocol under asyncio writes: how much waits for the end of a turn."""

from __future__ import annotations

from unittest import mock

from txsticky.serve.asgi.writing import MOST_WAITING
from txsticky.transport.gate import Gate

from .native import GET, SWITCHING, UPGRADE, NativeCase


class WaitingTests(NativeCase):
    """Output that waits."""

    def test_most(self) -> None:
        """So much may wait, in one piece or in several; with more, what waits is sent."""
        host = self.connect(UPGRADE)
        self.inner.transport.write(SWITCHING)
        self.turn()
        for pieces in ((MOST_WAITING,), (MOST_WAITING - 1, 1)):
            for size in pieces:
                self.inner.transport.write(bytes(size))
            self.assertEqual(host.unsent(), MOST_WAITING)
            self.inner.transport.write(b"x")
            self.assertEqual(host.unsent(), 1)
            self.turn()

    def test_nothing(self) -> None:
        """To write nothing is not to write."""
        self.connect(GET)
        with mock.patch.object(Gate, "wrote") as wrote:
            self.inner.transport.write(b"")
            self.turn()
        wrote.assert_not_called()

    def test_before_the_transport(self) -> None:
        """Before asyncio has given its transport nothing is written, and nothing waits."""
        host = self.adopt(GET)
        self.assertEqual((host.unsent(), host.passed()), (0, 0))
        self.take(host)

    def test_flushed(self) -> None:
        """Behind a flush the protocol is told to pause at the same size as ever."""
        host = self.connect(GET)
        most = self.inner.transport.get_write_buffer_limits()[1]
        size = self.answer_much()
        flushed: list[int] = []
        host.flush(lambda: flushed.append(host.unsent()))
        self.assertNotEqual(self.inner.transport.get_write_buffer_limits()[1], most)
        self.received(size)
        self.until(lambda: flushed)
        self.assertEqual(flushed, [0])
        self.assertEqual(self.inner.transport.get_write_buffer_limits()[1], most)


class UvloopWaitingTests(WaitingTests):
    """On uvloop."""

    loop_name = "uvloop"
