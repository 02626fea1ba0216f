"""The command line: the options of ``twist txsticky``, and the service that they make."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.python import usage
from zope.interface import implementer

from .cluster import Cluster, check
from .config import Config, default_workers
from .errors import ConfigError, TxstickyError
from .logs import at_level, json_observer, level_named, text_observer
from .notify import Notifier
from .printable import tolerate
from .process import Reaper
from .signals import SignalTable
from .system import raise_file_limit, set_title
from .upgrade import PASSED, check_form, is_trial, take_signals

log = Logger()

# name, short name, help; the defaults stand in `Config` and, for the reader, in the help.
_PARAMETERS = (
    ("workers", "w", "How many workers [$WEB_CONCURRENCY, else one a core]"),
    ("interface", None, "What APP is: auto, web, wsgi, asgi or protocol [auto]"),
    (
        "sticky",
        None,
        "What identifies a client: a chain of sid, query:NAME, cookie:NAME, insert:NAME,"
        " header:NAME, path:REGEX, ip, none, with commas between; hash: before one makes it a"
        " hash key [sid]",
    ),
    (
        "balance",
        None,
        "Who gets what nothing pins: leastconn, roundrobin, random or random2 [leastconn]",
    ),
    ("accept", None, "Who accepts connections: the primary, or the workers [primary]"),
    (
        "forwarded-allow-ips",
        None,
        "Proxies that may name the client's address: addresses and networks with commas"
        " between, or * [$FORWARDED_ALLOW_IPS, else nobody]",
    ),
    (
        "root-path",
        None,
        "Path under which a proxy mounts APP, taken off the requests' paths [none]",
    ),
    ("head-timeout", None, "Seconds for a request head to come [10]"),
    ("head-limit", None, "The largest request head, in bytes [65536]"),
    ("graceful-timeout", None, "Seconds for a worker to finish what it holds [30]"),
    ("worker-timeout", None, "Seconds of silence until a worker is replaced, 0 is never [30]"),
    ("max-requests", None, "Requests until a worker is replaced, 0 is never [0]"),
    ("max-requests-jitter", None, "At most so many requests more, by chance [0]"),
    ("keep-alive", None, "Seconds that a connection may be idle between requests [60]"),
    ("backlog", None, "Connections that may wait to be accepted, or for a worker [2048]"),
    ("status", None, "Endpoint of the status page, metrics and health checks [off]"),
    ("control", None, "Path of the control socket [off]"),
    ("bus", None, "How workers publish: local, or redis://HOST:PORT/DB [local]"),
    ("access-log", None, "File for the access log, - is the standard output [off]"),
    ("log-level", None, "What is logged: critical, error, warning, info or debug [info]"),
    (
        "log-config",
        None,
        "File that configures Python's logging in the workers: JSON, YAML or INI [none]",
    ),
    ("user", None, "The user that the workers run as [that of the command]"),
    ("group", None, "The group that the workers run as [that of the user]"),
)

_FLAGS = (
    ("factory", None, "APP is a callable that returns the application"),
    (
        "proxy-protocol",
        None,
        "Connections begin with a PROXY protocol header, v1 or v2, if they come from"
        " --forwarded-allow-ips [this host]",
    ),
    ("debug-headers", None, "Responses say which worker they come from, and why"),
    ("reload", None, "For development: restart the workers when a source file changes"),
    ("check-config", None, "Check the options, load the application once, and exit"),
)


class Options(usage.Options):
    """What ``twist txsticky`` takes."""

    synopsis = "[options] [MODULE:ATTRIBUTE]"
    longdesc = (
        "A sticky multi-worker server: each request reaches the worker that holds its session."
        " APP is a twisted.web Resource, an IProtocolFactory, a WSGI or an ASGI application;"
        " without it a demo is served. Signals: TERM stops gracefully, INT and QUIT quickly, HUP"
        " reloads the workers one by one, TTIN and TTOU run one more or less, USR1 reopens the"
        " logs, USR2 executes the program anew in place."
    )
    optParameters = [[long, short, None, text] for long, short, text in _PARAMETERS]
    optFlags = [list(flag) for flag in _FLAGS]
    config: Config

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["tls-cert"] = []
        self["tls-key"] = []
        self["status-host"] = []

    def getSynopsis(self) -> str:
        """The first line of the help: `twist` puts its own words before ours."""
        if self.parent is None:
            return f"Usage: txsticky {self.synopsis}"
        return str(super().getSynopsis())

    def opt_listen(self, endpoint: str) -> None:
        """
        Where to listen, repeatable: a Twisted endpoint string, PORT, or ADDRESS:PORT [default:
        tcp:8080].
        """
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_tls_cert(self, path: str) -> None:
        """PEM file of a TLS certificate and its chain; repeatable, chosen by server name."""
        self["tls-cert"].append(path)

    def opt_tls_key(self, path: str) -> None:
        """PEM file of its private key, one for each --tls-cert in the same order."""
        self["tls-key"].append(path)

    def opt_status_host(self, name: str) -> None:
        """
        A name that --status is asked for by, repeatable, besides localhost and addresses.
        """
        self["status-host"].append(name)

    def parseArgs(self, *arguments: str) -> None:
        """Take APP; options may follow it."""
        if not arguments:
            return
        self["app"], *rest = arguments
        if rest:
            app = self["app"]
            if not rest[0].startswith("-"):
                raise usage.UsageError(
                    f"One application is served, not {app!r} and {rest[0]!r} too."
                )
            self.parseOptions(rest)
            if self["app"] != app:
                raise usage.UsageError(
                    f"One application is served, not {app!r} and {self['app']!r} too."
                )

    def postOptions(self) -> None:
        """Check everything that can be checked without starting."""
        outer: Any = self.parent
        if outer is not None and "fileLogObserverFactory" in outer and not self["log-level"]:
            self["log-level"] = outer["logLevel"].name.replace("warn", "warning")
        try:
            self.config = config_of(self, os.environ)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from None
        if outer is not None and "fileLogObserverFactory" in outer:
            log_as_text(outer, self.config.log_level, sys.argv)

    def opt_version(self) -> None:
        """Show the version and exit."""
        from . import __version__

        print(f"txsticky {__version__}")
        sys.exit(0)


def log_as_text(outer: dict[str, Any], level: str, arguments: Sequence[str]) -> None:
    """
    Have ``twist`` log as the command does without it: as text, also to a file or a pipe, unless it
    was asked for JSON; and what is of a level, or has none (`logs.at_level`).

    :param outer: the options of ``twist``, which do not tell whether it was asked.
    :param arguments: the command line, which does; an option may be shortened.
    """
    make = outer["fileLogObserverFactory"]
    asked = any(re.fullmatch("--log-fo(r(m(at?)?)?)?", a.partition("=")[0]) for a in arguments)
    if make is textFileLogObserver or not asked:
        make = text_observer
    outer["fileLogObserverFactory"] = lambda stream: at_level(make(stream), level)
    outer["logLevel"] = level_named("debug")  # the level is seen to


def config_of(options: dict[str, Any], environ: Any) -> Config:
    """
    Make the configuration of parsed options.

    :raises ConfigError: a value cannot be.
    """
    fields: dict[str, Any] = {}
    for field in attrs.fields(Config):
        value = options.get(field.name.replace("_", "-"))
        if value is not None and value != []:
            fields[field.name] = _converted(field, value)
    fields.setdefault("workers", default_workers(environ))
    if "FORWARDED_ALLOW_IPS" in environ:
        fields.setdefault("forwarded_allow_ips", environ["FORWARDED_ALLOW_IPS"])
    return Config(**fields)


def _converted(field: attrs.Attribute[Any], value: Any) -> Any:
    """An option's text as the type of its field; what is no number stays, and `Config` objects."""
    if isinstance(field.default, bool):
        return bool(value)
    for kind in (int, float):
        if type(field.default) is kind:
            try:
                return kind(value)
            except ValueError:
                return value
    return value


