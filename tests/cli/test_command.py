"""The command line: options, the service they make, signals and exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.fakes import FakeReactor
from txsticky.cli import command as plugin
from txsticky.cli.command import Command, makeService
from txsticky.cli.options import Options
from txsticky.config import Config
from txsticky.core.lifecycle.timing import SAME_SIGNAL
from txsticky.errors import AppLoadError, ListenError


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
        """What a second one means is the cluster's to say."""
        self.command.startService()
        for name in ("SIGTERM", "SIGINT", "SIGTERM"):
            self.send(name)
            self.reactor.advance(SAME_SIGNAL)
        calls = [mock.call(True), mock.call(False), mock.call(True)]
        self.assertEqual(self.cluster.stop.call_args_list, calls)

    def test_same_signal(self) -> None:
        """One that a program between the terminal and this one passes on as well counts once."""
        self.command.startService()
        self.send("SIGINT")
        self.send("SIGINT")
        self.assertEqual(self.cluster.stop.call_args_list, [mock.call(False)])
        self.reactor.advance(SAME_SIGNAL)
        self.send("SIGINT")
        self.assertEqual(self.cluster.stop.call_args_list, [mock.call(False)] * 2)

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
        with mock.patch("txsticky.cli.check.check_config", return_value=3) as check:
            end = self.assertRaises(SystemExit, makeService, self.options("--check-config", "a:b"))
        self.assertEqual((end.code, check.call_args.args[0].app), (3, "a:b"))


class CheckTests(SynchronousTestCase):
    """--check-config."""

    def check(self, app: str, **options: Any) -> tuple[int, str]:
        """Check an application; returns the exit code and all that was printed."""
        from txsticky.cli.check import check_config, checked

        def run(command: list[str], input: str, **rest: Any) -> SimpleNamespace:
            told = json.loads(input)
            return SimpleNamespace(returncode=checked(Config(**told["config"]), told["files"]))

        with (
            mock.patch("sys.stdout", io.StringIO()) as out,
            mock.patch("sys.stderr", out),
            mock.patch("subprocess.run", run),
        ):
            return check_config(Config(app=app, **options)), out.getvalue()

    def test_fine(self) -> None:
        """An application that loads is told with its kind."""
        code, said = self.check("tests.cli.test_command:application", workers=4)
        self.assertEqual(code, 0)
        self.assertIn("is fine (wsgi, 4 workers)", said)

    def test_not_found(self) -> None:
        """One that does not is told in a sentence, with exit code 3."""
        code, said = self.check("tests.cli.test_command:nothing")
        self.assertEqual(code, AppLoadError.exit_code)
        self.assertIn("tests.cli.test_command:nothing", said)

    def test_options(self) -> None:
        """What the options name is looked at as well."""
        app = "tests.cli.test_command:application"
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
        from txsticky.cli.check import check_config

        with mock.patch("subprocess.run") as run:
            run.return_value.returncode = 3
            self.assertEqual(check_config(Config()), 3)
        self.assertEqual(run.call_args.args[0], [sys.executable, "-P", "-m", "txsticky.cli.check"])


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
        """An unknown log format ends with 64, the usage and the reason."""
        code, said = self.refused("--log-format", "xml")
        self.assertEqual(code, 64)
        self.assertIn("--log-format cannot be 'xml'", said)


def application(environ: Any, start_response: Any) -> list[bytes]:
    """A WSGI application, to be checked."""
    return []
