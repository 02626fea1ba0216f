"""
The whole cluster as one service.

:class:`Cluster` is an `IService`: give it a parent, or start it, and it listens, starts its workers
and keeps them running.  The ``twist txsticky`` plugin is a thin command line around it, and a
``.tac`` file or a program of your own can hold one as well::

    from twisted.application.service import Application
    from txsticky import Cluster, Config

    application = Application("chat")
    cluster = Cluster(Config(app="chat:resource", workers=4))
    cluster.handle_signals()
    cluster.setServiceParent(application)
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from .admin.journal import Journal
from .admin.state import shown
from .config import Config
from .core.lifecycle.states import Phase
from .core.lifecycle.timing import SAME_SIGNAL
from .core.routing.pool import MemberState, Pool
from .errors import ListenError
from .primary.endpoints import Endpoints
from .primary.events import Events
from .primary.lame_duck import LameDuck
from .primary.last_in import LastIn
from .primary.preflight import check
from .primary.primary import Primary
from .primary.supervision.provision import Provision
from .primary.supervision.supervisor import Supervisor
from .primary.supervision.templates import wants_template
from .primary.upgrade.execute import take_signals
from .primary.upgrade.start import Start, start_of
from .primary.upgrade.state import state_of
from .primary.upgrade.trial import is_trial, rehearse
from .primary.upgrade.upgrade import Upgrade
from .system.privileges import identity_of
from .system.process import can_adopt
from .system.signals import SignalTable, once
from .system.source_watch import SourceWatch
from .system.system import System
from .system.this_process import end_with

log = Logger()


class Cluster(Service):
    """
    A primary and its workers.

    In a process that is only to show that the program starts (`upgrade`), to make a cluster checks
    its configuration, and ends the process.

    :param config: what the cluster is to be.
    :param reactor: the reactor of the primary; by default the installed one.
    :param on_ended: called with (exit code, reason) when no worker is left and none will come: 0 if
        the cluster was stopped, else the exit code of the command that gives up, 3 if the
        application does not load. It may stop the reactor. By default the program ends as the
        command does: the reactor is stopped, and the process ends with that code. A program that
        has called `stopService` runs on.
    :param on_ready: called when the cluster serves, at first or in place of the program before.
    :param on_reloading: called with True when a rolling reload begins, with False when it is over.
    :param on_stopping: called when the cluster is told to stop.
    """

    name = "txsticky"
    primary: Primary

    def __init__(
        self,
        config: Config,
        reactor: Any = None,
        on_ended: Callable[[int, str], object] | None = None,
        *,
        on_ready: Callable[[], object] = lambda: None,
        on_reloading: Callable[[bool], object] = lambda under_way: None,
        on_stopping: Callable[[], object] = lambda: None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        if is_trial(os.environ):
            sys.exit(rehearse(config, os.environ, reactor))
        self.config = config
        self.system = System(reactor, adopts=wants_template(os.environ) and can_adopt())
        self.journal = Journal()
        self._on_ready = on_ready
        self._on_ended = on_ended or functools.partial(_end_program, self)
        self._on_reloading = on_reloading
        self._on_stopping = on_stopping
        self._endpoints: Endpoints
        self._upgrade: Upgrade
        self._lame_duck: LameDuck
        self._sources: SourceWatch | None = None
        self._admin: Any = None
        self._stopping = False

    # ------------------------------------------------------------------ start

    def startService(self) -> None:
        """
        Listen and start the workers.

        :raises ListenError: an endpoint cannot be listened on; nothing was started.
        :raises TlsError: a certificate or its key cannot be used; nothing was started.
        :raises ConfigError: the workers cannot run as that user, or not so many; nothing was
            started.
        """
        check(self.config)
        self._stopping = False
        start = start_of(self.system, self.config, os.environ)
        provision = Provision(self.config, identity_of(self.config.user, self.config.group))
        self._compose(start, provision)
        try:
            provision.open()
            self._endpoints.open(start.sockets(), start.taking_over)
            start.members(self.primary)
            self._admin = _open_admin(self, start.taking_over)
        except BaseException:
            self._close()
            raise
        super().startService()
        if self._sources is not None:
            self._sources.start()
        self.primary.open()
        start.workers(self.primary)
        self._announce(start.taking_over)
        self.primary.supervisor.start()
        start.connections(self.primary)
        self.primary.listeners.start()
        if start.taking_over:
            # The program before has blocked signals. They come when this one has its handlers.
            self.system.reactor.callWhenRunning(self.system.reactor.callLater, 0, take_signals)

    def _compose(self, start: Start, provision: Provision) -> None:
        """Make the parts; nothing is open yet but what the program before has left."""
        config, system = self.config, self.system
        if config.reload:
            self._sources = SourceWatch(system.reactor, os.getcwd(), self._sources_changed)
        self.primary = Primary(
            system,
            config,
            start.seed(),
            Events(
                ready=self._begun,
                reloading=self._on_reloading,
                ended=self._ended,
                sources=self._sources.add if self._sources is not None else lambda files: None,
            ),
            self.journal.log,
            provision,
        )
        self._endpoints = Endpoints(config, system.reactor, self.primary.listeners)
        stop = functools.partial(self.stop, graceful=True)
        self._lame_duck = LameDuck(config.lame_duck, system.reactor, self.journal.log, stop)
        parts = (self.primary.listeners, self.primary.reception, self.primary.dispatcher.place)
        self._last_in = LastIn(*parts, system.reactor, self._endpoints.let_go, stop)
        self._upgrade = Upgrade(
            system,
            provision.identity,
            lambda: state_of(self.primary, system.folder, self._endpoints.snapshot()),
            self._endpoints.held,
        )

    def _begun(self) -> None:
        """Say that the first start is over, and connections are routed."""
        if self._stopping:
            return
        log.info(
            "txsticky serves {app} on {addresses} with {workers}.",
            app=self.config.app,
            addresses=", ".join(map(shown, self.addresses())),
            workers=_how_many(self.primary.pool, self.config.workers),
        )
        self._on_ready()

    def _announce(self, taking_over: bool) -> None:
        """Say that the start is done, as far as this process can do it."""
        if taking_over:
            self.journal.log.info("The new program has taken over.")
            if not self.primary.beginning.under_way:
                self._on_ready()
            return
        addresses = ", ".join(map(shown, self.addresses()))
        log.info("txsticky listens on {addresses}.", addresses=addresses)
        alone = self._endpoints.alone()
        if alone:
            log.info("The primary accepts on {addresses}.", addresses=", ".join(map(shown, alone)))

    # ---------------------------------------------------------------- control

    @property
    def supervisor(self) -> Supervisor:
        """What keeps the workers running."""
        return self.primary.supervisor

    def reload(self) -> None:
        """
        Replace the workers one by one: start one, wait until it is ready, drain the old one.

        Nothing happens if the cluster is told to stop.
        """
        if not self._stopping:
            self.supervisor.reload()

    def scale(self, delta: int) -> None:
        """Run so many workers more, or less; nothing happens if the cluster is told to stop."""
        if not self._stopping:
            self.supervisor.scale(delta)

    def rotate_logs(self) -> None:
        """Reopen the log files of the workers."""
        self.primary.workers.rotate_logs()

    def upgrade(self) -> None:
        """
        Execute this program anew, in place: the same pid, sockets, workers and connections.

        First the program has to show that it starts; if it does not, nothing happens but a line in
        the log.
        """
        self._upgrade.begin(self._stopping)

    def _sources_changed(self, files: list[str]) -> None:
        if self.running and not self._stopping:
            names = ", ".join(os.path.relpath(file) for file in files)
            self.journal.log.info("Reloading, because of changes in {names}.", names=names)
            self.supervisor.reload()

    def handle_signals(self) -> None:
        """Take the command's signals: once, in the main thread, before the reactor runs."""
        reactor = self.system.reactor
        reactor.callWhenRunning(signals_of(self, reactor).install)
        reactor.callWhenRunning(take_signals)

    @property
    def accepted(self) -> int:
        """How many connections were accepted."""
        return self.primary.listeners.accepted

    def addresses(self) -> list[Any]:
        """What is listened on, as address objects in the order of `Config.listen`."""
        return self._endpoints.addresses()

    # ------------------------------------------------------------------- stop

    @property
    def lame_duck(self) -> bool:
        """Whether the cluster is told to stop, and serves on for a while."""
        return self._lame_duck.under_way

    def stop(self, graceful: bool) -> Deferred[None]:
        """
        Stop accepting and end the workers.

        :param graceful: serve on for the time of a lame duck, and let workers finish what they
            hold, within the graceful timeout. A second call cuts the first short; one more hurries.
        """
        if not self._stopping:
            self._on_stopping()
        self._stopping = True
        self._upgrade.cancel()
        begun = not self.primary.beginning.under_way
        serves = begun and self.supervisor.fleet.phase is Phase.RUNNING
        if graceful and serves and self._lame_duck.begin():
            self.primary.replication.tell_lame_duck()
            return self.supervisor.gone()
        self._lame_duck.cut_short()
        if graceful and serves and self._last_in.begin():
            return self.supervisor.gone()
        self._last_in.cut_short()
        self.primary.stopping()
        self._endpoints.close()
        return self.supervisor.stop(graceful)

    def _ended(self, code: int, reason: str) -> None:
        """Close the endpoints and tell the program: no worker is left, and none will come."""
        self._endpoints.close()
        _tell(self._on_ended, code, reason)

    def stopService(self) -> Deferred[None]:
        """Stop gracefully; fires when the last worker has gone."""
        super().stopService()
        return self.stop(graceful=True).addBoth(lambda _: self._close())

    def _close(self) -> Deferred[Any]:
        if self._sources is not None:
            self._sources.stop()
            self._sources = None
        closing = [self._endpoints.close()]
        if self._admin is not None:
            closing.append(self._admin.close())
            self._admin = None
        self.primary.close()
        return DeferredList(closing)


