"""Which connections have stalled."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.stall import Pauses


class PausesTests(SynchronousTestCase):
    """A limit of 10 seconds, looked at every 2."""

    def setUp(self) -> None:
        self.pauses: Pauses[str] = Pauses(10.0, 2.0)

    def looks(self, marks: list[int], period: float = 2.0, begin: float = 100.0) -> list[float]:
        """When a connection with these marks, a look each, is said to have stalled."""
        return [
            begin + number * period
            for number, mark in enumerate(marks)
            if self.pauses.look({"one": mark}, begin + number * period)
        ]

    def test_stalled(self) -> None:
        """A mark that has been the same for the whole limit, and no shorter, tells a pause."""
        self.assertEqual(self.looks([1] * 6), [110.0])

    def test_forgotten(self) -> None:
        """A connection that was told is forgotten: its time begins anew."""
        self.assertEqual(self.looks([1] * 12), [110.0, 122.0])

    def test_progress(self) -> None:
        """Any other mark is progress, also a smaller one."""
        self.assertEqual(self.looks([1, 1, 1, 1, 1, 2, 2, 2, 2, 1, 1]), [])

    def test_each(self) -> None:
        """Each connection has a pause of its own; one that waits no more is forgotten."""
        for number in range(5):
            self.pauses.look({"one": 1, "two": number}, 2.0 * number)
        self.assertEqual(self.pauses.look({"one": 1, "two": 5}, 10.0), ["one"])
        self.pauses.look({}, 12.0)
        self.assertEqual(self.pauses.look({"two": 5}, 20.0), [])

    def test_busy(self) -> None:
        """The time by which a look is late is no client's pause."""
        self.assertEqual(self.looks([1] * 5, period=7.0), [])
        self.assertEqual(self.looks([1], begin=130.0), [130.0])

    def test_early(self) -> None:
        """A look that is early takes nothing back."""
        self.assertEqual(self.looks([1] * 11, period=1.0), [110.0])

    def test_new_when_late(self) -> None:
        """A connection that is new at a late look has paused for no time, and not for less."""
        self.pauses.look({}, 0.0)
        self.pauses.look({"one": 1}, 50.0)
        found = [now for now in (52.0, 54.0, 56.0, 58.0, 60.0) if self.pauses.look({"one": 1}, now)]
        self.assertEqual(found, [60.0])
