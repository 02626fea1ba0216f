"""The command: the service of ``twist txsticky`` and ``txsticky``, made from their options."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogBeginner
from twisted.python import usage
from zope.interface import implementer

from ..cluster import Cluster
from ..config import Config
from ..errors import ConfigError, TxstickyError
from ..printable import tolerate
from ..system import startup
from ..system.logs.lines import at_level, json_observer, text_observer
from ..system.privileges import identity_of
from ..system.process import Reaper
from ..system.systemd import Notifier
from ..system.this_process import set_title
from ..system.trust import distrust, written
from .options import CommandOptions, Options

log = Logger()


@implementer(IService)
class Command(Service):
    """
    The cluster as a program, which has a process title and tells its service manager how it does.

    :param config: the configuration.
    :param reactor: used in place of the global reactor.
    """

    name = "txsticky"

    def __init__(self, config: Config, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.notifier = Notifier(reactor, os.environ)
        self.reaper = Reaper(reactor)
        self.cluster = Cluster(
            config,
            reactor,
            on_ready=self.notifier.ready,
            on_reloading=self._reloading,
            on_stopping=self.notifier.stopping,
        )

    def startService(self) -> None:
        """Start the cluster; if it cannot start, print why in one line and exit."""
        super().startService()
        try:
            self.cluster.startService()
        except TxstickyError as error:
            startup.tell_operator(str(error))
            sys.exit(error.exit_code)
        set_title("txsticky: primary")
        if os.getpid() == 1:
            self.reaper.start()
        self.cluster.handle_signals()

    def _reloading(self, under_way: bool) -> None:
        if under_way:
            self.notifier.reloading()
        else:
            self.notifier.ready()

    def stopService(self) -> Deferred[None]:
        """Stop the cluster, because the reactor stops (`IService`)."""
        super().stopService()
        self.reaper.stop()
        return self.cluster.stopService()


def makeService(options: Options) -> Command:
    """Make the service of `twist txsticky` (`IServiceMaker.makeService`)."""
    startup.mend_streams()
    distrust_folders(options.config)
    if options["check-config"]:
        from .check import check_config

        sys.exit(check_config(options.config))
    return Command(options.config)


def distrust_folders(config: Config) -> None:
    """
    As root, import nothing from folders that the user of the workers may write.

    Where the interpreter leaves no choice, warn.

    :param config: the configuration.
    """
    try:
        identity = identity_of(config.user, config.group)
    except ConfigError:
        return  # the check of the cluster reports it
    if identity is None or not identity.uid:
        return
    distrust(sys.path, os.environ.get("PYTHONPATH", ""), identity)
    found = written((sys.executable, *sys.path), identity)
    if found:
        log.warn(
            "--user {user} can write {paths}, which root runs: that user can become root. Let root"
            " own it.",
            paths=", ".join(found),
            user=config.user,
        )


def run(arguments: Sequence[str]) -> None:
    """Run the command without `twist`: the same options, no plugin discovery."""
    startup.mend_streams()
    options = CommandOptions()
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        print(f"{options.getSynopsis()}   (--help tells the options)", file=sys.stderr)
        startup.tell_operator(str(error))
        sys.exit(64)
    service = makeService(options)
    from twisted.internet import reactor

    tolerate(sys.stdout)
    make = json_observer if options.settings.log_format == "json" else text_observer
    observer = at_level(make(sys.stdout), options.config.log_level)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    service.startService()

    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
