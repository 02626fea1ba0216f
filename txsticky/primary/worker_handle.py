"""
The primary's side of one worker: its process, its mailbox, its channel.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel

from ..core.messages.frames import Frame
from ..core.messages.from_primary import Boot
from ..core.messages.from_worker import FROM_WORKER, ListeningLoad, Load
from ..core.messages.handoff import pack_log, pack_peer
from ..core.routing.pool import Pool
from ..core.routing.table import Table
from ..errors import MailboxFull
from ..ipc.channel import Channel, channel_pair
from ..ipc.mailbox import MailboxTransport, mailbox_pair
from ..system.descriptors import own
from ..system.logs import read_line
from ..system.process import Process
from ..system.system import System
from .provision import Provision
from .replication import Replica
from .upgrade.packing import pack, unpack

log = Logger(namespace="txsticky.worker")


class HandleOwner(Protocol):
    """What a handle tells the primary, and what it asks of it."""

    pool: Pool
    table: Table

    def suspect(self, id: int, flag: bool, why: str) -> None:
        """New connections avoid a worker, or no longer."""

    def heard(self, handle: WorkerHandle, frame: Frame) -> None:
        """A control frame has come from it."""

    def fell_silent(self, handle: WorkerHandle) -> None:
        """Its channel has ended."""

    def exited(self, handle: WorkerHandle, status: int) -> None:
        """Its process has ended."""

    def crowded(self, handle: WorkerHandle, flag: bool) -> None:
        """Its mailbox is full and hand-offs queue here, or no longer."""


class WorkerHandle:
    """
    One worker, seen from the primary.

    :param system: the operating system.
    :param owner: is told what happens.
    :param id: unique for the life of the cluster.
    :param slot: its place, from 1.
    :param generation: how often the place was filled before.
    :param queue_limit: hand-offs that may wait here once its mailbox is full.
    """

    def __init__(
        self,
        system: System,
        owner: HandleOwner,
        id: int,
        slot: int,
        generation: int,
        queue_limit: int,
    ) -> None:
        self.system = system
        self.owner = owner
        self.id = id
        self.slot = slot
        self.generation = generation
        self.ready = False
        #: Whether it has listening sockets, and whether it was told to accept on them.
        self.listens = self.accepts = False
        #: What it counted by its last report, and when that came.
        self.load = Load()
        self.reported = 0.0
        self.started = system.clock()
        #: The call that gives it up if its process does not end now that its channel has.
        self.last_call: IDelayedCall | None = None
        self._queue_limit = queue_limit
        self._crowded = False
        self.box: MailboxTransport
        self.reading_end: socket.socket
        self.channel: Channel
        self.replica: Replica
        self.process: Process

    @property
    def name(self) -> str:
        """How the log calls it."""
        return f"worker {self.slot}"

    def spawn(
        self,
        front_desk: int,
        boot: dict[str, Any],
        listeners: Sequence[tuple[int, int]] = (),
        provision: Provision | None = None,
    ) -> None:
        """
        Start the process.

        :param front_desk: the sending end of the primary's own mailbox.
        :param boot: what the worker has to know.
        :param listeners: what it is to accept on: the number of the `--listen` and the descriptor
            of each listening socket.
        :param provision: what it gets if it is executed as another user than this process's.
        """
        sockets = [descriptor for _, descriptor in listeners]
        log = provision.log if provision is not None else -1
        logs = [log] if log >= 0 else []
        sending, self.reading_end = mailbox_pair()
        ours, theirs = channel_pair()
        try:
            self.process = self.system.spawn(
                # The working directory is put on the path when the application is loaded.
                ["-P", "-m", "txsticky.worker.process", str(theirs.fileno()), " " * 16],
                [theirs.fileno(), self.reading_end.fileno(), front_desk, *sockets, *logs],
                {},
                self._said,
                self._exited,
                provision.identity if provision is not None else None,
            )
        except BaseException:
            for end in (sending, self.reading_end, ours):
                end.close()
            raise
        finally:
            theirs.close()
        self._attach(sending, ours)
        self.channel.send(
            Boot(
                id=self.id,
                slot=self.slot,
                generation=self.generation,
                mailbox=self.reading_end.fileno(),
                front_desk=front_desk,
                listeners=list(listeners),
                access_log=log,
                **boot,
            )
        )
        self.listens = bool(listeners)

    def _attach(self, sending: socket.socket, channel: socket.socket) -> None:
        self.box = MailboxTransport(
            sending,
            self.system.reactor,
            limit=self._queue_limit,
            relieved=self._relieved,
        )
        self.channel = Channel(
            channel,
            self.system.reactor,
            FROM_WORKER,
            self._heard,
            self._silent,
            self._caught_up,
        )
        self.replica = Replica(
            self.name,
            self.channel,
            lambda: self.owner.pool.view(),
            lambda: self.owner.table.items(),
            lambda flag: self.owner.suspect(self.id, flag, "out of date"),
        )
        self.channel.startReading()

    def state(self) -> tuple[dict[str, Any], list[int]]:
        """
        What the program that takes over has to know, and the descriptors in it.

        The channel's, and that of the process's output, is -1 if the other end is closed.
        """
        unsent, received = self.channel.unfinished()
        queue = self.box.queue
        descriptors = [
            self.process.output,
            self.box.fileno(),
            self.reading_end.fileno(),
            self.channel.fileno(),
            *(descriptor for descriptor, _ in queue if descriptor >= 0),
        ]
        state = {
            "id": self.id,
            "slot": self.slot,
            "generation": self.generation,
            "ready": self.ready,
            "listens": self.listens,
            "accepts": self.accepts,
            "pid": self.process.pid,
            "descriptors": descriptors[:4],
            "unsent": pack(unsent),
            "received": pack(received),
            "queue": [[descriptor, pack(message)] for descriptor, message in queue],
        }
        return state, [descriptor for descriptor in descriptors if descriptor >= 0]

    def resume(self, state: dict[str, Any]) -> None:
        """Take up a worker that the program before had started (`state`)."""
        self.ready = state["ready"]
        self.listens, self.accepts = state["listens"], state["accepts"]
        output, box, reading, channel = map(own, state["descriptors"])
        self.reading_end = socket.socket(fileno=reading)
        over = channel < 0
        self._attach(
            socket.socket(fileno=box),
            channel_pair()[0] if over else socket.socket(fileno=channel),
        )
        self.channel.go_on(unpack(state["unsent"]), unpack(state["received"]))
        if over:
            self.channel.close()
        elif self.ready and self.channel.behind:
            self.replica.missed()
        self.process = self.system.watch(state["pid"], output, self._said, self._exited)
        for descriptor, message in state["queue"]:
            self.hand(own(descriptor) if descriptor >= 0 else -1, unpack(message))

    def hand(self, descriptor: int, message: bytes) -> None:
        """
        Put a connection into the worker's mailbox.

        :raises MailboxFull: it takes no more; the descriptor is then the caller's again.
        """
        box = self.box
        box.sendFileDescriptor(descriptor)
        box.write(message)
        if box.queued and not self._crowded:
            self._crowded = True
            self.owner.crowded(self, True)

    def _relieved(self) -> None:
        if self._crowded:
            self._crowded = False
            self.owner.crowded(self, False)

    def introduce(self, other: WorkerHandle) -> None:
        """Give the worker the sending end of another one's mailbox."""
        # Without it, it gives that one's connections to the front desk.
        self._send_copy(other.box.fileno(), pack_peer(other.id))

    def hand_log(self, descriptor: int) -> None:
        """Give the worker the access log, opened anew; the descriptor stays the caller's."""
        if not self._send_copy(descriptor, pack_log()):
            log.error("{worker} goes on with the old access log.", worker=self.name)

    def _send_copy(self, descriptor: int, message: bytes) -> bool:
        """Whether the mailbox has taken a copy of a descriptor."""
        try:
            copy = os.dup(descriptor)
        except OSError as error:
            log.warn(
                "{worker} is not given a descriptor: {reason}.",
                worker=self.name,
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

    def share_mailbox(self, leftovers: Callable[[MailboxTransport], None]) -> None:
        """
        The worker reads its mailbox no more, and lives: have what is in it read here.

        :param leftovers: gets a copy of the reading end; none where there is no descriptor for it,
            and then what is in the mailbox waits until the worker has ended (`close`).
        """
        try:
            sock = self.reading_end.dup()
        except OSError as error:
            log.warn(
                "The mailbox of {worker} is read only when that has ended: {reason}.",
                worker=self.name,
                reason=error.strerror,
            )
            return
        leftovers(MailboxTransport(sock, self.system.reactor))

    @property
    def listening(self) -> ListeningLoad:
        """What it counted, by its last report, on sockets of its own."""
        return self.load.listening or ListeningLoad()

    def send_signal(self, number: int) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def _heard(self, frame: Frame) -> None:
        self.owner.heard(self, frame)

    def _caught_up(self) -> None:
        if self.ready:
            self.replica.caught_up()

    def _silent(self) -> None:
        self.owner.fell_silent(self)

    def _said(self, line: str) -> None:
        level, text = read_line(line)
        log.emit(
            level or LogLevel.info,
            "{worker}: {line}",
            worker=self.name,
            slot=self.slot,
            id=self.id,
            generation=self.generation,
            line=text,
            **({} if level else {"output": True}),
        )

    def _exited(self, status: int) -> None:
        self.channel.read_now()  # its last words come first
        self.owner.exited(self, status)

    def close(self, leftovers: Callable[[MailboxTransport], None]) -> list[tuple[int, bytes]]:
        """
        The process has ended: give up the channel and the mailbox's sending end.

        :param leftovers: gets the reading end, to take out what the worker did not. It ends when
            the last process has closed its sending end.
        :returns: what had not even entered the mailbox.
        """
        if self.last_call is not None and self.last_call.active():
            self.last_call.cancel()
        waiting = self.box.take_queue()
        self.box.loseConnection()
        self.channel.close()
        leftovers(MailboxTransport(self.reading_end, self.system.reactor))
        return waiting
