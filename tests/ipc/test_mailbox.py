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
from twisted.internet.interfaces import IReadWriteDescriptor, IUNIXTransport
from zope.interface.verify import verifyObject

from tests.ipc.cases import MailboxCase, Reader
from tests.shells import ShellCase, is_open, no_descriptors_left
from txsticky.ipc.mailbox import BATCH, MailboxTransport, mailbox_pair
from txsticky.ipc.outgoing import MAX_MESSAGE
from txsticky.system.descriptors import RESPITE


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

    def test_empty_with_a_descriptor(self: Any) -> None:
        """A message of no bytes that brings a descriptor is not the end of the mailbox."""
        descriptor, inode = self.file()
        self.sender.outgoing.put(descriptor, b"")
        self.receiver.doRead()
        self.assertEqual((self.pairs(), self.receiver.is_closed()), ([(inode, b"")], False))

    def test_no_memory(self: Any) -> None:
        """ENOBUFS is no end: the message waits for the kernel."""
        real = self.sender.outgoing._sendmsg
        self.sender.outgoing._sendmsg = mock.Mock(side_effect=OSError(errno.ENOBUFS, "no buffers"))
        self.send(b"x")
        self.sender.outgoing._sendmsg = real
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
        """Near the limit a mailbox rests before anything is lost, and goes on when there is room.

        The callback that can make room is called.
        """
        told: list[int] = []
        self.receiver._headroom.ceiling = 0
        self.receiver._short = lambda: told.append(1)
        self.receiver.startReading()
        for number in range(5):
            self.send(b"%d" % number)
        for rests in range(1, 4):
            self.reactor.settle()
            self.assertEqual((self.reader.messages, len(told)), ([b"0"], rests))
            if rests < 3:
                self.reactor.advance(RESPITE)
        self.receiver._headroom.ceiling = 1 << 30
        self.reactor.advance(RESPITE)
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
        self.receiver._headroom.ceiling = 0
        self.receiver._short = mock.Mock(side_effect=ZeroDivisionError)
        self.receiver.startReading()
        for number in range(3):
            self.send(b"%d" % number)
        self.reactor.settle()
        self.assertEqual((self.receiver.resting, self.receiver.is_closed()), (True, False))
        self.receiver._headroom.ceiling = 1 << 30
        self.reactor.advance(RESPITE)
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

    def test_the_end_is_told_in_vain(self: Any) -> None:
        """If the callback that is told of the end fails, the mailbox has ended all the same."""
        self.receiver.finished = mock.Mock(side_effect=ZeroDivisionError)
        self.receiver._lose()
        self.assertTrue(self.receiver.is_closed())
        self.assertFalse(self.receiver.read_one())
        self.assertEqual(self.receiver.finished.call_count, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stopped_while_it_rests(self: Any) -> None:
        """A mailbox that is stopped while it rests does not come back by itself."""
        self.receiver._headroom.ceiling = 0
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

    def test_cut_off(self: Any) -> None:
        """Of descriptors that were cut off the whole ones are closed, and the rest is none."""
        descriptor, _ = self.file()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor.to_bytes(4, "little") + b"\0")
        came = mock.Mock(recvmsg_into=lambda *_: (1, [rights], socket.MSG_CTRUNC, None))
        with mock.patch.object(self.receiver, "socket", came):
            self.assertTrue(self.receiver.read_one())
        self.assertEqual((self.receiver.lost_descriptors, is_open(descriptor)), (1, False))

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

    def test_stopped_by_a_message(self: Any) -> None:
        """The message that has reading stopped is the last that is taken."""
        self.receiver.startReading()
        for number in range(3):
            self.send(b"%d" % number)
        take = self.reader.dataReceived

        def stop(data: bytes) -> None:
            take(data)
            self.receiver.stopReading()

        self.patch(self.reader, "dataReceived", stop)
        self.receiver.doRead()
        self.assertEqual(self.reader.messages, [b"0"])

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
