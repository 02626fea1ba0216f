"""The mailbox: one atomic message a descriptor, whatever the buffers and the processes do."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadWriteDescriptor, IUNIXTransport
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.shells import ShellCase, is_open, no_descriptors_left
from txsticky.errors import MailboxFull
from txsticky.ipc import mailbox
from txsticky.ipc.mailbox import _RESPITE, BATCH, MAX_MESSAGE, ROOM, MailboxTransport, mailbox_pair


class Reader:
    """Keeps what arrives, each descriptor with the message that followed it."""

    def __init__(self) -> None:
        self.got: list[tuple[int | None, bytes]] = []
        self.fail_on: bytes | None = None
        self._descriptor: int | None = None

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Keep a descriptor for its message."""
        assert self._descriptor is None, "two descriptors in a row"
        self._descriptor = descriptor

    def dataReceived(self, data: bytes) -> None:
        """Keep a message."""
        self.got.append((self._descriptor, data))
        self._descriptor = None
        if data == self.fail_on:
            raise ZeroDivisionError("the reader fails")

    @property
    def messages(self) -> list[bytes]:
        """The messages alone."""
        return [message for _, message in self.got]

    def close(self) -> None:
        """Close all descriptors."""
        for descriptor, _ in self.got:
            if descriptor is not None:
                os.close(descriptor)
        self.got = []


class MailboxCase(ShellCase):
    """A mailbox with both ends here."""

    kind = socket.SOCK_SEQPACKET

    def setUp(self) -> None:
        super().setUp()
        self.reader = self.owned(Reader())
        sending, self.reading = mailbox_pair(self.kind)
        self.receiver = self.transport(self.reading, self.reader)
        self.sender = self.transport(sending)

    def transport(self, end: socket.socket, *arguments: Any, **options: Any) -> MailboxTransport:
        """A transport over an end, closed when the test ends."""
        transport = MailboxTransport(end, self.reactor, *arguments, **options)
        self.addCleanup(self.close, transport)
        return transport

    def close(self, transport: MailboxTransport) -> None:
        """Close a transport and what waits in it."""
        for descriptor, _ in transport.take_queue():
            if descriptor >= 0:
                os.close(descriptor)
        transport.loseConnection()

    def file(self) -> tuple[int, int]:
        """A descriptor of a file that nobody else has open, and the number of its inode."""
        reading, writing = os.pipe()
        os.close(writing)
        return reading, os.fstat(reading).st_ino

    def send(self, message: bytes, sender: MailboxTransport | None = None) -> tuple[int, int]:
        """Send a message with a descriptor; returns the descriptor and its inode."""
        descriptor, inode = self.file()
        sender = sender or self.sender
        sender.sendFileDescriptor(descriptor)
        try:
            sender.write(message)
        except MailboxFull:
            os.close(descriptor)
            raise
        return descriptor, inode

    def fill(self, size: int = 600, more: int = 0) -> list[tuple[int, bytes]]:
        """Send until the kernel takes no more, and so many on top; returns (inode, message)s."""
        sent: list[tuple[int, bytes]] = []
        while self.sender.queued < 1 + more:
            message = b"%d " % len(sent) + bytes(size)
            sent.append((self.send(message)[1], message))
        return sent

    def pairs(self) -> list[tuple[int, bytes]]:
        """What was received, as (inode, message)s."""
        return [
            (os.fstat(descriptor).st_ino if descriptor is not None else 0, message)
            for descriptor, message in self.reader.got
        ]


