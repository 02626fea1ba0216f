"""
The primary: routes each connection once and lets go of it.

:class:`Primary` is where its parts meet.  The reception gets connections, the dispatcher says whose
they are and takes them to the workers' mailboxes, the waiting room has those for which no worker is
ready, and the returns bring back what workers give away.  Frames from the workers are dealt with
here, each in a line or two.
"""

from __future__ import annotations

import socket

import attrs
from twisted.logger import Logger

from ..bus.hub import bus_of
from ..config import Config, cores
from ..core.lifecycle.fleet import Fleet
from ..core.messages.frames import Frame
from ..core.messages.from_primary import Withdrawn
from ..core.messages.from_worker import (
    Beat,
    Bind,
    Deaf,
    Failed,
    Follow,
    Free,
    Load,
    Publish,
    Ready,
    Reload,
    Replace,
    Resign,
    Subscribe,
    Unsubscribe,
    Used,
    WantLog,
    WantPeer,
    Withdraw,
)
from ..core.routing.pool import Pool
from ..core.routing.table import Table
from ..intake.arrival import Arrival
from ..intake.reception import Reception
from ..ipc.mailbox import mailbox_pair
from ..system.system import System
from .beginning import Beginning
from .dispatcher import Dispatcher
from .events import Events
from .kernel_routes import KernelRoutes, obstacle
from .listeners import Listeners
from .preflight import read_secret
from .replicas.replication import Replication
from .returns import Returns
from .spoken import Spoken
from .supervision.leader import Appointing
from .supervision.provision import Provision
from .supervision.reports import Reports
from .supervision.spawner import TABLE_LIMIT, TABLE_TTL, Spawner
from .supervision.supervisor import Supervisor
from .supervision.suspicion import OUTDATED, Suspicions
from .supervision.templates import Templates
from .supervision.worker_handle import WorkerHandle
from .supervision.workers import Workers
from .waiting_room import WaitingRoom

log = Logger()

#: What a client that is refused reads: seconds until it may come again.
RETRY_AFTER = 1


@attrs.frozen(kw_only=True)
class Seed:
    """
    What a primary begins with: new at a fresh start, else from the program before.

    :param secret: signs the tags.
    :param fleet: decides which workers there are to be.
    :param front_desk: the (sending end, reading end) of the primary's own mailbox.
    :param in_words: how addresses are hashed, for the whole life of the cluster (`Router`).
    """

    secret: bytes
    fleet: Fleet
    front_desk: tuple[socket.socket, socket.socket]
    in_words: bool = True

    @classmethod
    def new(cls, system: System, config: Config) -> Seed:
        """
        Make the seed of a fresh start.

        :raises ConfigError: the file of the secret cannot be used.
        """
        file = config.secret_file
        return cls(
            secret=system.random_bytes(16) if file is None else read_secret(file),
            fleet=Fleet(config.workers, config.graceful_timeout, config.start_timeout),
            front_desk=mailbox_pair(),
        )


