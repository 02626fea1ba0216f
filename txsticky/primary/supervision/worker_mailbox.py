"""The primary's side of one worker's mailbox."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger

from ...core.messages.handoff import pack_log, pack_peer
from ...errors import MailboxFull
from ...ipc.mailbox import MailboxTransport
from ...system.descriptors import own
from ..upgrade.packing import Descriptors, pack, unpack

log = Logger(namespace="txsticky.worker")


class WorkerMailbox:
    """
    Both ends of a worker's mailbox: the one to send, and the one that the worker inherits.

    :param name: what the log calls the worker.
    :param sending: the sending end.
    :param reading: the reading end.
    :param reactor: watches the mailbox.
    :param limit: hand-offs that may wait here once the mailbox is full.
    :param crowded: called with True when hand-offs begin to wait here, with False when none waits.
    """

    def __init__(
        self,
        name: str,
        sending: socket.socket,
        reading: socket.socket,
        reactor: Any,
        limit: int,
        crowded: Callable[[bool], None],
    ) -> None:
        self._name = name
        self._reactor = reactor
        self._tell = crowded
        self._crowded = False
        self.box = MailboxTransport(sending, reactor, limit=limit, relieved=self._relieved)
        self.reading = reading
        self._put = self.box.outgoing.put

    def hand(self, descriptor: int, message: bytes) -> None:
        """
        Put a connection into the mailbox.

        :raises MailboxFull: it takes no more; the descriptor is then the caller's again.
        """
        if not self._put(descriptor, message) and not self._crowded:
            self._crowded = True
            self._tell(True)

    def _relieved(self) -> None:
        if self._crowded:
            self._crowded = False
            self._tell(False)

    def introduce(self, id: int, other: WorkerMailbox) -> None:
        """Put the sending end of another worker's mailbox in; `id` is the other worker's."""
        # Without it, connections for the other worker are given to the front desk.
        self._send_copy(other.box.fileno(), pack_peer(id))

    def hand_log(self, descriptor: int) -> None:
        """Put the access log in, opened anew; the descriptor stays the caller's."""
        if not self._send_copy(descriptor, pack_log()):
            log.error("{worker} goes on with the old access log.", worker=self._name)

    def _send_copy(self, descriptor: int, message: bytes) -> bool:
        """
        Put a copy of a descriptor in.

        :returns: whether the mailbox has taken it.
        """
        try:
            copy = os.dup(descriptor)
        except OSError as error:
            log.warn(
                "{worker} is not given a descriptor: {reason}.",
                worker=self._name,
                reason=error.strerror,
            )
            return False
        try:
            self.box.sendFileDescriptor(copy)
            self.box.write(message)
        except MailboxFull:
            os.close(copy)
            return False
        return True

    def share(self, leftovers: Callable[[MailboxTransport], None]) -> None:
        """
        Have the mailbox read here, because its worker lives and reads it no more.

        :param leftovers: gets a copy of the reading end; none where there is no descriptor for it,
            and then what is in the mailbox waits until the worker has ended (`close`).
        """
        try:
            sock = self.reading.dup()
        except OSError as error:
            log.warn(
                "The mailbox of {worker} is read only when that has ended: {reason}.",
                worker=self._name,
                reason=error.strerror,
            )
            return
        leftovers(MailboxTransport(sock, self._reactor))

    def snapshot(self, descriptors: Descriptors) -> dict[str, Any]:
        """The ends and what waits here, as JSON values."""
        return {
            "ends": [descriptors.keep(end.fileno()) for end in (self.box, self.reading)],
            "queue": [
                [descriptors.keep(descriptor), pack(message)]
                for descriptor, message in self.box.queue
            ],
        }

    def resume(self, queue: Iterable[tuple[int, str]]) -> None:
        """Take up what waited here in the program before."""
        for descriptor, message in queue:
            self.hand(own(descriptor), unpack(message))

    def close(self, leftovers: Callable[[MailboxTransport], None]) -> list[tuple[int, bytes]]:
        """
        Give up the sending end: the worker has ended.

        :param leftovers: gets the reading end, to take out what the worker did not. It ends when
            the last process has closed its sending end.
        :returns: what had not even entered the mailbox: (descriptor, message) of each.
        """
        waiting = self.box.take_queue()
        self.box.loseConnection()
        leftovers(MailboxTransport(self.reading, self._reactor))
        return waiting