@implementer(IService)
class Command(Service):
    """
    The cluster as the program: with signals, a title, and an exit code.

    :param config: what the cluster is to be.
    """

    name = "txsticky"

    def __init__(self, config: Config, reactor: Any = None) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._stopping = False
        self.notifier = Notifier(reactor, os.environ)
        self.reaper = Reaper(reactor)
        self.cluster = Cluster(config, reactor, self._ended)
        self.cluster.on_ready = self.notifier.ready
        self.cluster.on_reloading = self._reloading
        self.signals = SignalTable(
            reactor,
            {
                "SIGTERM": lambda: self._stop(True),
                "SIGINT": lambda: self._stop(False),
                "SIGQUIT": lambda: self._stop(False),
                "SIGHUP": self.cluster.reload,
                "SIGTTIN": lambda: self.cluster.scale(1),
                "SIGTTOU": lambda: self.cluster.scale(-1),
                "SIGUSR1": self.cluster.rotate_logs,
                "SIGUSR2": self.cluster.upgrade,
            },
        )

    def startService(self) -> None:
        """Start; a cluster that cannot start says why in one line and ends the program."""
        super().startService()
        raise_file_limit()
        try:
            self.cluster.startService()
        except TxstickyError as error:
            print(f"txsticky: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        set_title("txsticky: primary")
        if os.getpid() == 1:
            self.reaper.start()
        self._reactor.callWhenRunning(self.signals.install)
        self._reactor.callWhenRunning(take_signals)

    def _reloading(self, under_way: bool) -> None:
        if under_way:
            self.notifier.reloading()
        else:
            self.notifier.ready()

    def _stop(self, graceful: bool) -> None:
        self.notifier.stopping()
        if self._stopping:
            self.cluster.stop(False)
            return
        self._stopping = True
        self.cluster.stop(graceful)

    def _ended(self, code: int, reason: str) -> None:
        """The last worker has gone: the reactor stops, with the exit code that is due."""
        if code:
            log.error("{reason}", reason=reason)
            self._reactor.addSystemEventTrigger("after", "shutdown", _exit, code)
        if self._reactor.running:
            self._reactor.callLater(0, self._reactor.stop)

    def stopService(self) -> Deferred[None]:
        """The reactor stops: so does the cluster."""
        super().stopService()
        self.reaper.stop()
        return self.cluster.stopService()


def _exit(code: int) -> None:
    """Exit with a code: neither twist nor the reactor has a way to be told one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def makeService(options: Options) -> Command:
    """Make the service of `twist txsticky` (`IServiceMaker.makeService`)."""
    if is_trial(os.environ):
        sys.exit(rehearse(options.config))
    if options["check-config"]:
        from .check import check_config

        sys.exit(check_config(options.config))
    return Command(options.config)


def rehearse(config: Config) -> int:
    """
    Show that this program can take over from the one that runs, as far as that goes without doing
    it (`upgrade.Trial`).

    :returns: the exit code.
    """
    try:
        check_form(os.environ)
        check(config)
    except TxstickyError as error:
        print(f"txsticky: {error}", file=sys.stderr)
        return error.exit_code
    return PASSED


class CommandOptions(Options):
    """What the command takes without ``twist``, which has this option itself."""

    optParameters = [["log-format", None, "text", "How the log is written: text or json"]]

    def postOptions(self) -> None:
        """Check this option, too."""
        if self["log-format"] not in ("text", "json"):
            raise usage.UsageError(
                f"--log-format cannot be {self['log-format']!r}: one of text json."
            )
        super().postOptions()


def run(arguments: Sequence[str]) -> None:
    """Run the command without `twist`: the same options, no plugin discovery."""
    options = CommandOptions()
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        usage_line = f"{options.getSynopsis()}   (--help tells the options)"
        print(f"{usage_line}\ntxsticky: {error}", file=sys.stderr)
        sys.exit(64)
    service = makeService(options)
    from twisted.internet import reactor

    tolerate(sys.stdout)
    make = json_observer if options["log-format"] == "json" else text_observer
    observer = at_level(make(sys.stdout), options.config.log_level)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    service.startService()

    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