class Primary:
    """
    A primary, composed.

    :param system: the operating system.
    :param config: what the cluster is to be.
    :param seed: what the primary begins with.
    :param events: what the cluster is told.
    :param log: gets the supervisor's sentences.
    :param provision: what workers get that run as another user than this process's.
    """

    def __init__(
        self,
        system: System,
        config: Config,
        seed: Seed,
        events: Events,
        log: Logger,
        provision: Provision,
    ) -> None:
        self.events = events
        self.pool = Pool()
        self.seed = seed
        handles: dict[int, WorkerHandle] = {}
        router = config.router(seed.secret, seed.in_words)
        self.bus = bus_of(config.bus, system)
        suspicions = Suspicions(self.pool, self._suspects_changed)
        self.replication = Replication(
            self.pool,
            Table(TABLE_LIMIT, TABLE_TTL),
            system,
            lambda id, flag: suspicions.set(id, flag, OUTDATED),
        )
        self.beginning = Beginning(
            self.pool, config.workers, config.queue_timeout, system.reactor, self._begun
        )
        self.room = WaitingRoom(
            system, config.queue_timeout, config.backlog, self._refuse, self._late, config.tls
        )
        self.dispatcher = Dispatcher(
            router,
            self.pool,
            self.replication.table,
            handles,
            self.beginning,
            system,
            park=self.room.admit,
            expects=lambda: self.supervisor.expects(config.queue_timeout),
            refuse=self._refuse,
        )
        self.reception = Reception(system, config, self.dispatcher.place)
        self.listeners = Listeners(
            self.reception, config.backlog, KernelRoutes(obstacle(config, router))
        )
        self.spoken = Spoken(
            config, router.needs_head, self.reception, self.listeners, self.room.add
        )
        self.returns = Returns(
            seed.front_desk, system.reactor, self._returned, self.reception.free_descriptors
        )
        templates = Templates(
            system,
            config,
            provision,
            lambda: self.spoken.interface,
            lambda: self.supervisor.go_on(),
            log,
        )
        spawner = Spawner(
            system,
            config,
            seed.secret,
            seed.in_words,
            self.pool,
            self.returns.front_desk.fileno(),
            self.listeners,
            provision,
            templates,
        )
        self.workers = Workers(
            system,
            self.pool,
            spawner,
            suspicions,
            self.replication,
            self.beginning,
            self.listeners,
            config.backlog,
            handles,
            heard=self.heard,
            bus=self.bus,
            leaving=lambda id: self.supervisor.leaving(id),
            exited=self._exited,
        )
        self.leader = Appointing(self.pool, handles, system.clock, config.worker_timeout)
        self.reports = Reports(
            self.pool,
            suspicions,
            system.clock,
            self.listeners,
            self.dispatcher.routes,
            self.reception.refusals,
        )
        self.supervisor = Supervisor(
            seed.fleet,
            self.workers,
            system.reactor,
            log,
            ended=self._ended,
            reloading=self._reloading,
            settled=templates.settled,
            at_a_time=config.start_at_a_time or cores(),
            worker_timeout=config.worker_timeout,
            wary=config.accept == "workers",  # a connection at a silent worker's socket would wait
        )

    # ------------------------------------------------------------------ connections

    def _refuse(self, arrival: Arrival, reason: str) -> None:
        self.reception.turn_away(arrival, reason, RETRY_AFTER)

    def _returned(self, arrival: Arrival) -> None:
        """Have a connection between two requests wait at a worker, if there is one."""
        if arrival.idle and not self.beginning.under_way and self.pool.candidates():
            self.dispatcher.place(arrival)
        else:
            self.reception.receive(arrival)

    def _late(self, arrival: Arrival) -> None:
        """Refuse a connection that has waited its time, unless that ends the first start."""
        if self.beginning.settle():
            self.reception.receive(arrival)
        else:
            self._refuse(arrival, "No worker is ready.")

    def _unpark(self) -> None:
        for arrival in self.room.take_all():
            self.reception.admit(arrival)

    def _suspects_changed(self) -> None:
        """Have the workers avoid those that are suspect, and the primary accept beside them."""
        self.replication.tell_pool()
        self.workers.attend()

    def _begun(self) -> None:
        """Route from now on, with the workers that are ready."""
        self.workers.attend()
        self._unpark()
        self.events.ready()

    # ---------------------------------------------------------- what the workers say

    def heard(self, handle: WorkerHandle, frame: Frame) -> None:
        """Deal with a frame from a worker."""
        match frame:
            case Load() | Beat():
                alive = self.reports.take(handle, frame)
                self.bus.settle(handle.id)
                self.supervisor.heartbeat(handle.id, takes=alive)
                self.leader.heard(handle.id)
                self.replication.tell_pool_soon()
            case Bind(key):
                self.replication.bind(handle, key)
            case Used(keys):
                self.replication.used(handle.id, keys)
            case Free(key):
                self.replication.free(handle.id, key)
            case Publish(topic, message):
                self.bus.publish(topic, message)
            case Subscribe() | Follow():
                self.bus.join(handle.id, handle.name, handle.channel, frame)
            case Unsubscribe(topic):
                self.bus.unsubscribe(handle.id, topic)
            case Ready():
                self._ready(handle, frame)
            case Failed(reason):
                self.supervisor.load_failed(handle.id, reason)
            case Replace():
                self.supervisor.retire_request(handle.id)
            case Reload():
                self.supervisor.reload()
            case WantLog():
                self.workers.renew_log(handle)
            case WantPeer(worker):
                self.replication.introduce(handle.id, worker)
            case Resign(term):
                self.leader.resigned(handle.id, term)
            case Deaf():  # what is in the mailbox is for other workers now
                self.workers.withdraw(handle)
                handle.mailbox.share(self.returns.adopt)
                self.supervisor.retire_request(handle.id)
            case Withdraw():
                self.workers.withdraw(handle)
                handle.channel.send(Withdrawn())
                self.supervisor.leaving(handle.id)

    def _ready(self, handle: WorkerHandle, frame: Ready) -> None:
        self.events.sources(frame.sources)
        self.spoken.tell(frame.interface, frame.http)
        self.workers.ready(handle, frame, lambda: self._joined(handle, frame))

    def _joined(self, handle: WorkerHandle, frame: Ready) -> None:
        self.supervisor.ready(handle.id)
        self.leader.ready(handle.id, frame.appointable)
        if self.beginning.under_way:
            self.beginning.look()
        else:
            self._unpark()

    def _reloading(self, under_way: bool) -> None:
        """Tell that a reload has begun or is over; end the templates that are not needed then."""
        if not under_way:
            proven = self.workers.has_ready(self.supervisor.fleet.generation)
            self.workers.spawner.templates.reloaded(proven)
        self.events.reloading(under_way)

    def _exited(self, handle: WorkerHandle, status: int) -> None:
        """Route anew what a worker, whose process has ended, had not taken in hand."""
        self.leader.gone(handle.id)
        waiting = handle.close(self.returns.adopt)
        self.supervisor.exited(handle.id, status)
        self.returns.take(waiting)

    # ----------------------------------------------------------------------- life

    def open(self) -> None:
        """Read the front desk, and wait for the workers."""
        self.returns.open()
        self.bus.start()
        self.beginning.look()  # a program before this one may have had a worker that is ready

    def stopping(self) -> None:
        """Wait for no worker any more: the cluster is told to stop."""
        self.workers.spawner.templates.close()
        self.beginning.abandon()
        for arrival in self.room.take_all():
            self._refuse(arrival, "The server stops.")

    def _ended(self, code: int, reason: str) -> None:
        self.stopping()
        self.events.ended(code, reason)

    def close(self) -> None:
        """Give up everything."""
        self.reception.close()
        self.room.close()
        self.bus.stop()
        for part in (self.beginning, self.replication, self.returns, self.workers):
            part.close()
