"""The states and values of a fleet."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.states import how_it_ended


class HowItEndedTests(SynchronousTestCase):
    """What is said of an exit."""

    def test_code(self) -> None:
        """A worker that exits by itself has an exit code, be it 0."""
        self.assertEqual(how_it_ended(0), "exited with code 0")
        self.assertEqual(how_it_ended(3), "exited with code 3")

    def test_signal(self) -> None:
        """One that a signal ends has its number, from 1 on."""
        self.assertEqual(how_it_ended(-1), "was ended by signal 1")
        self.assertEqual(how_it_ended(-9), "was ended by signal 9")
