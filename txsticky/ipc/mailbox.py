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

import array
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IReadWriteDescriptor, IUNIXTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..system.descriptors import RESPITE, Headroom
from .outgoing import MAX_MESSAGE, Outgoing

#: Bytes of kernel buffer asked for; the kernel may grant less to an unprivileged process
#: (socket(7), wmem_max).
BUFFER = 1 << 20
#: Messages taken in one turn of the reactor, unless the owner wants fewer: a full mailbox is not
#: to starve the connections.
BATCH = 16

_SOCKET, _RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
#: Room for one descriptor beside a message: a message never carries two.
_ANCILLARY = socket.CMSG_SPACE(array.array("i").itemsize)
_CLOEXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))
#: A number: the operators of Python's flags cost more than the system call.
_TRUNCATED = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_TYPE = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)

# One buffer serves every mailbox of the process: a message is copied out before the next is
# received.
_buffer = memoryview(bytearray(MAX_MESSAGE))


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


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came with a message (cmsg(3))."""
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == _SOCKET and kind == _RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()


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

    :ivar outgoing: what leaves by this end: its `put` is a `sendFileDescriptor` with a `write`.
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
        self.finished = finished
        self._reactor = reactor
        self._undelivered = undelivered
        self._relieved = relieved
        self.outgoing = Outgoing(sock, self, reactor, limit, self._lose)
        self._batch = batch
        self._stopped = False
        self._short = short
        self._lost = lost
        self._headroom = Headroom(BATCH)
        self._resting: Any = None

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
        return len(self.outgoing.waiting)

    @property
    def max_message(self) -> int:
        """Bytes that a message may have."""
        return self.outgoing.longest

    def sendFileDescriptor(self, descriptor: int) -> None:
        """
        Send `descriptor` with the message of the next `write`.

        The transport owns it from here on and closes this process's copy as soon as the message has
        left.
        """
        self.outgoing.announced = descriptor

    def write(self, data: bytes) -> None:
        """
        Send one message and any descriptor announced before it; no bytes leave that to the next.

        :raises MailboxFull: more than `limit` messages or `ROOM` bytes wait already, or the other
            end is gone, or the message is longer than `max_message`; the descriptor is then the
            caller's again.
        """
        if not data:
            return  # at the other end it would look like the end of the mailbox
        self.outgoing.put_announced(data)

    def writeSequence(self, data: Any) -> None:
        """Send the pieces as one message."""
        self.write(b"".join(data))

    def doWrite(self) -> Any:
        """Send what waited."""
        if self.outgoing.send_waiting():
            self._tell(self._relieved)
        return None

    @property
    def queue(self) -> list[tuple[int, bytes]]:
        """The messages that wait here."""
        return list(self.outgoing.waiting)

    def take_queue(self) -> list[tuple[int, bytes]]:
        """Take back what waits here, to send it elsewhere."""
        return self.outgoing.take()

    # -------------------------------------------------------------- receiving

    def startReading(self) -> None:
        """Begin to take messages."""
        self._stopped = False
        self._reactor.addReader(self)

    def stopReading(self) -> None:
        """Leave the messages where they are: in the kernel, for the next reader of this end."""
        self._stopped = True
        self._reactor.removeReader(self)
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    def doRead(self) -> Any:
        """Take up to `batch` messages, each dealt with before the next, until reading stops."""
        headroom = self._headroom
        for _ in range(self._batch):
            if headroom.scarce and not headroom.has_room():
                self._rest()
                break
            if not self.read_one() or self._stopped:
                break
        return None

    def _rest(self) -> None:
        """Look again later: descriptors are scarce, and what is taken now could be lost."""
        self._reactor.removeReader(self)
        self._resting = self._reactor.callLater(RESPITE, self._go_on)
        self._tell(self._short)

    def _go_on(self) -> None:
        self._resting = None
        if self._headroom.has_room():
            self.startReading()
        else:
            self._rest()

    def read_one(self) -> bool:
        """Take a message; returns whether there was any. At the end of the mailbox, close."""
        if self.disconnecting:
            return False
        try:
            size, ancillary, flags, _ = self.socket.recvmsg_into((_buffer,), _ANCILLARY, _CLOEXEC)
        except BlockingIOError:
            return False
        except OSError:
            self._lose()
            return False
        descriptors = _descriptors(ancillary) if ancillary else []
        if not size and not descriptors:
            self._lose()
            return False
        if flags & _TRUNCATED:
            self._lose_descriptors(descriptors, bytes(_buffer[:size]))
            return True
        headroom = self._headroom
        if descriptors and (headroom.scarce or descriptors[-1] + 1 >= headroom.ceiling):
            headroom.taken(descriptors[-1])
        self._dispatch(descriptors, bytes(_buffer[:size]))
        return True

    def _lose_descriptors(self, descriptors: list[int], message: bytes) -> None:
        """
        Give up a message that came without its descriptor (recvmsg(2), MSG_CTRUNC).

        This process is at its limit of open files. Only that connection is lost, because no later
        descriptor can be taken for it.
        """
        for descriptor in descriptors:
            os.close(descriptor)
        self._headroom.scarce = True
        self.lost_descriptors += 1
        if not self.lost_descriptors & (self.lost_descriptors - 1):  # at 1, 2, 4, 8, ...
            self._log.error(
                "A hand-off lost its descriptor: this process is at its limit of open files"
                " ({lost} lost so far). Raise the limit (ulimit -n).",
                lost=self.lost_descriptors,
            )
        self._tell(self._lost, message)

    def _dispatch(self, descriptors: list[int], message: bytes) -> None:
        try:
            for descriptor in descriptors:
                self.protocol.fileDescriptorReceived(descriptor)  # type: ignore[union-attr]
            self.protocol.dataReceived(message)  # type: ignore[union-attr]
        except Exception:
            # A bad message must not close the mailbox for the messages behind it.
            self._log.failure("A mailbox message could not be dealt with.")

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
            self._log.failure("A callback of a mailbox failed; the mailbox goes on.")

    def loseConnection(self) -> None:
        """Close this end now. Messages that wait here are kept for `take_queue`."""
        if self.disconnecting:
            return
        self.disconnecting = True
        self.stopReading()
        self.outgoing.close()
        self.socket.close()

    def connectionLost(self, reason: Failure) -> None:
        """Close this end, whose descriptor the reactor has lost: it stops, or polling failed."""
        if not self.disconnecting:
            self._lose()

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """A name for the log."""
        return "mailbox"

    def getPeer(self) -> UNIXAddress:
        """Return an empty address: a mailbox has none."""
        return UNIXAddress(None)

    getHost = getPeer
