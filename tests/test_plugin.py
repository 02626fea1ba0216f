"""The command line: options, the service they make, signals and exit codes."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from typing import Any
from unittest import mock

import attrs
from twisted.application.service import IService
from twisted.application.twist._options import TwistOptions
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from txsticky import __version__, plugin
from txsticky.config import Config, default_workers
from txsticky.errors import AppLoadError, ListenError
from txsticky.plugin import Command, Options, config_of, makeService
from txsticky.testing import FakeReactor


class OptionsTests(SynchronousTestCase):
    """What is typed, and the configuration that it makes."""

    def setUp(self) -> None:
        unsaid = {"WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"}
        self.patch(os, "environ", {k: v for k, v in os.environ.items() if k not in unsaid})

    def parse(self, *arguments: str, **environ: str) -> Config:
        """The configuration of a command line."""
        self.patch(os, "environ", {**os.environ, **environ})
        options = Options()
        options.parseOptions(list(arguments))
        return options.config

    def refused(self, *arguments: str, **environ: str) -> str:
        """Why a command line is refused."""
        return str(self.assertRaises(usage.UsageError, self.parse, *arguments, **environ))

    def test_nothing(self) -> None:
        """With nothing said all is as configured by default, with a worker a core."""
        self.assertEqual(self.parse(), Config(workers=default_workers({})))

    def test_application(self) -> None:
        """The application may stand before the options, or behind them."""
        for arguments in (["chat:app", "-w", "3"], ["-w", "3", "chat:app"]):
            config = self.parse(*arguments)
            self.assertEqual((config.app, config.workers), ("chat:app", 3))

    def test_between(self) -> None:
        """Or between them."""
        config = self.parse("-w", "3", "chat:app", "--balance", "random", "--factory")
        self.assertEqual(
            (config.app, config.workers, config.balance, config.factory),
            ("chat:app", 3, "random", True),
        )

    def test_one_application(self) -> None:
        """There is one application."""
        for arguments in (["a:b", "c:d"], ["a:b", "-w", "3", "c:d"]):
            sentence = self.refused(*arguments)
            self.assertIn("'a:b'", sentence)
            self.assertIn("'c:d'", sentence)

    def test_every_option(self) -> None:
        """Each option becomes the field of its name, with that field's type."""
        said = {
            "workers": ("3", 3),
            "interface": ("web", "web"),
            "sticky": ("cookie:a", "cookie:a"),
            "balance": ("roundrobin", "roundrobin"),
            "accept": ("workers", "workers"),
            "forwarded_allow_ips": ("10.0.0.0/8", "10.0.0.0/8"),
            "root_path": ("/app", "/app"),
            "head_timeout": ("2.5", 2.5),
            "head_limit": ("2048", 2048),
            "graceful_timeout": ("5", 5.0),
            "worker_timeout": ("7.5", 7.5),
            "max_requests": ("100", 100),
            "max_requests_jitter": ("10", 10),
            "keep_alive": ("0", 0.0),
            "backlog": ("64", 64),
            "status": ("8081", "8081"),
            "control": ("/run/x", "/run/x"),
            "bus": ("redis://localhost", "redis://localhost"),
            "access_log": ("-", "-"),
            "log_level": ("debug", "debug"),
            "log_config": ("log.json", "log.json"),
            "user": ("www", "www"),
            "group": ("web", "web"),
        }
        for name, (text, value) in said.items():
            config = self.parse("--" + name.replace("_", "-"), text)
            got = getattr(config, name)
            self.assertEqual((got, type(got)), (value, type(value)), name)
        flags = {"factory", "proxy_protocol", "debug_headers", "reload"}
        for name in flags:
            self.assertIs(getattr(self.parse("--" + name.replace("_", "-")), name), True)
            self.assertIs(getattr(self.parse(), name), False)
        others = {"app", "listen", "tls_cert", "tls_key", "status_host"}
        self.assertEqual(set(said) | flags | others, {f.name for f in attrs.fields(Config)})

    def test_repeatable(self) -> None:
        """Endpoints, certificates and names may be several, in their order."""
        config = self.parse(
            *("-l", "8080", "--listen", "unix:/run/x"),
            *("--tls-cert", "a", "--tls-key", "b", "--tls-cert", "c", "--tls-key", "d"),
            *("--status-host", "a.example", "--status-host", "b"),
        )
        self.assertEqual(config.listen, ("8080", "unix:/run/x"))
        self.assertEqual((config.tls_cert, config.tls_key), (("a", "c"), ("b", "d")))
        self.assertEqual(config.status_host, ("a.example", "b"))

    def test_environment(self) -> None:
        """The platforms' variables count where nothing is typed."""
        said = {"WEB_CONCURRENCY": "5", "FORWARDED_ALLOW_IPS": "10.0.0.1"}
        config = self.parse(**said)
        self.assertEqual((config.workers, config.forwarded_allow_ips), (5, "10.0.0.1"))
        config = self.parse("-w", "2", "--forwarded-allow-ips", "*", **said)
        self.assertEqual((config.workers, config.forwarded_allow_ips), (2, "*"))

    def test_nonsense(self) -> None:
        """What cannot be is refused under the option's name, before anything starts."""
        for arguments in (
            ["--workers", "many"],
            ["--workers", "1.5"],
            ["--head-timeout", "soon"],
            ["--sticky", "cookies"],
            ["--balance", "best"],
            ["--log-level", "loud"],
            ["--status-host", "http://a.example"],
            ["--listen", "example.org:80"],
        ):
            self.assertIn(arguments[0], self.refused(*arguments))
        self.assertIn("WEB_CONCURRENCY", self.refused(WEB_CONCURRENCY="x"))
        self.refused("--no-such-option")

    def test_defaults_in_the_help(self) -> None:
        """The default that the help shows is the one that holds."""
        shown = {
            name.replace("-", "_"): re.search(r"\[(.*)\]$", text)[1]  # type: ignore[index]
            for name, _, text in plugin._PARAMETERS
        }
        config = Config()
        for name, text in shown.items():
            if text[0] == "$" or text.split()[0] in ("off", "none", "that"):
                continue
            self.assertEqual(f"{getattr(config, name):{'g' if text.isdigit() else ''}}", text)
        for name in (name for name, text in shown.items() if text in ("off", "none")):
            self.assertFalse(getattr(config, name), name)

    def test_help(self) -> None:
        """The help begins with the command, and names every option."""
        text = str(Options())
        self.assertTrue(text.startswith("Usage: txsticky [options] [MODULE:ATTRIBUTE]"), text)
        for field in attrs.fields(Config):
            if field.name != "app":
                self.assertIn("--" + field.name.replace("_", "-"), text)

    def test_version(self) -> None:
        """The version can be asked for."""
        with mock.patch("sys.stdout", io.StringIO()) as out:
            self.assertRaises(SystemExit, Options().parseOptions, ["--version"])
        self.assertEqual(out.getvalue(), f"txsticky {__version__}\n")

    def test_from_a_program(self) -> None:
        """The configuration can be made of any mapping, in any environment."""
        self.assertEqual(
            config_of({"workers": "2", "app": "a:b"}, {}), Config(workers=2, app="a:b")
        )


