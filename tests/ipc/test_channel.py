"""The control channel: frames in order, at once when that can be, and an end that is told once."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface.verify import verifyObject

from tests.raw_frames import RAW, Kind, encode, encode_json, raw, raw_json, told
from tests.shells import ShellCase, ended, frames, received
from txsticky.core.routing.table import ROOM
from txsticky.errors import WireError
from txsticky.ipc import channel
from txsticky.ipc.channel import FRAME_LIMIT, FULL, HIGH_WATER, Channel, channel_pair


class ChannelCase(ShellCase):
    """
    A channel, and the bare socket at its other end.

    :ivar got: the frames that the channel has given on.
    :ivar reliefs: what still waited each time that the reader had caught up.
    :ivar losses: how often it said that it has ended.
    """

    def setUp(self) -> None:
        super().setUp()
        ours, self.peer = channel_pair()
        self.owned(self.peer)
        self.got: list[tuple[Kind, bytes]] = []
        self.losses = 0
        self.reliefs: list[int] = []
        self.channel = self.owned(
            Channel(
                ours,
                self.reactor,
                RAW,
                self.received,
                self.lost,
                lambda: self.reliefs.append(self.channel.waiting),
            )
        )
        self.channel.startReading()

    def received(self, frame: Any) -> None:
        """Take a frame."""
        self.got.append(told(frame))

    def lost(self) -> None:
        """Note that the channel has ended."""
        self.losses += 1

    def fill(self) -> bytes:
        """Write until the kernel takes no more; returns what was written."""
        written = b""
        while not self.channel.waiting:
            body = bytes([len(written) % 251]) * 50_000
            self.channel.send(raw(Kind.MESSAGE, body))
            written += encode(Kind.MESSAGE, body)
        return written


class SendTests(ChannelCase):
    """What is sent."""

    def test_at_once(self) -> None:
        """A frame is in the kernel when send returns; the reactor is not needed."""
        self.channel.send(raw(Kind.BIND, b"key"))
        self.assertEqual(received(self.peer), encode(Kind.BIND, b"key"))
        self.assertEqual(self.reactor.getWriters(), [])

    def test_json(self) -> None:
        """A frame may carry a JSON object."""
        self.channel.send(raw_json(Kind.LOAD, live=3))
        self.assertEqual(received(self.peer), encode_json(Kind.LOAD, live=3))

    def test_slow_reader(self) -> None:
        """What the kernel does not take follows in order when it does, and nothing overtakes it."""
        written = self.fill()
        self.channel.send(raw(Kind.GO))
        written += encode(Kind.GO)
        got = b""
        while len(got) < len(written):
            got += received(self.peer) or b""
            self.reactor.turn()
        self.assertTrue(got == written)
        self.assertEqual((self.channel.waiting, self.reactor.getWriters()), (0, []))

    def test_waiting(self) -> None:
        """A channel says how many bytes wait."""
        self.fill()
        before = self.channel.waiting
        self.channel.send(raw(Kind.MESSAGE, b"12345"))
        self.assertEqual(self.channel.waiting, before + len(encode(Kind.MESSAGE, b"12345")))

    def test_behind(self) -> None:
        """A reader is behind when more than HIGH_WATER bytes wait for it."""
        self.fill()
        self.assertFalse(self.channel.behind)
        self.channel.write(bytes(HIGH_WATER - self.channel.waiting))
        self.assertFalse(self.channel.behind)
        self.channel.write(b"x")
        self.assertTrue(self.channel.behind)

    def test_full(self) -> None:
        """A channel is full when more than FULL bytes wait; a table above HIGH_WATER is less."""
        self.fill()
        self.channel.write(bytes(FULL - self.channel.waiting))
        self.assertFalse(self.channel.full)
        self.channel.write(b"x")
        self.assertTrue(self.channel.full)
        # Each of 100,000 keys has a frame, with the number of its worker.
        self.assertLess(HIGH_WATER + ROOM + 100_000 * (len(encode(Kind.BIND)) + 12), FULL)

    def test_relieved(self) -> None:
        """A reader that was behind is told once as having caught up, at the high water."""
        self.fill()
        self.channel.write(bytes(2 * HIGH_WATER))
        while self.channel.waiting:
            received(self.peer)
            self.reactor.turn()
        (waited,) = self.reliefs
        self.assertLessEqual(waited, HIGH_WATER)
        self.assertGreater(waited, HIGH_WATER - (2 << 20))

    def test_never_behind(self) -> None:
        """A reader that was not behind has not caught up."""
        self.fill()
        while self.channel.waiting:
            received(self.peer)
            self.reactor.turn()
        self.assertEqual(self.reliefs, [])

    def test_full_but_not_writable(self) -> None:
        """A turn in which the kernel still takes nothing loses nothing."""
        self.fill()
        before = self.channel.waiting
        self.assertIsNone(self.channel.doWrite())
        self.assertEqual(self.channel.waiting, before)


class ReceiveTests(ChannelCase):
    """What comes."""

    def test_interface(self) -> None:
        """A channel is what a reactor watches."""
        self.assertTrue(verifyObject(IReadWriteDescriptor, self.channel))

    @settings(deadline=None, max_examples=40)
    @given(
        bodies=st.lists(st.binary(max_size=40), max_size=8),
        cuts=st.lists(st.integers(0, 400), max_size=8),
    )
    def test_any_pieces(self, bodies: list[bytes], cuts: list[int]) -> None:
        """However the stream is cut, the frames are the same, in order."""
        self.got = []
        stream = b"".join(encode(Kind.MESSAGE, body) for body in bodies)
        ends = sorted(min(cut, len(stream)) for cut in [*cuts, 400])
        for begin, end in zip([0, *ends], ends, strict=False):
            self.peer.sendall(stream[begin:end])
            self.reactor.settle()
        self.assertEqual(self.got, [(Kind.MESSAGE, body) for body in bodies])

    def test_longest(self) -> None:
        """A frame of the largest size passes from one channel to another."""
        other = self.owned(Channel(self.peer.dup(), self.reactor, RAW, mock.Mock(), mock.Mock()))
        other.send(raw(Kind.MESSAGE, b"x" * FRAME_LIMIT))
        self.reactor.settle()
        self.assertEqual(self.got, [(Kind.MESSAGE, b"x" * FRAME_LIMIT)])

    def test_receiver_fails(self) -> None:
        """A frame that cannot be dealt with is logged; the next one comes."""
        self.peer.sendall(encode(Kind.BIND, b"bad") + encode(Kind.BIND, b"good"))
        received = mock.Mock(side_effect=[ZeroDivisionError, None])
        self.channel._received = received
        self.reactor.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(told(received.call_args.args[0]), (Kind.BIND, b"good"))
        self.channel._received = self.received
        self.peer.sendall(encode(Kind.GO))
        self.channel.read_now()
        self.assertEqual(self.got, [(Kind.GO, b"")])

    def test_nonsense(self) -> None:
        """A stream that is no frames ends the channel."""
        self.peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.reactor.settle()
        self.assertEqual((self.losses, self.got), (1, []))
        self.assertTrue(ended(self.peer))


class ReadNowTests(ChannelCase):
    """Taking in what is there without the reactor."""

    def test_everything(self) -> None:
        """All that the other side has written before the call is dealt with when it returns."""
        for _ in range(5):
            self.peer.sendall(encode(Kind.MESSAGE, b"x" * 30_000))
        self.channel.read_now()
        self.assertEqual(len(self.got), 5)

    def test_nothing(self) -> None:
        """If nothing is there, nothing happens."""
        self.channel.read_now()
        self.assertEqual((self.got, self.losses), ([], 0))

    def test_end(self) -> None:
        """The end of the stream is found behind all frames, and told once."""
        self.peer.sendall(encode(Kind.DONE))
        self.peer.close()
        self.channel.read_now()
        self.assertEqual((self.got, self.losses), ([(Kind.DONE, b"")], 1))
        self.channel.read_now()
        self.reactor.settle()
        self.assertEqual(self.losses, 1)

    def test_nonsense(self) -> None:
        """A stream that is no frames ends the channel here, too."""
        self.peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.channel.read_now()
        self.assertEqual(self.losses, 1)

    def test_not_nested(self) -> None:
        """A call while a frame is dealt with does nothing: frames keep their order."""
        order: list[bytes] = []

        def received(frame: Any) -> None:
            body = frame.body()
            order.append(b"begin " + body)
            if body == b"1":
                self.peer.sendall(encode(Kind.BIND, b"3"))
            self.channel.read_now()
            order.append(b"end " + body)

        self.channel._received = received
        self.peer.sendall(encode(Kind.BIND, b"1") + encode(Kind.BIND, b"2"))
        self.reactor.settle()
        self.assertEqual(order, [b"begin 1", b"end 1", b"begin 2", b"end 2", b"begin 3", b"end 3"])


class EndTests(ChannelCase):
    """The ends of a channel."""

    def test_other_side_closes(self) -> None:
        """The owner is told once, after the last frame; nothing stays watched or open."""
        self.channel.send(raw(Kind.GO))
        self.peer.sendall(encode(Kind.DONE))
        self.peer.close()
        self.reactor.settle()
        self.assertEqual((self.got, self.losses), ([(Kind.DONE, b"")], 1))
        self.assertEqual((self.reactor.getReaders(), self.channel.fileno()), ([], -1))
        self.assertFalse(self.channel.connected)

    def test_broken_pipe(self) -> None:
        """A write that finds the other end gone tells the owner by the reactor, not inside it."""
        self.reactor.removeReader(self.channel)  # which would find it, too
        self.peer.close()
        self.channel.send(raw(Kind.GO))
        self.channel.send(raw(Kind.GO))
        self.assertEqual(self.losses, 0)
        self.reactor.settle()
        self.assertEqual(self.losses, 1)

    def test_broken_pipe_while_waiting(self) -> None:
        """The reactor tells of a broken pipe that it finds while it writes what waited."""
        self.fill()
        self.peer.close()
        self.reactor.removeReader(self.channel)
        self.reactor.settle()
        self.assertEqual((self.losses, self.reactor.getWriters()), (1, []))

    def test_write_after_the_end(self) -> None:
        """After the end a write does nothing."""
        self.peer.close()
        self.reactor.settle()
        self.channel.send(raw(Kind.GO))
        self.assertEqual((self.channel.waiting, self.reactor.turn()), (0, 0))

    def test_close(self) -> None:
        """When a channel is closed from here the other side sees the end; the owner is not told."""
        self.fill()
        self.channel.close()
        self.channel.close()
        self.reactor.settle()
        self.assertEqual(self.losses, 0)
        self.assertEqual((self.reactor.getReaders(), self.reactor.getWriters()), ([], []))
        received(self.peer)
        self.assertTrue(ended(self.peer))

    def test_close_after_a_broken_pipe(self) -> None:
        """An owner that closes before a broken pipe was told is not told of it."""
        self.peer.close()
        self.channel.send(raw(Kind.GO))
        self.channel.close()
        self.reactor.settle()
        self.assertEqual(self.losses, 0)


class PairTests(ShellCase):
    """Making a channel."""

    def test_pair(self) -> None:
        """Two ends of a stream, which children do not inherit by chance."""
        for end in channel_pair():
            self.owned(end)
            self.assertEqual((end.type, end.get_inheritable()), (socket.SOCK_STREAM, False))

    def test_room(self) -> None:
        """A frame of 300 kB goes into the kernel whole: it does not wait for a turn."""
        ours, theirs = channel_pair()
        self.owned(theirs)
        end = self.owned(Channel(ours, self.reactor, RAW, mock.Mock(), mock.Mock()))
        end.send(raw(Kind.MESSAGE, bytes(300_000)))
        self.assertEqual(end.waiting, 0)
        self.assertEqual(frames(theirs), [(Kind.MESSAGE, bytes(300_000))])

    def test_limit(self) -> None:
        """The limit is that of the reader: one byte more is a WireError there."""
        reader = channel.FrameReader(RAW, FRAME_LIMIT)
        with self.assertRaises(WireError):
            reader.feed(encode(Kind.MESSAGE, bytes(FRAME_LIMIT + 1)))
