"""What a protocol under asyncio writes: how much waits for the end of a turn."""

from __future__ import annotations

from unittest import mock

from txsticky.serve.asgi.writing import MOST_WAITING
from txsticky.transport.gate import Gate

from .native import GET, OK, SEEN, SWITCHING, UPGRADE, NativeCase


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

    def test_most_behind_another(self) -> None:
        """A piece of just so much waits, though what was written before it is sent for it."""
        host = self.connect(UPGRADE)
        self.inner.transport.write(SWITCHING)
        self.inner.transport.write(bytes(MOST_WAITING))
        self.assertEqual(host.unsent(), MOST_WAITING)

    def test_nothing(self) -> None:
        """To write nothing is not to write."""
        self.connect(GET)
        with mock.patch.object(Gate, "wrote") as wrote:
            self.inner.transport.write(b"")
            self.turn()
        wrote.assert_not_called()

    def test_nothing_waits(self) -> None:
        """A close behind which nothing waits writes nothing."""
        host = self.connect(GET)
        with mock.patch.object(Gate, "wrote") as wrote:
            host.close()
        wrote.assert_not_called()

    def test_lost_before_the_end_of_the_turn(self) -> None:
        """What waits when the connection is lost is not written."""
        host = self.connect(GET)
        self.inner.transport.write(OK)
        with mock.patch.object(Gate, "wrote") as wrote:
            host.gone()
            host._uncork()
        wrote.assert_not_called()

    def test_before_the_transport(self) -> None:
        """Before asyncio has given its transport nothing is written, and nothing waits."""
        host = self.adopt(GET)
        host.write(OK)
        self.assertEqual((host.unsent(), host.passed()), (0, 0))
        self.take(host)
        self.until(lambda: self.inner.got == GET)
        self.inner.transport.write(OK)
        self.assertEqual(self.received(len(SEEN)), SEEN)

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

    def test_flushed_at_once(self) -> None:
        """A flush with nothing unsent calls back at once, and changes no limit."""
        host = self.connect(GET)
        limits = self.inner.transport.get_write_buffer_limits()
        flushed = mock.Mock()
        host.flush(flushed)
        flushed.assert_called_once_with()
        self.assertEqual(self.inner.transport.get_write_buffer_limits(), limits)


class PaceTests(NativeCase):
    """When the protocol is told to pause."""

    def told(self) -> list[str]:
        """What the protocol has been told of its pace since the last look."""
        calls = [call for call in self.inner.calls if call in ("pause", "resume")]
        self.inner.calls.clear()
        return calls

    def test_withheld(self) -> None:
        """The protocol pauses while more is withheld than the write buffer holds."""
        host = self.connect(GET)
        most = self.inner.transport.get_write_buffer_limits()[1]
        host.withholds(most)
        self.assertEqual(self.told(), [])
        host.withholds(most + 1)
        self.assertEqual(self.told(), ["pause"])
        host.withholds(0)
        self.assertEqual(self.told(), ["resume"])

    def test_both(self) -> None:
        """The protocol pauses once for two reasons, and goes on when both are over."""
        host = self.connect(GET)
        host.withholds(1 << 30)
        host.pause_writing()
        self.assertEqual(self.told(), ["pause"])
        host.withholds(0)
        self.assertEqual(self.told(), [])
        host.resume_writing()
        self.assertEqual(self.told(), ["resume"])

    def test_over(self) -> None:
        """A protocol whose connection is over is told of no pace."""
        host = self.connect(GET)
        host.gone()
        host.pause_writing()
        self.assertEqual(self.told(), [])


class UvloopPaceTests(PaceTests):
    """On uvloop."""

    loop_name = "uvloop"


class UvloopWaitingTests(WaitingTests):
    """On uvloop."""

    loop_name = "uvloop"
