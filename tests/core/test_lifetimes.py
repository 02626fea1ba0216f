"""When keys end by themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.lifetimes import Lifetimes

KEYS = st.sampled_from([b"a", b"b", b"c"])


class LifetimesTests(SynchronousTestCase):
    """The ends of keys."""

    def test_ends(self) -> None:
        """Keys end in the order of their ends, each once."""
        lifetimes = Lifetimes()
        lifetimes.set(b"late", 9.0)
        lifetimes.set(b"early", 4.0)
        self.assertEqual((lifetimes.next, lifetimes.take(3.9)), (4.0, []))
        self.assertEqual(lifetimes.take(4.0), [b"early"])
        self.assertEqual((lifetimes.next, lifetimes.take(20.0)), (9.0, [b"late"]))
        self.assertEqual((lifetimes.next, lifetimes.take(20.0)), (None, []))

    def test_no_end(self) -> None:
        """A key that has no end is not waited for."""
        lifetimes = Lifetimes()
        lifetimes.set(b"a", None)
        self.assertEqual((lifetimes.next, lifetimes.take(9.0)), (None, []))

    def test_behind_one_without(self) -> None:
        """A key ends though one before it has no end any more."""
        lifetimes = Lifetimes()
        lifetimes.set(b"a", 1.0)
        lifetimes.set(b"b", 2.0)
        lifetimes.set(b"a", None)
        self.assertEqual(lifetimes.take(5.0), [b"b"])

    def test_behind_one_that_was_sooner(self) -> None:
        """A key ends though an end before it has been replaced by a sooner one."""
        lifetimes = Lifetimes()
        lifetimes.set(b"a", 5.0)
        lifetimes.set(b"a", 1.0)
        self.assertEqual(lifetimes.take(1.0), [b"a"])
        lifetimes.set(b"b", 6.0)
        self.assertEqual(lifetimes.take(9.0), [b"b"])

    def test_put_off(self) -> None:
        """A key whose end is put off again and again waits once, for its first end."""
        lifetimes = Lifetimes()
        for end in (1.0, 2.0, 3.0):
            lifetimes.set(b"a", end)
        self.assertEqual((lifetimes.next, len(lifetimes._queue)), (1.0, 1))

    def test_one_too_many(self) -> None:
        """The end of a key that is one too many is not kept."""
        lifetimes = Lifetimes(1)
        lifetimes.set(b"a", 5.0)
        lifetimes.set(b"b", 1.0)
        self.assertEqual(lifetimes.next, 5.0)

    def test_bounded(self) -> None:
        """There are no more keys than may be; those that are kept can still be set anew."""
        lifetimes = Lifetimes(2)
        for number, key in enumerate((b"a", b"b", b"c", b"a")):
            lifetimes.set(key, 5.0 + number)
        self.assertEqual(lifetimes.take(7.0), [b"b"])
        self.assertEqual(lifetimes.take(8.0), [b"a"])

    @given(
        st.lists(
            st.one_of(
                st.tuples(KEYS, st.none() | st.integers(0, 20)),
                st.integers(0, 3),
            ),
            max_size=40,
        )
    )
    def test_as_told_last(self, steps: list[tuple[bytes, int | None] | int]) -> None:
        """A key ends at the end that was said last, however often it was said, and only then."""
        lifetimes, ends, now = Lifetimes(), dict[bytes, float](), 0.0
        for step in steps:
            if isinstance(step, int):
                now += step
                due = {key for key, end in ends.items() if end <= now}
                if due:
                    assert lifetimes.next is not None
                    self.assertLessEqual(lifetimes.next, now)
                taken = lifetimes.take(now)
                self.assertEqual((set(taken), len(taken)), (due, len(due)))
                for key in due:
                    del ends[key]
            else:
                key, seconds = step
                lifetimes.set(key, None if seconds is None else now + seconds)
                ends.pop(key, None)
                if seconds is not None:
                    ends[key] = now + seconds