class CommonTests:
    """What holds for every kind of socket; mixed into a `MailboxCase`."""

    def test_interfaces(self: Any) -> None:
        """Both ends provide IUNIXTransport, and are what a reactor watches."""
        for end in (self.sender, self.receiver):
            self.assertTrue(verifyObject(IUNIXTransport, end))
            self.assertTrue(verifyObject(IReadWriteDescriptor, end))

    def test_arrives(self: Any) -> None:
        """A descriptor arrives, and then its message."""
        _, inode = self.send(b"hello")
        self.receiver.doRead()
        self.assertEqual(self.pairs(), [(inode, b"hello")])

    def test_one_sendmsg(self: Any) -> None:
        """Descriptor and message leave in one sendmsg(2), at once, without the reactor."""
        real = self.sender._sendmsg
        self.sender._sendmsg = mock.Mock(side_effect=real)
        self.send(b"hello")
        self.assertEqual(self.sender._sendmsg.call_count, 1)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_sequence(self: Any) -> None:
        """The pieces of a sequence are one message."""
        self.sender.writeSequence([b"one ", b"message"])
        self.receiver.doRead()
        self.assertEqual(self.reader.got, [(None, b"one message")])

    def test_without_descriptor(self: Any) -> None:
        """A message may come alone; the descriptor sent before is not sent with it again."""
        self.send(b"first")
        self.sender.write(b"second")
        self.receiver.doRead()
        self.assertEqual([d is None for d, _ in self.reader.got], [False, True])

    def test_nothing(self: Any) -> None:
        """Writing no bytes sends nothing, as with any transport: the descriptor waits for some."""
        descriptor, inode = self.file()
        self.sender.sendFileDescriptor(descriptor)
        self.sender.write(b"")
        self.receiver.doRead()
        self.assertEqual((self.reader.got, self.receiver.is_closed()), ([], False))
        self.sender.write(b"now")
        self.receiver.doRead()
        self.assertEqual(self.pairs(), [(inode, b"now")])

    def test_closed_after_the_send(self: Any) -> None:
        """As soon as the message has left, this process's copy is closed."""
        descriptor, _ = self.send(b"hello")
        self.assertFalse(is_open(descriptor))

    def test_open_until_the_send(self: Any) -> None:
        """A descriptor that waits here stays open, and is closed when it leaves."""
        self.fill()
        descriptor, _ = self.send(b"waits")
        self.sender.doWrite()
        self.assertTrue(is_open(descriptor))
        while self.sender.queued:
            self.receiver.doRead()
            self.sender.doWrite()
        self.assertFalse(is_open(descriptor))

    def test_full(self: Any) -> None:
        """Through a full kernel buffer everything comes in its order, each with its descriptor."""
        sent = self.fill(more=30)
        self.assertEqual(self.reactor.getWriters(), [self.sender])
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(self.pairs(), sent)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_no_overtaking(self: Any) -> None:
        """While messages wait here, a later one does not go ahead although there is room."""
        sent = self.fill(more=3)
        self.receiver.doRead()  # makes room
        sent.append((self.send(b"last")[1], b"last"))
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(self.pairs(), sent)

    def test_full_without_descriptor(self: Any) -> None:
        """Messages with and without a descriptor are never mixed up in the queue."""
        sent = self.fill()
        for number in range(10):
            if number % 2:
                self.sender.write(b"alone %d" % number)
                sent.append((0, b"alone %d" % number))
            else:
                sent.append((self.send(b"with %d" % number)[1], b"with %d" % number))
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(self.pairs(), sent)

    def test_relieved(self: Any) -> None:
        """When the queue that had formed here is empty again, somebody is told, once."""
        relieved = []
        self.sender._relieved = lambda: relieved.append(self.sender.queued)
        self.fill(more=3)
        self.assertEqual(relieved, [])
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(relieved, [0])

    def test_limit(self: Any) -> None:
        """Over the limit a message is refused, and its descriptor is the caller's, open."""
        self.sender._limit = 3
        self.fill(more=2)
        descriptor, _ = self.file()
        self.sender.sendFileDescriptor(descriptor)
        self.assertRaises(MailboxFull, self.sender.write, b"too many")
        self.assertTrue(is_open(descriptor))
        os.close(descriptor)
        self.assertEqual(self.sender.queued, 3)

    def test_room(self: Any) -> None:
        """Messages that are long have a bound of their own on what waits, and it is given back."""
        self.sender._limit = 10**6
        self.fill()
        message = bytes(self.sender.max_message)

        def put() -> int:
            for number in range(2 * ROOM // len(message)):
                try:
                    self.sender.write(message)
                except MailboxFull:
                    return number
            raise AssertionError("there is no bound")

        self.assertLessEqual(put(), ROOM // len(message) + 1)
        self.assertEqual(put(), 0)
        for descriptor, _ in self.sender.take_queue():
            if descriptor >= 0:
                os.close(descriptor)
        self.assertEqual(self.sender.queued, 0)
        self.assertGreater(put(), 1)
        while self.sender.queued:
            self.receiver.doRead()
            self.reactor.turn()
        self.assertEqual(self.sender._size, 0)
        self.sender.take_queue()

    def test_refused_descriptor_is_forgotten(self: Any) -> None:
        """What was refused is not sent with the next message."""
        self.sender.sendFileDescriptor(99999)
        self.assertRaises(MailboxFull, self.sender.write, bytes(self.sender.max_message + 1))
        self.sender.write(b"next")
        self.receiver.doRead()
        self.assertEqual(self.reader.got, [(None, b"next")])

    def test_longest(self: Any) -> None:
        """A message of the largest size passes whole."""
        message = os.urandom(self.sender.max_message)
        _, inode = self.send(message)
        self.receiver.doRead()
        self.assertEqual(self.pairs(), [(inode, message)])

    def test_longest_carries_any_prefix(self: Any) -> None:
        """The largest head and one more read fit in a message."""
        self.assertGreaterEqual(self.sender.max_message, 131072 + 65536 + 1024)

    def test_too_long(self: Any) -> None:
        """A longer message is refused, its descriptor stays open, and the mailbox goes on."""
        descriptor, _ = self.file()
        self.sender.sendFileDescriptor(descriptor)
        self.assertRaises(MailboxFull, self.sender.write, bytes(self.sender.max_message + 1))
        self.assertTrue(is_open(descriptor))
        os.close(descriptor)
        self.send(b"next")
        self.receiver.doRead()
        self.assertEqual(self.reader.messages, [b"next"])

    def test_closed(self: Any) -> None:
        """A mailbox that was closed refuses, and the descriptor stays open."""
        self.sender.loseConnection()
        descriptor, _ = self.file()
        self.sender.sendFileDescriptor(descriptor)
        self.assertRaises(MailboxFull, self.sender.write, b"x")
        self.assertTrue(is_open(descriptor))
        os.close(descriptor)

    def test_no_reader(self: Any) -> None:
        """When nobody can read it any more, the message is refused and the descriptor is left."""
        self.receiver.loseConnection()
        descriptor, _ = self.file()
        self.sender.sendFileDescriptor(descriptor)
        self.assertRaises(MailboxFull, self.sender.write, b"x")
        self.assertTrue(is_open(descriptor))
        os.close(descriptor)
        self.assertTrue(self.sender.is_closed())

    def test_undelivered(self: Any) -> None:
        """What waits here when the last reader goes is given back, descriptors open, in order."""
        back: list[tuple[int, bytes]] = []
        self.sender._undelivered = back.extend
        sent = self.fill(more=3)
        self.receiver.loseConnection()
        self.reactor.settle()
        self.assertEqual([(os.fstat(d).st_ino, m) for d, m in back], sent[-4:])
        for descriptor, _ in back:
            os.close(descriptor)

    def test_undelivered_nobody(self: Any) -> None:
        """If nobody wants it back, the descriptors are closed."""
        self.fill(more=2)
        descriptor, _ = self.send(b"waits")
        self.receiver.loseConnection()
        self.reactor.settle()
        self.assertFalse(is_open(descriptor))
        self.assertEqual(self.reactor.getWriters(), [])

    def test_take_queue(self: Any) -> None:
        """What waits here can be taken back, to go elsewhere; the rest is delivered."""
        sent = self.fill(more=3)
        taken = self.sender.take_queue()
        self.assertEqual([(os.fstat(d).st_ino, m) for d, m in taken], sent[-4:])
        self.assertEqual(self.reactor.getWriters(), [])
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(self.pairs(), sent[:-4])
        for descriptor, _ in taken:
            os.close(descriptor)

    def test_too_many_in_flight(self: Any) -> None:
        """ETOOMANYREFS is waited for by a timer: no descriptor watched, no turn spent."""
        real = self.sender._sendmsg
        self.sender._sendmsg = mock.Mock(side_effect=OSError(errno.ETOOMANYREFS, "too many"))
        sent = [(self.send(b"%d" % n)[1], b"%d" % n) for n in range(3)]
        self.assertEqual(self.sender._sendmsg.call_count, 1)
        self.assertEqual(self.reactor.turn(), 0)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(mailbox._RETRY)
        self.reactor.settle()
        self.assertEqual(self.sender._sendmsg.call_count, 2)
        self.sender._sendmsg = real
        self.reactor.advance(mailbox._RETRY)
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(self.pairs(), sent)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_too_many_and_closed(self: Any) -> None:
        """A retry that is due after the mailbox was closed does nothing."""
        self.sender._sendmsg = mock.Mock(side_effect=OSError(errno.ETOOMANYREFS, "too many"))
        descriptor, _ = self.send(b"x")
        self.sender.loseConnection()
        self.reactor.advance(mailbox._RETRY)
        self.assertEqual(self.reactor.getWriters(), [])
        self.assertEqual(self.sender.take_queue(), [(descriptor, b"x")])
        os.close(descriptor)

    def test_no_memory(self: Any) -> None:
        """ENOBUFS is no end: the message waits for the kernel."""
        real = self.sender._sendmsg
        self.sender._sendmsg = mock.Mock(side_effect=OSError(errno.ENOBUFS, "no buffers"))
        self.send(b"x")
        self.sender._sendmsg = real
        self.reactor.turn()
        self.receiver.doRead()
        self.assertEqual(self.reader.messages, [b"x"])

    def test_out_of_descriptors(self: Any) -> None:
        """Out of descriptors, one message is lost and counted; the next has its own descriptor."""
        self.send(b"lost")
        with no_descriptors_left():
            self.receiver.read_one()
        self.assertEqual(self.receiver.lost_descriptors, 1)
        _, inode = self.send(b"next")
        self.receiver.doRead()
        self.assertEqual(self.pairs(), [(inode, b"next")])

    def test_out_of_descriptors_for_long(self: Any) -> None:
        """Every message of that time is lost alone; none is paired with another's descriptor."""
        for number in range(3):
            self.send(b"lost %d" % number)
        self.sender.write(b"no descriptor wanted")
        with no_descriptors_left():
            for _ in range(4):
                self.receiver.read_one()
        self.assertEqual(self.reader.got, [(None, b"no descriptor wanted")])
        self.assertEqual(self.receiver.lost_descriptors, 3)

    def test_rests(self: Any) -> None:
        """Near the limit it rests, before anything is lost; what waits is taken when there is room.

        Whoever can make room is told.
        """
        told: list[int] = []
        self.receiver._ceiling = 0
        self.receiver._short = lambda: told.append(1)
        self.receiver.startReading()
        for number in range(5):
            self.send(b"%d" % number)
        for rests in range(1, 4):
            self.reactor.settle()
            self.assertEqual((self.reader.messages, len(told)), ([b"0"], rests))
            if rests < 3:
                self.reactor.advance(_RESPITE)
        self.receiver._ceiling = 1 << 30
        self.reactor.advance(_RESPITE)
        self.reactor.settle()
        self.assertEqual(self.reader.messages, [b"0", b"1", b"2", b"3", b"4"])

    def test_lost_is_told(self: Any) -> None:
        """What a message said whose descriptor is lost can still be taken in."""
        told: list[bytes] = []
        self.receiver._lost = told.append
        self.send(b"lost")
        with no_descriptors_left():
            self.receiver.read_one()
        self.assertEqual((told, self.reader.got), ([b"lost"], []))

    def test_whoever_makes_room_fails(self: Any) -> None:
        """If making room fails, the mailbox is read on all the same when there is room."""
        self.receiver._ceiling = 0
        self.receiver._short = mock.Mock(side_effect=ZeroDivisionError)
        self.receiver.startReading()
        for number in range(3):
            self.send(b"%d" % number)
        self.reactor.settle()
        self.assertEqual((self.receiver.resting, self.receiver.is_closed()), (True, False))
        self.receiver._ceiling = 1 << 30
        self.reactor.advance(_RESPITE)
        self.reactor.settle()
        self.assertEqual((self.reader.messages, self.receiver.resting), ([b"0", b"1", b"2"], False))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_the_lost_are_mourned_in_vain(self: Any) -> None:
        """If what is told of a lost descriptor fails, the next message is taken."""
        self.receiver._lost = mock.Mock(side_effect=ZeroDivisionError)
        self.send(b"lost")
        with no_descriptors_left():
            self.receiver.read_one()
        self.sender.write(b"next")
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(self.reader.messages, [b"next"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_relief_fails(self: Any) -> None:
        """If what is told of new room fails, the mailbox is written to as before."""
        self.sender._relieved = mock.Mock(side_effect=ZeroDivisionError)
        sent = self.fill()
        self.receiver.startReading()
        self.reactor.settle()
        sent.append((self.send(b"next")[1], b"next"))
        self.reactor.settle()
        self.assertEqual((self.pairs(), self.sender.queued), (sent, 0))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_the_end_is_told_in_vain(self: Any) -> None:
        """If whoever is told of the end fails, the mailbox has ended all the same."""
        self.receiver.finished = mock.Mock(side_effect=ZeroDivisionError)
        self.receiver._lose()
        self.assertTrue(self.receiver.is_closed())
        self.assertFalse(self.receiver.read_one())
        self.assertEqual(self.receiver.finished.call_count, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stopped_while_it_rests(self: Any) -> None:
        """Stopped while it rests, it does not come back by itself."""
        self.receiver._ceiling = 0
        self.receiver.startReading()
        self.send(b"first")
        self.send(b"second")
        self.reactor.settle()
        self.receiver.stopReading()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reader.messages, [b"first"])

    def test_truncated(self: Any) -> None:
        """A message longer than any that may be sent is lost with its descriptor, and alone."""
        descriptor, _ = self.file()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor.to_bytes(4, "little"))]
        self.sender.socket.sendmsg([bytes(MAX_MESSAGE + 1)], rights)
        os.close(descriptor)
        self.send(b"next")
        self.receiver.doRead()
        self.assertEqual(self.reader.messages, [b"next"])
        self.assertEqual(self.receiver.lost_descriptors, 1)

    def test_not_inherited(self: Any) -> None:
        """A descriptor that arrives is not inherited by children (FD_CLOEXEC)."""
        self.send(b"hello")
        self.receiver.doRead()
        ((descriptor, _),) = self.reader.got
        self.assertTrue(fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)

    def test_several_senders(self: Any) -> None:
        """Any number of processes may hold the sending end; each one's order is kept."""
        other = self.transport(self.sender.socket.dup())
        for number in range(5):
            self.send(b"a%d" % number)
            self.send(b"b%d" % number, other)
        self.receiver.doRead()
        messages = self.reader.messages
        self.assertEqual(messages, sorted(messages, key=lambda m: m[1:]))
        self.assertEqual(len(set(self.pairs())), 10)

    def test_several_readers(self: Any) -> None:
        """What one reader leaves, another one takes: the mailbox outlives its worker."""
        heir_reader = self.owned(Reader())
        heir = self.transport(self.reading.dup(), heir_reader)
        for number in range(3):
            self.send(b"%d" % number)
        self.receiver.read_one()
        self.receiver.loseConnection()
        heir.doRead()
        self.assertEqual(self.reader.messages, [b"0"])
        self.assertEqual(heir_reader.messages, [b"1", b"2"])

    def test_stopped(self: Any) -> None:
        """While reading is stopped, messages stay in the kernel."""
        self.receiver.startReading()
        self.receiver.stopReading()
        self.send(b"hello")
        self.reactor.settle()
        self.assertEqual(self.reader.got, [])
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(self.reader.messages, [b"hello"])

    def test_batch(self: Any) -> None:
        """One turn takes so many messages and no more."""
        for number in range(BATCH + 3):
            self.send(b"%d" % number)
        self.receiver.doRead()
        self.assertEqual(len(self.reader.got), BATCH)

    def test_closed_by_the_reader(self: Any) -> None:
        """A reader that closes the mailbox in the middle of a batch gets no more."""
        self.send(b"first")
        self.send(b"second")
        self.reader.dataReceived = lambda data: self.receiver.loseConnection()
        self.addCleanup(lambda: os.close(self.reader._descriptor))
        self.assertIsNone(self.receiver.doRead())
        self.assertTrue(self.receiver.is_closed())

    def test_reader_fails(self: Any) -> None:
        """A message that cannot be dealt with is logged; the next one comes."""
        self.reader.fail_on = b"bad"
        for message in (b"bad", b"good"):
            self.send(message)
        self.receiver.doRead()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.reader.messages, [b"bad", b"good"])

    def test_reused_buffer(self: Any) -> None:
        """A message that was kept does not change when the next one comes."""
        self.send(b"aaaa")
        self.send(b"bb")
        self.receiver.doRead()
        self.assertEqual(self.reader.messages, [b"aaaa", b"bb"])

    def test_lose_connection(self: Any) -> None:
        """Closing stops reading and writing, closes the descriptor, and can be done twice."""
        self.receiver.startReading()
        descriptor = self.receiver.fileno()
        self.receiver.loseConnection()
        self.receiver.loseConnection()
        self.assertFalse(is_open(descriptor))
        self.assertEqual(self.reactor.getReaders(), [])

    def test_reactor_stops(self: Any) -> None:
        """When the reactor stops, nothing that waits here is leaked."""
        self.fill(more=1)
        descriptor, _ = self.send(b"waits")
        self.sender.connectionLost(Failure(ConnectionLost()))
        self.sender.connectionLost(Failure(ConnectionLost()))
        self.assertFalse(is_open(descriptor))
        self.assertEqual(self.reactor.getWriters(), [])


class SeqpacketTests(CommonTests, MailboxCase):
    """SOCK_SEQPACKET, Linux's best."""

    def test_pair(self) -> None:
        """A mailbox is a SEQPACKET pair where there is one."""
        self.assertEqual(self.reading.type, socket.SOCK_SEQPACKET)

    def test_last_sender(self) -> None:
        """When the last sender has closed, what it sent is read, then the mailbox ends."""
        finished = mock.Mock()
        self.receiver.finished = finished
        other = self.transport(self.sender.socket.dup())
        self.receiver.startReading()
        self.send(b"one")
        self.sender.loseConnection()
        self.reactor.settle()
        self.assertEqual((self.reader.messages, finished.call_count), ([b"one"], 0))
        self.send(b"two", other)
        other.loseConnection()
        self.reactor.settle()
        self.assertEqual((self.reader.messages, finished.call_count), ([b"one", b"two"], 1))
        self.assertTrue(self.receiver.is_closed())
        self.assertEqual(self.reactor.getReaders(), [])

    def test_capacity(self) -> None:
        """The buffer holds far more than the default's 167 messages."""
        self.assertGreater(len(self.fill(size=600)), 300)


class DatagramTests(CommonTests, MailboxCase):
    """SOCK_DGRAM, for a platform without SEQPACKET."""

    kind = socket.SOCK_DGRAM


class PropertyTests(ShellCase):
    """Any messages, in any rhythm."""

    @settings(deadline=None, max_examples=40)
    @given(
        messages=st.lists(
            st.tuples(st.booleans(), st.sampled_from([1, 30, 600, 70_000, 140_000])),
            min_size=1,
            max_size=20,
        ),
        rhythm=st.lists(st.sampled_from("srw"), max_size=60),
    )
    def test_order_and_pairing(self, messages: list[tuple[bool, int]], rhythm: list[str]) -> None:
        """However sends, reads and writes alternate, all comes once, in order, well paired."""
        sending, reading = mailbox_pair()
        reader = Reader()
        sender = MailboxTransport(sending, self.reactor)
        receiver = MailboxTransport(reading, self.reactor, reader)
        sent = []
        steps = iter([*rhythm, *"s" * len(messages)])
        for number, (with_descriptor, size) in enumerate(messages):
            while (step := next(steps)) != "s":
                receiver.read_one() if step == "r" else sender.doWrite()
            inode = 0
            if with_descriptor:
                descriptor, writing = os.pipe()
                os.close(writing)
                inode = os.fstat(descriptor).st_ino
                sender.sendFileDescriptor(descriptor)
            message = b"%d" % number + bytes(size)
            sender.write(message)
            sent.append((inode, message))
        receiver.startReading()
        self.reactor.settle()
        got = [
            (0 if descriptor is None else os.fstat(descriptor).st_ino, message)
            for descriptor, message in reader.got
        ]
        reader.close()
        sender.loseConnection()
        receiver.loseConnection()
        self.assertEqual(got, sent)
