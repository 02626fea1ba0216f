"""What a policy says about a request."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.how import How
from txsticky.core.routing.verdict import (
    FRONT_DESK,
    GIVE_BACK,
    KEEP,
    Give,
    GiveBack,
    Keep,
    Verdict,
    place_of,
)


class VerdictTests(SynchronousTestCase):
    """Where a verdict leads."""

    def test_places(self) -> None:
        """A request is kept here, given to another worker or given back to the primary."""
        verdicts: list[Verdict] = [Keep(How.NEW), Give(7, How.HIT), GiveBack(How.MISS)]
        self.assertEqual([place_of(verdict, 3) for verdict in verdicts], [3, 7, FRONT_DESK])

    def test_front_desk(self) -> None:
        """The front desk's number is no worker's, whose ids begin at 1."""
        self.assertEqual(FRONT_DESK, 0)

    def test_ready_made(self) -> None:
        """For each reason there is a verdict that keeps and one that gives back."""
        for how in How:
            self.assertEqual(KEEP[how], Keep(how))
            self.assertEqual(GIVE_BACK[how], GiveBack(how))
