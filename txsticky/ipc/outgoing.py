"""The sending half of a mailbox: what the kernel's buffer does not take at once waits here."""

from __future__ import annotations

import collections
import errno
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IWriteDescriptor

from ..errors import MailboxFull

#: The longest message, if the granted buffer carries it (an unprivileged buffer does, with the
#: kernel's defaults).
MAX_MESSAGE = 320 * 1024
#: Bytes that may wait here, beside the limit on their number: a message may carry a whole head.
ROOM = 16 << 20

_SOCKET, _RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)
_LATER = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))
#: Seconds until the next attempt while too many descriptors are in flight.
_RETRY = 0.01


class Outgoing:
    """
    The messages that leave by one end of a mailbox.

    :param sock: the end; closed by its owner.
    :param owner: what the reactor watches for room in the kernel's buffer; calls `send_waiting`.
    :param reactor: an `IReactorFDSet` and `IReactorTime`.
    :param limit: messages that may wait here while the kernel's buffer is full.
    :param gone: called when the other end turns out to be gone; raises nothing, and calls `close`.
    :ivar longest: bytes that a message may have.
    :ivar announced: the descriptor that goes with the next message; -1 is none.
    """

    __slots__ = (
        "_closed",
        "_crowded",
        "_gone",
        "_owner",
        "_reactor",
        "_sendmsg",
        "_size",
        "_watched",
        "announced",
        "limit",
        "longest",
        "waiting",
    )

    def __init__(
        self,
        sock: socket.socket,
        owner: IWriteDescriptor,
        reactor: Any,
        limit: int,
        gone: Callable[[], None],
    ) -> None:
        self.limit = limit
        self.announced = -1
        self.waiting: collections.deque[tuple[int, bytes]] = collections.deque()
        # unix(7): a message longer than the buffer less its book-keeping is EMSGSIZE for ever.
        self.longest = min(MAX_MESSAGE, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 1024)
        self._sendmsg = sock.sendmsg
        self._owner = owner
        self._reactor = reactor
        self._gone = gone
        self._size = 0
        self._watched = False
        self._crowded = False
        self._closed = False

    def put_announced(self, data: bytes) -> None:
        """Do what `put` does, with the descriptor that was announced."""
        descriptor, self.announced = self.announced, -1
        self.put(descriptor, data)

    def put(self, descriptor: int, data: bytes) -> bool:
        """
        Send a message now, or have it wait here.

        :param descriptor: goes with it, and is this object's then; -1 is none.
        :returns: whether the message has left.
        :raises MailboxFull: it is too long, too much waits already, or an end is closed. The
            descriptor is still the caller's.
        """
        if self._closed or len(data) > self.longest:
            raise MailboxFull(queued=len(self.waiting))
        if not self.waiting and self._send(descriptor, data):
            return True
        if self.is_closed() or len(self.waiting) >= self.limit or self._size > ROOM:
            raise MailboxFull(queued=len(self.waiting))
        self.waiting.append((descriptor, data))
        self._size += len(data)
        self._watch()
        return False

    def _send(self, descriptor: int, data: bytes) -> bool:
        """Whether the message has left; if so, this process's copy of the descriptor is closed."""
        try:
            if descriptor < 0:
                self._sendmsg((data,))
            else:
                rights = descriptor.to_bytes(4, sys.byteorder)
                self._sendmsg((data,), ((_SOCKET, _RIGHTS, rights),))
        except OSError as error:
            if error.errno in _LATER:
                return False
            if error.errno == errno.ETOOMANYREFS:
                # unix(7): too many descriptors in flight for this user. It passes when receivers
                # take theirs.
                self._unwatch()
                if not self._crowded:
                    self._crowded = True
                    self._reactor.callLater(_RETRY, self._try_again)
                return False
            self._gone()
            return False
        if descriptor >= 0:
            os.close(descriptor)
        return True

    def send_waiting(self) -> bool:
        """
        Send what waits, as far as the kernel takes it.

        :returns: whether nothing waits any more.
        """
        waiting = self.waiting
        while waiting:
            if not self._send(*waiting[0]):
                return False
            self._size -= len(waiting.popleft()[1])
        self._unwatch()
        return True

    def _try_again(self) -> None:
        self._crowded = False
        self._watch()

    def _watch(self) -> None:
        if not (self._watched or self._crowded or self._closed) and self.waiting:
            self._watched = True
            self._reactor.addWriter(self._owner)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._reactor.removeWriter(self._owner)

    def take(self) -> list[tuple[int, bytes]]:
        """
        Take back what waits.

        :returns: the messages, each as (descriptor or -1, bytes); the descriptors are the caller's.
        """
        taken = list(self.waiting)
        self.waiting.clear()
        self._size = 0
        self._unwatch()
        return taken

    def is_closed(self) -> bool:
        """Whether nothing is sent any more: `close` was called, maybe in the middle of a send."""
        return self._closed

    def close(self) -> None:
        """Send no more. What waits is kept for `take`."""
        self._closed = True
        self._unwatch()
