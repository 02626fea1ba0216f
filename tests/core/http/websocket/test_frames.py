"""Where the messages of a WebSocket begin and end."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Message
from wsproto.utilities import RemoteProtocolError

from tests.core.http.test_any_conversation import pieces
from txsticky.core.http.websocket.frames import Frames, close_frame

MASK = b"\x01\x02\x03\x04"


def frame(
    data: bytes = b"", opcode: int = 1, fin: bool = True, masked: bool = True, rsv: int = 0
) -> bytes:
    """One frame; the data are put in as they are, and the mask hides nothing."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    if len(data) < 126:
        head = struct.pack("!BB", first, bit | len(data))
    elif len(data) < 65536:
        head = struct.pack("!BBH", first, bit | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(data))
    return head + (b"\0\0\0\0" if masked else b"") + data


@st.composite
def message(draw: st.DrawFn, masked: bool) -> bytes:
    """A whole message in one or more frames, with control frames before, between and behind."""
    sizes = st.sampled_from([0, 1, 5, 125, 126, 127, 65535, 65536])
    count = draw(st.integers(1, 3))
    out = b""
    for number in range(count):
        if draw(st.booleans()):
            out += frame(b"p" * draw(st.sampled_from([0, 3, 125])), 9, masked=masked)
        data = b"x" * draw(sizes)
        out += frame(data, 0 if number else 2, number == count - 1, masked)
    return out


class FramesTests(SynchronousTestCase):
    """One direction."""

    @given(st.booleans(), st.data())
    def test_any_split(self, masked: bool, data: st.DataObject) -> None:
        """However the stream is cut, the same messages end, and `between` tells the same places."""
        stream = b"".join(data.draw(st.lists(message(masked), max_size=4)))
        cuts = data.draw(st.lists(st.integers(0, max(len(stream), 1)), max_size=8))
        frames = Frames(masked)
        peer = Connection(ConnectionType.SERVER if masked else ConnectionType.CLIENT)
        expected = 0
        for piece in pieces(stream, cuts):
            frames.feed(piece)
            peer.receive_data(piece)
            for event in peer.events():
                expected += isinstance(event, Message) and event.message_finished
            self.assertEqual(frames.messages, expected)
        self.assertEqual((frames.between, frames.over), (True, False))

    @given(st.binary(max_size=40), st.booleans())
    def test_any_bytes(self, stream: bytes, masked: bool) -> None:
        """What wsproto refuses is not followed to its end, whatever the bytes."""
        frames = Frames(masked)
        peer = Connection(ConnectionType.SERVER if masked else ConnectionType.CLIENT)
        for number in range(len(stream)):
            frames.feed(stream[number : number + 1])
        try:
            peer.receive_data(stream)
            list(peer.events())
        except RemoteProtocolError as error:
            if error.event_hint is None or error.event_hint.code != 1007:  # a text that is no UTF-8
                self.assertTrue(frames.over or not frames.between, (stream, error))

    def test_whole(self) -> None:
        """A message that comes in one piece counts once, whatever its length and mask."""
        for data in (frame(b"hello"), b"\x82\xfe\x01\x00" + b"\xff" * 260):
            frames = Frames(masked=True)
            frames.feed(data)
            self.assertEqual((frames.messages, frames.between), (1, True))

    def test_half_a_head(self) -> None:
        """With the first byte of its head a frame has begun."""
        frames = Frames(masked=True)
        frames.feed(frame(b"a")[:1])
        self.assertFalse(frames.between)

    def test_first_boundary(self) -> None:
        """`feed_message` stops where the present message ends, and leaves what follows it."""
        first = frame(b"a", fin=False) + frame(b"", 9) + frame(b"b", 0)
        frames = Frames(masked=True)
        frames.feed(first[:9])
        self.assertFalse(frames.between)
        rest = first[9:]
        self.assertEqual(frames.feed_message(rest + frame(b"next")), len(rest))
        self.assertEqual((frames.between, frames.messages), (True, 1))

    def test_no_boundary(self) -> None:
        """`feed_message` follows all bytes where no message ends in them."""
        frames = Frames(masked=False)
        self.assertEqual(frames.feed_message(frame(b"ab", fin=False, masked=False)), 4)
        self.assertFalse(frames.between)

    def test_close(self) -> None:
        """Behind a close frame nothing is followed."""
        frames = Frames(masked=False)
        frames.feed(close_frame(1012))
        self.assertTrue(frames.over)
        self.assertEqual(close_frame(1012), b"\x88\x02\x03\xf4")

    def test_compressed(self) -> None:
        """The first frame of a message may be marked as compressed if that was agreed."""
        marked = frame(b"z", fin=False, rsv=4) + frame(b"z", 0)
        for agreed in (True, False):
            frames = Frames(masked=True, compressed=agreed)
            frames.feed(marked)
            self.assertEqual((frames.over, frames.messages), (not agreed, int(agreed)))

    def test_odd(self) -> None:
        """What RFC 6455 forbids ends the following, in one piece or byte by byte."""
        for stream in (
            frame(b"a", masked=False),
            frame(b"a", 3),
            frame(b"a", 11),
            frame(b"a", 9, fin=False),
            frame(b"a" * 126, 9),
            frame(b"a", 9, rsv=4),
            frame(b"a", rsv=2),
            frame(b"a", 0),
            frame(b"a", fin=False) + frame(b"a"),
            frame(b"a", 0, rsv=4),
            frame(b"a", 3, rsv=4),
            frame(b"a", fin=False, rsv=4) + frame(b"a", 0, rsv=4),
            b"\x81\xfe\x00\x01" + MASK,
            b"\x81\xff" + b"\0" * 7 + b"\x01" + MASK,
            b"\x81\xff\x80" + b"\0" * 7 + MASK,
        ):
            for cut in (len(stream), 1):
                frames = Frames(
                    masked=True, compressed=stream.startswith((b"\x41", b"\xc0", b"\xc3"))
                )
                for at in range(0, len(stream), cut):
                    frames.feed(stream[at : at + cut])
                self.assertTrue(frames.over, (stream, cut))
