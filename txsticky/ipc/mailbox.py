"""
The mailbox: descriptors and their messages, one atomic message each.

A mailbox is a UNIX ``SOCK_SEQPACKET`` pair (``SOCK_DGRAM`` where the platform has no SEQPACKET).
:class:`MailboxTransport` provides `twisted.internet.interfaces.IUNIXTransport` over one end of it:
``sendFileDescriptor(fd)`` and the ``write(message)`` that follows leave as **one** ``sendmsg(2)``,
and at the other end the protocol gets ``fileDescriptorReceived(fd)`` and then
``dataReceived(message)``.

Twisted's own implementation of the interface works on a byte stream: a descriptor rides on whatever
byte is at the head of the buffer, and a receiver that is out of descriptors pairs the next one with
the wrong message.  Here a message that lost its descriptor is one lost message, noticed and
counted, never a mispairing.

Any number of processes may hold a copy of the sending end.
"""

from __future__ import annotations

import collections
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorTime,
    IReadWriteDescriptor,
    IUNIXTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..errors import MailboxFull
from ..system.descriptors import descriptor_ceiling, has_room

#: Bytes of kernel buffer asked for; the kernel may grant less to an unprivileged process
#: (socket(7), wmem_max).
BUFFER = 1 << 20
#: The longest message, if the granted buffer carries it (an unprivileged buffer does, with the
#: kernel's defaults).
MAX_MESSAGE = 320 * 1024
#: Bytes that may wait here, beside the limit on their number: a message may carry a whole head.
ROOM = 16 << 20
#: Messages taken in one turn of the reactor, unless somebody wants fewer: a full mailbox is not to
#: starve the connections.
BATCH = 16

_DESCRIPTOR = struct.Struct("i")
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_TYPE = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)
_LATER = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))
_RETRY = 0.01
_RESPITE = 0.1

# One buffer serves every mailbox of the process: a message is copied out before the next is
# received.
_buffer = memoryview(bytearray(MAX_MESSAGE))


class IMailboxReactor(IReactorFDSet, IReactorTime):
    """What a mailbox needs of a reactor."""


class MailboxProtocol(Protocol):
    """What listens at the reading end."""

    def fileDescriptorReceived(self, descriptor: int, /) -> None:
        """Take ownership of `descriptor`; its message follows at once."""

    def dataReceived(self, data: bytes, /) -> None:
        """Take the message."""


def mailbox_pair(kind: int = _TYPE) -> tuple[socket.socket, socket.socket]:
    """
    Make a mailbox.

    :param kind: the socket type; only a test asks for another than the platform's best.
    :returns: (sending end, reading end), both non-blocking.
    """
    sending, reading = socket.socketpair(socket.AF_UNIX, kind)
    for end in (sending, reading):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    return sending, reading


