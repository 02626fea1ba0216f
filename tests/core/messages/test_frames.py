"""Control frames: values, their bytes, and streams of them."""

from __future__ import annotations

import itertools

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.messages import from_primary, from_worker
from txsticky.core.messages.frames import TOPIC_LIMIT, Frame, FrameReader, Language, encode
from txsticky.core.messages.from_primary import FROM_PRIMARY
from txsticky.core.messages.from_worker import FROM_WORKER
from txsticky.errors import WireError

LIMIT = 10_000
small = st.binary(max_size=50)
numbers = st.integers(0, 2**53)
seconds = st.floats(0, 1e6)
texts = st.text(max_size=20)
counts = st.lists(numbers, max_size=5)
FIELDS = {
    "bytes": small,
    "str": texts,
    "int": numbers,
    "float": seconds,
    "bool": st.booleans(),
    "dict[str, str]": st.dictionaries(texts, texts, max_size=3),
    "list[bytes]": st.lists(small, max_size=3),
    "list[str]": st.lists(texts, max_size=3),
    "list[int]": counts,
    "list[Any]": st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=3),
    "dict[str, Any]": st.dictionaries(texts, numbers, max_size=3),
    "Any": st.none() | st.dictionaries(texts, texts, max_size=3),
}


def built(kind: type) -> st.SearchStrategy[Frame]:
    """Frames of a kind."""
    fields = {
        field.name: FIELDS[str(field.type)]
        for field in attrs.fields(kind)
        if field.name != "listening"
    }
    if kind is from_worker.Load:
        fields["listening"] = st.none() | built(from_worker.ListeningLoad)
    return st.builds(kind, **fields)


def spoken(language: Language) -> st.SearchStrategy[list[Frame]]:
    """Frames of one language."""
    return st.lists(st.one_of(*map(built, language.values())), max_size=8)


class CodecTests(SynchronousTestCase):
    """Frames on a byte stream."""

    def check(self, language: Language, sent: list[Frame], cuts: list[int]) -> None:
        stream = b"".join(map(encode, sent))
        edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
        reader = FrameReader(language, LIMIT)
        got = [
            frame
            for begin, end in itertools.pairwise(edges)
            for frame in reader.feed(stream[begin:end])
        ]
        self.assertEqual(got, sent)

    @given(spoken(FROM_PRIMARY), st.lists(st.integers(0, 500), max_size=10))
    @settings(deadline=None)
    def test_from_the_primary(self, sent: list[Frame], cuts: list[int]) -> None:
        """What the primary says arrives whole and in order however the stream is cut."""
        self.check(FROM_PRIMARY, sent, cuts)

    @given(spoken(FROM_WORKER), st.lists(st.integers(0, 500), max_size=10))
    @settings(deadline=None)
    def test_from_a_worker(self, sent: list[Frame], cuts: list[int]) -> None:
        """What a worker says arrives whole and in order however the stream is cut."""
        self.check(FROM_WORKER, sent, cuts)

    def test_a_byte_at_a_time(self) -> None:
        """A frame is complete with its last byte and not before."""
        reader = FrameReader(FROM_WORKER, 10)
        sent = from_worker.Bind(b"abc")
        *before, last = [list(reader.feed(bytes([byte]))) for byte in encode(sent)]
        self.assertEqual([frame for found in before for frame in found], [])
        self.assertEqual(last, [sent])

    def test_limit(self) -> None:
        """A body of just the limit passes; one byte more is refused before the body has come."""
        reader = FrameReader(FROM_WORKER, 3)
        self.assertEqual(
            list(reader.feed(encode(from_worker.Bind(b"abc")))), [from_worker.Bind(b"abc")]
        )
        error = self.assertRaises(WireError, reader.feed, encode(from_worker.Bind(b"abcd"))[:5])
        self.assertIn("4 bytes", str(error))

    def test_unknown_kind(self) -> None:
        """A kind that the language does not have ends the stream."""
        for language, foreign in ((FROM_PRIMARY, 2), (FROM_WORKER, 1), (FROM_WORKER, 255)):
            reader = FrameReader(language, 10)
            self.assertRaises(WireError, reader.feed, b"\0\0\0\0" + bytes([foreign]))

    def test_lone_surrogates(self) -> None:
        """File names that are not UTF-8 arrive as they were."""
        sent = from_worker.Ready("web", True, ["/tmp/\udcff"])
        self.assertEqual(list(FrameReader(FROM_WORKER, 1000).feed(encode(sent))), [sent])

    def test_damaged(self) -> None:
        """A body that is no JSON object, or lacks a field, is a WireError."""
        for body in (b"", b"{", b"[]", b"\xff", b"{}"):
            self.assertRaises(WireError, from_primary.BeginDrain.of, body)
        self.assertRaises(WireError, from_primary.Bound.of, b"x key")

    def test_another_version_adds_fields(self) -> None:
        """Fields that this version does not know are dropped; those it adds have defaults."""
        body = b'{"interface":"web","http":true,"colour":"red"}'
        self.assertEqual(from_worker.Ready.of(body), from_worker.Ready("web", True, [], False, 1))
        self.assertEqual(
            from_worker.Load.of(b'{"live":1,"entrance":null}'), from_worker.Load(live=1)
        )

    def test_remainder(self) -> None:
        """Bytes of a frame that is not complete can be handed to another program."""
        reader = FrameReader(FROM_WORKER, 10)
        list(reader.feed(encode(from_worker.Replace()) + b"\0\0"))
        self.assertEqual(reader.remainder, b"\0\0")

    def test_longest_topic(self) -> None:
        """A topic of just the limit arrives; its length has room for no byte more."""
        sent = from_worker.Publish(b"t" * TOPIC_LIMIT, b"message")
        self.assertEqual(from_worker.Publish.of(sent.body()), sent)
        longer = from_worker.Publish(b"t" * (TOPIC_LIMIT + 1), b"")
        self.assertRaises(OverflowError, longer.body)

    def test_kinds(self) -> None:
        """No two frames of a language have the same kind, and each says what it means."""
        for language in (FROM_PRIMARY, FROM_WORKER):
            for kind in language.values():
                self.assertGreater(len(kind.__doc__ or ""), 20)
        made = {
            kind
            for module in (from_primary, from_worker)
            for kind in vars(module).values()
            if isinstance(kind, type) and isinstance(vars(kind).get("KIND"), int)
        }
        self.assertEqual(made, set(FROM_PRIMARY.values()) | set(FROM_WORKER.values()))


