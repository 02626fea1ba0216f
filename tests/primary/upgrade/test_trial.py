"""The trial: whether the new program starts."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from typing import Any
from unittest import mock

from tests.fakes import FakeProcess, FakeSystem
from tests.shells import ReactorCase, ShellCase
from txsticky.config import Config
from txsticky.errors import ListenError, UpgradeError
from txsticky.primary.upgrade import trial
from txsticky.primary.upgrade.packing import FORM
from txsticky.primary.upgrade.trial import HELD, PASSED, TRIAL, TRIAL_TIME, Trial
from txsticky.system.trust import Identity


class TrialTests(ShellCase):
    """The process that shows whether the new program starts."""

    def setUp(self) -> None:
        super().setUp()
        self.system = FakeSystem(reactor=self.reactor)
        self.problems: list[str] = []
        held = [("tcp:8080", 8080)]
        self.trial = Trial(self.system, self.problems.append, held=held)

    @property
    def process(self) -> FakeProcess:
        """The process of the trial."""
        (process,) = self.system.processes
        return process

    def test_command(self) -> None:
        """A trial is this program with its arguments, which inherits nothing."""
        self.assertEqual(self.process.arguments, sys.orig_argv[1:])
        self.assertEqual(self.process.inherited, {})
        held = '[["tcp:8080", 8080]]'
        self.assertEqual(self.process.environ, {TRIAL: str(FORM), HELD: held})

    def test_passed(self) -> None:
        """If the program says that it starts, nothing is wrong."""
        self.process.exit(PASSED)
        self.assertEqual(self.problems, [""])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_distrusted(self) -> None:
        """Where the workers are another user, a trial imports nothing that this user may write."""
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": "relative:/"})
        identity = mock.Mock(spec=Identity)
        identity.may_write.side_effect = lambda path: path == "relative"
        Trial(self.system, self.problems.append, identity)
        process = self.system.processes[-1]
        self.assertEqual(process.environ, {TRIAL: str(FORM), HELD: "[]", "PYTHONPATH": "/"})
        self.assertIsNone(process.identity)
        process.exit(PASSED)

    def test_clean_exit(self) -> None:
        """A program that merely ends has shown nothing."""
        self.process.exit(0)
        self.assertEqual(self.problems, ["it exited with code 0"])

    def test_unclean_exit(self) -> None:
        """How a trial ended is told."""
        self.process.exit(-11)
        self.assertEqual(self.problems, ["it was ended by signal 11"])

    def test_time_out(self) -> None:
        """A trial that does not end is killed, and nothing happens before it has gone."""
        self.reactor.advance(TRIAL_TIME - 1)
        self.assertEqual(self.process.signals, [])
        self.reactor.advance(1)
        self.assertEqual((self.process.signals, self.problems), ([signal.SIGKILL], []))
        self.process.exit(-9)
        self.assertEqual(self.problems, ["it takes too long to start"])

    def test_too_late(self) -> None:
        """A trial that passes after its time has not passed."""
        self.reactor.advance(TRIAL_TIME)
        self.process.exit(PASSED)
        self.assertEqual(self.problems, ["it takes too long to start"])

    def test_cancel(self) -> None:
        """A trial that is not wanted any more is killed, and its outcome is not told."""
        self.trial.cancel()
        self.assertEqual(self.process.signals, [signal.SIGKILL])
        self.process.exit(PASSED)
        self.assertEqual((self.problems, self.reactor.getDelayedCalls()), ([], []))

    def test_output(self) -> None:
        """What a trial says is logged."""
        with mock.patch.object(trial, "log") as log:
            self.process.say("SyntaxError: invalid syntax")
        self.assertEqual(log.warn.call_args.kwargs, {"line": "SyntaxError: invalid syntax"})

    def test_older_form(self) -> None:
        """A program takes up what version 0.1.0 hands over."""
        trial.check_form({TRIAL: "2"})

    def test_form(self) -> None:
        """A program that would not understand the state says so."""
        trial.check_form({TRIAL: str(FORM)})
        error = self.assertRaises(UpgradeError, trial.check_form, {TRIAL: "0"})
        self.assertEqual(
            str(error),
            f"The running program hands over a state of form 0; this one knows form {FORM}.",
        )


class EndpointTests(ReactorCase):
    """Whether the new program can listen where the running one does not."""

    def setUp(self) -> None:
        super().setUp()
        self.port = self.listening().getsockname()[1]
        self.at_port = f"tcp:{self.port}:interface=127.0.0.1"

    def check(self, listen: list[str], held: list[Any]) -> None:
        """Check."""
        environ = {HELD: json.dumps(held)}
        trial.check_endpoints(Config(listen=listen), environ, self.reactor)

    def test_in_use(self) -> None:
        """What another program listens on is told."""
        error = self.assertRaises(ListenError, self.check, ["tcp:0", self.at_port], [])
        self.assertEqual(
            str(error), f"Cannot listen on {self.at_port}: {os.strerror(errno.EADDRINUSE)}."
        )

    def test_held(self) -> None:
        """What the running program holds is not opened."""
        self.check([self.at_port], [("tcp:1", 1), (self.at_port, self.port)])

    def test_held_once(self) -> None:
        """What is named twice is opened once more."""
        with self.assertRaises(ListenError):
            self.check([self.at_port] * 2, [(self.at_port, self.port)])

    def test_named_in_another_way(self) -> None:
        """What the running program gives up is free by then."""
        self.check([self.at_port], [(f"127.0.0.1:{self.port}", self.port)])
        with self.assertRaises(ListenError):
            self.check([self.at_port], [("127.0.0.1:1", 1)])

    def test_unix(self) -> None:
        """A UNIX socket is opened for a moment, and its file removed."""
        path = os.path.abspath(self.mktemp())
        self.check([f"unix:{path}"], [])
        self.assertFalse(os.path.lexists(path))
        with open(path, "wb"):
            self.check([f"unix:{path}:mode=600"], [(f"unix:{path}", path)])
            with self.assertRaises(ListenError):
                self.check([f"unix:{path}"], [])

    def test_passed(self) -> None:
        """What a service manager passes is not passed to a trial, and not missed in it."""
        self.check(["systemd:none"], [])

    def test_older(self) -> None:
        """A running program that does not say what it holds may hold anything."""
        trial.check_endpoints(Config(listen=[self.at_port]), {}, self.reactor)
