"""
The spawner: starts a worker's process, with all that it has to know.

A worker is forked from a template or, if that is not possible, executed: an interpreter of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ...config import Config
from ...core.messages.from_primary import Boot
from ...core.routing.pool import Pool
from ...ipc.channel import channel_pair
from ...ipc.mailbox import mailbox_pair
from ...system.process import Process
from ...system.system import System
from ..listeners import Listeners
from .provision import Provision
from .templates import Templates
from .worker_handle import WorkerHandle

#: Keys that applications bound: how many, and for how many seconds without use.
TABLE_LIMIT: Final = 100_000
TABLE_TTL: Final = 3600.0

#: Starts a process that inherits these descriptors, the channel first; None if there is none.
_Start = Callable[[WorkerHandle, Sequence[int]], Process | None]


class Spawner:
    """
    What all workers of a cluster are started with.

    :param system: the operating system.
    :param config: what the cluster is to be.
    :param secret: signs the tags.
    :param in_words: how addresses are hashed (`Router`).
    :param pool: the workers.
    :param front_desk: the descriptor of the front desk's sending end.
    :param listeners: have the listening sockets of each slot.
    :param provision: what workers get that run as another user than this process's.
    :param templates: what workers are forked from, where that is possible.
    """

    def __init__(
        self,
        system: System,
        config: Config,
        secret: bytes,
        in_words: bool,
        pool: Pool,
        front_desk: int,
        listeners: Listeners,
        provision: Provision,
        templates: Templates,
    ) -> None:
        self._system = system
        self._config = config
        self._secret = secret
        self._in_words = in_words
        self._pool = pool
        self._front_desk = front_desk
        self._listeners = listeners
        self.provision = provision
        self.templates = templates

    def start(self, handle: WorkerHandle) -> None:
        """
        Start a worker's process.

        :raises OSError: it cannot be started; nothing of it is left then.
        """
        files = self.provision.files()  # nothing is open yet if they cannot be read
        # A template may have come half the way: what it was given is not used again.
        if not self._begin(handle, files, self._fork):
            self._begin(handle, files, self._execute)

    def _begin(self, handle: WorkerHandle, files: dict[str, str], start: _Start) -> bool:
        """
        Start a worker's process in one of two ways, and tell it what it has to know.

        :returns: whether there is one; if not, nothing of it is left.
        """
        listening = self._listeners.of(handle.slot)
        sending, reading = mailbox_pair()
        ours, theirs = channel_pair()
        process = None
        try:
            inherited = [theirs.fileno(), reading.fileno(), self._front_desk]
            inherited += [descriptor for _, descriptor in listening]
            if self.provision.log >= 0:
                inherited.append(self.provision.log)
            process = start(handle, inherited)
        finally:
            theirs.close()
            if process is None:
                for end in (sending, reading, ours):
                    end.close()
        if process is None:
            return False
        handle.process = process
        handle.attach(sending, reading, ours)
        handle.channel.send(self._boot(handle, reading.fileno(), listening, files))
        handle.listens = bool(listening)
        return True

    def _boot(
        self,
        handle: WorkerHandle,
        mailbox: int,
        listening: Sequence[tuple[int, int]],
        files: dict[str, str],
    ) -> Boot:
        """Make what a worker is told first, by which it begins."""
        return Boot(
            id=handle.id,
            slot=handle.slot,
            generation=handle.generation,
            mailbox=mailbox,
            front_desk=self._front_desk,
            listeners=list(listening),
            config=self._config.to_json(),
            secret=self._secret.hex(),
            in_words=self._in_words,
            pool=self._pool.view(),
            table_limit=TABLE_LIMIT,
            table_ttl=TABLE_TTL,
            takes_used=True,
            access_log=self.provision.log,
            files=files,
            appoints=True,
        )

    def _fork(self, handle: WorkerHandle, inherited: Sequence[int]) -> Process | None:
        return self.templates.fork(handle.generation, inherited, handle.said, handle.exited)

    def _execute(self, handle: WorkerHandle, inherited: Sequence[int]) -> Process:
        return self._system.spawn(
            # The working directory is put on the path when the application is loaded.
            ["-P", "-m", "txsticky.worker.process", str(inherited[0]), " " * 16],
            inherited,
            {},
            handle.said,
            handle.exited,
            self.provision.identity,
        )
