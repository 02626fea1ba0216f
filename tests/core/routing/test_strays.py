"""Clients that come back without a key."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.strays import OFTEN, Strays


class StraysTests(SynchronousTestCase):
    """Counts of clients."""

    def test_often(self) -> None:
        """A client that has come often is told once; another client is counted for itself."""
        strays = Strays()
        for _ in range(OFTEN - 1):
            self.assertFalse(strays.came(b"a"))
        self.assertFalse(strays.came(b"b"))
        self.assertTrue(strays.came(b"a"))
        self.assertFalse(strays.came(b"a"))

    def test_known_when_full(self) -> None:
        """Where no more can be counted, a client that is counted already goes on being it."""
        strays = Strays()
        for number in range(256):
            strays.came(b"%d" % number)
        for _ in range(OFTEN - 2):
            self.assertFalse(strays.came(b"0"))
        self.assertTrue(strays.came(b"0"))
        self.assertEqual(len(strays._times), 256)

    def test_bound(self) -> None:
        """Neither the number of clients nor the length of their words fills the memory."""
        strays = Strays()
        for number in range(5000):
            strays.came(b"%d" % number + b"x" * 1000)
        self.assertLessEqual(len(strays._times), 256)
        self.assertLessEqual(max(map(len, strays._times)), 256)
