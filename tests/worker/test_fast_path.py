"""Requests that are known to the letter."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.worker.test_policy import head
from txsticky.core.how import How
from txsticky.core.http.inside import Inside
from txsticky.core.http.steps import MEMORABLE
from txsticky.core.routing.verdict import Give
from txsticky.worker.fast_path import MEMORY, FastPath


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
        self.fast_path.remember(head(), How.NEW, None)
        self.fast_path.clear()
        self.assertEqual(self.known, {})
        self.assertIs(self.known, self.fast_path.known)
