"""The worker's own mailbox: connections that are handed here, and the mailboxes of others."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from ..core.messages.handoff import Handoff, Log, Peer, unpack
from ..errors import WireError
from ..ipc.mailbox import MailboxTransport
from ..transport.movable import open_socket

if TYPE_CHECKING:
    from .worker import Worker

log = Logger()


class Intake:
    """
    What a worker takes out of its mailbox.

    :param worker: gets what comes: `adopt`, `add_place`, `take_log`, `make_room`, `deaf`.
    :param reactor: the reactor that serves.
    :param descriptor: the mailbox's reading end; owned from here on.
    :ivar taken: of the hand-offs that the primary counted as sent, how many were taken out.
    """

    def __init__(self, worker: Worker, reactor: Any, descriptor: int) -> None:
        self.taken = 0
        self._worker = worker
        self._descriptor = -1
        # One message at a time: what it has taken dies with it, and what it has not goes to others.
        self.box = MailboxTransport(
            socket.socket(fileno=descriptor),
            reactor,
            self,
            short=worker.make_room,
            lost=self._in_vain,
            finished=worker.deaf,
            batch=1,
        )

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """A descriptor has come; its message follows at once."""
        self._descriptor = descriptor

    def dataReceived(self, data: bytes) -> None:
        """A message has come: a connection, or the mailbox of another worker."""
        descriptor, self._descriptor = self._descriptor, -1
        try:
            message = unpack(data)
        except WireError:
            if descriptor >= 0:
                os.close(descriptor)
            raise
        if isinstance(message, Peer):
            self._worker.add_place(message.worker_id, descriptor)
            return
        if isinstance(message, Log):
            self._worker.take_log(descriptor)
            return
        if message.reserved:
            self.taken += 1
        self._worker.adopt(open_socket(descriptor, message.family), message)

    def _in_vain(self, data: bytes) -> None:
        """A message has come without its connection, which is not outstanding any more."""
        message = unpack(data)
        if isinstance(message, Handoff) and message.reserved:
            self.taken += 1