def _open_admin(cluster: Cluster, taking_over: bool) -> Any:
    """
    Open the status site and the control socket, if the operator wants one of them.

    :param taking_over: a cluster runs here already: it goes on without them rather than end.
    """
    if cluster.config.status is None and cluster.config.control is None:
        return None
    from .admin.service import Admin

    try:
        return Admin(cluster)
    except ListenError as error:
        if not taking_over:
            raise
        log.error("{error}", error=error)
        return None


def _how_many(pool: Pool, count: int) -> str:
    """Say how many workers are ready, of so many that there are to be."""
    ready = len(pool.in_state(MemberState.READY))
    workers = f"{count} workers" if count != 1 else "1 worker"
    return workers if ready >= count else f"{ready} of {workers}"


def _tell(on_ended: Callable[[int, str], object], code: int, reason: str) -> None:
    """Tell the program of the end; what comes of that does not keep the cluster from ending."""
    try:
        on_ended(code, reason)
    except ReactorNotRunning:
        pass  # the program stops already, and `on_ended` would have it stop
    except Exception:
        log.failure("The program's on_ended has failed; the cluster has ended all the same.")


def _end_program(cluster: Cluster, code: int, reason: str) -> None:
    """End the program with its cluster, unless the program itself has stopped the service."""
    if code:
        log.error("{reason}", reason=reason)
        end_with(code, reason)
    if code or cluster.running:
        reactor = cluster.system.reactor
        reactor.callLater(0, _tell, lambda *_: reactor.stop(), code, reason)


def signals_of(cluster: Cluster, reactor: Any) -> SignalTable:
    """
    Make the table of what each signal does to a cluster.

    :param reactor: runs the cluster.
    """
    stop_quickly = once(lambda: cluster.stop(False), SAME_SIGNAL, reactor.seconds)
    return SignalTable(
        reactor,
        {
            "SIGTERM": lambda: cluster.stop(True),
            "SIGINT": stop_quickly,
            "SIGQUIT": stop_quickly,
            "SIGHUP": cluster.reload,
            "SIGTTIN": lambda: cluster.scale(1),
            "SIGTTOU": lambda: cluster.scale(-1),
            "SIGUSR1": cluster.rotate_logs,
            "SIGUSR2": cluster.upgrade,
        },
    )
