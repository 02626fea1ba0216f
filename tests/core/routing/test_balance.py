"""The balancers."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.address_hash import WORD, heaviest
from txsticky.core.routing.balance import (
    BALANCERS,
    balancer,
    rendezvous,
    rendezvous_of_address,
)
from txsticky.core.routing.pool import Member, Pool


def ready(count: int) -> Pool:
    """A pool of so many ready workers, 1 to `count`."""
    pool = Pool()
    for id in range(1, count + 1):
        pool.add(id, slot=id)
        pool.set_ready(id)
    return pool


def spread(name: str, pool: Pool, joins: int, seed: int = 0) -> Counter[int]:
    """How many of `joins` connections that come at once go to each worker."""
    chooser, rng = balancer(name), Random(seed)
    chosen: Counter[int] = Counter()
    for _ in range(joins):
        id = chooser.choose(pool.candidates(), rng).id
        pool.reserve(id)
        chosen[id] += 1
    return chosen


def with_loads(*loads: int) -> tuple[Member, ...]:
    """Members that carry so many connections."""
    return tuple(Member(id, slot=id, live=live) for id, live in enumerate(loads, 1))


class HerdTests(SynchronousTestCase):
    """200 joins at once over 4 workers."""

    def test_exact(self) -> None:
        """leastconn, roundrobin and random give each worker 50."""
        for name in ("leastconn", "roundrobin", "random"):
            self.assertEqual(set(spread(name, ready(4), 200).values()), {50}, name)

    @given(st.integers(0, 2**32))
    @settings(deadline=None)
    def test_within_a_tenth(self, seed: int) -> None:
        """random2 gives each worker 50, within a tenth."""
        for count in spread("random2", ready(4), 200, seed).values():
            self.assertTrue(45 <= count <= 55, count)

    @given(st.sampled_from(list(BALANCERS)), st.integers(1, 6), st.integers(0, 2**32))
    @settings(deadline=None)
    def test_only_candidates(self, name: str, workers: int, seed: int) -> None:
        """Every balancer chooses among the candidates, down to a single one."""
        pool = ready(workers)
        self.assertLessEqual(set(spread(name, pool, 20, seed)), set(range(1, workers + 1)))

    def test_a_new_worker_fills_up(self) -> None:
        """leastconn fills an empty worker up to the others and then spreads."""
        pool = ready(3)
        for id in (1, 2):
            pool.report(id, live=10, taken=0, lag=0.0)
        self.assertEqual(spread("leastconn", pool, 16), {1: 2, 2: 2, 3: 12})

    def test_shrinking_and_growing(self) -> None:
        """Every balancer copes with a pool that changes between choices."""
        for name in BALANCERS:
            pool, chooser, rng = ready(4), balancer(name), Random(1)
            chosen = set()
            for gone in (4, 3, 2):
                chosen |= {chooser.choose(pool.candidates(), rng).id for _ in range(3)}
                pool.set_gone(gone)
                for _ in range(8):
                    self.assertLess(chooser.choose(pool.candidates(), rng).id, gone, name)
            pool.add(9, slot=2)
            pool.set_ready(9)
            self.assertEqual(
                {chooser.choose(pool.candidates(), rng).id for _ in range(32)} - {1, 9}, set()
            )


class LeastConnTests(SynchronousTestCase):
    """The least loaded."""

    def test_least(self) -> None:
        """The least loaded is chosen wherever it stands."""
        chooser = balancer("leastconn")
        for loads in ((1, 2, 3), (3, 1, 2), (2, 3, 1), (1, 2, 3)):
            chosen = chooser.choose(with_loads(*loads), Random(0))
            self.assertEqual(chosen.live, 1)

    def test_again(self) -> None:
        """The least loaded is chosen again, though the search begins behind it."""
        chooser = balancer("leastconn")
        chosen = [chooser.choose(with_loads(1, 2, 3), Random(0)).id for _ in range(3)]
        self.assertEqual(chosen, [1, 1, 1])

    def test_first(self) -> None:
        """The first turn is that of the first."""
        self.assertEqual(balancer("leastconn").choose(with_loads(0, 0, 0), Random(0)).id, 1)

    def test_ties_rotate(self) -> None:
        """Equally loaded workers take turns, even when nothing is reserved."""
        chooser, members = balancer("leastconn"), with_loads(5, 0, 0, 0)
        chosen = [chooser.choose(members, Random(0)).id for _ in range(6)]
        self.assertEqual(chosen, [2, 3, 4, 2, 3, 4])


class RoundRobinTests(SynchronousTestCase):
    """One after the other."""

    def test_order(self) -> None:
        """Workers take turns in their order, whatever their load."""
        chooser, members = balancer("roundrobin"), with_loads(9, 0, 5)
        self.assertEqual([chooser.choose(members, Random(0)).id for _ in range(4)], [1, 2, 3, 1])


class RandomTests(SynchronousTestCase):
    """Chance."""

    def test_rounds(self) -> None:
        """random gives each worker one connection in every round."""
        chooser, members, rng = balancer("random"), with_loads(9, 0, 5), Random(3)
        for _ in range(10):
            self.assertEqual({chooser.choose(members, rng).id for _ in range(3)}, {1, 2, 3})

    def test_rounds_differ(self) -> None:
        """The rounds of random have different orders."""
        chooser, members, rng = balancer("random"), with_loads(0, 0, 0), Random(3)
        rounds = {tuple(chooser.choose(members, rng).id for _ in range(3)) for _ in range(100)}
        self.assertEqual(len(rounds), 6)

    def test_two_choices(self) -> None:
        """random2 never takes the most loaded of all, and takes the least of two."""
        chooser, members, rng = balancer("random2"), with_loads(9, 0, 5), Random(3)
        chosen = Counter(chooser.choose(members, rng).id for _ in range(300))
        self.assertEqual(set(chosen), {2, 3})
        self.assertGreater(chosen[2], chosen[3])

    def test_equal_pair(self) -> None:
        """Of two that are equally loaded random2 takes the one that was drawn first."""
        rng = Random()
        for draws, expected in (((0.0, 0.0), 1), ((0.9, 0.0), 2)):
            self.patch(rng, "random", iter(draws).__next__)
            self.assertEqual(balancer("random2").choose(with_loads(5, 5), rng).id, expected)

    def test_pairs_are_fair(self) -> None:
        """random2 draws every worker equally often when all are equal."""
        chooser, members, rng = balancer("random2"), with_loads(0, 0, 0), Random(3)
        chosen = Counter(chooser.choose(members, rng).id for _ in range(3000))
        for count in chosen.values():
            self.assertTrue(900 < count < 1100, chosen)


class NamesTests(SynchronousTestCase):
    """The balancers' names."""

    def test_unknown(self) -> None:
        """An unknown name is refused with the list of the known ones."""
        error = self.assertRaises(ValueError, balancer, "source")
        self.assertIn("leastconn, roundrobin, random, random2", str(error))


