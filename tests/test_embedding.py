"""A cluster in a program that is not the command: its signals, its end, its upgrade."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from typing import Any
from unittest import mock

from twisted.internet.error import ReactorNotRunning
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeReactor
from tests.test_cluster import ClusterCase
from txsticky import cluster as module
from txsticky.cluster import Cluster, signals_of
from txsticky.config import Config
from txsticky.core.lifecycle.timing import SAME_SIGNAL
from txsticky.primary.upgrade.packing import FORM
from txsticky.primary.upgrade.trial import HELD, PASSED, TRIAL
from txsticky.system import this_process


class SignalTests(SynchronousTestCase):
    """Signals, of a cluster that only records."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.cluster = mock.Mock()
        self.patch(signal, "signal", mock.Mock())
        signals_of(self.cluster, self.reactor).install()

    def send(self, name: str) -> None:
        """A signal comes."""
        handlers = dict(call.args for call in signal.signal.call_args_list)  # type: ignore[attr-defined]
        handlers[signal.Signals[name]](signal.Signals[name], None)
        self.reactor.settle()

    def test_signals(self) -> None:
        """Each signal does what gunicorn's does."""
        for name in ("SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2"):
            self.send(name)
        self.assertEqual(
            self.cluster.method_calls,
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
            self.send(name)
            self.assertEqual(self.cluster.stop.call_args_list, [mock.call(graceful)])

    def test_stop_twice(self) -> None:
        """What a second one means is the cluster's to say."""
        for name in ("SIGTERM", "SIGINT", "SIGTERM"):
            self.send(name)
            self.reactor.advance(SAME_SIGNAL)
        calls = [mock.call(True), mock.call(False), mock.call(True)]
        self.assertEqual(self.cluster.stop.call_args_list, calls)

    def test_same_signal(self) -> None:
        """A signal that a program between the terminal and this one passes on counts once."""
        self.send("SIGINT")
        self.send("SIGINT")
        self.assertEqual(self.cluster.stop.call_args_list, [mock.call(False)])
        self.reactor.advance(SAME_SIGNAL)
        self.send("SIGINT")
        self.assertEqual(self.cluster.stop.call_args_list, [mock.call(False)] * 2)

    def test_one_call(self) -> None:
        """`handle_signals` takes them all, and lets those through that wait."""
        take = mock.Mock()
        self.patch(module, "take_signals", take)
        signal.signal.reset_mock()  # type: ignore[attr-defined]
        cluster = Cluster(Config(workers=1), self.reactor)
        cluster.handle_signals()
        taken = {call.args[0] for call in signal.signal.call_args_list}  # type: ignore[attr-defined]
        names = ("HUP", "INT", "QUIT", "TERM", "TTIN", "TTOU", "USR1", "USR2")
        self.assertEqual(taken, {signal.Signals[f"SIG{name}"] for name in names})
        take.assert_called_once_with()


class EndTests(ClusterCase):
    """What the end of the cluster is to the program."""

    def setUp(self) -> None:
        super().setUp()
        self.on_ended = None
        self.stop = mock.Mock()
        self.patch(self.reactor, "stop", self.stop)
        self.end_with = mock.Mock()
        self.patch(module, "end_with", self.end_with)

    def stop_service(self) -> None:
        """Stop the cluster as a service, to the end."""
        stopped = self.cluster.stopService()
        self.die()
        self.until(lambda: stopped.called)
        self.settle()

    def test_gives_up(self) -> None:
        """If the application does not load, the program ends, with the command's exit code."""
        self.not_loading()
        self.stop.assert_called_once_with()
        self.end_with.assert_called_once_with(3, "no such module")

    def test_stopped(self) -> None:
        """A cluster told to stop, as by a signal, ends the program, which has its own exit code."""
        self.start().stop(graceful=False)
        self.stop.side_effect = ReactorNotRunning()  # the program was quicker
        self.die()
        self.until(lambda: self.stop.called)
        self.end_with.assert_not_called()

    def test_stopped_service(self) -> None:
        """A program that stops the service runs on."""
        self.start()
        self.stop_service()
        self.stop.assert_not_called()
        self.end_with.assert_not_called()

    def test_listens_no_more(self) -> None:
        """A cluster that has given up refuses connections, whatever the program does."""
        self.on_ended = mock.Mock()
        self.not_loading()
        self.assertEqual(self.cluster.addresses(), [])
        self.stop.assert_not_called()

    def test_stops_the_reactor(self) -> None:
        """`on_ended` may stop the reactor, also one that stops already, and the end is complete."""
        self.on_ended = mock.Mock(side_effect=ReactorNotRunning)
        self.start()
        self.stop_service()
        self.assertEqual([call.args[0] for call in self.on_ended.mock_calls], [0])

    def test_failing(self) -> None:
        """If `on_ended` fails, that is logged, and the end is complete."""
        self.on_ended = mock.Mock(side_effect=ZeroDivisionError)
        self.start()
        self.stop_service()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_exit_status(self) -> None:
        """The status is the process's and the reason its last line, after all clean-up."""
        script = (
            f"import {this_process.__name__} as this, atexit\n"
            "atexit.register(print, 'cleaned up')\nthis.end_with(3, 'Too bad.')\nprint('goes on')"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        said = "goes on\ncleaned up\ntxsticky: Too bad.\n"
        self.assertEqual((done.returncode, done.stdout), (3, said))


class TrialTests(SynchronousTestCase):
    """A program that is only to show that it starts, for an upgrade."""

    def trial(self, form: str, listen: str) -> tuple[Any, str]:
        """The exit code of a program that is only to show that it starts, and what it says."""
        self.patch(os, "environ", {**os.environ, TRIAL: form, HELD: json.dumps([])})
        with mock.patch("sys.stderr", io.StringIO()) as out:
            end = self.assertRaises(SystemExit, Cluster, Config(listen=[listen]), FakeReactor())
        return end.code, out.getvalue()

    def test_passes(self) -> None:
        """To make the cluster is where the trial of a program ends, well if it can take over."""
        self.assertEqual(self.trial(str(FORM), "unix:" + self.mktemp()), (PASSED, ""))

    def test_fails(self) -> None:
        """A trial of a program that cannot take over says why."""
        code, said = self.trial("0", "unix:" + self.mktemp())
        self.assertEqual(code, 1)
        self.assertIn("form 0", said)
