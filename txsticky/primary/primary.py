"""
The primary: routes each connection once and lets go of it.

:class:`Primary` is where the parts meet: the reception (`peek`) gives it connections, the router
says whose they are, and the handles take them to the workers' mailboxes.  It is also the
supervisor's pair of hands.
"""

from __future__ import annotations

import collections
import signal
import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger

from ..bus.hub import bus_of
from ..config import Config
from ..core.how import How
from ..core.lifecycle.timing import SILENT
from ..core.messages.frames import Frame, encode
from ..core.messages.from_primary import (
    BeginDrain,
    Bound,
    Confirmed,
    Freed,
    Rotate,
    View,
    Withdrawn,
)
from ..core.messages.from_worker import (
    Bind,
    Deaf,
    Failed,
    Free,
    ListeningLoad,
    Load,
    Publish,
    Ready,
    Replace,
    Subscribe,
    Unsubscribe,
    WantLog,
    Withdraw,
)
from ..core.messages.handoff import MOST_HOPS, Handoff, pack_handoff
from ..core.messages.origin import Origin
from ..core.routing.pool import Pool
from ..core.routing.router import Refusal
from ..core.routing.table import Table
from ..errors import MailboxFull
from ..intake.reception import Arrival, Reception, manners_for
from ..ipc.inbox import FrontDesk
from ..ipc.mailbox import MailboxTransport, mailbox_pair
from ..system.system import System
from .listeners import Listeners
from .provision import Provision
from .suspicion import CROWDED, MUTE, SHORT, STUCK, STUCK_AFTER, Suspicions
from .waiting_room import WaitingRoom
from .worker_handle import WorkerHandle

log = Logger()

#: Keys that applications bound: how many, and for how many seconds without use.
TABLE_LIMIT = 100_000
TABLE_TTL = 3600.0
#: Seconds for which the first worker that is ready waits for the others of the first start.
OTHERS = 5.0
#: Moves without being served after which a connection is refused.
MAX_HOPS = 16
#: Seconds between views of the load that the workers get.
VIEW_INTERVAL = 0.5
RETRY_AFTER = 1