keys = st.binary(max_size=40)


class RendezvousTests(SynchronousTestCase):
    """Choice by the key alone."""

    @given(keys, st.permutations(range(1, 7)))
    @settings(deadline=None)
    def test_order_does_not_matter(self, key: bytes, order: list[int]) -> None:
        """The members' order does not matter."""
        sorted_members = [Member(id, slot=id) for id in range(1, 7)]
        shuffled = [Member(id, slot=id) for id in order]
        self.assertEqual(rendezvous(key, sorted_members).id, rendezvous(key, shuffled).id)

    @given(keys, st.integers(1, 6))
    @settings(deadline=None)
    def test_only_the_leaver_moves(self, key: bytes, leaver: int) -> None:
        """When a worker leaves, only its own keys go elsewhere."""
        members = [Member(id, slot=id) for id in range(1, 7)]
        before = rendezvous(key, members)
        after = rendezvous(key, [member for member in members if member.id != leaver])
        if before.id != leaver:
            self.assertEqual(after.id, before.id)

    @given(keys)
    @settings(deadline=None)
    def test_a_respawned_worker(self, key: bytes) -> None:
        """A worker that comes back with a new id in its slot gets the slot's keys back."""
        old = [Member(id, slot=id) for id in (1, 2, 3)]
        new = [Member(1, slot=1), Member(9, slot=2), Member(3, slot=3)]
        self.assertEqual(rendezvous(key, old).slot, rendezvous(key, new).slot)

    def test_light_keys(self) -> None:
        """The heavier of two is chosen, however little both weigh for a key."""
        one, other = Member(1, slot=1), Member(2, slot=2)
        for number in range(1000):
            key = b"%d" % number
            self.assertIs(rendezvous(key, [one, other]), rendezvous(key, [other, one]))

    def test_two_in_one_slot(self) -> None:
        """Of two workers in one slot the newer one is chosen, whatever their order."""
        old, new = Member(1, slot=1), Member(5, slot=1)
        self.assertEqual([rendezvous(b"k", [old, new]).id, rendezvous(b"k", [new, old]).id], [5, 5])

    def test_even(self) -> None:
        """Many keys spread evenly."""
        members = [Member(id, slot=id) for id in range(1, 5)]
        chosen = Counter(
            rendezvous(b"10.0.%d.%d" % divmod(n, 250), members).id for n in range(4000)
        )
        for count in chosen.values():
            self.assertTrue(900 < count < 1100, chosen)

    def test_stable(self) -> None:
        """The choice is the same in every release, so that an upgrade moves no client."""
        members = [Member(id, slot=id) for id in range(1, 5)]
        chosen = [rendezvous(b"192.0.2.%d" % n, members).id for n in range(10)]
        self.assertEqual(chosen, [2, 4, 3, 2, 4, 2, 3, 1, 3, 3])


class AddressRendezvousTests(SynchronousTestCase):
    """Choice by the client's address alone."""

    @given(st.integers(0, WORD), st.permutations(range(1, 7)))
    @settings(deadline=None)
    def test_agrees_with_the_kernel(self, word: int, order: list[int]) -> None:
        """The worker is that of the slot which the kernel's program names, in any order."""
        members = [Member(10 + slot, slot=slot) for slot in order]
        self.assertEqual(rendezvous_of_address(word, members).slot, heaviest(word, range(1, 7)))

    def test_two_in_one_slot(self) -> None:
        """Of two workers in one slot the newer one is chosen, whatever their order."""
        old, new = Member(1, slot=1), Member(5, slot=1)
        for members in ([old, new], [new, old]):
            self.assertIs(rendezvous_of_address(7, members), new)
