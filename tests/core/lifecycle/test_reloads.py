"""One reload after the other."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.fleet import Fleet
from txsticky.core.lifecycle.states import Reloading, Spawn

NOW = 1000.0


class ReloadsTests(SynchronousTestCase):
    """A reload ends, and another may begin."""

    def test_over(self) -> None:
        """A reload is over with its last successor, and the next one begins at once."""
        fleet = Fleet(1)
        fleet.start(NOW)
        fleet.ready(1, NOW)
        for id in (2, 3):
            effects = fleet.reload(NOW)
            self.assertTrue(fleet.reloading)
            self.assertIn(Spawn(id, 1, id), effects)
            self.assertIn(Reloading(False), fleet.ready(id, NOW))
            self.assertFalse(fleet.reloading)
