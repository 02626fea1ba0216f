"""
The worker: adopts connections, serves them, gives away what is not its own, drains and leaves.

A worker is forked from a template, or an interpreter of its own (`worker.process`).  The first
frame on its channel says all that the worker needs to know; then it loads the application, unless
the template has done that, says `Ready`, and reads its mailbox.  It leaves when the primary tells
it to, or when its channel ends because the primary has gone.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..api import MESSAGE_LIMIT, Here, install
from ..bus.client import BusClient
from ..config import Config
from ..core.http.conversation import Conversation
from ..core.http.events import EventConversation
from ..core.lifecycle.timing import quick
from ..core.messages.frames import Frame
from ..core.messages.from_primary import (
    FROM_PRIMARY,
    Accept,
    BeginDrain,
    Boot,
    Bound,
    BoundAll,
    CaughtUp,
    Confirmed,
    Freed,
    Gap,
    Lead,
    Lost,
    Message,
    Missed,
    Outage,
    Rotate,
    View,
    Withdrawn,
)
from ..core.messages.from_worker import (
    Deaf,
    Failed,
    Load,
    Ready,
    WantLog,
    Withdraw,
)
from ..core.routing.pool import Pool
from ..errors import TxstickyError
from ..ipc.channel import Channel
from ..ipc.reactor_thread import ReactorThread
from ..serve import Serving
from ..socketio.sessions import tag_all
from ..system.logs.shared import HandedLog
from ..system.source_watch import loaded_sources
from ..system.system import System
from ..transport.websockets.movements import WebSockets
from .bindings import Bindings
from .connections import Connection, Connections
from .drain import Drain
from .ending import End, discard_output
from .fast_path import FastPath
from .inbox import WorkerInbox
from .leader.leading import Leading
from .listening import Listening, ListeningSettings
from .load_report import LoadReport, idle_heartbeat, retirement
from .outbox import Outbox
from .policy import PolicySettings, RequestPolicy
from .stall_watch import StallWatch
from .view import ClusterView

log = Logger()


class Worker:
    """
    The running worker: composes its parts, dispatches what the primary says, and exits.

    :param boot: what the primary said in its first frame.
    :param config: the configuration.
    :param channel: the worker's end of its channel; owned from here on.
    :param system: the operating system, with the reactor that serves.
    :param serving: the application, wrapped for its interface.
    :param handed_log: the access log, where the primary has opened it.
    :param certificates: what clients over TLS are shown (`tls.certificates`), if there are any.
    """

    def __init__(
        self,
        boot: Boot,
        config: Config,
        channel: socket.socket,
        system: System,
        serving: Serving,
        handed_log: HandedLog | None = None,
        certificates: Any = None,
    ) -> None:
        self._config = config
        self._serving = serving
        self._system = system
        self._handed_log = handed_log
        retire_after = retirement(config, system.rng.randint)
        fast_path = FastPath(serving.inside)
        self.view = ClusterView.of(boot, config, fast_path.clear)
        self.channel = Channel(channel, system.reactor, FROM_PRIMARY, self._heard, self._orphaned)
        take_used = self.view.table.take_used if boot.takes_used else list
        idle = idle_heartbeat(config) if boot.takes_used else 0.0
        self.report = LoadReport(self.channel, system, self._load, take_used, idle, retire_after)
        self.leading = Leading(system, self.channel, boot.appoints)
        self.bindings = Bindings(self.view, self.channel, system.clock)
        self.outbox = Outbox(boot.front_desk, self.view, self.channel.send, system.reactor)
        self.bus = BusClient(self.channel, MESSAGE_LIMIT)
        self.connections = self._make_connections({}, fast_path, certificates)
        self.listening = self._make_listening(boot.listeners)
        self.inbox = self._make_inbox(boot.mailbox)
        self.end = End(system, self.leading.before(serving.stop))
        self.drain = self._make_drain()

    def _make_connections(
        self, live: dict[Connection, None], fast_path: FastPath, certificates: Any
    ) -> Connections:
        config = self._config
        policy = RequestPolicy(
            self.view,
            self.bindings,
            fast_path,
            reaches=self.outbox.reaches,
            live=live,
            read_now=self.channel.read_now,
            movements=WebSockets(self.view, config.websockets == "move", self.bus, self._system),
            request_done=self.report.request_done,
            settings=PolicySettings(balance=config.balance, debug_headers=config.debug_headers),
            system=self._system,
        )
        converse, follow = _conversations(config, self._serving)
        secured = None
        if certificates is not None:
            secured = _terminator(
                certificates,
                config.head_timeout,
                self._serving,
                self._system,
                here=self.view.id,
                policy=policy,
                converse=converse,
                follow=follow,
                give=self.outbox.give,
            ).factory_for
        return Connections(
            live,
            policy,
            self._serving,
            converse,
            secured,
            view=self.view,
            give=self.outbox.give,
            changed=self._live_changed,
            system=self._system,
        )

    def _make_listening(self, listeners: list[Any]) -> Listening:
        return Listening(
            listeners,
            ListeningSettings(self._config, self.view.router.needs_head, self._serving.http),
            whose=self.connections.policy.whose,
            adopt=self.connections.adopt,
            give=self.outbox.give,
            short=self.connections.make_room,
            system=self._system,
        )

    def _make_inbox(self, mailbox: int) -> WorkerInbox:
        return WorkerInbox(
            mailbox,
            self._system.reactor,
            adopt=self.listening.take,
            add_peer=self.outbox.add,
            take_log=self._take_log,
            make_room=self.connections.make_room,
            finished=self._deaf,
        )

    def _make_drain(self) -> Drain:
        return Drain(
            view=self.view,
            live=self.connections.live,
            serving=self._serving,
            give_post_back=self.leading.leave,
            listening=self.listening,
            withdraw=lambda: self.channel.send(Withdraw()),
            take_all=self.inbox.take_all,
            end_within=self.end.within,
            leave=self.leave,
            system=self._system,
        )

    # ------------------------------------------------------------------------ start

    def start(self) -> None:
        """Start the application; then say `Ready` and read the mailbox."""
        self.channel.startReading()
        _install(self)
        tag_all()
        maybeDeferred(self._serving.start).addCallbacks(self._ready, self._failed)

    def _ready(self, _: object) -> None:
        tag_all()
        config, serving = self._config, self._serving
        self.channel.send(_ready(config, serving, self.leading.appoints))
        self.inbox.start()
        _stall_watch(self._system, config, serving, self.connections.live).start()
        self.report.start()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(TxstickyError):
            log.failure("The application did not start.", failure)
        reason = f"The application did not start: {failure.getErrorMessage()}"
        self.channel.send(Failed(reason))
        self.end.within(quick(self._config.graceful_timeout))
        self._system.reactor.callLater(0, self.leave, 3)

    # ------------------------------------------------------------ what the primary says

    def _heard(self, frame: Frame) -> None:
        match frame:
            case View(pool, anew, lame_duck):
                pool, peers = Pool.from_view(pool), self.outbox.boxes
                for id in self.view.update(pool, peers, lame_duck, anew):
                    self.outbox.forget(id)
            case Bound(key, owner):
                self.bindings.learn(key, owner)
            case BoundAll(owner):
                self.bindings.learn_all(frame.keys, owner)
            case Freed(key):
                self.view.free(key)
            case Confirmed():
                self.bindings.confirmed()
            case BeginDrain(seconds, final):
                self.bus.drain()
                self.drain.begin(seconds, final)
            case Lead(term, until):
                self.leading.appointed(term, until)
            case Accept():
                if not self.view.draining:
                    self.listening.start()
            case Withdrawn():
                self.drain.withdrawn()
            case Rotate():
                self._serving.reopen_logs()
            case Message() | Missed() | CaughtUp() | Lost() | Outage() | Gap():
                self.bus.heard(frame)

    def _orphaned(self) -> None:
        """Finish what is here, and leave: the primary has died, and its pipe with it."""
        if self._over():
            return  # it is this worker that ends, and the reactor that closes what is open
        discard_output()
        self.leading.lose()
        self.bindings.orphaned()
        self.drain.begin(self._config.graceful_timeout, final=True)

    def _deaf(self) -> None:
        """Leave: the mailbox has ended, so that another worker has to take this one's place."""
        if self._over():
            return
        self.channel.read_now()
        if not self.channel.connected:
            return  # the primary has gone: that is why, and `_orphaned` was called
        log.error("This worker's mailbox has ended: it takes no more connections, and leaves.")
        self.end.status = max(self.end.status, 1)
        self.channel.send(Deaf())
        self.drain.begin(self._config.graceful_timeout, final=False)

    def _over(self) -> bool:
        return self.end.begun or not self._system.reactor.running

    def _live_changed(self) -> None:
        self.report.changed()
        if self.view.draining and not self.connections.live:
            self._system.reactor.callLater(0, self.drain.emptied)

    def _load(self, lag: float) -> Load:
        return Load(
            live=len(self.connections.live) + self.listening.reception.idle,
            taken=self.inbox.taken,
            lag=round(lag, 4),
            requests=self.report.requests,
            adopted=self.connections.adopted,
            given=self.outbox.given,
            moved=self.connections.policy.movements.moved,
            short=self.inbox.short or self.listening.short,
            listening=self.listening.load(),
        )

    def _take_log(self, descriptor: int) -> None:
        if self._handed_log is None:
            os.close(descriptor)  # this worker opened the file itself, and goes on so
            return
        self._handed_log.take(descriptor)
        self._serving.reopen_logs()

    def reopen_logs(self) -> None:
        """Reopen the logs; the primary is asked for the access log if it has opened that."""
        self._serving.reopen_logs()
        if self._handed_log is not None:
            self.channel.send(WantLog())

    def quit(self) -> None:
        """Leave without waiting for requests; the application stops nevertheless."""
        self.end.within(quick(self._config.graceful_timeout))
        self.leave()

    def leave(self, status: int = 0) -> None:
        """
        Stop the application in the time that is left, and end the process.

        :param status: the exit code.
        """
        if self.end.begun:
            return
        self.inbox.stop()
        self.listening.close()
        self.channel.send(Withdraw())  # from here on there may be no sign of life
        self.end.begin(status)


