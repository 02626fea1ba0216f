"""The trial: whether the new program starts."""

from __future__ import annotations

import os
import signal
import sys
from unittest import mock

from tests.shells import ShellCase
from txsticky.errors import UpgradeError
from txsticky.primary.upgrade import trial
from txsticky.primary.upgrade.packing import FORM
from txsticky.primary.upgrade.trial import PASSED, TRIAL, TRIAL_TIME, Trial
from txsticky.system.trust import Identity
from txsticky.testing import FakeProcess, FakeSystem


class TrialTests(ShellCase):
    """The process that shows whether the new program starts."""

    def setUp(self) -> None:
        super().setUp()
        self.system = FakeSystem(reactor=self.reactor)
        self.problems: list[str] = []
        self.trial = Trial(self.system, self.problems.append)

    @property
    def process(self) -> FakeProcess:
        """The process."""
        (process,) = self.system.processes
        return process

    def test_command(self) -> None:
        """It is this program with its arguments; it inherits nothing, and is told what it is."""
        self.assertEqual(self.process.arguments, sys.orig_argv[1:])
        self.assertEqual(self.process.inherited, {})
        self.assertEqual(self.process.environ, {TRIAL: str(FORM)})

    def test_passed(self) -> None:
        """If it says that it starts, nothing is wrong."""
        self.process.exit(PASSED)
        self.assertEqual(self.problems, [""])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_distrusted(self) -> None:
        """Where the workers are another user, it looks for nothing where this user may write."""
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": "relative:/"})
        identity = mock.Mock(spec=Identity)
        identity.may_write.side_effect = lambda path: path == "relative"
        Trial(self.system, self.problems.append, identity)
        process = self.system.processes[-1]
        self.assertEqual(process.environ, {TRIAL: str(FORM), "PYTHONPATH": "/"})
        self.assertIsNone(process.identity)
        process.exit(PASSED)

    def test_clean_exit(self) -> None:
        """A program that merely ends has shown nothing."""
        self.process.exit(0)
        self.assertEqual(self.problems, ["it exited with code 0"])

    def test_unclean_exit(self) -> None:
        """How it ended is told."""
        self.process.exit(-11)
        self.assertEqual(self.problems, ["it was ended by signal 11"])

    def test_time_out(self) -> None:
        """One that does not come to an end is killed, and nothing happens before it has gone."""
        self.reactor.advance(TRIAL_TIME - 1)
        self.assertEqual(self.process.signals, [])
        self.reactor.advance(1)
        self.assertEqual((self.process.signals, self.problems), ([signal.SIGKILL], []))
        self.process.exit(-9)
        self.assertEqual(self.problems, ["it takes too long to start"])

    def test_too_late(self) -> None:
        """One that passes after its time has not passed."""
        self.reactor.advance(TRIAL_TIME)
        self.process.exit(PASSED)
        self.assertEqual(self.problems, ["it takes too long to start"])

    def test_cancel(self) -> None:
        """One that is not wanted any more is killed, and its outcome is not told."""
        self.trial.cancel()
        self.assertEqual(self.process.signals, [signal.SIGKILL])
        self.process.exit(PASSED)
        self.assertEqual((self.problems, self.reactor.getDelayedCalls()), ([], []))

    def test_output(self) -> None:
        """What it says is logged."""
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
