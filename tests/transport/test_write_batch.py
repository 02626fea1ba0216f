"""Which connection sends at the end of a turn, and when that is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from txsticky.transport.write_batch import LONG, WriteBatch


class WriteBatchTests(SynchronousTestCase):
    """A loop and a clock that the test moves."""

    def setUp(self) -> None:
        self.now = 100.0
        self.calls: list[Callable[[], None]] = []
        self.sent: list[str] = []
        self.turn = WriteBatch(self.calls.append, lambda: self.now)

    def add(self, name: str, then: Callable[[], None] = lambda: None) -> None:
        """Add a connection that has something to send."""

        def send() -> None:
            self.sent.append(name)
            then()

        self.turn.add(SimpleNamespace(end_turn=send))

    def end(self) -> None:
        """Come to the end of the turn."""
        calls, self.calls[:] = self.calls[:], []
        for call in calls:
            call()

    def test_together(self) -> None:
        """All connections send at the end, in their order, and the loop is asked once."""
        self.add("a")
        self.add("b")
        self.assertEqual((self.sent, len(self.calls)), ([], 1))
        self.end()
        self.assertEqual((self.sent, self.calls), (["a", "b"], []))

    def test_next_turn(self) -> None:
        """A connection that comes while others send has its turn next."""
        self.add("a", lambda: self.add("b"))
        self.end()
        self.assertEqual(self.sent, ["a"])
        self.end()
        self.assertEqual(self.sent, ["a", "b"])

    def test_long(self) -> None:
        """In a turn that takes long, the connections that wait send before its end."""
        self.add("a")
        self.now += LONG / 2
        self.add("b")
        self.assertEqual(self.sent, [])
        self.now += LONG
        self.add("c")
        self.assertEqual(self.sent, ["a", "b", "c"])
        self.end()
        self.assertEqual(self.sent, ["a", "b", "c"])

    def test_one_that_fails(self) -> None:
        """A connection that fails keeps no other from sending."""

        def fail() -> None:
            raise ZeroDivisionError

        self.add("a", fail)
        self.add("b")
        self.end()
        self.assertEqual(self.sent, ["a", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_after_a_long_one(self) -> None:
        """What comes behind an early flush waits anew, and for the end at most."""
        self.add("a")
        self.now += 2 * LONG
        self.add("b")
        self.add("c")
        self.assertEqual(self.sent, ["a", "b"])
        self.end()
        self.assertEqual(self.sent, ["a", "b", "c"])
