"""
The whole cluster as one service.

:class:`Cluster` is an `IService`: give it a parent, or start it, and it listens, starts its workers
and keeps them running.  The ``twist txsticky`` plugin is a thin command line around it, and a
``.tac`` file or a program of your own can hold one as well::

    from twisted.application.service import Application
    from txsticky import Cluster, Config

    application = Application("chat")
    Cluster(Config(app="chat:resource", listen=["tcp:8080"],
    workers=4)).setServiceParent(application)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from .admin.journal import Journal
from .admin.state import shown
from .config import Config
from .core.lifecycle.states import Phase
from .core.routing.pool import MemberState
from .errors import ListenError
from .primary.endpoints import Endpoints
from .primary.events import Events
from .primary.lame_duck import LameDuck
from .primary.preflight import check
from .primary.primary import Primary
from .primary.supervision.provision import Provision
from .primary.supervision.supervisor import Supervisor
from .primary.supervision.templates import wants_template
from .primary.upgrade.start import Start, start_of
from .primary.upgrade.state import state_of
from .primary.upgrade.upgrade import Upgrade
from .system.privileges import identity_of
from .system.process import can_adopt
from .system.source_watch import SourceWatch
from .system.system import System

log = Logger()


class Cluster(Service):
    """
    A primary and its workers.

    :param config: what the cluster is to be.
    :param reactor: the reactor of the primary; by default the installed one.
    :param on_ended: called with (exit code, reason) when the cluster has ended, whether it was
        stopped or gave up. An embedding program that does not care leaves it.
    :param on_ready: called when the cluster serves, at first or in place of the program before.
    :param on_reloading: called with True when a rolling reload begins, with False when it is over.
    """

    name = "txsticky"
    primary: Primary

    def __init__(
        self,
        config: Config,
        reactor: Any = None,
        on_ended: Callable[[int, str], object] = lambda code, reason: None,
        *,
        on_ready: Callable[[], object] = lambda: None,
        on_reloading: Callable[[bool], object] = lambda under_way: None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.config = config
        self.system = System(reactor, adopts=wants_template(os.environ) and can_adopt())
        self.journal = Journal()
        self._on_ready = on_ready
        self._on_ended = on_ended
        self._on_reloading = on_reloading
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
        :raises ConfigError: the workers cannot run as that user; nothing was started.
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
            self._open_admin(start.taking_over)
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
                ended=self._on_ended,
                sources=self._sources.add if self._sources is not None else lambda files: None,
            ),
            self.journal.log,
            provision,
        )
        self._endpoints = Endpoints(config, system.reactor, self.primary.listeners)
        self._lame_duck = LameDuck(
            config.lame_duck, system.reactor, self.journal.log, lambda: self.stop(graceful=True)
        )
        self._upgrade = Upgrade(
            system,
            provision.identity,
            lambda: state_of(self.primary, system.folder, self._endpoints.snapshot()),
            self._endpoints.held,
        )

    def _begun(self) -> None:
        """The first start is over, and connections are routed."""
        if self._stopping:
            return
        count, ready = self.config.workers, len(self.primary.pool.in_state(MemberState.READY))
        workers = f"{count} workers" if count != 1 else "1 worker"
        log.info(
            "txsticky serves {app} on {addresses} with {workers}.",
            app=self.config.app,
            addresses=", ".join(map(shown, self.addresses())),
            workers=workers if ready >= count else f"{ready} of {workers}",
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

    def _open_admin(self, taking_over: bool) -> None:
        """
        Open the status site and the control socket, if the operator wants one of them.

        :param taking_over: a cluster runs here already: it goes on without them rather than end.
        """
        if self.config.status is None and self.config.control is None:
            return
        from .admin.service import Admin

        try:
            self._admin = Admin(self)
        except ListenError as error:
            if not taking_over:
                raise
            log.error("{error}", error=error)

    # ---------------------------------------------------------------- control

    @property
    def supervisor(self) -> Supervisor:
        """What keeps the workers running."""
        return self.primary.supervisor

    def reload(self) -> None:
        """
        Replace the workers one by one: start one, wait until it is ready, drain the old one.

        Nothing happens if the cluster is told to stop; so it is with `scale`.
        """
        if not self._stopping:
            self.supervisor.reload()

    def scale(self, delta: int) -> None:
        """Run so many workers more, or less."""
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
        if self._stopping or self._upgrade.under_way:
            why = "the cluster stops" if self._stopping else "an upgrade is under way already"
            log.warn("There is no upgrade now: {why}.", why=why)
            return
        self._upgrade.begin()

    def _sources_changed(self, files: list[str]) -> None:
        if self.running and not self._stopping:
            names = ", ".join(os.path.relpath(file) for file in files)
            self.journal.log.info("Reloading, because of changes in {names}.", names=names)
            self.supervisor.reload()

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
        :returns: fires when the last worker has gone.
        """
        self._stopping = True
        self._upgrade.cancel()
        serves = (
            self.supervisor.fleet.phase is Phase.RUNNING and not self.primary.beginning.under_way
        )
        if graceful and serves and self._lame_duck.begin():
            return self.supervisor.gone()
        self._lame_duck.cut_short()
        if graceful and self._endpoints:
            self.primary.listeners.accept_all()
        self.primary.stopping()
        self._endpoints.close()
        return self.supervisor.stop(graceful)

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
