"""Requests that are known to the letter."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.worker.test_policy import head
from txsticky.core.how import How
from txsticky.core.http.inside import Inside
from txsticky.core.http.steps import MEMORABLE
from txsticky.core.routing.verdict import Give, Keep
from txsticky.worker.fast_path import MEMORY, FastPath

#: The longest address, and how many of those are remembered.
LONGEST, HOSTS = "fe80::1%".ljust(80, "z"), 4096


class FastPathTests(SynchronousTestCase):
    """The cache of decisions."""

    def setUp(self) -> None:
        self.fast_path = FastPath(Inside(absolute=False))
        self.known = self.fast_path.known

    def test_remembered(self) -> None:
        """A request is known by its head, with the reason."""
        request = head("/", "Content-Length: 3", method="POST")
        self.fast_path.remember(request, How.TAG, None)
        memo = self.known[request.raw]
        self.assertEqual((memo.how, memo.size), (How.TAG, len(request.raw) + 3))

    def test_not_remembered(self) -> None:
        """A head that is long, of unknown length or not to be seen as it came is not known."""
        for request in (
            head("/", "X: " + "x" * MEMORABLE),
            head("/", "Transfer-Encoding: chunked", method="POST"),
            head("http://a/"),
        ):
            self.fast_path.remember(request, How.NEW, None)
        self.assertEqual(self.known, {})

    def test_bound(self) -> None:
        """The memory of known requests is bounded."""
        for number in range(MEMORY + 1):
            self.fast_path.remember(head(f"/{number}"), How.NEW, None)
        self.assertEqual(len(self.known), 1)

    def test_size(self) -> None:
        """As many requests are remembered as there is memory for: 1024."""
        for number in range(1024):
            self.fast_path.remember(head(f"/{number}"), How.NEW, None)
        self.assertEqual((len(self.known), MEMORY), (1024, 1024))

    def test_hosts(self) -> None:
        """Where addresses lead to is remembered, 4096 of them at most."""
        for number in range(HOSTS):
            self.fast_path.remember_host(str(number), Keep(How.HASH))
        self.assertEqual(len(self.fast_path.hosts), HOSTS)
        self.fast_path.remember_host("last", Keep(How.HASH))
        self.assertEqual(self.fast_path.hosts, {"last": Keep(How.HASH)})

    def test_longest_host(self) -> None:
        """An address is remembered up to the length that one with a zone may have."""
        self.fast_path.remember_host(LONGEST, Keep(How.HASH))
        self.fast_path.remember_host(LONGEST + "z", Keep(How.HASH))
        self.assertEqual(list(self.fast_path.hosts), [LONGEST])

    def test_longest_head(self) -> None:
        """A head is remembered up to a length, whether its requests are served or given away."""
        short = len(head("/", "X: ").raw)
        longest, longer = (head("/", "X: " + "x" * (MEMORABLE - short + more)) for more in (0, 1))
        for request in (longest, longer):
            self.fast_path.remember(request, How.NEW, None)
            self.fast_path.remember_given(request, Give(3, How.TAG))
        self.assertEqual([*self.known, *self.fast_path.given], [longest.raw] * 2)

    def test_given(self) -> None:
        """Requests of other workers are known by their heads, with the place and the reason."""
        one, other = head("/a"), head("/b")
        self.fast_path.remember_given(one, Give(3, How.TAG))
        self.fast_path.remember_given(other, Give(1, How.HIT))
        known = {one.raw: Give(3, How.TAG), other.raw: Give(1, How.HIT)}
        self.assertEqual(self.fast_path.given, known)

    def test_bounds_of_the_rest(self) -> None:
        """The memory of what is given away, and of what came once, is bounded."""
        requests = [head(f"/{number}") for number in range(MEMORY + 1)]
        for request in requests:
            self.fast_path.remember_given(request, Give(3, How.TAG))
            self.assertFalse(self.fast_path.comes_again(request))
        self.assertEqual(len(self.fast_path.given), 1)
        self.assertEqual(
            [self.fast_path.comes_again(request) for request in requests[-2:]], [False, True]
        )

    def test_clear(self) -> None:
        """What is cleared is the dictionary that gates look at."""
        kept = self.known, self.fast_path.given, self.fast_path.hosts
        self.fast_path.remember(head(), How.NEW, None)
        self.fast_path.remember_given(head("/a"), Give(3, How.TAG))
        self.fast_path.remember_host("192.0.2.7", Keep(How.HASH))
        self.fast_path.clear()
        self.assertEqual(kept, ({}, {}, {}))
        now = self.fast_path.known, self.fast_path.given, self.fast_path.hosts
        self.assertEqual([*map(id, kept)], [*map(id, now)])
