"""Signals of the command-line program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import txsticky
from txsticky.system.signals import SignalTable

#: Signals that nothing else in a test run listens to.
NAMES = ("SIGUSR1", "SIGUSR2", "SIGHUP")

PROGRAM = """
import os, signal, sys
from twisted.internet import reactor
from txsticky.system.signals import SignalTable

before = signal.getsignal(signal.SIGHUP)

def send(name):
    os.kill(os.getpid(), getattr(signal, name))

def got_term():
    print("term", flush=True)
    send("SIGINT")

def got_int():
    print("int", flush=True)
    reactor.stop()

table = SignalTable(reactor, {"SIGTERM": got_term, "SIGINT": got_int, "SIGHUP": got_int})
reactor.callWhenRunning(table.install)
reactor.callLater(0.01, send, "SIGTERM")
reactor.run()
print("restored", signal.getsignal(signal.SIGHUP) is before, flush=True)
"""


class FakeReactor:
    """Keeps what it should call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.triggers: list[tuple[str, str, Callable[[], None]]] = []

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.calls.append((function, arguments))

    def addSystemEventTrigger(self, phase: str, event: str, function: Callable[[], None]) -> None:
        self.triggers.append((phase, event, function))


class SignalTests(SynchronousTestCase):
    """Signals with a fake reactor."""

    def setUp(self) -> None:
        before = {name: signal.getsignal(getattr(signal, name)) for name in NAMES}
        self.before = before
        self.addCleanup(
            lambda: [signal.signal(getattr(signal, name), before[name]) for name in NAMES]
        )
        self.reactor = FakeReactor()
        self.happened: list[str] = []
        self.table = SignalTable(
            self.reactor, {name: lambda name=name: self.happened.append(name) for name in NAMES}
        )

    def turn(self) -> None:
        """Let the reactor do what it was asked to."""
        calls, self.reactor.calls = self.reactor.calls, []
        for function, arguments in calls:
            function(*arguments)

    def test_by_name(self) -> None:
        """Each signal calls its own function."""
        self.table.install()
        for name in NAMES:
            signal.raise_signal(getattr(signal, name))
        self.turn()
        self.assertEqual(self.happened, list(NAMES))

    def test_not_at_once(self) -> None:
        """Nothing happens inside the signal handler: the reactor is asked."""
        self.table.install()
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(self.happened, [])
        self.turn()
        self.assertEqual(self.happened, ["SIGUSR1"])

    def test_twice(self) -> None:
        """A signal that comes twice is acted upon twice."""
        self.table.install()
        for _ in range(2):
            signal.raise_signal(signal.SIGUSR1)
        self.turn()
        self.assertEqual(self.happened, ["SIGUSR1", "SIGUSR1"])

    def test_not_before_install(self) -> None:
        """Making the table touches no signal."""
        now = {name: signal.getsignal(getattr(signal, name)) for name in NAMES}
        self.assertEqual(now, self.before)

    def test_restore(self) -> None:
        """After the shutdown of the reactor the former handlers are back."""
        self.table.install()
        [(phase, event, restore)] = self.reactor.triggers
        self.assertEqual((phase, event), ("after", "shutdown"))
        restore()
        now = {name: signal.getsignal(getattr(signal, name)) for name in NAMES}
        self.assertEqual(now, self.before)

    def test_unknown_name(self) -> None:
        """A name that is no signal is found when the table is made."""
        self.assertRaises(KeyError, SignalTable, self.reactor, {"SIGNAL": print})


class ProcessTests(SynchronousTestCase):
    """A program with the real reactor."""

    def test_over_the_reactors_own(self) -> None:
        """TERM and INT do what the table says although the reactor has handlers of its own."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=Path(txsticky.__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.stdout.splitlines(), ["term", "int", "restored True"], done.stderr)
