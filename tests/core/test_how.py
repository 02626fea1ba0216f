"""The numbers of the reasons."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.how import How


class HowTests(SynchronousTestCase):
    """Why a worker was chosen."""

    def test_numbers(self) -> None:
        """A reason keeps its number in every release: processes of two releases exchange it."""
        numbers = {how.name: how.value for how in How}
        self.assertEqual(numbers, {"TAG": 1, "HIT": 2, "HASH": 3, "NEW": 4, "MISS": 5})