@implementer(IUNIXTransport, IReadWriteDescriptor)
class MailboxTransport:
    """
    One end of a mailbox.

    :param sock: the end; owned from here on.
    :param reactor: an `IReactorFDSet` and `IReactorTime`.
    :param protocol: gets what arrives, or None for an end that only sends.
    :param limit: messages that may wait here while the kernel's buffer is full.
    :param relieved: called when a queue that had formed here is empty again.
    :param undelivered: gets [(descriptor, message)] when the other end is gone; the descriptors are
        its own then.
    :param finished: called when the other end is gone.
    :param batch: messages taken in one turn of the reactor.
    :param short: called when this process is short of descriptors: what waits here stays in the
        kernel until there is room.
    :param lost: gets each message that came without its descriptor, because this process was at
        its limit.

    Whatever one of these calls raises is logged; the mailbox goes on.
    """

    _log = Logger()
    disconnecting = False

    def __init__(
        self,
        sock: socket.socket,
        reactor: Any,
        protocol: MailboxProtocol | None = None,
        *,
        limit: int = 1024,
        relieved: Callable[[], None] = lambda: None,
        undelivered: Callable[[list[tuple[int, bytes]]], None] | None = None,
        finished: Callable[[], None] = lambda: None,
        short: Callable[[], None] = lambda: None,
        lost: Callable[[bytes], None] = lambda message: None,
        batch: int = BATCH,
    ) -> None:
        self.socket = sock
        self.protocol = protocol
        self.lost_descriptors = 0
        self._reactor = reactor
        self._limit = limit
        self._relieved = relieved
        self._undelivered = undelivered
        self.finished = finished
        self._queue: collections.deque[tuple[int, bytes]] = collections.deque()
        self._size = 0
        self._descriptor = -1
        self._writing = False
        self._crowded = False
        self._batch = batch
        self._short = short
        self._lost = lost
        self._ceiling = descriptor_ceiling()
        self._scarce = False
        self._resting: Any = None
        self._sendmsg = sock.sendmsg
        # unix(7): a message longer than the buffer less its book-keeping is EMSGSIZE for ever.
        self.max_message = min(
            MAX_MESSAGE, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 1024
        )

    # ---------------------------------------------------------------- sending

    def is_closed(self) -> bool:
        """Whether this end is closed: by us, or because the other end is."""
        return bool(self.disconnecting)

    @property
    def resting(self) -> bool:
        """Whether nothing is taken at present, for descriptors are short."""
        return self._resting is not None

    @property
    def queued(self) -> int:
        """How many messages wait here because the kernel's buffer is full."""
        return len(self._queue)

    def sendFileDescriptor(self, descriptor: int) -> None:
        """
        Send `descriptor` with the message of the next `write`.

        The transport owns it from here on and closes this process's copy as soon as the message has
        left.
        """
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """
        Send one message, with the descriptor announced before it, if any. No bytes are no message:
        an announced descriptor then waits for the next.

        :raises MailboxFull: more than `limit` messages or `ROOM` bytes wait already, or the other
            end is gone, or the message is longer than `max_message`; the descriptor is then the
            caller's again.
        """
        if not data:
            return  # at the other end it would look like the end of the mailbox
        descriptor, self._descriptor = self._descriptor, -1
        if self.is_closed() or len(data) > self.max_message:
            raise MailboxFull(queued=len(self._queue))
        if self._queue or not self._send(descriptor, data):
            if self.is_closed() or len(self._queue) >= self._limit or self._size > ROOM:
                raise MailboxFull(queued=len(self._queue))
            self._queue.append((descriptor, data))
            self._size += len(data)
            self._start_writing()

    def writeSequence(self, data: Any) -> None:
        """Send the pieces as one message."""
        self.write(b"".join(data))

    def _send(self, descriptor: int, data: bytes) -> bool:
        """Whether the message has left; if so, this process's copy of the descriptor is closed."""
        try:
            if descriptor < 0:
                self._sendmsg((data,))
            else:
                rights = descriptor.to_bytes(4, sys.byteorder)
                self._sendmsg((data,), ((socket.SOL_SOCKET, socket.SCM_RIGHTS, rights),))
        except OSError as error:
            if error.errno in _LATER:
                return False
            if error.errno == errno.ETOOMANYREFS:
                # unix(7): too many descriptors in flight for this user. It passes when receivers
                # take theirs.
                self._stop_writing()
                if not self._crowded:
                    self._crowded = True
                    self._reactor.callLater(_RETRY, self._try_again)
                return False
            self._lose()
            return False
        if descriptor >= 0:
            os.close(descriptor)
        return True

    def doWrite(self) -> Any:
        """Send what waited."""
        queue = self._queue
        while queue:
            if not self._send(*queue[0]):
                return None
            self._size -= len(queue.popleft()[1])
        self._stop_writing()
        self._tell(self._relieved)
        return None

    def _try_again(self) -> None:
        self._crowded = False
        self._start_writing()

    def _start_writing(self) -> None:
        if not (self._writing or self._crowded or self.disconnecting) and self._queue:
            self._writing = True
            self._reactor.addWriter(self)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)

    @property
    def queue(self) -> list[tuple[int, bytes]]:
        """The messages that wait here."""
        return list(self._queue)

    def take_queue(self) -> list[tuple[int, bytes]]:
        """Take back what waits here, to send it elsewhere."""
        waiting = list(self._queue)
        self._queue.clear()
        self._size = 0
        self._stop_writing()
        return waiting

    # -------------------------------------------------------------- receiving

    def startReading(self) -> None:
        """Begin to take messages."""
        self._reactor.addReader(self)

    def stopReading(self) -> None:
        """Leave the messages where they are: in the kernel, for whoever reads this end next."""
        self._reactor.removeReader(self)
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    def doRead(self) -> Any:
        """Take up to `batch` messages, each wholly dealt with before the next is taken."""
        for _ in range(self._batch):
            if self._scarce and not has_room(self._ceiling):
                self._rest()
                break
            if self.disconnecting or not self.read_one():
                break
        return None

    def _rest(self) -> None:
        """There are hardly any descriptors left: what comes would be lost. Look again later."""
        self._reactor.removeReader(self)
        self._resting = self._reactor.callLater(_RESPITE, self._go_on)
        self._tell(self._short)

    def _go_on(self) -> None:
        self._resting = None
        if has_room(self._ceiling):
            self.startReading()
        else:
            self._rest()

    def read_one(self) -> bool:
        """Take one message, if there is one. At the end of the mailbox, close."""
        if self.disconnecting:
            return False
        try:
            size, ancillary, flags, _ = self.socket.recvmsg_into(
                (_buffer,), socket.CMSG_SPACE(_DESCRIPTOR.size), _CLOEXEC
            )
        except BlockingIOError:
            return False
        except OSError:
            self._lose()
            return False
        descriptors = [
            descriptor
            for level, kind, data in ancillary
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
            for (descriptor,) in _DESCRIPTOR.iter_unpack(data[: len(data) // 4 * 4])
        ]
        if not size and not descriptors:
            self._lose()
            return False
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            # This process is at its limit of descriptors (recvmsg(2), MSG_CTRUNC): the connection
            # is lost, and only that one, because no later descriptor can be taken for it.
            self.lost_descriptors += 1
            for descriptor in descriptors:
                os.close(descriptor)
            self._scarce = True
            if not self.lost_descriptors & (self.lost_descriptors - 1):  # at 1, 2, 4, 8, ...
                self._log.error(
                    "A hand-off lost its descriptor: this process is at its limit of open files"
                    " ({lost} lost so far). Raise the limit (ulimit -n).",
                    lost=self.lost_descriptors,
                )
            self._tell(self._lost, bytes(_buffer[:size]))
            return True
        if descriptors:
            # Once they are scarce, room is looked for before each, for the last one may have filled
            # a gap.
            self._scarce = descriptors[-1] >= self._ceiling - 1 - self._scarce * BATCH
        self._dispatch(descriptors, bytes(_buffer[:size]))
        return True

    def _dispatch(self, descriptors: list[int], message: bytes) -> None:
        try:
            for descriptor in descriptors:
                self.protocol.fileDescriptorReceived(descriptor)  # type: ignore[union-attr]
            self.protocol.dataReceived(message)  # type: ignore[union-attr]
        except Exception:
            # One bad message must not close the mailbox for all the others.
            self._log.failure("A mailbox message could not be dealt with.")

    # ---------------------------------------------------------------- closing

    def _lose(self) -> None:
        waiting = self.take_queue()
        self.loseConnection()
        if self._undelivered is not None:
            self._tell(self._undelivered, waiting)
        else:
            for descriptor, _ in waiting:
                if descriptor >= 0:
                    os.close(descriptor)
        self._tell(self.finished)

    def _tell(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except Exception:
            # What one part of this process makes of the news must not end the mailbox for all.
            self._log.failure("A mailbox could not tell what happened.")

    def loseConnection(self) -> None:
        """Close this end now. Messages that wait here are kept for `take_queue`."""
        if self.disconnecting:
            return
        self.disconnecting = True
        self.stopReading()
        self._stop_writing()
        self.socket.close()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor lost this descriptor (it stops, or polling it failed)."""
        if not self.disconnecting:
            self._lose()

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """A name for the log."""
        return "mailbox"

    def getPeer(self) -> UNIXAddress:
        """A mailbox has no address."""
        return UNIXAddress(None)

    getHost = getPeer
