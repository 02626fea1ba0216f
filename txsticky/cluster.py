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
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from .admin.journal import Journal
from .admin.state import shown
from .config import Config, endpoint_string
from .core.lifecycle.fleet import Fleet
from .core.routing.pool import State
from .errors import ConfigError, ListenError
from .primary.primary import Primary
from .primary.provision import Provision
from .primary.supervisor import Supervisor
from .primary.upgrade.execute import execute, inherited_state
from .primary.upgrade.inherited_port import InheritedPort
from .primary.upgrade.state import (
    state_of,
    take_connections,
    take_fleet,
    take_primary,
    take_siblings,
    take_workers,
)
from .primary.upgrade.trial import Trial
from .system.activation import take_sockets  # noqa: F401 - it comes before Twisted's endpoints
from .system.endpoints import open_port
from .system.log_config import read_log_config
from .system.source_watch import SourceWatch
from .system.system import System, executed_as, identity_of
from .system.trust import Identity
from .transport.movable import spare

log = Logger()


class _Listener(Factory):
    """Stands where an endpoint wants a factory; it never gets a connection."""

    noisy = False

    def logPrefix(self) -> str:
        """What the log says is starting on a port."""
        return "txsticky"


class Cluster(Service):
    """
    A primary and its workers.

    :param config: what the cluster is to be.
    :param reactor: the reactor of the primary; by default the installed one.
    :param on_ended: called with (exit code, reason) when the cluster has ended, whether it was
        stopped or gave up. An embedding program that does not care leaves it.
    """

    name = "txsticky"

    def __init__(
        self,
        config: Config,
        reactor: Any = None,
        on_ended: Callable[[int, str], None] = lambda code, reason: None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.config = config
        self.on_ended = on_ended
        #: Called when the cluster serves, at first or in place of the program before.
        self.on_ready: Callable[[], None] = lambda: None
        #: Called with True when a rolling reload begins, with False when it is over.
        self.on_reloading: Callable[[bool], None] = lambda under_way: None
        self.system = System(reactor)
        self.primary: Primary
        self.supervisor: Supervisor
        self.journal = Journal()
        self._admin: Any = None
        self.ports: list[Any] = []
        self._watched: SourceWatch | None = None
        self._trial: Trial | None = None
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
        identity = identity_of(self.config.user, self.config.group)
        self._stopping = False
        state = inherited_state(os.environ)
        inherited = dict(state["listeners"]) if state else {}
        self.primary = take_primary(self, state) if state else Primary(self.system, self.config)
        self.primary.on_ended = self._ended
        self.primary.on_manners = self.primary.listeners.defer
        self.primary.provision = Provision(self.config, identity)
        self.primary.on_begun = self._begun
        try:
            self.primary.provision.open()
            for number, listen in enumerate(self.config.listen):
                port = InheritedPort(inherited.pop(listen)) if listen in inherited else None
                self._accept(number, listen, port or self._listen(listen))
            if state:
                take_siblings(self.primary, state)
            if self.config.status is not None or self.config.control is not None:
                self._open_admin(taking_over=bool(state))
        except BaseException:
            self._close()
            raise
        super().startService()
        if state:
            fleet = take_fleet(state)
        else:
            config = self.config
            fleet = Fleet(config.workers, config.graceful_timeout, config.start_timeout)
        self.supervisor = Supervisor(
            fleet,
            self.primary,
            self.system.reactor,
            self.journal.log,
            ended=self.primary.ended,
            worker_timeout=self.config.worker_timeout,
            reloading=lambda under_way: self.on_reloading(under_way),
            wary=self.config.accept == "workers",  # somebody has to accept for them
        )
        self.primary.supervisor = self.supervisor
        if self.config.reload:
            self._watch()
        self.primary.open()
        if state:
            take_workers(self.primary, state)
            self.journal.log.info("The new program has taken over.")
            if not self.primary.beginning:
                self.on_ready()
        else:
            self._announce()
        self.supervisor.start()
        if state:
            take_connections(self.primary, state)
        self.primary.listeners.start()

    def _begun(self) -> None:
        """The first start is over, and connections are routed."""
        if self._stopping:
            return
        count, ready = self.config.workers, len(self.primary.pool.in_state(State.READY))
        workers = f"{count} workers" if count != 1 else "1 worker"
        log.info(
            "txsticky serves {app} on {addresses} with {workers}.",
            app=self.config.app,
            addresses=", ".join(map(shown, self.addresses())),
            workers=workers if ready >= count else f"{ready} of {workers}",
        )
        self.on_ready()

    def _announce(self) -> None:
        addresses = ", ".join(map(shown, self.addresses()))
        log.info("txsticky listens on {addresses}.", addresses=addresses)
        alone = [
            shown(address)
            for listen, address in zip(self.config.listen, self.addresses(), strict=True)
            if not self.config.shares(listen)
        ]
        if alone and self.config.accept == "workers":
            log.info("The primary accepts on {addresses}.", addresses=", ".join(alone))

    def _listen(self, listen: str) -> Any:
        """
        Listen on one endpoint.

        The endpoint opens the socket (and removes it, if it is a UNIX one); accepting is ours.
        """
        factory = _Listener()
        endpoint = endpoint_string(listen, self.config.backlog)
        port: Any = open_port(self.system.reactor, endpoint, factory, listen)
        if getattr(port, "factory", None) is not factory:
            port.stopListening()
            raise ListenError(
                endpoint=listen,
                reason="it wraps the connections; use --tls-cert and --tls-key for TLS, and"
                " --proxy-protocol for PROXY",
            )
        port.stopReading()
        return port

    def _accept(self, number: int, listen: str, port: Any) -> None:
        """Have what an endpoint has opened accepted on."""
        self.ports.append(port)
        sock = socket.socket(fileno=os.dup(port.fileno()))
        shared = self.config.shares(listen)
        if shared:
            spare(port)
        self.primary.listeners.open(number, sock, shared)

    def _open_admin(self, taking_over: bool) -> None:
        """
        Open the status site and the control socket.

        :param taking_over: a cluster runs here already: it goes on without them rather than end.
        """
        from .admin.service import Admin

        try:
            self._admin = Admin(self)
        except ListenError as error:
            if not taking_over:
                raise
            log.error("{error}", error=error)

    # ---------------------------------------------------------------- control

    def reload(self) -> None:
        """
        Replace the workers one by one: start the new one, wait until it is ready, drain the old
        one.
        """
        self.supervisor.reload()

    def scale(self, delta: int) -> None:
        """Run so many workers more, or less."""
        self.supervisor.scale(delta)

    def rotate_logs(self) -> None:
        """Reopen the log files of the workers."""
        self.primary.rotate_logs()

    def upgrade(self) -> None:
        """
        Execute this program anew, in place: the same pid, sockets, workers and connections.

        First the program has to show that it starts; if it does not, nothing happens but a line in
        the log.
        """
        if self._stopping or self._trial is not None:
            why = "the cluster stops" if self._stopping else "an upgrade is under way already"
            log.warn("There is no upgrade now: {why}.", why=why)
            return
        log.info("The program that is to take over is tried out.")
        try:
            self._trial = Trial(self.system, self._tried, self.primary.provision.identity)
        except OSError as error:
            self._tried(f"its process cannot be started: {error}")

    def _tried(self, problem: str) -> None:
        """The new program has shown what it can."""
        self._trial = None
        if problem:
            log.error("The new program does not start: {why}. This one goes on.", why=problem)
            return
        state, descriptors = state_of(self)
        try:
            execute(state, descriptors, self.primary.provision.identity)
        except OSError as error:
            log.error("The program cannot be executed anew ({why}). This one goes on.", why=error)

    @property
    def accepted(self) -> int:
        """How many connections were accepted."""
        return self.primary.listeners.accepted

    def addresses(self) -> list[Any]:
        """What is listened on, as address objects in the order of `Config.listen`."""
        return [port.getHost() for port in self.ports]

    # ------------------------------------------------------------------- stop

    def stop(self, graceful: bool) -> Deferred[None]:
        """
        Stop accepting and end the workers.

        :param graceful: let them finish what they hold, within the graceful timeout. A second call
            hurries.
        """
        self._stopping = True
        if self._trial is not None:
            self._trial.cancel()
            self._trial = None
        if graceful and self.ports:
            self.primary.listeners.accept_all()
        self.primary.stopping()
        self._stop_listening()
        stopped: Deferred[None] = self.supervisor.stop(graceful)
        return stopped

    def stopService(self) -> Deferred[None]:
        """Stop gracefully; fires when the last worker has gone."""
        super().stopService()
        return self.stop(graceful=True).addBoth(lambda _: self._close())

    def _ended(self, code: int, reason: str) -> None:
        self.on_ended(code, reason)

    def _watch(self) -> None:
        """Reload whenever the application's source files change."""
        self._watched = SourceWatch(self.system.reactor, os.getcwd(), self._sources_changed)
        self._watched.start()
        self.primary.on_sources = self._watched.add

    def _sources_changed(self, files: list[str]) -> None:
        if self.running:
            names = ", ".join(os.path.relpath(file) for file in files)
            self.journal.log.info("Reloading, because of changes in {names}.", names=names)
            self.supervisor.reload()

    def _close(self) -> Deferred[Any]:
        if self._watched is not None:
            self._watched.stop()
            self._watched = None
        closing = [self._stop_listening()]
        if self._admin is not None:
            closing.append(self._admin.close())
            self._admin = None
        self.primary.close()
        return DeferredList(closing)

    def _stop_listening(self) -> Deferred[Any]:
        """From here on clients are refused by the system, and can try elsewhere."""
        self.primary.listeners.close()
        closing = [maybeDeferred(port.stopListening) for port in self.ports]
        self.ports = []
        return DeferredList(closing)


def check(config: Config) -> None:
    """
    See what can be seen before anything is opened: each worker will need it, and a fault is better
    told once.

    :raises TlsError: a certificate or its key cannot be used.
    :raises ConfigError: the workers cannot run as that user, or Python's logging cannot be
        configured as the file says.
    """
    if config.log_config is not None:
        read_log_config(config.log_config)
    if config.tls:
        from .tls.certificates import load_certificates

        load_certificates(config.tls_cert, config.tls_key)
    identity = identity_of(config.user, config.group)
    if identity is not None:
        check_identity(config, identity)


def check_identity(config: Config, identity: Identity) -> None:
    """
    See whether the workers' user can run what workers run.

    :raises ConfigError: it cannot.
    """
    command = [sys.executable, "-P", "-c", "import txsticky.errors, twisted"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, **executed_as(identity)
        )
        problem = done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
    except OSError as error:
        problem = str(error)
    if problem:
        hint = f"as that user {sys.executable} does not run a worker ({problem})"
        option, value = ("--user", config.user) if config.user else ("--group", config.group)
        raise ConfigError(option=option, value=value, hint=hint)
