"""The primary's side of one worker: its process, its mailbox, its channel."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

from ...core.messages.frames import Frame
from ...core.messages.from_primary import Accept
from ...core.messages.from_worker import FROM_WORKER, ListeningLoad, Load
from ...ipc.channel import Channel, channel_pair
from ...ipc.mailbox import MailboxTransport
from ...system.descriptors import own
from ...system.process import Process
from ...system.system import System
from ..upgrade.packing import Descriptors, pack, unpack
from .output import log_line
from .worker_mailbox import WorkerMailbox


class HandleOwner(Protocol):
    """What a handle tells."""

    def heard(self, handle: WorkerHandle, frame: Frame) -> None:
        """Take a control frame from the worker."""

    def caught_up(self, handle: WorkerHandle) -> None:
        """Take note that the worker has read all that waited in its channel."""

    def fell_silent(self, handle: WorkerHandle) -> None:
        """Take note that the worker's channel has ended."""

    def crowded(self, handle: WorkerHandle, flag: bool) -> None:
        """Take note that the worker's mailbox is full and hand-offs queue here, or no longer."""

    def exited(self, handle: WorkerHandle, status: int) -> None:
        """Take note that the worker's process has ended."""


class WorkerHandle:
    """
    One worker, seen from the primary.

    :param system: the operating system.
    :param owner: is told what happens.
    :param id: unique for the life of the cluster.
    :param slot: the worker's place, from 1.
    :param generation: how often the place was filled before.
    :param queue_limit: hand-offs that may wait here once the worker's mailbox is full.
    :ivar ready: whether the application is started, and the worker gets connections.
    :ivar listens: whether the worker has listening sockets.
    :ivar load: the last report, and `reported` when that came, in seconds.
    """

    mailbox: WorkerMailbox
    channel: Channel
    process: Process

    def __init__(
        self,
        system: System,
        owner: HandleOwner,
        id: int,
        slot: int,
        generation: int,
        queue_limit: int,
    ) -> None:
        self._system = system
        self._owner = owner
        self._queue_limit = queue_limit
        self.id = id
        self.slot = slot
        self.generation = generation
        self.ready = self.listens = self._accepts = False
        self.load = Load()
        self.reported = 0.0
        self.started = system.clock()

    @property
    def name(self) -> str:
        """What the log calls the worker."""
        return f"worker {self.slot}"

    @property
    def listening(self) -> ListeningLoad:
        """What the worker did on sockets of its own, by its last report."""
        return self.load.listening or ListeningLoad()

    def attach(
        self, sending: socket.socket, reading: socket.socket, channel: socket.socket
    ) -> None:
        """Take the two ends of the worker's mailbox, and this end of its channel."""
        reactor = self._system.reactor
        self.mailbox = WorkerMailbox(
            self.name,
            sending,
            reading,
            reactor,
            self._queue_limit,
            lambda flag: self._owner.crowded(self, flag),
        )
        self.channel = Channel(
            channel,
            reactor,
            FROM_WORKER,
            lambda frame: self._owner.heard(self, frame),
            lambda: self._owner.fell_silent(self),
            lambda: self._owner.caught_up(self),
        )
        self.channel.startReading()

    def accept(self) -> None:
        """Have the worker accept on its own sockets, if it is not told yet."""
        if not self._accepts:
            self._accepts = True
            self.channel.send(Accept())

    def introduce(self, other: Self) -> None:
        """Give the worker the sending end of another worker's mailbox."""
        self.mailbox.introduce(other.id, other.mailbox)

    def send_signal(self, number: int) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def said(self, line: str) -> None:
        """Log a line that the process has printed."""
        log_line(self.name, line, slot=self.slot, id=self.id, generation=self.generation)

    def exited(self, status: int) -> None:
        """Tell that the process has ended, after all that it had said."""
        self.channel.read_now()  # the worker's last words come first
        self._owner.exited(self, status)

    def snapshot(self, descriptors: Descriptors) -> dict[str, Any]:
        """
        The worker as JSON values, for `resume`.

        The channel's descriptor, and that of the process's output, is -1 if its other end is
        closed.
        """
        unsent, received = self.channel.unfinished()
        mailbox = self.mailbox.snapshot(descriptors)
        return {
            "id": self.id,
            "slot": self.slot,
            "generation": self.generation,
            "ready": self.ready,
            "listens": self.listens,
            "accepts": self._accepts,
            "load": pack(self.load.body()),
            "pid": self.process.pid,
            "descriptors": [
                descriptors.keep(self.process.output),
                *mailbox["ends"],
                descriptors.keep(self.channel.fileno()),
            ],
            "unsent": pack(unsent),
            "received": pack(received),
            "queue": mailbox["queue"],
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Take up a worker that the program before had started (`snapshot`)."""
        self.ready = state["ready"]
        self.listens, self._accepts = state["listens"], state["accepts"]
        if "load" in state:  # a program of version 0.1.0 does not tell it
            self.load = Load.of(unpack(state["load"]))
        output, sending, reading, channel = map(own, state["descriptors"])
        over = channel < 0
        self.attach(
            socket.socket(fileno=sending),
            socket.socket(fileno=reading),
            channel_pair()[0] if over else socket.socket(fileno=channel),
        )
        self.channel.go_on(unpack(state["unsent"]), unpack(state["received"]))
        if over:
            self.channel.close()
        self.process = self._system.watch(state["pid"], output, self.said, self.exited)
        self.mailbox.resume(state["queue"])

    def close(self, leftovers: Callable[[MailboxTransport], None]) -> list[tuple[int, bytes]]:
        """
        Give up the channel and the mailbox: the process has ended.

        :param leftovers: as for `WorkerMailbox.close`.
        :returns: likewise.
        """
        self.channel.close()
        return self.mailbox.close(leftovers)
