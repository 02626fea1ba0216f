"""The outbox of a worker: the mailboxes of the other workers, and the front desk."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from ..core.messages.frames import Frame
from ..core.messages.from_worker import WantPeer
from ..core.messages.handoff import Handoff, pack_handoff
from ..core.messages.origin import Stage
from ..core.routing.verdict import FRONT_DESK
from ..errors import MailboxFull
from ..ipc.mailbox import MailboxTransport
from .view import ClusterView

log = Logger()


class Outbox:
    """
    Gives connections away.

    :param front_desk: the descriptor of the primary's own mailbox; owned from here on.
    :param view: says whether the whole cluster stops.
    :param tell: tells the primary something.
    :param reactor: an `IReactorFDSet`.
    :ivar boxes: the mailboxes, by the ids of the workers that read them, and `FRONT_DESK`.
    :ivar given: how many connections were given away.
    """

    def __init__(
        self, front_desk: int, view: ClusterView, tell: Callable[[Frame], None], reactor: Any
    ) -> None:
        self.boxes: dict[int, MailboxTransport] = {}
        self.given = 0
        self._view = view
        self._tell = tell
        self._wanted: set[int] = set()
        self._reactor = reactor
        self.add(FRONT_DESK, front_desk)

    def add(self, place: int, descriptor: int) -> None:
        """
        Add a mailbox; one of the same place that is here already is closed.

        :param place: the id of the worker that reads it.
        :param descriptor: its sending end; owned from here on.
        """
        old = self.boxes.pop(place, None)
        if old is not None:
            old.loseConnection()
        self.boxes[place] = MailboxTransport(
            socket.socket(fileno=descriptor),
            self._reactor,
            undelivered=self._bounce,
        )

    def reaches(self, worker: int) -> bool:
        """
        Whether a worker's mailbox is here; if not, the primary is asked for it.

        Until it comes, connections for the worker go by the front desk.
        """
        if worker in self.boxes:
            return True
        if self._view.asks and worker not in self._wanted:
            self._wanted.add(worker)
            self._tell(WantPeer(worker))
        return False

    def give(self, sock: socket.socket, place: int, handoff: Handoff) -> None:
        """
        Give a connection away; an idle one for the front desk is closed if the whole cluster stops.

        :param sock: the connection; owned from here on.
        :param place: the id of a worker, or `FRONT_DESK`. A worker whose mailbox is not here is
            reached by the front desk.
        """
        if place == FRONT_DESK and handoff.stage is Stage.IDLE:
            if self._view.final:
                sock.close()
                return
            place = self._successor()
        self.given += 1
        box = self.boxes.get(place) or self.boxes[FRONT_DESK]
        message = pack_handoff(handoff)
        descriptor = sock.detach()
        try:
            box.sendFileDescriptor(descriptor)
            box.write(message)
        except MailboxFull:
            self._bounce([(descriptor, message)])

    def _successor(self) -> int:
        """Choose the worker at which an idle connection waits for its next request."""
        view = self._view
        chosen = view.spread.choose(view.pool, view.id, view.slot, self.boxes)
        if chosen is None:
            return FRONT_DESK
        view.pool.reserve(chosen)
        return chosen

    def forget(self, worker: int) -> None:
        """Close the mailbox of a worker that is gone; what waits for it goes to the front desk."""
        self._wanted.discard(worker)
        box = self.boxes.pop(worker, None)
        if box is not None:
            waiting = box.take_queue()
            box.loseConnection()
            self._bounce(waiting)

    def _bounce(self, waiting: list[tuple[int, bytes]]) -> None:
        """
        Send to the front desk what a mailbox does not take: its worker is gone, or far behind.

        What the front desk itself did not take it refuses again, and is lost.

        :param waiting: (descriptor, message) of each connection.
        """
        desk = self.boxes[FRONT_DESK]
        for descriptor, message in waiting:
            try:
                desk.sendFileDescriptor(descriptor)
                desk.write(message)
            except MailboxFull as full:
                log.error("A connection is lost: {full}", full=full)
                os.close(descriptor)
