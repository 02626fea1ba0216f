"""What did not leave a machine, counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.bus.played import Shore
from txsticky.bus.losses import ROOM, TOPICS, Losses, Notice


class LossesTests(SynchronousTestCase):
    """The count of one machine."""

    def setUp(self) -> None:
        self.losses = Losses()

    def test_counted(self) -> None:
        """Each topic is counted, from the first loss to the last; after a take nothing is left."""
        for now, topic in enumerate((b"a", b"b", b"a")):
            self.losses.add(topic, now)
        self.assertEqual(self.losses.take(), Notice(0, 2, {b"a": 2, b"b": 1}))
        self.assertTrue(self.losses.empty)
        self.losses.add(b"c", 7.0)
        self.assertEqual(self.losses.take(), Notice(7.0, 7.0, {b"c": 1}))

    def test_too_many_topics(self) -> None:
        """A bounded number of topics is counted; of others it is known that some were lost."""
        for number in range(TOPICS):
            self.losses.add(b"%d" % number, 1.0)
        self.losses.add(b"1", 2.0)
        self.losses.add(b"more", 3.0)
        told = self.losses.take()
        self.assertEqual((len(told.lost), told.lost[b"1"], told.until), (TOPICS, 2, 3.0))
        self.assertTrue(told.others)
        self.losses.add(b"more", 4.0)
        self.assertFalse(self.losses.take().others)

    def test_others_alone(self) -> None:
        """If no topic could be counted, there is something to tell as well."""
        self.losses.add(b"a" * (ROOM + 1), 1.0)
        self.assertFalse(self.losses.empty)
        self.assertEqual(self.losses.take(), Notice(1.0, 1.0, {}, others=True))

    def test_long_names(self) -> None:
        """The names of topics have a limit together."""
        self.losses.add(b"a" * (ROOM - 1), 1.0)
        self.losses.add(b"b", 1.0)
        self.losses.add(b"c", 1.0)
        self.assertEqual(len(self.losses.take().lost), 2)

    def test_put_back(self) -> None:
        """What could not be told is counted with what came after it."""
        self.losses.add(b"a", 1.0)
        told = self.losses.take()
        self.losses.put_back(told)
        self.assertEqual(self.losses.take(), told)
        self.losses.add(b"a", 2.0)
        self.losses.put_back(Notice(1.0, 1.5, {b"a": 2, b"b": 1}, others=True))
        self.assertEqual(self.losses.take(), Notice(1.0, 2.0, {b"a": 3, b"b": 1}, others=True))

    def test_told(self) -> None:
        """Another machine is told the counts, and the time of what was not counted."""
        shore = Shore()
        Notice(1.0, 2.0, {b"a": 3}).tell(shore)
        Notice(1.0, 2.0, {}, others=True).tell(shore)
        self.assertEqual(shore.take(), [("missed", b"a", 3), ("gap", 1.0, 2.0)])

    @given(st.dictionaries(st.binary(), st.integers(1, 1 << 40)), st.booleans())
    def test_json(self, lost: dict[bytes, int], others: bool) -> None:
        """A notice is the same after its way, whatever the topics are."""
        notice = Notice(1.25, 2.5, lost, others)
        self.assertEqual(Notice.from_json(notice.to_json().encode()), notice)

    def test_nonsense(self) -> None:
        """What is no notice is a ValueError."""
        for text in (
            b"",
            b"7",
            b"{}",
            b"[1,2,3,4]",
            b'[1,2,{"a":"x"},0]',
            b'["x",2,{},0]',
            b"\xff",
        ):
            self.assertRaises(ValueError, Notice.from_json, text)
