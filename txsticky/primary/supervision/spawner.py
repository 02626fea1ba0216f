"""The spawner: starts a worker's process, with all that it has to know."""

from __future__ import annotations

import socket
from collections.abc import Sequence
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
from .worker_handle import WorkerHandle

#: Keys that applications bound: how many, and for how many seconds without use.
TABLE_LIMIT: Final = 100_000
TABLE_TTL: Final = 3600.0


class Spawner:
    """
    What all workers of a cluster are started with.

    :param system: the operating system.
    :param config: what the cluster is to be.
    :param secret: signs the tags.
    :param pool: the workers.
    :param front_desk: the descriptor of the front desk's sending end.
    :param listeners: have the listening sockets of each slot.
    :param provision: what workers get that run as another user than this process's.
    """

    def __init__(
        self,
        system: System,
        config: Config,
        secret: bytes,
        pool: Pool,
        front_desk: int,
        listeners: Listeners,
        provision: Provision,
    ) -> None:
        self._system = system
        self._config = config
        self._pool = pool
        self._front_desk = front_desk
        self._listeners = listeners
        self.secret = secret
        self.provision = provision

    def start(self, handle: WorkerHandle) -> None:
        """
        Start a worker's process.

        :raises OSError: it cannot be started; nothing of it is left then.
        """
        files = self.provision.files()  # nothing is open yet if they cannot be read
        listening = self._listeners.of(handle.slot)
        sending, reading = mailbox_pair()
        ours, theirs = channel_pair()
        try:
            handle.process = self._spawn(handle, theirs, reading, listening)
        except BaseException:
            for end in (sending, reading, ours):
                end.close()
            raise
        finally:
            theirs.close()
        handle.attach(sending, reading, ours)
        handle.channel.send(
            Boot(
                id=handle.id,
                slot=handle.slot,
                generation=handle.generation,
                mailbox=reading.fileno(),
                front_desk=self._front_desk,
                listeners=list(listening),
                config=self._config.to_json(),
                secret=self.secret.hex(),
                pool=self._pool.view(),
                table_limit=TABLE_LIMIT,
                table_ttl=TABLE_TTL,
                takes_used=True,
                access_log=self.provision.log,
                files=files,
            )
        )
        handle.listens = bool(listening)

    def _spawn(
        self,
        handle: WorkerHandle,
        channel: socket.socket,
        mailbox: socket.socket,
        listening: Sequence[tuple[int, int]],
    ) -> Process:
        inherited = [channel.fileno(), mailbox.fileno(), self._front_desk]
        inherited += [descriptor for _, descriptor in listening]
        if self.provision.log >= 0:
            inherited.append(self.provision.log)
        return self._system.spawn(
            # The working directory is put on the path when the application is loaded.
            ["-P", "-m", "txsticky.worker.process", str(channel.fileno()), " " * 16],
            inherited,
            {},
            handle.said,
            handle.exited,
            self.provision.identity,
        )
