"""Becoming the new program, and finding what the one before left."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any
from unittest import mock

from tests.shells import ShellCase, open_descriptors
from txsticky.errors import UpgradeError
from txsticky.primary.upgrade import execute as upgrade
from txsticky.primary.upgrade.execute import STATE
from txsticky.primary.upgrade.packing import FORM
from txsticky.system.trust import Identity


class ExecuteTests(ShellCase):
    """Becoming the new program."""

    def execute(self, state: dict[str, Any], *descriptors: int, fails: bool = False) -> Any:
        """What would be executed: the program, its arguments and its environment."""
        with mock.patch.object(os, "execve") as execve:
            if fails:
                execve.side_effect = OSError("no such file")
                self.assertRaises(OSError, upgrade.execute, state, list(descriptors))
                return None
            execve.side_effect = lambda *call: self.look(call[2])
            upgrade.execute(state, list(descriptors))
        return execve.call_args.args

    def look(self, environ: dict[str, str]) -> None:
        """Be the new program for a moment."""
        self.inheritable = {n for n in open_descriptors() if os.get_inheritable(n)}
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        copy = dict(environ)
        copy[STATE] = str(os.dup(int(copy[STATE])))
        self.state = upgrade.inherited_state(copy)
        self.assertNotIn(STATE, copy)
        self.found = copy

    def test_program(self) -> None:
        """The program and its arguments are the same."""
        program, arguments, environ = self.execute({})
        self.assertEqual(
            (program, arguments), (sys.executable, [sys.executable, *sys.orig_argv[1:]])
        )
        self.assertEqual({**environ, STATE: ""}, {**os.environ, STATE: ""})

    def test_state(self) -> None:
        """The new program finds the state, of any size."""
        state = {"text": "ü" * 300_000, "numbers": [1, 2.5, None]}
        self.execute(state)
        self.assertEqual(self.state, {**state, "form": FORM, "inherited": [], "environ": {}})

    def test_descriptors(self) -> None:
        """The new program inherits what is named, and nothing else."""
        one, other = self.pair()
        before = {n for n in open_descriptors() if os.get_inheritable(n)}
        self.execute({}, one.fileno())
        self.assertIn(one.fileno(), self.inheritable - before)
        self.assertNotIn(other.fileno(), self.inheritable)
        self.assertEqual(len(self.inheritable - before), 2)  # and the state

    def test_not_any_further(self) -> None:
        """In the new program no such descriptor is inheritable, from the first moment on."""
        one, _ = self.pair()
        self.execute({}, one.fileno())
        self.assertFalse(os.get_inheritable(one.fileno()))
        self.assertEqual(self.state["inherited"], [one.fileno()])

    def test_distrusted(self) -> None:
        """Where the workers are another user, the new program imports nothing from folders that
        this user may write; and the workers have the whole PYTHONPATH again.
        """
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": "relative:/"})
        identity = mock.Mock(spec=Identity)
        identity.may_write.side_effect = lambda path: path == "relative"
        with mock.patch.object(os, "execve") as execve:
            execve.side_effect = lambda *call: self.look(call[2])
            upgrade.execute({}, [], identity)
        self.assertEqual(execve.call_args.args[2]["PYTHONPATH"], "/")
        self.assertEqual(self.found["PYTHONPATH"], "relative:/")

    def test_signals(self) -> None:
        """Signals that come meanwhile wait for the new program."""
        self.execute({})
        waiting = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGUSR1}
        self.assertEqual(waiting - self.blocked, set())

    def test_failure(self) -> None:
        """If the new program cannot be executed, everything is as it was."""
        one, _ = self.pair()
        before = open_descriptors()
        self.execute({}, one.fileno(), fails=True)
        self.assertEqual(open_descriptors(), before)
        self.assertFalse(os.get_inheritable(one.fileno()))
        self.assertNotIn(signal.SIGTERM, signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    def test_failure_for_a_descriptor(self) -> None:
        """If a descriptor that was to be inherited is not there, everything is as it was."""
        one, _ = self.pair()
        nothing = max(open_descriptors()) + 100
        with mock.patch.object(os, "execve") as execve:
            self.assertRaises(OSError, upgrade.execute, {}, [one.fileno(), nothing])
        execve.assert_not_called()
        self.assertFalse(os.get_inheritable(one.fileno()))
        self.assertNotIn(signal.SIGTERM, signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    def test_no_state(self) -> None:
        """A program that was started in the usual way has nothing to take up."""
        self.assertIsNone(upgrade.inherited_state({}))

    def test_foreign_state(self) -> None:
        """A state of a form that the program does not know is refused."""
        memory = os.memfd_create("state")
        os.write(memory, json.dumps({"form": 0}).encode())
        self.assertRaises(UpgradeError, upgrade.inherited_state, {STATE: str(memory)})

    def test_older_state(self) -> None:
        """A state of version 0.1.0, which names no inherited descriptors, is taken up."""
        memory = os.memfd_create("state")
        os.write(memory, json.dumps({"form": 2, "secret": "aa"}).encode())
        self.assertEqual(upgrade.inherited_state({STATE: str(memory)}), {"form": 2, "secret": "aa"})

    def test_take_signals(self) -> None:
        """Signals that came during the execution are delivered when the program is ready."""
        got: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
        self.addCleanup(signal.signal, signal.SIGUSR1, before)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(got, [])
        upgrade.take_signals()
        self.assertEqual(got, [signal.SIGUSR1])
