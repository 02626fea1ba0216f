"""A primary whose workers are played."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

from twisted.logger import Logger

from tests.fakes import FakeSystem
from tests.shells import (
    PlayedWorker,
    ShellCase,
    received,
)
from txsticky.config import Config
from txsticky.core.lifecycle.fleet import Fleet
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.intake.arrival import Arrival
from txsticky.primary import primary
from txsticky.primary.events import Events
from txsticky.primary.primary import Primary, Seed
from txsticky.primary.supervision.provision import Provision

PEER = ("192.0.2.7", 50000)


def get(target: str = "/", *headers: str) -> bytes:
    """A request."""
    lines = [f"GET {target} HTTP/1.1", "Host: example", *headers, "", ""]
    return "\r\n".join(lines).encode()


#: The --queue-timeout.
WAIT = 40.0


class PrimaryCase(ShellCase):
    """
    A primary whose workers are played.

    :ivar workers: those that were spawned, in their order; worker n has the id n and the slot n.
    :ivar supervisor: stands for the supervisor.
    :ivar told: what the cluster around the primary is told.
    """

    options: dict[str, Any] = {}
    count = 2
    #: Whether the supervisor says that workers are to come.
    expects = False

    def setUp(self) -> None:
        super().setUp()
        self.system = FakeSystem(reactor=self.reactor)
        options = {"queue_timeout": WAIT, **self.options}
        self.config = Config(workers=self.count, backlog=20, **options)
        self.supervisor = mock.Mock()
        self.supervisor.expects.side_effect = lambda seconds: seconds == WAIT and self.expects
        self.patch(primary, "Supervisor", self.supervise)
        self.told = mock.Mock()
        self.make(Seed.new(self.system, self.config))
        self.primary.open()
        self.workers: list[PlayedWorker] = []
        self.addCleanup(self.end)

    def supervise(self, fleet: Fleet, *args: Any, **kwargs: Any) -> mock.Mock:
        """Make a supervisor that is played."""
        self.supervisor.fleet = fleet
        return self.supervisor

    def make(self, seed: Seed) -> None:
        """Make the primary."""
        events = Events(ready=self.told.ready, ended=self.told.ended, sources=self.told.sources)
        self.router = self.config.router(seed.secret)
        self.primary = Primary(
            self.system, self.config, seed, events, Logger(), self.provision(self.config)
        )

    def provision(self, config: Config) -> Provision:
        """What the workers get that run as another user: nothing."""
        return Provision(config, None)

    def end(self) -> None:
        """End all processes and close; nothing is left then."""
        for worker in self.workers:
            if worker.id in self.primary.workers.handles:
                worker.die()
        self.reactor.settle()
        self.primary._ended(0, "over")
        self.primary.close()
        self.reactor.settle()
        self.assertEqual(self.reactor.getReaders() + self.reactor.getWriters(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def spawn(self) -> PlayedWorker:
        """Start one more worker."""
        number = len(self.workers) + 1
        self.primary.workers.spawn(number, number, 1)
        self.workers.append(PlayedWorker(self.system.processes[-1]))
        return self.workers[-1]

    def start(self, number: int | None = None, http: bool = True) -> list[PlayedWorker]:
        """Start workers and have them ready."""
        for _ in range(self.count if number is None else number):
            self.spawn().ready(http=http)
        self.reactor.settle()
        for worker in self.workers:
            worker.take()
            worker.frames()
        return self.workers

    def arrive(
        self,
        data: bytes = get(),
        peer: tuple[str, int] = PEER,
        secure: bool = False,
        **fields: Any,
    ) -> Any:
        """Have a connection arrive; returns the client's end."""
        server, client = self.pair()
        self.arrival = Arrival(server, Origin(peer, secure=secure), data=data, **fields)
        self.primary.reception.receive(self.arrival)
        return client

    def taken(self) -> list[tuple[int, Handoff]]:
        """What the workers find in their mailboxes: (worker, hand-off)s."""
        return [(worker.id, handoff) for worker in self.workers for handoff in worker.take()]

    def whose(self, data: bytes, **fields: Any) -> int:
        """The worker that gets a connection with such a request."""
        self.arrive(data, **fields)
        ((worker, _),) = self.taken()
        return worker

    def tag(self, worker: int, ident: str = "sid") -> str:
        """A session id that names a worker."""
        return self.router.signer.mint(worker, ident)

    def refused(self, client: socket.socket) -> bytes:
        """The head of the refusal that a client has got."""
        data = received(client) or b""
        self.assertTrue(data.startswith(b"HTTP/1.1 503 "), data)
        self.assertIn(b"\r\nRetry-After: 1\r\n", data)
        return data

    def fill(self, worker: PlayedWorker) -> int:
        """Fill a worker's mailbox until hand-offs wait for it here; returns how many there are."""
        handle, number = self.primary.workers.handles[worker.id], 0
        while not handle.mailbox.box.queued:
            self.arrive(get(f"/?sid={self.tag(worker.id)}") + bytes(60_000))
            number += 1
        return number
