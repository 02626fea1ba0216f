"""The turns of workers that are to be started."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.states import Spawn
from txsticky.core.lifecycle.turns import Turns


class TurnsTests(SynchronousTestCase):
    """Four workers, of which two may be starting at a time; the fourth is of a new generation."""

    def setUp(self) -> None:
        self.turns = Turns(2)
        self.spawns = [Spawn(id, id, 1 + id // 4) for id in (1, 2, 3, 4)]
        for spawn in self.spawns:
            self.turns.add(spawn)
        self.generation = 2
        self.queued: list[int] = []

    def next(self, starting: int) -> Spawn | None:
        """Take the worker whose turn it is."""
        return self.turns.next(starting, lambda each: each <= self.generation, self.queued.append)

    def test_order(self) -> None:
        """Workers start in their order while there is room; the others are told that they wait."""
        self.assertEqual([self.next(4) for _ in range(3)], [*self.spawns[:2], None])
        self.assertEqual(self.queued, [3, 4])
        self.assertEqual(self.next(3), self.spawns[2])

    def test_not_settled(self) -> None:
        """A worker that cannot be started yet is passed over, and not told that it waits."""
        self.generation = 1
        self.assertEqual([self.next(4) for _ in range(3)], [*self.spawns[:2], None])
        self.assertEqual([self.next(2), self.queued], [self.spawns[2], [3]])
        self.assertIsNone(self.next(1))
        self.assertEqual(self.queued, [3])

    def test_dropped(self) -> None:
        """A worker that is not wanted any more leaves its turn to the next."""
        self.turns.drop(1)
        self.assertEqual([id in self.turns for id in (1, 2)], [False, True])
        self.assertEqual(self.next(3), self.spawns[1])
