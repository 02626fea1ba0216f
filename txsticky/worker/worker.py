"""
The worker: adopts connections, serves them, gives away what is not its own, drains and leaves.

A worker is a fresh interpreter (`txsticky.worker.process`).  The
first frame on the channel says all it needs to know; then it loads the application, says READY, and
reads its mailbox.  It leaves when it is told to, or when its channel ends because the primary has
gone.
"""

from __future__ import annotations

import collections
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..api import Here, install
from ..config import Config
from ..core.http.conversation import Exchange
from ..core.lifecycle.timing import quick
from ..core.messages.frames import Frame
from ..core.messages.from_primary import (
    FROM_PRIMARY,
    Accept,
    BeginDrain,
    Boot,
    Bound,
    Confirmed,
    Freed,
    Lost,
    Message,
    Rotate,
    View,
    Withdrawn,
)
from ..core.messages.from_worker import (
    Bind,
    Deaf,
    Failed,
    Free,
    Load,
    Ready,
    Replace,
    WantLog,
    Withdraw,
)
from ..core.messages.handoff import Handoff, pack_handoff
from ..core.routing.pool import Pool
from ..core.routing.table import KEY_LIMIT, Table
from ..errors import ChannelFull, KeyTooLong, MailboxFull, TxstickyError
from ..ipc.channel import Channel
from ..ipc.mailbox import MailboxTransport
from ..serve import Serving
from ..socketio.sessions import tag_all
from ..system.shared_log import HandedLog
from ..system.source_watch import loaded_sources
from ..tls.relay import RelayedServer
from ..transport.gate import Gate
from ..transport.gated import GatedServer, GatedUNIXServer
from ..transport.movable import adopt, begin
from ..transport.write_batch import Turn
from .connections import Connection, PlainServer, PlainUNIXServer, make_room
from .drain import Drain
from .ending import End, exit_status
from .inbox import Intake
from .listening import Entrance
from .policy import WorkerDesk
from .stall_watch import StallWatch

log = Logger()

#: The place that is not a worker: the primary's own mailbox.
FRONT_DESK = 0
#: Seconds between a change of load and its report, and between reports when nothing changes (the
#: heartbeat).
REPORT_SOON = 0.05
HEARTBEAT = 0.5