class Primary:
    """
    Routes connections, and keeps what the workers have to know in common.

    :param system: the operating system.
    :param config: what the cluster is to be.
    :param secret: what signs the tags; a new one by default.
    :param front_desk: the mailbox of this primary, (sending end, reading end); a new one by
        default.
    """

    def __init__(
        self,
        system: System,
        config: Config,
        secret: bytes | None = None,
        front_desk: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        self.system = system
        self.config = config
        self.secret = secret or system.random_bytes(16)
        self.router = config.router(self.secret)
        self.pool = Pool()
        self.table = Table(TABLE_LIMIT, TABLE_TTL)
        self.handles: dict[int, WorkerHandle] = {}
        self.routes: dict[How, int] = dict.fromkeys(How, 0)
        #: How often a worker ended, by exit code or the negative number of a signal.
        self.exits: collections.Counter[int] = collections.Counter()
        #: Whether the application speaks HTTP, as the first worker says; None until then.
        self.http: bool | None = None
        self.interface = config.interface
        self.reception = Reception(system, config, self.place)
        self.listeners = Listeners(self.reception, config.backlog)
        self.provision = Provision(config, None)
        self.supervisor: Any = None
        self.on_ended: Callable[[int, str], None] = lambda code, reason: None
        #: Called when the first start is over and connections are routed.
        self.on_begun: Callable[[], None] = lambda: None
        #: Told whether clients are expected to speak first, when that is known.
        self.on_manners: Callable[[bool], None] = lambda waits: None
        #: Told, with --reload, which files a worker has loaded.
        self.on_sources: Callable[[Iterable[str]], None] = lambda files: None
        # Until all workers of the first start are ready, or one has been for some seconds: keys
        # that lead to a worker by rendezvous would lead elsewhere a moment later.
        self.beginning = True
        self.room = WaitingRoom(
            system, config.queue_timeout, config.backlog, self._refuse, self._late, config.tls
        )
        self._others_due: Any = None
        self.suspicions = Suspicions(self.pool)
        self._view_due: Any = None
        self.bus = bus_of(config.bus, system.reactor, system.random_bytes(8))
        self.desk = FrontDesk(self.reception.receive)
        self.front_desk, reading = front_desk or mailbox_pair()
        self.desk_box = MailboxTransport(
            reading, system.reactor, self.desk, short=self.reception.free_descriptors
        )
        self.leftovers: set[MailboxTransport] = set()
        self._set_manners()

    def _set_manners(self) -> None:
        self.reception.manners = manners_for(self.config, self.router.needs_head, self.http)

    # ---------------------------------------------------------------- routing

    def place(self, arrival: Arrival) -> None:
        """Decide whose a connection is, and hand it off."""
        if self.beginning and (self.config.queue_timeout or not self.pool.candidates()):
            self.room.admit(arrival)
            return
        router = self.router
        decision = router.decide(
            arrival.head,
            arrival.peer[0],
            self.pool,
            self.table,
            self.system.clock(),
            self.system.rng,
        )
        if isinstance(decision, Refusal):
            if self.supervisor.expects(self.config.queue_timeout):
                self.room.admit(arrival)
            else:
                self._refuse(arrival, decision.reason)
            return
        if arrival.hops > MAX_HOPS:
            self._refuse(arrival, "The connection was moved too often.")
            return
        self.routes[decision.how] += 1
        self._hand_off(arrival, self.handles[decision.worker], decision.how)

    def _hand_off(self, arrival: Arrival, handle: WorkerHandle, how: How) -> None:
        sock = arrival.sock
        message = pack_handoff(
            Handoff(
                family=sock.family,
                origin=Origin(arrival.peer, arrival.host, arrival.secure),
                prefix=arrival.data,
                how=how,
                hops=min(arrival.hops, MOST_HOPS),
                reserved=True,
            )
        )
        self.pool.reserve(handle.id)
        try:
            handle.hand(sock.fileno(), message)
        except MailboxFull:
            self.pool.release(handle.id)
            self._refuse(arrival, "Too many requests wait for their worker.")
            return
        sock.detach()  # the mailbox owns the descriptor now

    def _refuse(self, arrival: Arrival, reason: str) -> None:
        self.reception.turn_away(arrival, reason, RETRY_AFTER)

    # ---------------------------------------------------------------- waiting

    @property
    def parked(self) -> int:
        """How many connections wait for a worker."""
        return len(self.room)

    def _late(self, arrival: Arrival) -> None:
        """A connection has waited for as long as one may."""
        if self.beginning and self.pool.candidates():
            self._begun()
            self.reception.receive(arrival)
        else:
            self._refuse(arrival, "No worker is ready.")

    def _look_for_others(self) -> None:
        """See whether the first start is over, or when it is to be."""
        ready = len(self.pool.candidates())
        if ready >= self.config.workers:
            self._begun()
        elif ready and self._others_due is None:
            seconds = min(OTHERS, self.config.queue_timeout)
            self._others_due = self.system.reactor.callLater(seconds, self._others_late)

    def _others_late(self) -> None:
        self._others_due = None
        if self.beginning and self.pool.candidates():  # else the one that was ready has gone
            self._begun()

    def _begun(self) -> None:
        """Route from now on, with the workers that are ready."""
        self.beginning = False
        self.attend()
        self._unpark()
        self.on_begun()

    def _unpark(self) -> None:
        for arrival in self.room.take_all():
            self.reception.admit(arrival)

    def stopping(self) -> None:
        """The cluster is told to stop: no worker is waited for any more."""
        if self.beginning and self.pool.candidates():
            self._begun()
        self.beginning = False
        for arrival in self.room.take_all():
            self._refuse(arrival, "The server stops.")

    # --------------------------------------------------- hands of the supervisor

    def spawn(self, id: int, slot: int, generation: int) -> None:
        """
        Start a worker.

        :raises OSError: its process cannot be started; nothing of it is left then.
        """
        handle = WorkerHandle(self.system, self, id, slot, generation, self.config.backlog)
        self.pool.add(id, slot)
        boot = {
            "config": self.config.to_json(),
            "secret": self.secret.hex(),
            "pool": self.pool.view(),
            "table_limit": TABLE_LIMIT,
            "table_ttl": TABLE_TTL,
            **self.provision.boot(),
        }
        sockets = self.listeners.of(slot)
        try:
            handle.spawn(self.front_desk.fileno(), boot, sockets, self.provision)
        except BaseException:
            self.pool.set_gone(id)
            raise
        self.handles[id] = handle

    def retire(self, id: int, seconds: float, final: bool) -> None:
        """Tell a worker to finish and leave."""
        handle = self.handles.get(id)
        if handle is not None:
            self.pool.set_draining(id)
            self._tell_pool()
            handle.channel.send(BeginDrain(seconds, final))
            self.attend()

    def kill(self, id: int, hard: bool) -> None:
        """End a worker's process."""
        handle = self.handles.get(id)
        if handle is not None:
            handle.send_signal(signal.SIGKILL if hard else signal.SIGQUIT)

    def suspect(self, id: int, flag: bool, why: str = MUTE) -> None:
        """New connections avoid the worker, or no longer."""
        if id in self.handles and self.suspicions.set(id, flag, why):
            self.attend()

    def ended(self, code: int, reason: str) -> None:
        """Everything is over."""
        self.stopping()
        self.on_ended(code, reason)

    # ------------------------------------------------------ what the handles say

    def heard(self, handle: WorkerHandle, frame: Frame) -> None:
        """A control frame has come from a worker."""
        match frame:
            case Load():
                self._load(handle, frame)
            case Bind(key):
                self._bind(handle, key)
            case Free(key):
                self.table.free(key)
                self._tell_others(handle, Freed(key))
            case Publish(topic, message):
                self.bus.publish(topic, message)
            case Subscribe(topic):
                self.bus.subscribe(handle.id, handle.name, handle.channel, topic)
            case Unsubscribe(topic):
                self.bus.unsubscribe(handle.id, topic)
            case Ready():
                self._ready(handle, frame)
            case Failed(reason):
                self.supervisor.load_failed(handle.id, reason)
            case Replace():
                self.supervisor.retire_request(handle.id)
            case WantLog():
                self.provision.rotate((handle,))
            case Deaf():
                self._deaf(handle)
            case Withdraw():
                self._withdraw(handle)
                handle.channel.send(Withdrawn())
                self.supervisor.leaving(handle.id)

    def _ready(self, handle: WorkerHandle, frame: Ready) -> None:
        handle.ready = True
        self.on_sources(frame.sources)
        self.speaks(frame.interface, frame.http)
        for other in self.handles.values():
            if other is not handle and other.ready:
                other.introduce(handle)
                handle.introduce(other)
        handle.replica.renew()
        self.pool.set_ready(handle.id)
        self._tell_pool()
        self.attend()
        self.supervisor.ready(handle.id)
        if not self.beginning:
            self._unpark()
        else:
            self._look_for_others()

    def speaks(self, interface: str, http: bool | None) -> None:
        """It is known what the application speaks."""
        self.interface = interface
        if self.http != http:
            self.http = http
            self._set_manners()
            self.on_manners(self.reception.manners.waits)
            for arrival in self.reception.take_waiting():
                self.room.add(arrival)

    def _load(self, handle: WorkerHandle, load: Load) -> None:
        id, now, short = handle.id, self.system.clock(), load.short
        self.pool.report(id, load.live, load.taken, load.lag, now)
        stuck = self.pool.stuck(id, now) >= STUCK_AFTER
        self.suspect(id, short, SHORT)
        self.suspect(id, stuck and not short, STUCK)
        if load.listening is not None:
            self._count(load.listening, handle.listening)
        handle.load, handle.reported = load, now
        self.bus.settle(id)
        self.supervisor.heartbeat(id, takes=not stuck or short or not self.pool.is_ready(id))
        if self._view_due is None:
            self._view_due = self.system.reactor.callLater(VIEW_INTERVAL, self._send_view)

    def _count(self, now: ListeningLoad, before: ListeningLoad) -> None:
        """Count what a worker has done on sockets of its own between two reports."""
        self.listeners.accepted_by_workers += now.accepted - before.accepted
        counted = before.routes or [0] * len(How)
        for how, count, earlier in zip(How, now.routes, counted, strict=True):
            self.routes[how] += count - earlier
        self.reception.refusals.update(dict(now.refusals))
        self.reception.refusals.subtract(dict(before.refusals))

    def _bind(self, handle: WorkerHandle, key: bytes) -> None:
        """
        Every worker is told before the one that binds hears that they were. One that reads so
        slowly that it is not told is given nothing new meanwhile, unless no other is left.
        """
        self.table.bind(key, handle.id, self.system.clock())
        self._tell_others(handle, Bound(key, handle.id))
        handle.channel.send(Confirmed())

    def _tell_others(self, handle: WorkerHandle, change: Bound | Freed) -> None:
        for other in self.handles.values():
            if other is not handle and other.ready:
                other.replica.tell(change)

    def _tell_pool(self) -> None:
        """Tell every worker who is there."""
        frame = encode(View(self.pool.view()))
        for handle in self.handles.values():
            if handle.ready:
                handle.replica.tell_pool(frame)

    def _send_view(self) -> None:
        self._view_due = None
        self._tell_pool()

    def attend(self) -> None:
        """Have the workers accept that can, once connections are routed."""
        if not self.beginning:
            self.listeners.attend(self.handles.values(), self.pool)

    def crowded(self, handle: WorkerHandle, flag: bool) -> None:
        """A worker's mailbox is full, or has room again."""
        self.suspect(handle.id, flag, CROWDED)

    def fell_silent(self, handle: WorkerHandle) -> None:
        """A worker's channel has ended: without it, it is no use, and ends if it has not yet."""
        if self.handles.get(handle.id) is handle and handle.ready:
            self._withdraw(handle)
            self.end_soon(handle)

    def end_soon(self, handle: WorkerHandle) -> None:
        """Take a worker for one that serves no more, unless its process ends in a moment."""
        handle.last_call = self.system.reactor.callLater(SILENT, self.supervisor.leaving, handle.id)

    def _deaf(self, handle: WorkerHandle) -> None:
        """A worker's mailbox has ended: what is in it is for others now, and so is its place."""
        self._withdraw(handle)
        handle.share_mailbox(self.adopt_leftovers)
        self.supervisor.retire_request(handle.id)

    def _withdraw(self, handle: WorkerHandle) -> None:
        """Route nothing to a worker any more, and tell it nothing."""
        handle.ready = False
        self.pool.set_gone(handle.id)
        self.table.forget(handle.id)
        self.suspicions.forget(handle.id)
        self.bus.forget(handle.id)
        self._tell_pool()
        self.attend()

    def exited(self, handle: WorkerHandle, status: int) -> None:
        """A worker's process has ended: what it had not taken in hand goes to others."""
        self._withdraw(handle)
        self.exits[status] += 1
        del self.handles[handle.id]
        waiting = handle.close(self.adopt_leftovers)
        self.supervisor.exited(handle.id, status)
        self.desk.take(waiting)

    def adopt_leftovers(self, box: MailboxTransport) -> None:
        """Read what a worker that is gone had not taken out of its mailbox."""
        box.protocol = self.desk
        box.finished = lambda: self.leftovers.discard(box)
        self.leftovers.add(box)
        box.startReading()

    # ------------------------------------------------------------------- life

    def open(self) -> None:
        """Read the front desk, and wait for the workers."""
        self.desk_box.startReading()
        self.bus.start()
        if self.beginning:  # a program before this one may have had a worker that is ready
            self._look_for_others()

    def rotate_logs(self) -> None:
        """Tell the workers to reopen their logs."""
        for handle in self.handles.values():
            handle.channel.send(Rotate())
        self.provision.rotate(self.handles.values())

    def close(self) -> None:
        """Give up everything."""
        self.reception.close()
        self.room.close()
        self.bus.stop()
        for call in (self._others_due, self._view_due):
            if call is not None and call.active():
                call.cancel()
        for box in (self.desk_box, *self.leftovers):
            box.loseConnection()
        self.front_desk.close()
        self.provision.close()
