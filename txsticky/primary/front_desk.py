"""The front desk: what reads the primary's own mailbox, and the mailboxes of dead workers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

from twisted.logger import Logger

from ..core.messages.handoff import Handoff, unpack
from ..core.messages.origin import Stage
from ..errors import WireError
from ..intake.arrival import Arrival
from ..system.descriptors import open_socket

log = Logger()


class FrontDesk:
    """
    What reads the primary's own mailbox, and the mailboxes that dead workers left behind.

    :param receive: gets each connection that was given back.
    """

    def __init__(self, receive: Callable[[Arrival], None]) -> None:
        self._receive = receive
        self._descriptor = -1

    def take(self, messages: Iterable[tuple[int, bytes]]) -> None:
        """
        Take messages that did not come by the mailbox; one that cannot be dealt with is lost alone.

        :param messages: (descriptor, message) of each.
        """
        for descriptor, message in messages:
            self.fileDescriptorReceived(descriptor)
            try:
                self.dataReceived(message)
            except Exception:
                log.failure("A connection could not be taken back.")

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Keep a descriptor; its message follows at once (`MailboxProtocol`)."""
        self._descriptor = descriptor

    def dataReceived(self, data: bytes) -> None:
        """Take a connection that was given back, or that a dead worker had not taken."""
        descriptor, self._descriptor = self._descriptor, -1
        try:
            message = unpack(data)
        except WireError:
            if descriptor >= 0:
                os.close(descriptor)
            raise
        if not isinstance(message, Handoff):  # it was for the worker alone
            os.close(descriptor)
            return
        self._receive(arrival_of(open_socket(descriptor, message.family), message))


def arrival_of(sock: socket.socket, handoff: Handoff) -> Arrival:
    """Make the arrival of a connection that has moved."""
    stage = handoff.stage
    return Arrival(
        sock,
        handoff.origin,
        data=handoff.prefix,
        hops=handoff.hops + 1 if stage is Stage.ROUTED else 0,
        idle=stage is Stage.IDLE,
        proxied=stage is not Stage.FRESH,
        replay=handoff.replay,
    )
