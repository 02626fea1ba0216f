"""The command line: options, the service they make, signals and exit codes."""

from __future__ import annotations

import io
import json
import os
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
        self.command = Command(Config(), self.reactor)


class CommandTests(CommandCase):
    """The cluster as the program."""

    def test_service(self) -> None:
        """The command is a service."""
        self.assertTrue(verifyObject(IService, self.command))

    def test_start(self) -> None:
        """The command starts the cluster, and shows itself under its own name."""
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
        """Signals are the cluster's, once it has started."""
        self.command.startService()
        self.assertEqual(
            self.cluster.method_calls, [mock.call.startService(), mock.call.handle_signals()]
        )

    def test_service_manager(self) -> None:
        """The service manager is told when the cluster serves, reloads and stops."""
        notifier = self.command.notifier = mock.Mock()
        events = plugin.Cluster.call_args.kwargs  # type: ignore[attr-defined]
        events["on_reloading"](True)
        events["on_reloading"](False)
        self.assertEqual(notifier.method_calls, [mock.call.reloading(), mock.call.ready()])
        for event, told in (("on_ready", "ready"), ("on_stopping", "stopping")):
            self.assertEqual(events[event].__name__, told)

    def test_stop_service(self) -> None:
        """When the reactor stops, the command waits for the end of the cluster."""
        self.command.startService()
        stopped: Deferred[None] = Deferred()
        self.cluster.stopService.return_value = stopped
        self.assertIs(self.command.stopService(), stopped)

    def test_orphans(self) -> None:
        """As the first process of a container the command reaps orphans, and only then."""
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
        """With --check-config the command ends with what the check says."""
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
        """An application that does not load is told in a sentence, with exit code 3."""
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
        """The check is done in a process of its own."""
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