class TogetherTests(SynchronousTestCase):
    """Many bindings in one frame."""

    @given(st.lists(st.binary(max_size=9), min_size=1), st.integers(1, 2**53))
    def test_any(self, keys: list[bytes], owner: int) -> None:
        """Whatever bytes the keys have, they come as they were, in their order."""
        frames = from_primary.bound_all(keys, owner)
        self.assertEqual(len(frames), 1)
        (frame,) = FrameReader(FROM_PRIMARY, LIMIT).feed(b"".join(map(encode, frames)))
        self.assertEqual((frame.keys, frame.owner), (keys, owner))  # type: ignore[attr-defined]

    def test_every_byte(self) -> None:
        """Where each byte is in some key, nothing can stand between them: each has its frame."""
        keys = [bytes(range(128)), bytes(range(128, 256))]
        self.assertEqual(
            from_primary.bound_all(keys, 7), [from_primary.Bound(key, 7) for key in keys]
        )

    def test_damaged(self) -> None:
        """A frame of many bindings without a worker is damaged."""
        self.assertRaises(WireError, from_primary.BoundAll.of, b"x \nkey")


class VersionTests(SynchronousTestCase):
    """The bytes that the first version of the program writes and reads."""

    BY_THE_FIRST: tuple[tuple[Frame, bytes], ...] = (
        (from_worker.Bind(b"key"), b"\0\0\0\3\6key"),
        (from_primary.Bound(b"key", 7), b"\0\0\0\5\x067 key"),
        (from_primary.Confirmed(), b"\0\0\0\0\7"),
        (from_worker.Withdraw(), b"\0\0\0\0\n"),
        (from_primary.Withdrawn(), b"\0\0\0\0\x0b"),
        (from_primary.BeginDrain(30.0, False), b'\0\0\0\x1e\t{"seconds":30.0,"final":false}'),
        (from_primary.View({"v": 1}), b'\0\0\0\x10\5{"pool":{"v":1}}'),
        (from_worker.Publish(b"t", b"m"), b"\0\0\0\4\r\0\1tm"),
        (from_primary.Message(b"t", b"m"), b"\0\0\0\4\x10\0\1tm"),
        (from_worker.Subscribe(b"t"), b"\0\0\0\1\x0et"),
        (from_primary.Lost("t", 3), b'\0\0\0\x17\x12{"topic":"t","count":3}'),
        (
            from_worker.Load(
                live=1,
                taken=2,
                lag=0.5,
                requests=3,
                adopted=4,
                given=5,
                listening=from_worker.ListeningLoad(accepted=1, routes=[0, 1, 2, 3, 4]),
            ),
            b'\0\0\0\x98\4{"live":1,"taken":2,"lag":0.5,"requests":3,"adopted":4,"given":5,'
            b'"entrance":{"accepted":1,"waiting":0,"routes":[0,1,2,3,4],"refusals":[],'
            b'"short":false}}',
        ),
    )

    def test_written(self) -> None:
        """This version writes the same bytes as the first."""
        for frame, data in self.BY_THE_FIRST:
            self.assertEqual(encode(frame), data)

    def test_read(self) -> None:
        """This version reads the bytes of the first."""
        for frame, data in self.BY_THE_FIRST:
            self.assertEqual(type(frame).of(data[5:]), frame)
        self.assertEqual(
            from_worker.Ready.of(b'{"interface":"web","http":true}'), from_worker.Ready("web", True)
        )
