"""Processes that cannot be created."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.fleet import ATTEMPTS, Fleet
from txsticky.core.lifecycle.states import Ended, Spawn

NOW = 1000.0


class NotSpawnedTests(SynchronousTestCase):
    """There is no memory for a worker's process."""

    def setUp(self) -> None:
        self.fleet = Fleet(1)
        self.fleet.start(NOW)

    def test_pause(self) -> None:
        """It is tried again after a pause, not at once."""
        self.fleet.not_spawned(1, "no memory", NOW)
        wake = self.fleet.wake()
        assert wake is not None
        self.assertGreater(wake, NOW)
        self.assertEqual(self.fleet.tick(NOW), [])
        self.assertIn(Spawn(2, 1, 1), self.fleet.tick(wake))

    def test_for_good(self) -> None:
        """If it fails again and again, the cluster ends with exit code 1."""
        now = NOW
        for id in range(1, ATTEMPTS + 1):
            effects = self.fleet.not_spawned(id, "no memory", now)
            now = self.fleet.wake() or now
            effects += self.fleet.tick(now)
        (end,) = [effect for effect in effects if isinstance(effect, Ended)]
        self.assertEqual(end.exit_code, 1)
        self.assertIn("no memory", end.reason)
