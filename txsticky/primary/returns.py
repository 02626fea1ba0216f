"""The returns: connections that workers give back, or had not taken when they died."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from ..intake.arrival import Arrival
from ..ipc.mailbox import MailboxTransport
from ..system.descriptors import own
from .front_desk import FrontDesk
from .upgrade.packing import Descriptors


class Returns:
    """
    The primary's own mailbox, the front desk, and the mailboxes that dead workers left behind.

    :param front_desk: the front desk's (sending end, reading end).
    :param reactor: watches the mailboxes.
    :param receive: gets each connection that comes back.
    :param short: called when a connection cannot be taken for want of descriptors.
    """

    def __init__(
        self,
        front_desk: tuple[socket.socket, socket.socket],
        reactor: Any,
        receive: Callable[[Arrival], None],
        short: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self.desk = FrontDesk(receive)
        self.front_desk, reading = front_desk
        self.box = MailboxTransport(reading, reactor, self.desk, short=short)
        self.leftovers: set[MailboxTransport] = set()

    def open(self) -> None:
        """Begin to read the front desk."""
        self.box.startReading()

    def take(self, messages: Iterable[tuple[int, bytes]]) -> None:
        """
        Take what had not even entered the mailbox of a worker that has ended.

        :param messages: (descriptor, message) of each.
        """
        self.desk.take(messages)

    def adopt(self, box: MailboxTransport) -> None:
        """Read what a worker that is gone had not taken out of its mailbox."""
        box.protocol = self.desk
        box.finished = lambda: self.leftovers.discard(box)
        self.leftovers.add(box)
        box.startReading()

    def ends(self, descriptors: Descriptors) -> list[int]:
        """The descriptors of the front desk's two ends, of which the next one is made."""
        return [descriptors.keep(end.fileno()) for end in (self.front_desk, self.box)]

    def snapshot(self, descriptors: Descriptors) -> list[int]:
        """The descriptors of the mailboxes that dead workers left behind, for `restore`."""
        return [descriptors.keep(box.fileno()) for box in self.leftovers]

    def restore(self, leftovers: Iterable[int]) -> None:
        """Go on reading the mailboxes that dead workers left behind."""
        for descriptor in leftovers:
            self.adopt(MailboxTransport(socket.socket(fileno=own(descriptor)), self._reactor))

    def close(self) -> None:
        """Close every mailbox."""
        for box in (self.box, *self.leftovers):
            box.loseConnection()
        self.front_desk.close()
