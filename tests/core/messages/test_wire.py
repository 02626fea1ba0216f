"""What the processes of a cluster say to each other."""

from __future__ import annotations

import itertools
import socket

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.messages.wire import (
    FrameReader,
    Handoff,
    Kind,
    Log,
    Peer,
    decode_json,
    encode,
    encode_json,
    pack_handoff,
    pack_log,
    pack_peer,
    unpack,
)
from txsticky.errors import WireError

HANDOFF = Handoff(
    family=socket.AF_INET6,
    peer=("fe80::1%eth0", 65535),
    host=("::1", 8080),
    listener=3,
    hops=2,
    how=1,
    secure=True,
    reserved=True,
    prefix=b"GET / HTTP/1.1\r\n\r\n\x00\xff",
    server_name="chat.example",
)

names = st.text(max_size=40).filter(lambda text: len(text.encode("utf-8", "replace")) < 256)
addresses = st.tuples(names, st.integers(0, 65535))
octets = st.integers(0, 255)
handoffs = st.builds(
    Handoff,
    family=octets,
    peer=addresses,
    host=addresses,
    listener=st.integers(0, 65535),
    hops=octets,
    how=octets,
    secure=st.booleans(),
    reserved=st.booleans(),
    prefix=st.binary(max_size=300),
    server_name=names,
    fresh=st.booleans(),
)
frames = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=50)), max_size=8)


class MailboxMessageTests(SynchronousTestCase):
    """Messages that travel with a descriptor."""

    @given(handoffs)
    @settings(deadline=None)
    def test_round_trip(self, handoff: Handoff) -> None:
        """Whatever fits its field arrives as it was sent."""
        self.assertEqual(unpack(pack_handoff(handoff)), handoff)

    def test_unix_peer(self) -> None:
        """A client of a UNIX socket has an empty host."""
        handoff = Handoff(socket.AF_UNIX, ("", 0), ("", 0))
        self.assertEqual(unpack(pack_handoff(handoff)), handoff)

    def test_large_prefix(self) -> None:
        """A prefix of 256 KiB arrives whole."""
        prefix = bytes(range(256)) * 1024
        message = unpack(pack_handoff(Handoff(2, ("", 0), ("", 0), prefix=prefix)))
        assert isinstance(message, Handoff)
        self.assertEqual(message.prefix, prefix)

    def test_every_truncation(self) -> None:
        """A hand-off that lost its end is refused, wherever it was cut."""
        whole = pack_handoff(HANDOFF)
        for size in range(len(whole)):
            self.assertRaises(WireError, unpack, whole[:size])

    def test_excess(self) -> None:
        """Bytes behind the prefix are refused, not taken for its end."""
        error = self.assertRaises(WireError, unpack, pack_handoff(HANDOFF) + b"x")
        self.assertIn("its header says", str(error))

    @given(st.binary(max_size=60))
    @settings(deadline=None)
    def test_garbage(self, message: bytes) -> None:
        """Any bytes are a message or a WireError."""
        try:
            unpack(message)
        except WireError:
            pass

    def test_names_that_are_not_utf8(self) -> None:
        """A damaged name is a WireError."""
        message = pack_handoff(Handoff(2, ("host", 1), ("", 0))).replace(
            b"host", b"\xff\xfe\xfd\xfc"
        )
        self.assertRaises(WireError, unpack, message)

    def test_out_of_range(self) -> None:
        """What does not fit its field is refused by the sender."""
        for unfit in (
            Handoff(256, ("", 0), ("", 0)),
            Handoff(2, ("", 65536), ("", 0)),
            Handoff(2, ("", 0), ("", -1)),
            Handoff(2, ("", 0), ("", 0), hops=256),
            Handoff(2, ("a" * 256, 0), ("", 0)),
            Handoff(2, ("\ud800", 0), ("", 0)),
        ):
            self.assertRaises(WireError, pack_handoff, unfit)

    def test_peer(self) -> None:
        """A mailbox is introduced with its worker's id."""
        self.assertEqual(unpack(pack_peer(2**40)), Peer(2**40))

    def test_log(self) -> None:
        """The access log is one byte; nothing may follow."""
        self.assertEqual(unpack(pack_log()), Log())
        self.assertRaises(WireError, unpack, pack_log() + b"\0")

    def test_peer_of_the_wrong_size(self) -> None:
        """A cut or prolonged introduction is refused."""
        self.assertRaises(WireError, unpack, pack_peer(7)[:-1])
        self.assertRaises(WireError, unpack, pack_peer(7) + b"\0")


class HopTests(SynchronousTestCase):
    """How often a connection has moved since a request of it was served."""

    def test_on_its_way(self) -> None:
        """Each move counts, up to what its field holds."""
        hops = []
        handoff = attrs.evolve(HANDOFF, hops=253)
        for _ in range(3):
            handoff = handoff.moved(b"", False, 0)
            hops.append(handoff.hops)
        self.assertEqual(hops, [254, 255, 255])

    def test_served(self) -> None:
        """When a request was served on the way, the move is the first one again."""
        self.assertEqual(HANDOFF.moved(b"", True, 0).hops, 1)

    def test_what_moves(self) -> None:
        """The client, its addresses and what TLS said move along; the rest is as it was told."""
        expected = attrs.evolve(HANDOFF, hops=3, how=2, reserved=False, prefix=b"GET ")
        self.assertEqual(HANDOFF.moved(b"GET ", False, 2), expected)


class FrameTests(SynchronousTestCase):
    """Control frames on a byte stream."""

    @given(frames, st.lists(st.integers(0, 500), max_size=10))
    @settings(deadline=None)
    def test_any_split(self, sent: list[tuple[Kind, bytes]], cuts: list[int]) -> None:
        """Frames arrive whole and in order however the stream is cut."""
        stream = b"".join(encode(kind, body) for kind, body in sent)
        edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
        reader = FrameReader(limit=50)
        got = [
            frame
            for begin, end in itertools.pairwise(edges)
            for frame in reader.feed(stream[begin:end])
        ]
        self.assertEqual(got, sent)

    def test_a_byte_at_a_time(self) -> None:
        """A frame is complete with its last byte and not before."""
        reader = FrameReader(limit=10)
        *before, last = [reader.feed(bytes([byte])) for byte in encode(Kind.READY, b"abc")]
        self.assertEqual([frame for frames in before for frame in frames], [])
        self.assertEqual(last, [(Kind.READY, b"abc")])

    def test_limit(self) -> None:
        """A body of just the limit passes; one byte more is refused before the body has come."""
        self.assertEqual(FrameReader(3).feed(encode(Kind.GO, b"abc")), [(Kind.GO, b"abc")])
        error = self.assertRaises(WireError, FrameReader(3).feed, encode(Kind.GO, b"abcd")[:5])
        self.assertIn("4 bytes", str(error))

    def test_unknown_kind(self) -> None:
        """A kind that nobody knows ends the stream."""
        self.assertRaises(WireError, FrameReader(10).feed, b"\0\0\0\0\xff")

    def test_json(self) -> None:
        """A JSON body arrives as the same fields, lone surrogates of file names included."""
        fields = {"pool": [1, None, 2.5], "name": "blåhaj", "path": "\udcff"}
        ((kind, body),) = FrameReader(1000).feed(encode_json(Kind.POOL, **fields))
        self.assertEqual((kind, decode_json(body)), (Kind.POOL, fields))

    def test_json_that_is_none(self) -> None:
        """A body that is no JSON object is a WireError."""
        for body in (b"", b"{", b"[]", b"\xff"):
            self.assertRaises(WireError, decode_json, body)
