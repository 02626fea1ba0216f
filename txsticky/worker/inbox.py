"""The inbox of a worker: its own mailbox, which brings connections, and the mailboxes of peers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from ..core.messages.handoff import Handoff, Log, Peer, unpack
from ..errors import WireError
from ..ipc.mailbox import MailboxTransport
from ..system.descriptors import open_socket

log = Logger()

#: Connections taken in one turn of the reactor: those that are here have their turn in between.
BATCH = 4


class WorkerInbox:
    """
    What a worker takes out of its mailbox.

    :param descriptor: the mailbox's reading end; owned from here on.
    :param reactor: an `IReactorFDSet`.
    :param adopt: gets each connection.
    :param add_peer: gets the id of each other worker, and the sending end of its mailbox.
    :param take_log: gets the access log, opened anew.
    :param make_room: called when descriptors are short.
    :param finished: called when the mailbox has ended.
    :ivar taken: of the hand-offs that the primary counted as sent, how many were taken out.
    """

    def __init__(
        self,
        descriptor: int,
        reactor: Any,
        *,
        adopt: Callable[[socket.socket, Handoff], None],
        add_peer: Callable[[int, int], None],
        take_log: Callable[[int], None],
        make_room: Callable[[], None],
        finished: Callable[[], None],
    ) -> None:
        self.taken = 0
        self._adopt = adopt
        self._add_peer = add_peer
        self._take_log = take_log
        self._descriptor = -1
        self._stopped = False
        # What was taken dies with the worker, so each is served before the next is taken.
        self.box = MailboxTransport(
            socket.socket(fileno=descriptor),
            reactor,
            self,
            short=make_room,
            lost=self._in_vain,
            finished=finished,
            batch=BATCH,
        )

    def start(self) -> None:
        """Begin to take messages."""
        self.box.startReading()

    def stop(self) -> None:
        """Take no more: what is in the mailbox is for other workers."""
        self._stopped = True
        self.box.stopReading()

    def take_all(self) -> None:
        """Take all that is in the mailbox now, until `stop` is called."""
        while not self._stopped and self.box.read_one():
            pass

    @property
    def short(self) -> bool:
        """Whether nothing can be taken at present for want of descriptors."""
        return self.box.resting

    # --------------------------------------------------------- what the mailbox says

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Keep a descriptor; its message follows at once."""
        self._descriptor = descriptor

    def dataReceived(self, data: bytes) -> None:
        """
        Take in a message.

        :raises WireError: it is damaged; its descriptor is closed.
        """
        descriptor, self._descriptor = self._descriptor, -1
        try:
            message = unpack(data)
        except WireError:
            if descriptor >= 0:
                os.close(descriptor)
            raise
        match message:
            case Handoff():
                if message.reserved:
                    self.taken += 1
                self._adopt(open_socket(descriptor, message.family), message)
            case Peer(worker):
                self._add_peer(worker, descriptor)
            case Log():
                self._take_log(descriptor)

    def _in_vain(self, data: bytes) -> None:
        """Count a hand-off whose connection was lost on the way: it is not outstanding any more."""
        message = unpack(data)
        if isinstance(message, Handoff) and message.reserved:
            self.taken += 1
