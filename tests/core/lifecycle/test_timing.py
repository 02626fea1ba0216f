"""The periods of a worker's end: none begins before the one within it is over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle import timing

seconds = st.floats(0, 86400)


class LineTests(SynchronousTestCase):
    """The line that the module draws."""

    @given(seconds)
    def test_order(self, whole: float) -> None:
        """Each period ends before the one around it, whatever the graceful timeout."""
        line = [timing.pinned_end(whole), timing.requests_end(whole), whole, timing.killed(whole)]
        self.assertEqual(line, sorted(line))
        self.assertGreaterEqual(line[0], 0)
        self.assertGreaterEqual(timing.killed(whole), whole + timing.LATE)

    @given(seconds)
    def test_shut_down_has_time(self, whole: float) -> None:
        """What requests leave to the application is more than what is taken of it for them."""
        left = whole - timing.requests_end(whole)
        self.assertLessEqual(timing.last_call(left), left / 2)
        self.assertLessEqual(timing.last_call(left), timing.LAST_CALL_MOST)

    @given(seconds)
    def test_requests_have_most(self, whole: float) -> None:
        """Nine tenths of the time at least are for requests, and all but three seconds."""
        least = max(0.9 * whole, whole - timing.RESERVE_MOST)
        self.assertAlmostEqual(timing.requests_end(whole), least)

    @given(seconds)
    def test_quick(self, whole: float) -> None:
        """A quick end is bounded by ten seconds, and by what a graceful one takes."""
        self.assertEqual(timing.quick(whole), min(10.0, whole))

    def test_line(self) -> None:
        """The default graceful timeout, cut into its parts."""
        line = timing.pinned_end(30), timing.requests_end(30), timing.killed(30)
        self.assertEqual(line, (0.8 * 27, 27, 33))

    def test_small_waits(self) -> None:
        """What a client is waited for is less than what a default end takes, in each part."""
        for wait in (timing.CLOSE_HANDSHAKE, timing.NEXT_REQUEST, timing.QUIET):
            self.assertLess(wait, 30 - timing.requests_end(30))
            self.assertLess(wait, timing.requests_end(30) - timing.pinned_end(30))

    def test_last_call(self) -> None:
        """Requests that still run have a quarter of the shut-down's time, and at most a second."""
        self.assertEqual([timing.last_call(whole) for whole in (0.4, 3, 4, 100)], [0.1, 0.75, 1, 1])
