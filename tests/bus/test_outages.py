"""What workers are told of the way to other machines."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsticky.bus.hub import Bus
from txsticky.core.messages.from_primary import Gap, Outage


class Outlet:
    """A worker's channel."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, frame: Any) -> None:
        self.sent.append(frame)


class OutagesTests(SynchronousTestCase):
    """A hub whose backplane is played."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.bus = Bus(clock=self.clock.seconds)

    def worker(self, id: int, started: float = 0.0) -> list[Any]:
        """What is told to a worker from now on."""
        outlet = Outlet()
        self.bus.outages.join(id, outlet, started)
        return outlet.sent

    def test_told(self) -> None:
        """Every worker hears of an outage, of its end, and of what may be missing."""
        one, two = self.worker(1), self.worker(2)
        self.bus.outage(5.0)
        self.bus.outage(None)
        self.bus.gap(5.0, 6.0)
        self.assertEqual(one, [Outage(5.0), Outage(0.0), Gap(5.0, 6.0)])
        self.assertEqual(one, two)

    def test_once(self) -> None:
        """What is known is not told again."""
        one = self.worker(1)
        self.bus.outage(None)
        self.bus.outage(5.0)
        self.bus.outage(5.0)
        self.assertEqual(one, [Outage(5.0)])

    def test_late(self) -> None:
        """A worker that comes in an outage hears of it."""
        self.bus.outage(5.0)
        self.assertEqual(self.worker(1), [Outage(5.0)])

    def test_gap_while_it_started(self) -> None:
        """What was missing since a worker was started is told to it; what was before, is not."""
        self.clock.advance(10.0)
        self.bus.gap(5.0, 6.0)
        self.assertEqual(self.worker(1, started=9.0), [Gap(5.0, 6.0)])
        self.assertEqual(self.worker(2, started=11.0), [])

    def test_gone(self) -> None:
        """A worker that is gone is told nothing more; twice is no error."""
        one = self.worker(1)
        self.bus.forget(1)
        self.bus.forget(1)
        self.bus.outage(5.0)
        self.assertEqual((one, self.bus.outages.told()), ([], []))
