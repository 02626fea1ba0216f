"""What waits to be written to the stream."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.bus import unwritten
from txsticky.bus.entries import Entry
from txsticky.bus.losses import Notice
from txsticky.bus.unwritten import COST, MOST, ROOM, Unwritten


class UnwrittenTests(SynchronousTestCase):
    """The queue of one machine."""

    def setUp(self) -> None:
        self.queue = Unwritten()

    def add(self, *messages: bytes) -> list[bool]:
        """Add messages to the topic a, at the time 5."""
        return [self.queue.add(b"a", message, 5.0) for message in messages]

    def take(self) -> Entry:
        """The next entry, which is written."""
        entry = self.queue.entry()
        self.queue.written()
        return entry

    def test_together(self) -> None:
        """What waits is one entry, which stays the same until it is written."""
        self.add(b"1", b"2")
        first = self.queue.entry()
        self.assertEqual(first, Entry(((b"a", b"1"), (b"a", b"2"))))
        self.add(b"3")
        self.assertEqual((self.queue.entry(), self.queue.number), (first, 1))
        self.queue.written()
        self.assertEqual((self.queue.entry(), self.queue.number), (Entry(((b"a", b"3"),)), 2))
        self.queue.written()
        self.assertTrue(self.queue.empty)

    def test_not_too_large(self) -> None:
        """An entry has so many messages, or so many bytes and one message more."""
        self.add(*[b"x"] * (MOST + 1))
        self.assertEqual([len(self.take().messages) for _ in range(2)], [MOST, 1])
        self.add(bytes(ROOM // 2), bytes(ROOM // 2), b"x")
        self.assertEqual([len(self.take().messages) for _ in range(2)], [2, 1])

    def test_full(self) -> None:
        """Without room a message is lost, which is told in its place in the order."""
        self.patch(unwritten, "LIMIT", 2 * (COST + 2))
        self.assertEqual(self.add(b"1", b"2", b"3"), [True, True, False])
        self.take()
        self.assertEqual(self.add(b"4"), [True])
        self.assertEqual(
            self.take(), Entry(((b"a", b"4"),), Notice(5.0, 5.0, {b"a": 1})), "told before the next"
        )
        self.assertTrue(self.queue.empty)

    def test_room(self) -> None:
        """Topics and messages take room by their bytes, also after an upgrade."""
        self.patch(unwritten, "LIMIT", 3 * COST + 20)
        self.assertEqual(self.add(bytes(8), bytes(8), bytes(8)), [True, True, False])
        self.queue.entry()
        self.add(b"")
        there = Unwritten()
        there.restore(self.queue.snapshot())
        self.assertFalse(there.add(b"a", b"", 5.0))

    def test_relaxed(self) -> None:
        """The queue has room again when half of it is free."""
        self.patch(unwritten, "LIMIT", 4 * (COST + 2))
        self.add(b"1", b"2")
        self.assertTrue(self.queue.relaxed)
        self.add(b"3")
        self.assertFalse(self.queue.relaxed)
        self.take()
        self.assertTrue(self.queue.relaxed)

    def test_nothing_follows(self) -> None:
        """If no message follows, the loss is told when the others are written."""
        self.patch(unwritten, "LIMIT", COST + 2)
        self.add(b"1", b"2")
        self.take()
        self.assertFalse(self.queue.empty)
        self.assertEqual(self.take(), Entry((), Notice(5.0, 5.0, {b"a": 1})))
        self.assertTrue(self.queue.empty)

    def test_one_that_is_too_large(self) -> None:
        """A message larger than the room there is, is taken if nothing else waits."""
        self.patch(unwritten, "LIMIT", 10)
        self.assertEqual(self.add(bytes(20), b"x"), [True, False])

    @given(
        st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(["begun", "written"]))),
        st.integers(0, 20),
    )
    def test_upgrade(self, events: list[bytes | str], moment: int) -> None:
        """A program that takes over at any moment writes what the one before would have written."""
        self.patch(unwritten, "LIMIT", 5 * COST)
        here, there = Unwritten(), Unwritten()
        written: list[list[tuple[int, Entry]]] = [[], []]
        for number, event in enumerate(events):
            if number == moment:
                there = Unwritten()
                there.restore(json.loads(json.dumps(here.snapshot())))
            for queue, seen in zip((here, there), written, strict=True):
                if isinstance(event, bytes):
                    queue.add(b"\xff", event, float(number))
                elif not queue.empty:
                    entry = queue.entry()
                    seen.append((queue.number, entry))
                    if event == "written":
                        queue.written()
        for queue, seen in zip((here, there), written, strict=True):
            while not queue.empty:
                seen.append((queue.number, queue.entry()))
                queue.written()
        self.assertEqual(written[0][-len(written[1]) :] if written[1] else [], written[1])

    def test_upgrade_in_between(self) -> None:
        """An entry that may have been written is the same in the program that takes over."""
        self.patch(unwritten, "LIMIT", 2 * (COST + 2))
        self.add(b"1", b"2", b"3")
        self.take()
        self.add(b"4")
        entry = self.queue.entry()
        self.add(b"5")
        there = Unwritten()
        there.restore(json.loads(json.dumps(self.queue.snapshot())))
        self.assertEqual((there.entry(), there.number), (entry, 2))
        self.assertIsNotNone(entry.notice)
        there.written()
        self.assertEqual(there.entry(), Entry(((b"a", b"5"),)))