def _conversations(
    config: Config, serving: Serving
) -> tuple[Callable[..., Conversation], Callable[..., Conversation]]:
    """What makes the conversations of the application's protocols, and of relays."""
    follow = functools.partial(Conversation, config.head_limit, inside=serving.inside)
    if not serving.events:
        return follow, follow
    converse = functools.partial(EventConversation, config.head_limit, inside=serving.inside)
    return converse, follow


def _stall_watch(
    system: System, config: Config, serving: Serving, live: Iterable[Connection]
) -> StallWatch:
    """Make what ends connections whose clients pause for too long."""
    # An application that is a protocol factory sees to its pauses itself, unless it takes events.
    watched = serving.events or serving.interface != "protocol"
    seconds = config.stall_timeout if watched else 0.0
    upgrades = serving.interface != "wsgi"
    return StallWatch(system, seconds, live, upgrades)


def _terminator(
    certificates: Any, head_timeout: float, serving: Serving, system: System, **services: Any
) -> Any:
    """Make what ends TLS; OpenSSL is imported only where it is needed."""
    from ..tls.connection import TlsServices
    from ..tls.termination import TlsTerminator

    return TlsTerminator(
        TlsServices(factory=serving.factory, reactor=system.reactor, **services),
        serving.http,
        certificates,
        head_timeout,
        system,
    )


def _install(worker: Worker) -> None:
    """Let the application ask where it is."""
    here = Here(
        worker.view,
        worker.bindings,
        worker.bus,
        worker.leading,
        worker.connections.policy.movements,
        ReactorThread(worker.channel.reactor).call,
        worker.report.reload if worker.view.asks else None,
    )
    install(here)


def _ready(config: Config, serving: Serving, all_: bool) -> Ready:
    """
    Say that the application is started, and with ``--reload`` which files were loaded.

    :param all_: whether the primary takes all fields; one of version 0.1.0 takes the first alone.
    """
    sources = list(loaded_sources()) if config.reload else []
    return Ready(serving.interface, serving.http, sources, moves=all_, appointable=all_, told=all_)