class TwistTests(SynchronousTestCase):
    """The same under ``twist``, which has a log of its own."""

    def twist(self, *arguments: str) -> tuple[TwistOptions, Config]:
        """The options of twist, its output being no terminal, and the configuration."""
        self.patch(sys, "argv", ["twist", *arguments])
        self.patch(sys, "stdout", io.StringIO())
        self.patch(TwistOptions, "installReactor", lambda self, name: None)
        options = TwistOptions()
        options.parseOptions(list(arguments))
        return options, options.subOptions.config

    def written(self, options: TwistOptions) -> str:
        """What is written of three events and of what an application prints."""
        stream = io.StringIO()
        observer = options["fileLogObserverFactory"](stream)
        events: list[Any] = []
        log = Logger(namespace="shop", observer=events.append)  # type: ignore[arg-type]
        log.debug("Close look.")
        log.info("News: {key}", key="\x1b[2J")
        log.warn("Danger.")
        log.info("Printed.", output=True)
        for event in events:
            if event["log_level"] >= options["logLevel"]:
                observer(event)
        return stream.getvalue()

    def test_text(self) -> None:
        """The log is text, also where there is no terminal, and printable."""
        options, _ = self.twist("txsticky")
        lines = self.written(options).splitlines()
        self.assertEqual(
            [line.partition("] ")[2] for line in lines], ["News: \\x1b[2J", "Danger.", "Printed."]
        )

    def test_json(self) -> None:
        """It is JSON if twist is asked for that, however that is written."""
        for asked in (["--log-format", "json"], ["--log-format=json"], ["--log-fo=JSON"]):
            options, _ = self.twist(*asked, "txsticky")
            self.assertIn('"log_namespace": "shop"', self.written(options))
        options, _ = self.twist("--log-format", "text", "txsticky")
        self.assertIn("] Danger.", self.written(options))

    def test_level(self) -> None:
        """A level may be said before the plugin's name or behind it, which wins."""
        for arguments, level in (
            (["txsticky"], "info"),
            (["--log-level", "warn", "txsticky"], "warning"),
            (["txsticky", "--log-level", "warning"], "warning"),
            (["--log-level", "debug", "txsticky", "--log-level", "warning"], "warning"),
            (["--log-level", "debug", "txsticky"], "debug"),
        ):
            options, config = self.twist(*arguments)
            self.assertEqual(config.log_level, level)
            written = self.written(options)
            self.assertEqual("Close look" in written, level == "debug")
            self.assertEqual("News" in written, level != "warning")
            self.assertIn("Printed", written)


