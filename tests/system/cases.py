"""Children that run a line of Python."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.shells import ShellCase
from txsticky.system.process import Process
from txsticky.system.system import System

ROOT = Path(__file__).resolve().parents[2]


EXIT_7 = "import os; os._exit(7)"


class ProcessCase(ShellCase):
    """
    Children that run a line of Python.

    :ivar said: the lines that they have said.
    :ivar ends: what they ended with.
    """

    def setUp(self) -> None:
        super().setUp()
        self.system = System(self.reactor)
        self.said: list[str] = []
        self.ends: list[int] = []
        self.children: list[Process] = []
        self.addCleanup(self.end)

    def end(self) -> None:
        """No child survives the test."""
        for child in self.children:
            child.send_signal(signal.SIGKILL)
        self.until(lambda: len(self.ends) == len(self.children))
        self.assertEqual(self.reactor.getReaders(), [])

    def spawn(self, script: str, descriptors: tuple[int, ...] = (), **environ: str) -> Process:
        """Start a child."""
        environ = {"PYTHONPATH": str(ROOT), **environ}
        child = self.system.spawn(
            ["-c", script], descriptors, environ, self.said.append, self.ends.append
        )
        self.children.append(child)
        return child

    def run_child(self, script: str, *arguments: Any, **environ: str) -> int:
        """Run a child to its end; returns what it ended with."""
        self.spawn(script, *arguments, **environ)
        self.until(lambda: len(self.ends) == len(self.children))
        return self.ends[-1]
