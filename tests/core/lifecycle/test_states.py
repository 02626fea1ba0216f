"""The states and values of a fleet."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.states import (
    BACKOFF_FIRST,
    BACKOFF_MOST,
    SETTLED,
    how_it_ended,
    pause,
)


class PauseTests(SynchronousTestCase):
    """The pauses between deaths, which operators know."""

    def test_times(self) -> None:
        """The pauses, and the life after which a row ends, are the seconds that operators know."""
        self.assertEqual((BACKOFF_FIRST, BACKOFF_MOST, SETTLED), (0.1, 30.0, 10.0))

    def test_pauses(self) -> None:
        """However many have died, the pause is half a minute at most."""
        self.assertEqual([pause(1), pause(9), pause(10), pause(10_000)], [0.1, 25.6, 30, 30])


class HowItEndedTests(SynchronousTestCase):
    """What is said of an exit."""

    def test_code(self) -> None:
        """A worker that exits by itself has an exit code, be it 0."""
        self.assertEqual(how_it_ended(0), "exited with code 0")
        self.assertEqual(how_it_ended(3), "exited with code 3")

    def test_signal(self) -> None:
        """A worker that a signal ends has the signal's number, from 1 on."""
        self.assertEqual(how_it_ended(-1), "was ended by signal 1")
        self.assertEqual(how_it_ended(-9), "was ended by signal 9")
