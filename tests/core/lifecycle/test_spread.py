"""Where the idle connections of workers that leave go."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifecycle.spread import Spread
from txsticky.core.routing.pool import Pool


class Reload:
    """
    A reload of workers 1, 2, ... one after the other, as each of them is told of it.

    Nothing is reported while it lasts: in the views the newcomers have no load.
    """

    def __init__(self, *loads: int) -> None:
        self.pool = Pool()
        self.has = Counter(dict(enumerate(loads, 1)))
        self.count = len(loads)
        for id, load in enumerate(loads, 1):
            self.pool.add(id, id)
            self.pool.set_ready(id)
            self.pool.report(id, load, 0, 0.0)
        self.views = {id: (Pool.from_view(self.pool.view()), Spread()) for id in self.has}

    def tell(self) -> None:
        """Tell all workers the pool."""
        for id, (before, spread) in list(self.views.items()):
            now = Pool.from_view(self.pool.view())
            spread.changed(before, now)
            self.views[id] = now, spread

    def replace(self, id: int) -> None:
        """Start the successor of a worker, which then gives away all that it has."""
        heir = id + self.count
        self.pool.add(heir, id)
        self.tell()
        self.pool.set_ready(heir)
        self.pool.set_draining(id)
        self.tell()
        pool, spread = self.views[id]
        for _ in range(self.has.pop(id)):
            chosen = spread.choose(pool, id, id, range(100))
            assert chosen is not None
            self.has[chosen] += 1

    def run(self) -> list[int]:
        """Replace all; returns what each of the new workers has then."""
        for id in range(1, self.count + 1):
            self.replace(id)
        return [self.has[id + self.count] for id in range(1, self.count + 1)]


class SpreadTests(SynchronousTestCase):
    """The spread of idle connections."""

    def test_reload(self) -> None:
        """In a reload that is faster than the reports each successor gets its share."""
        self.assertEqual(Reload(200, 200, 200).run(), [200, 200, 200])
        self.assertEqual(Reload(*[50] * 8).run(), [50] * 8)

    def test_reload_of_uneven_workers(self) -> None:
        """What one worker had alone is spread."""
        self.assertLessEqual(max(Reload(600, 0, 0).run()), 350)
        self.assertLessEqual(max(Reload(0, 0, 600).run()), 600)

    def test_one(self) -> None:
        """The connections of one that is replaced alone go to its successor, the least loaded."""
        reload = Reload(100, 100, 100)
        reload.replace(2)
        self.assertEqual(reload.has, {1: 100, 3: 100, 5: 100})

    def test_after_a_reload(self) -> None:
        """When all workers have come and gone, loads are again as they are reported."""
        reload = Reload(100, 100, 90)
        reload.replace(1)
        reload.pool.set_gone(1)
        reload.tell()
        pool, spread = reload.views[2]
        self.assertEqual(spread.choose(pool, 2, 2, (3, 4)), 4)

    def test_by_load(self) -> None:
        """Each goes to the least loaded, what was given before included."""
        reload = Reload(0, 0, 3, 1)
        pool, spread = reload.views[1]
        chosen = Counter(spread.choose(pool, 1, 1, range(10)) for _ in range(8))
        self.assertEqual(chosen, {2: 4, 3: 1, 4: 3})

    def test_views_on_the_way(self) -> None:
        """What was given counts after a new view, too, which may not have it yet."""
        reload = Reload(0, 0, 0)
        _, spread = reload.views[1]
        chosen = Counter(
            spread.choose(Pool.from_view(reload.pool.view()), 1, 1, range(10)) for _ in range(8)
        )
        self.assertEqual(chosen, {2: 4, 3: 4})

    def test_later(self) -> None:
        """One that began later is preferred; if there is none, any other is chosen."""
        pool, spread = Reload(0, 0, 5, 1).views[1]
        self.assertEqual(spread.choose(pool, 2, 2, range(10)), 4)
        self.assertEqual(spread.choose(pool, 2, 2, (1, 3)), 3)
        pool, spread = Reload(5, 4, 0).views[1]
        self.assertEqual(spread.choose(pool, 3, 3, range(10)), 2)

    def test_none(self) -> None:
        """Where no other worker can be reached there is none."""
        pool, spread = Reload(0, 0).views[1]
        self.assertIsNone(spread.choose(pool, 1, 1, ()))
