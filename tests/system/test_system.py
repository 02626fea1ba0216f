"""System: what a process that it starts gets."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from unittest import mock

from tests.shells import open_descriptors
from tests.system.cases import ProcessCase
from txsticky.system.system import System, working_folder


class SpawnTests(ProcessCase):
    """What a child gets."""

    def test_interpreter(self) -> None:
        """A child runs this interpreter."""
        self.assertEqual(self.run_child("import sys; print(sys.executable)"), 0)
        self.assertEqual(self.said, [sys.executable])

    def test_descriptors(self) -> None:
        """A child inherits the descriptors that are named, under their numbers, and no others."""
        reading, writing = self.pair()
        self.run_child(
            "import os; print(sorted(set(map(int, os.listdir('/proc/self/fd')))))",
            (writing.fileno(),),
        )
        inherited = set(ast.literal_eval(self.said[0]))
        self.assertIn(writing.fileno(), inherited)
        self.assertLess(len(inherited - {0, 1, 2, writing.fileno()}), 2)  # that of listdir
        self.assertNotIn(reading.fileno(), inherited)

    def test_environment(self) -> None:
        """The environment of a child is this process's, and what is added."""
        self.patch(os, "environ", {**os.environ, "TXSTICKY_A": "a"})
        self.run_child(
            "import os; print(os.environ['TXSTICKY_A'], os.environ['TXSTICKY_B'])", TXSTICKY_B="b"
        )
        self.assertEqual(self.said, ["a b"])

    def test_service_manager(self) -> None:
        """A child does not get what the service manager says to this process alone."""
        self.patch(os, "environ", {**os.environ, "NOTIFY_SOCKET": "/x", "LISTEN_FDS": "1"})
        self.run_child("import os; print({'NOTIFY_SOCKET', 'LISTEN_FDS'} & set(os.environ))")
        self.assertEqual(self.said, ["set()"])

    def test_input(self) -> None:
        """A child has nothing to read."""
        self.run_child("import sys; print(repr(sys.stdin.read()))")
        self.assertEqual(self.said, ["''"])

    def started_in(self) -> str:
        """Where a child is started."""
        self.run_child("import os; print(os.getcwd())")
        return self.said[-1]

    def test_folder(self) -> None:
        """A child is started where the name of the working directory leads at that moment."""
        top = os.path.realpath(self.mktemp())
        link, old, new = (os.path.join(top, name) for name in ("link", "old", "new"))
        os.makedirs(old)
        os.mkdir(new)
        os.symlink(old, link)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(link)
        self.system = System(self.reactor, folder=working_folder({"PWD": link}))
        self.assertEqual(self.started_in(), old)
        os.unlink(link)
        self.assertEqual(self.started_in(), old)
        os.symlink(new, link)
        self.assertEqual(self.started_in(), new)

    def test_no_folder(self) -> None:
        """A name that leads elsewhere from the beginning is none."""
        for name in ("", ".", "/", "/nowhere"):
            self.assertIsNone(working_folder({"PWD": name}))

    def test_refused(self) -> None:
        """A process that cannot be started leaves nothing open."""
        before = open_descriptors()
        self.patch(subprocess, "Popen", mock.Mock(side_effect=OSError("no more processes")))
        self.assertRaises(OSError, self.system.spawn, [], (), {}, print, print)
        self.assertEqual(open_descriptors(), before)

    def test_random(self) -> None:
        """Random bytes are as many as asked for, and others each time."""
        self.assertEqual(len(self.system.random_bytes(16)), 16)
        self.assertNotEqual(self.system.random_bytes(16), self.system.random_bytes(16))