class CommandCase(SynchronousTestCase):
    """The command, with a cluster that only records."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.titles: list[str] = []
        self.cluster = mock.Mock()
        self.cluster.stopService.return_value = succeed(None)
        self.patch(plugin, "Cluster", mock.Mock(return_value=self.cluster))
        self.patch(plugin, "set_title", self.titles.append)
        self.patch(plugin, "raise_file_limit", mock.Mock())
        self.patch(plugin, "take_signals", mock.Mock())
        self.patch(signal, "signal", mock.Mock())
        self.command = Command(Config(), self.reactor)
        self.on_ended = plugin.Cluster.call_args.args[2]  # type: ignore[attr-defined]

    def send(self, name: str) -> None:
        """A signal comes."""
        handlers = dict(call.args for call in signal.signal.call_args_list)  # type: ignore[attr-defined]
        handlers[signal.Signals[name]](signal.Signals[name], None)
        self.reactor.settle()


class CommandTests(CommandCase):
    """The cluster as the program."""

    def test_service(self) -> None:
        """It is a service."""
        self.assertTrue(verifyObject(IService, self.command))

    def test_start(self) -> None:
        """It starts the cluster, and shows itself under its own name."""
        self.command.startService()
        self.assertEqual(self.cluster.startService.call_count, 1)
        self.assertEqual(self.titles, ["txsticky: primary"])

    def test_cannot_start(self) -> None:
        """A cluster that cannot start ends the program, with one line that says why."""
        self.cluster.startService.side_effect = ListenError(endpoint="80", reason="it is taken")
        with mock.patch("sys.stderr", io.StringIO()) as out:
            end = self.assertRaises(SystemExit, self.command.startService)
        self.assertEqual(
            (end.code, out.getvalue()), (1, "txsticky: Cannot listen on 80: it is taken.\n")
        )

    def test_signals(self) -> None:
        """Each signal does what gunicorn's does."""
        self.command.startService()
        for name in ("SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2"):
            self.send(name)
        self.assertEqual(
            self.cluster.method_calls[1:],
            [
                mock.call.reload(),
                mock.call.scale(1),
                mock.call.scale(-1),
                mock.call.rotate_logs(),
                mock.call.upgrade(),
            ],
        )

    def test_stop(self) -> None:
        """TERM stops gracefully, INT and QUIT quickly."""
        for name, graceful in (("SIGTERM", True), ("SIGINT", False), ("SIGQUIT", False)):
            self.setUp()
            self.command.startService()
            self.send(name)
            self.assertEqual(self.cluster.stop.call_args_list, [mock.call(graceful)])

    def test_stop_twice(self) -> None:
        """A second one hurries."""
        self.command.startService()
        self.send("SIGTERM")
        self.send("SIGTERM")
        self.assertEqual(self.cluster.stop.call_args_list, [mock.call(True), mock.call(False)])

    def test_ended(self) -> None:
        """When the cluster has ended the reactor stops, but not inside that very call."""
        self.on_ended(0, "it was told to stop")
        self.assertTrue(self.reactor.running)
        self.reactor.settle()
        self.assertFalse(self.reactor.running)
        self.assertEqual(self.reactor.triggers, [])

    def test_exit_code(self) -> None:
        """If it gave up, the program ends with its exit code, after all else is done."""
        self.on_ended(3, "the application does not load")
        self.reactor.settle()
        ((phase, event, action, arguments),) = self.reactor.triggers
        self.assertEqual((phase, event, arguments), ("after", "shutdown", (3,)))
        with mock.patch("os._exit") as end:
            action(*arguments)
        self.assertEqual(end.call_args, mock.call(3))

    def test_stop_service(self) -> None:
        """When the reactor stops, it is waited for that the cluster has ended."""
        self.command.startService()
        stopped: Deferred[None] = Deferred()
        self.cluster.stopService.return_value = stopped
        self.assertIs(self.command.stopService(), stopped)

    def test_orphans(self) -> None:
        """As the first process of a container it reaps orphans, and only then."""
        for pid, looks in ((1, 1), (4711, 0)):
            self.setUp()
            self.patch(os, "getpid", lambda pid=pid: pid)
            self.command.startService()
            self.assertEqual(len(self.reactor.getDelayedCalls()), looks)
            self.command.stopService()
            self.assertEqual(self.reactor.getDelayedCalls(), [])