class Worker:
    """
    The running worker.

    :param boot: what the primary said in its first frame.
    :param reactor: the reactor that serves.
    :param serving: the application, wrapped for its interface.
    """

    def __init__(self, boot: Boot, config: Config, reactor: Any, serving: Serving) -> None:
        self.id: int = boot.id
        self.slot: int = boot.slot
        self.config = config
        self.serving = serving
        self.pool = Pool.from_view(boot.pool)
        self.table = Table(boot.table_limit, boot.table_ttl)
        self.router = config.router(bytes.fromhex(boot.secret))
        self.live: set[Connection] = set()
        self.adopted = 0
        self.given = 0
        self.requests = 0
        self.desk = WorkerDesk(self)
        #: Where TLS ends, if it ends here (`door.SecureDoor`).
        self.door: Any = None
        #: The access log, where the primary has opened it.
        self.handed_log: HandedLog | None = None
        self._reactor = reactor
        self._turn = Turn(lambda end: reactor.callLater(0, end))
        self._report: Any = None
        self._beat_due = 0.0
        self._lag = 0.0
        self._drain = Drain(self, reactor)
        self._end = End(reactor, serving.stop)
        # An application that is a protocol factory sees to its pauses itself.
        stall_timeout = config.stall_timeout if serving.interface != "protocol" else 0.0
        upgrades = serving.interface != "wsgi"
        self._stalls = StallWatch(reactor, stall_timeout, lambda: self.live, upgrades)
        self._waiting: collections.deque[Callable[[], None]] = collections.deque()
        self._retire_after = _limit(config)
        self.intake = Intake(self, reactor, boot.mailbox)
        self.entrance = Entrance(self, reactor, boot.listeners, self.make_room)
        self.places: dict[int, MailboxTransport] = {}
        self.add_place(FRONT_DESK, boot.front_desk)
        self.channel: Channel
        self.here = Here(self)

    def add_place(self, place: int, descriptor: int) -> None:
        """Take the sending end of another mailbox."""
        old = self.places.pop(place, None)
        if old is not None:
            old.loseConnection()
        self.places[place] = MailboxTransport(
            socket.socket(fileno=descriptor),
            self._reactor,
            undelivered=lambda waiting: self._bounced(place, waiting),
        )

    # ------------------------------------------------------------------ start

    def start(self, channel: socket.socket) -> None:
        """Start the application; then say READY and read the mailbox."""
        self.channel = Channel(
            channel, self._reactor, FROM_PRIMARY, self._frame, self._primary_gone
        )
        self.channel.startReading()
        install(self.here)
        tag_all()
        maybeDeferred(self.serving.start).addCallbacks(self._ready, self._failed)

    def _ready(self, _: object) -> None:
        tag_all()
        serving = self.serving
        sources = list(loaded_sources()) if self.config.reload else []
        self.channel.send(Ready(serving.interface, serving.http, sources))
        self.intake.box.startReading()
        self._stalls.start()
        self._beat_due = time.monotonic() + HEARTBEAT
        self._beat()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(TxstickyError):
            log.failure("The application did not start.", failure)
        reason = f"The application did not start: {failure.getErrorMessage()}"
        self.channel.send(Failed(reason))
        self.end_within(quick(self.config.graceful_timeout))
        self._reactor.callLater(0, self.leave, 3)

    # ---------------------------------------------------------------- mailbox

    def deaf(self) -> None:
        """
        The mailbox has ended, though nobody has told this worker to leave: it can take nothing any
        more. What it holds is served to its end, and another takes its place.
        """
        if self._end.begun or not self._reactor.running:
            return
        self.channel.read_now()
        if not self.channel.connected:
            return  # the primary has gone: that is why, and `_primary_gone` was told
        log.error("This worker's mailbox has ended: it takes no more connections, and leaves.")
        exit_status.value = max(exit_status.value, 1)
        self.channel.send(Deaf())
        self.drain(self.config.graceful_timeout, final=False)

    def take_log(self, descriptor: int) -> None:
        if self.handed_log is None:
            os.close(descriptor)  # this worker opened the file itself, and goes on so
            return
        self.handed_log.take(descriptor)
        self.serving.reopen_logs()

    def reopen_logs(self) -> None:
        """Reopen the logs; one that the primary has opened is asked for."""
        self.serving.reopen_logs()
        if self.handed_log is not None:
            self.channel.send(WantLog())

    def adopt(self, sock: socket.socket, handoff: Handoff) -> None:
        """Serve a connection that was handed here; one that fails is closed."""
        connection = Connection(self, handoff)
        self.adopted += 1
        self.live.add(connection)
        self.changed()
        try:
            adopted = self._serve(sock, connection)
        except Exception:
            log.failure("A connection could not be served, and is closed.")
            sock.close()
            adopted = False
        if not adopted:
            connection.closed()
        connection.handoff = handoff.begun()  # the connection may last for days

    def _serve(self, sock: socket.socket, connection: Connection) -> bool:
        handoff = connection.handoff
        origin = handoff.origin
        factory, gated = self.serving.factory, self.serving.http
        native = getattr(self.serving, "adopt", None)
        if self.door is not None and not origin.secure:
            factory, gated = self.door.factory_for(connection), False
        elif native is not None:
            native(sock, connection, self.desk, self.exchange())
            return True
        unix = handoff.family == socket.AF_UNIX
        if origin.secure:
            make: Any = RelayedServer
        elif gated:
            make = GatedUNIXServer if unix else GatedServer
        else:
            make = PlainUNIXServer if unix else PlainServer
        transport = adopt(self._reactor, sock, origin.peer, factory, make, self.adopted)
        if transport is None:
            return False
        connection.made(transport)
        transport.turn = self._turn
        transport.connection = connection
        transport.how = handoff.how
        if gated:
            transport.gate = Gate(
                transport, self.desk, self.exchange(), origin.peer[0], origin.secure
            )
        connection.begun()
        begin(transport, handoff.prefix)
        return True

    def exchange(self, first_is_ours: bool = True) -> Exchange:
        """A follower for a new conversation."""
        limit = self.config.head_limit
        return Exchange(limit, first_is_ours=first_is_ours, inside=self.serving.inside)

    def make_room(self) -> None:
        make_room(self.live)

    def forget(self, connection: Connection) -> None:
        """The connection is no longer here."""
        self.live.discard(connection)
        self.changed()
        if self._drain.under_way and not self.live:
            self._reactor.callLater(0, self._drain.emptied)

    # ------------------------------------------------------------------- give

    def give(self, sock: socket.socket, place: int, handoff: Handoff) -> None:
        """Give a connection away."""
        if self.final and place == FRONT_DESK:
            sock.close()  # the cluster stops: nobody is left to take it
            return
        self.given += 1
        box = self.places.get(place) or self.places[FRONT_DESK]
        message = pack_handoff(handoff)
        descriptor = sock.detach()
        try:
            box.sendFileDescriptor(descriptor)
            box.write(message)
        except MailboxFull:
            self._bounced(place, [(descriptor, message)])

    def _bounced(self, place: int, waiting: list[tuple[int, bytes]]) -> None:
        """A mailbox does not take these: its worker is gone, or far behind. The front desk does."""
        desk = self.places[FRONT_DESK]
        for descriptor, message in waiting:
            try:
                if place == FRONT_DESK:
                    raise MailboxFull(queued=desk.queued)
                desk.sendFileDescriptor(descriptor)
                desk.write(message)
            except MailboxFull as full:
                log.error("A connection is lost: {full}", full=full)
                os.close(descriptor)

    # --------------------------------------------------------------- bindings

    def bind(self, key: bytes) -> Deferred[None]:
        """
        Bind a key of the application to this worker; fires once it is known everywhere.

        :raises KeyTooLong: it is longer than `KEY_LIMIT`.
        :raises ChannelFull: the primary does not read.
        """
        if len(key) > KEY_LIMIT:
            raise KeyTooLong(size=len(key), limit=KEY_LIMIT)
        if self.channel.full:
            raise ChannelFull(waiting=self.channel.waiting)
        self.table.bind(key, self.id, time.monotonic())
        self.desk.changed()
        if not self.channel.connected:
            return succeed(None)  # the primary is gone, and nobody is left to be told
        done: Deferred[None] = Deferred()
        self.desk.unconfirmed += 1
        self._waiting.append(lambda: done.callback(None))
        self.channel.send(Bind(key))
        return done

    def free(self, key: bytes) -> None:
        """Forget a key; if the primary does not read, the others forget it when it is not used."""
        self.table.free(key)
        if len(key) <= KEY_LIMIT and not self.channel.full:
            self.channel.send(Free(key))

    # ---------------------------------------------------------------- channel

    def _frame(self, frame: Frame) -> None:
        match frame:
            case View(pool, anew):
                if anew:  # the table follows as it is now: what was freed is not in it
                    self.table.clear()
                    self.desk.changed()
                self._pool_changed(Pool.from_view(pool))
            case Bound(key, owner):
                self.table.bind(key, owner, time.monotonic())
                self.desk.changed()
            case Freed(key):
                self.table.free(key)
                self.desk.changed()
            case Confirmed():
                self.desk.unconfirmed -= 1
                self._waiting.popleft()()
                self.desk.confirmed()
            case BeginDrain(seconds, final):
                self.drain(seconds, final)
            case Accept():
                if not self.desk.draining:
                    self.entrance.open()
            case Withdrawn():
                self._drain.withdrawn()
            case Rotate():
                self.serving.reopen_logs()
            case Message(topic, message):
                self.here.message(topic, message)
            case Lost(topic, count):
                self.here.lost(topic, count)

    def _pool_changed(self, pool: Pool) -> None:
        """A new view of the cluster. What is gone keeps no key and no mailbox of ours."""
        newest = max((member.id for member in pool.members), default=0)
        # Ids only grow: so what is missing among them is gone, even if its mailbox, which comes by
        # another way, came after the news.
        gone = {place for place in self.places if FRONT_DESK < place < newest}
        gone |= {member.id for member in self.pool.members}
        for id in gone - {member.id for member in pool.members} - {self.id}:
            self.table.forget(id)
            box = self.places.pop(id, None)
            if box is not None:
                waiting = box.take_queue()
                box.loseConnection()
                self._bounced(id, waiting)
        if pool.version != self.pool.version:
            self.desk.changed()
        self.pool = pool

    def _primary_gone(self) -> None:
        """The primary has died: finish what is here, and leave."""
        if self._end.begun or not self._reactor.running:
            return  # it is this worker that ends, and the reactor that closes what is open
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.close(quiet)
        while self._waiting:
            self._waiting.popleft()()
        self.desk.unconfirmed = 0
        self.desk.confirmed()
        self.drain(self.config.graceful_timeout, final=True)

    # ------------------------------------------------------------------- load

    def changed(self) -> None:
        """The load has changed: report it soon."""
        if self._report is None:
            self._report = self._reactor.callLater(REPORT_SOON, self._send_report)

    def _send_report(self) -> None:
        self._report = None
        if self.channel.behind:
            return  # the next one says the same, and more of it
        self.channel.send(
            Load(
                live=len(self.live),
                taken=self.intake.taken,
                lag=round(self._lag, 4),
                requests=self.requests,
                adopted=self.adopted,
                given=self.given,
                short=self.intake.box.resting or self.entrance.short,
                listening=self.entrance.report(),
            )
        )

    def _beat(self) -> None:
        now = time.monotonic()
        self._lag = max(0.0, now - self._beat_due)
        self._beat_due = now + HEARTBEAT
        self._reactor.callLater(HEARTBEAT, self._beat)
        self.changed()
        self._drain.look()

    def request_done(self) -> None:
        """One more request is answered; at the limit ask to be replaced."""
        self.requests += 1
        if self.requests == self._retire_after:
            self.retire()

    def retire(self) -> None:
        """Ask to be replaced: this worker drains when its successor is ready."""
        self.channel.send(Replace())

    # ------------------------------------------------------------------ drain

    def drain(self, seconds: float, final: bool) -> None:
        """Serve what is here to its end, and leave; see `Drain.begin`."""
        self._drain.begin(seconds, final)

    @property
    def final(self) -> bool:
        """Whether the whole cluster stops, so that there is nobody to give a connection to."""
        return self._drain.final

    def take_all(self) -> None:
        """Take everything out of the mailbox; what comes once this worker ends is for others."""
        while not self._end.begun and self.intake.box.read_one():
            pass

    def quit(self) -> None:
        """Leave without waiting for requests; the application stops nevertheless."""
        self.end_within(quick(self.config.graceful_timeout))
        self.leave(0)

    def end_within(self, seconds: float) -> None:
        """Have so many seconds for all that is still to be done, or less if it was less before."""
        self._end.within(seconds)

    def leave(self, status: int) -> None:
        """Stop the application in the time that is left, and end the process with this status."""
        if self._end.begun:
            return
        self.intake.box.stopReading()
        self.entrance.leave()
        self.channel.send(Withdraw())  # from here on there may be no sign of life
        self._end.begin(status)


def _limit(config: Config) -> int:
    """After how many requests the worker asks to be replaced; 0 = never."""
    if not config.max_requests:
        return 0
    return config.max_requests + random.randint(0, config.max_requests_jitter)
