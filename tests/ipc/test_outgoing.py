"""The sending half of a mailbox: at once, in order, or back."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any
from unittest import mock

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.ipc.cases import MailboxCase
from tests.shells import is_open
from txsticky.errors import MailboxFull
from txsticky.ipc import outgoing
from txsticky.ipc.outgoing import ROOM


class OutgoingTests:
    """What holds for every kind of socket; mixed into a `MailboxCase`."""

    def test_one_sendmsg(self: Any) -> None:
        """Descriptor and message leave in one sendmsg(2), at once, without the reactor."""
        real = self.sender.outgoing._sendmsg
        self.sender.outgoing._sendmsg = mock.Mock(side_effect=real)
        self.send(b"hello")
        self.assertEqual(self.sender.outgoing._sendmsg.call_count, 1)
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

    def test_size(self: Any) -> None:
        """What waits here is counted to the byte."""
        self.fill(more=3)
        sending = self.sender.outgoing
        self.assertEqual(sending._size, sum(len(message) for _, message in sending.waiting))

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
        """When the queue that had formed here is empty again, the callback is called, once."""
        relieved = []
        self.sender._relieved = lambda: relieved.append(self.sender.queued)
        self.fill(more=3)
        self.assertEqual(relieved, [])
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(relieved, [0])

    def test_not_relieved(self: Any) -> None:
        """While some still wait for room, the callback is not called."""
        relieved = []
        self.sender._relieved = lambda: relieved.append(self.sender.queued)
        self.fill(more=3)
        self.sender.doWrite()
        self.assertEqual((relieved, self.sender.queued), ([], 4))

    def test_limit(self: Any) -> None:
        """Over the limit a message is refused, and its descriptor is the caller's, open."""
        self.sender.outgoing.limit = 3
        self.fill(more=2)
        descriptor, _ = self.file()
        self.sender.sendFileDescriptor(descriptor)
        self.assertRaises(MailboxFull, self.sender.write, b"too many")
        self.assertTrue(is_open(descriptor))
        os.close(descriptor)
        self.assertEqual(self.sender.queued, 3)

    def test_room(self: Any) -> None:
        """Messages that are long have a bound of their own on what waits, and it is given back."""
        self.sender.outgoing.limit = 10**6
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
        self.assertEqual(self.sender.outgoing._size, 0)
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
        """When no process can read it any more, the message is refused, the descriptor is left."""
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
        """If no callback wants them back, the descriptors are closed."""
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
        real = self.sender.outgoing._sendmsg
        self.sender.outgoing._sendmsg = mock.Mock(
            side_effect=OSError(errno.ETOOMANYREFS, "too many")
        )
        sent = [(self.send(b"%d" % n)[1], b"%d" % n) for n in range(3)]
        self.assertEqual(self.sender.outgoing._sendmsg.call_count, 1)
        self.assertEqual(self.reactor.turn(), 0)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(outgoing._RETRY)
        self.reactor.settle()
        self.assertEqual(self.sender.outgoing._sendmsg.call_count, 2)
        self.sender.outgoing._sendmsg = real
        self.reactor.advance(outgoing._RETRY)
        self.receiver.startReading()
        self.reactor.settle()
        self.assertEqual(self.pairs(), sent)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_put(self: Any) -> None:
        """The caller is told whether a message has left at once, or waits."""
        sending = self.sender.outgoing
        self.assertIs(sending.put(-1, b"leaves"), True)
        self.fill()
        self.assertIs(sending.put(-1, b"waits"), False)

    def test_too_many_and_taken_back(self: Any) -> None:
        """A retry that is due when nothing waits any more watches nothing."""
        self.sender.outgoing._sendmsg = mock.Mock(
            side_effect=OSError(errno.ETOOMANYREFS, "too many")
        )
        descriptor, _ = self.send(b"x")
        self.assertEqual(self.sender.take_queue(), [(descriptor, b"x")])
        os.close(descriptor)
        self.reactor.advance(outgoing._RETRY)
        self.assertEqual(self.reactor.getWriters(), [])

    def test_too_many_and_closed(self: Any) -> None:
        """A retry that is due after the mailbox was closed does nothing."""
        self.sender.outgoing._sendmsg = mock.Mock(
            side_effect=OSError(errno.ETOOMANYREFS, "too many")
        )
        descriptor, _ = self.send(b"x")
        self.sender.loseConnection()
        self.reactor.advance(outgoing._RETRY)
        self.assertEqual(self.reactor.getWriters(), [])
        self.assertEqual(self.sender.take_queue(), [(descriptor, b"x")])
        os.close(descriptor)

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

    def test_reactor_stops(self: Any) -> None:
        """When the reactor stops, nothing that waits here is leaked."""
        self.fill(more=1)
        descriptor, _ = self.send(b"waits")
        self.sender.connectionLost(Failure(ConnectionLost()))
        self.sender.connectionLost(Failure(ConnectionLost()))
        self.assertFalse(is_open(descriptor))
        self.assertEqual(self.reactor.getWriters(), [])


class SeqpacketOutgoingTests(OutgoingTests, MailboxCase):
    """SOCK_SEQPACKET, Linux's best."""


class DatagramOutgoingTests(OutgoingTests, MailboxCase):
    """SOCK_DGRAM, for a platform without SEQPACKET."""

    kind = socket.SOCK_DGRAM