class MakeServiceTests(CommandCase):
    """What the plugin makes."""

    def options(self, *arguments: str) -> Options:
        """Parsed options."""
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def test_command(self) -> None:
        """The command, for the configuration."""
        service = makeService(self.options("-w", "2", "a:b"))
        self.assertIsInstance(service, Command)
        self.assertEqual(plugin.Cluster.call_args.args[0].app, "a:b")  # type: ignore[attr-defined]

    def test_check_config(self) -> None:
        """With --check-config it ends with what the check says."""
        with mock.patch("txsticky.check.check_config", return_value=3) as check:
            end = self.assertRaises(SystemExit, makeService, self.options("--check-config", "a:b"))
        self.assertEqual((end.code, check.call_args.args[0].app), (3, "a:b"))


class CheckTests(SynchronousTestCase):
    """--check-config."""

    def check(self, app: str, **options: Any) -> tuple[int, str]:
        """Check an application; returns the exit code and all that was printed."""
        from txsticky.check import checked

        with mock.patch("sys.stdout", io.StringIO()) as out, mock.patch("sys.stderr", out):
            return checked(Config(app=app, **options)), out.getvalue()

    def test_fine(self) -> None:
        """An application that loads is told with its kind."""
        code, said = self.check("tests.test_plugin:application", workers=4)
        self.assertEqual(code, 0)
        self.assertIn("is fine (wsgi, 4 workers)", said)

    def test_not_found(self) -> None:
        """One that does not is told in a sentence, with exit code 3."""
        code, said = self.check("tests.test_plugin:nothing")
        self.assertEqual(code, AppLoadError.exit_code)
        self.assertIn("tests.test_plugin:nothing", said)

    def test_options(self) -> None:
        """What the options name is looked at as well."""
        app = "tests.test_plugin:application"
        for options, reason in (
            ({"listen": ("carrier:pigeon",)}, "Cannot listen on carrier:pigeon"),
            ({"status": "carrier:pigeon"}, r"Cannot listen on carrier:pigeon \(--status\)"),
            ({"status": "pigeon:7"}, "--status cannot be 'pigeon:7'"),
            ({"access_log": "/none/log"}, "--access-log cannot be '/none/log'"),
            ({"access_log": "/"}, "--access-log cannot be '/'"),
            ({"control": "/none/control"}, "--control cannot be '/none/control'"),
            ({"log_config": "/none/log.json"}, "--log-config cannot be '/none/log.json'"),
            ({"user": "nobody-at-all"}, "--user cannot be 'nobody-at-all'"),
        ):
            code, said = self.check(app, **options)
            self.assertNotEqual(code, 0)
            self.assertRegex(said, f"^txsticky: {reason}[^\n]*\n$")
        options = {"listen": ("systemd:domain=INET:index=0",), "access_log": "-", "status": "8099"}
        self.assertEqual(self.check(app, **options)[0], 0)

    def test_process(self) -> None:
        """It is done in a process of its own."""
        from txsticky.check import check_config

        with mock.patch("subprocess.run") as run:
            run.return_value.returncode = 3
            self.assertEqual(check_config(Config()), 3)
        self.assertEqual(run.call_args.args[0], [sys.executable, "-m", "txsticky.check"])


class RunTests(CommandCase):
    """The command without twist."""

    def refused(self, *arguments: str) -> tuple[Any, str]:
        """The exit code and what is printed."""
        with mock.patch("sys.stderr", io.StringIO()) as out:
            end = self.assertRaises(SystemExit, plugin.run, arguments)
        return end.code, out.getvalue()

    def test_usage(self) -> None:
        """A command line that cannot be ends with 64 (sysexits.h), the usage and the reason."""
        code, said = self.refused("--workers", "0")
        usage, reason = said.splitlines()
        self.assertTrue(usage.startswith("Usage: txsticky [options]"), usage)
        self.assertEqual(reason, "txsticky: --workers cannot be 0: a whole number from 1 to 512.")
        self.assertEqual(code, 64)

    def test_log_format(self) -> None:
        """So does a log format that there is not."""
        code, said = self.refused("--log-format", "xml")
        self.assertEqual(code, 64)
        self.assertIn("--log-format cannot be 'xml'", said)


def application(environ: Any, start_response: Any) -> list[bytes]:
    """A WSGI application, to be checked."""
    return []
