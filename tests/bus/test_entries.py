"""The entries of the stream: what they say, and what is new."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.bus import entries
from txsticky.bus.entries import Entry, Reading, later
from txsticky.bus.losses import Notice


class EntryTests(SynchronousTestCase):
    """What is written and read."""

    def setUp(self) -> None:
        self.reading = Reading(b"own")

    @given(st.lists(st.tuples(st.binary(), st.binary())), st.booleans())
    def test_there_and_back(self, messages: list[tuple[bytes, bytes]], lost: bool) -> None:
        """An entry is read as it was written, whatever the messages are."""
        entry = Entry(tuple(messages), Notice(1.0, 2.0, {b"a": 1}) if lost else None)
        self.assertEqual(Reading(b"own").read(entry.fields(b"other", 1)), entry)

    def test_own(self) -> None:
        """An entry of the reader's own machine is nothing new."""
        self.assertIsNone(self.reading.read(Entry(((b"a", b"x"),)).fields(b"own", 1)))

    def test_again(self) -> None:
        """An entry that was written twice is read once, whichever machine wrote it."""
        one = Entry(((b"a", b"1"),))
        for mark in (b"one", b"two"):
            self.assertEqual(self.reading.read(one.fields(mark, 1)), one)
            self.assertIsNone(self.reading.read(one.fields(mark, 1)))
            self.assertEqual(self.reading.read(one.fields(mark, 2)), one)

    def test_not_numbered(self) -> None:
        """An entry without a number is always read."""
        one = Entry(((b"a", b"1"),))
        for _ in range(2):
            self.assertEqual(self.reading.read(one.fields(b"x", 0)), one)

    def test_many_machines(self) -> None:
        """The machines heard last are remembered, and so many of them."""
        self.patch(entries, "MACHINES", 2)
        one = Entry(((b"a", b"1"),))
        for mark in (b"1", b"2", b"3"):
            self.reading.read(one.fields(mark, 1))
        self.assertEqual(self.reading.read(one.fields(b"1", 1)), one, "the oldest is forgotten")
        self.assertIsNone(self.reading.read(one.fields(b"3", 1)))

    def test_nonsense(self) -> None:
        """What another program has written is nothing."""
        for fields in ([], [b"x"], [b"x", b"y"], [b"x", b"{}"], [b"x", b"[]"], [b"x", b"7"]):
            self.assertIsNone(self.reading.read(fields))
        self.assertIsNone(self.reading.read([b"x", b'{"number": 1, "lost": 7}']))

    def test_later(self) -> None:
        """Ids are compared by time, then by number."""
        self.assertTrue(later(b"10-0", b"9-5"))
        self.assertTrue(later(b"10-10", b"10-9"))
        self.assertFalse(later(b"10-9", b"10-9"))
