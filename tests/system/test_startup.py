"""The first things that the program does, in processes with streams of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txsticky.system import activation

ROOT = Path(__file__).resolve().parents[2]
SAY = """
import os, sys
from txsticky.system.startup import flush_streams, mend_streams
mend_streams()
for _ in range(2):
    print("x" * 100_000)
    print("y" * 100_000, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
flush_streams()
lowest = os.open(os.devnull, os.O_RDONLY)
sys.exit(100 + lowest)
"""


class StreamTests(SynchronousTestCase):
    """Standard streams that cannot be used."""

    def end(self, redirections: str, script: str = SAY) -> tuple[int, bytes]:
        """Run a script with such streams; its exit code and what came out."""
        command = f'exec "$0" -c "$1" {redirections}'
        done = subprocess.run(
            ["sh", "-c", command, sys.executable, script],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    def test_closed(self) -> None:
        """Whichever streams are closed, nothing fails, and no file gets their numbers."""
        for redirections in ("<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
            code, said = self.end(redirections)
            self.assertEqual((code, b"Error" in said), (103, False), redirections)

    def test_full(self) -> None:
        """Nothing fails where nothing can be written, nor at the end of the process."""
        for redirections in (">/dev/full", "2>/dev/full", ">/dev/full 2>&1", ">&- 2>/dev/full"):
            code, said = self.end(redirections)
            self.assertEqual((code, b"Error" in said), (103, False), redirections)

    def test_no_reader(self) -> None:
        """Nothing fails where the reader of the streams has gone."""
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [sys.executable, "-c", SAY],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=writing,
                stderr=writing,
                timeout=60,
            )
        finally:
            os.close(writing)
        self.assertEqual(done.returncode, 103)

    def test_usable(self) -> None:
        """What can be written is written, once, and in order."""
        code, said = self.end("2>&1", SAY.replace("100_000", "3"))
        self.assertEqual((code, sorted(said.split())), (103, [b"xxx", b"xxx", b"yyy", b"yyy"]))

    def test_twice(self) -> None:
        """To mend them twice changes nothing."""
        script = SAY.replace("mend_streams()\nfor", "mend_streams()\nmend_streams()\nfor")
        self.assertEqual(self.end(">/dev/full", script)[0], 103)

    def test_any_text(self) -> None:
        """A character that the stream's encoding lacks is no reason to fail."""
        script = SAY.replace("100_000", "3").replace("'x'", "'\\u2603'").replace('"x"', '"\\u2603"')
        code, said = self.end(
            "2>&1", "import sys\nsys.stdout.reconfigure(encoding='ascii')" + script
        )
        self.assertEqual(code, 103)
        self.assertIn(rb"\u2603", said)

    def test_flush_anything(self) -> None:
        """Streams that are none, or are closed, are no reason to fail when they are flushed."""
        script = (
            "import sys\nfrom txsticky.system.startup import flush_streams\n"
            "sys.stdout = None\nsys.stderr.close()\nflush_streams()\nsys.exit(7)\n"
        )
        self.assertEqual(self.end("", script)[0], 7)

    def test_last_words(self) -> None:
        """Why the program ends is its last line, behind what it has printed so far."""
        script = (
            "import sys\nfrom txsticky.system.startup import tell_operator\n"
            "print('so far')\ntell_operator('Too bad.')\nsys.exit(7)\n"
        )
        self.assertEqual(self.end("2>&1", script), (7, b"so far\ntxsticky: Too bad.\n"))

    def test_last_words_anywhere(self) -> None:
        """A standard error that cannot be used is no reason to end otherwise."""
        script = (
            "import sys\nfrom txsticky.system.startup import tell_operator\n"
            "{break_it}\ntell_operator('Too bad.')\nsys.stdout = sys.stderr = None\nsys.exit(7)\n"
        )
        for break_it in ("sys.stderr = None", "sys.stderr.close()"):
            self.assertEqual(self.end("", script.format(break_it=break_it))[0], 7)


class PathTests(SynchronousTestCase):
    """The working directory."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def run_program(self, *command: str, path: str = "") -> str:
        """Run the program in a folder where modules of others lie; what it says."""
        bare = subprocess.run(
            [sys.executable, "-c", "import sys; print(*sys.modules)"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        # What the interpreter imports by itself is not for this program to decide.
        names = {"typing", "enum", "attrs", "tempfile", "twisted", "signal", "socket", "zope"}
        for name in names - set(bare.stdout.split()):
            (self.folder / f"{name}.py").write_text("print('taken from the working directory')\n")
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr

    def test_module(self) -> None:
        """`python -m txsticky` imports nothing from the working directory."""
        said = self.run_program("-m", "txsticky", "--version")
        self.assertNotIn("taken from", said)
        self.assertIn("txsticky 0.", said)

    def test_pythonpath(self) -> None:
        """Nothing is imported from the working directory where PYTHONPATH names it."""
        said = self.run_program("-P", "-m", "txsticky", "--version", path=f".:{self.folder}")
        self.assertNotIn("taken from", said)
        self.assertIn("txsticky 0.", said)


class ActivationTests(SynchronousTestCase):
    """Sockets that a service manager has opened."""

    def take(self, **environ: str) -> tuple[list[int], str | None]:
        """The descriptors that are taken, and the names that they have then."""
        environ = {f"LISTEN_{name}": value for name, value in environ.items()}
        made: list[int] = []
        self.patch(os, "set_inheritable", lambda number, flag: made.append((number, flag)))
        taken = activation.take_sockets(environ, 7)
        self.assertEqual(made, [(number, False) for number in taken])
        return taken, environ.get("LISTEN_FDNAMES")

    def test_named(self) -> None:
        """Names that were given stay."""
        self.assertEqual(self.take(PID="7", FDS="2", FDNAMES="a:b"), ([3, 4], "a:b"))

    def test_unnamed(self) -> None:
        """Without names, or with a wrong number of them, each has the name that the manual has."""
        for names in ({}, {"FDNAMES": ""}, {"FDNAMES": "a"}, {"FDNAMES": "a:b:c"}):
            self.assertEqual(self.take(PID="7", FDS="2", **names), ([3, 4], "unknown:unknown"))

    def test_for_others(self) -> None:
        """What is meant for another process, or is no number, is left alone."""
        for environ in ({}, {"FDS": "1"}, {"PID": "8", "FDS": "1"}, {"PID": "7", "FDS": "many"}):
            self.assertEqual(self.take(**environ), ([], None))

    def test_not_there(self) -> None:
        """A descriptor that is not there is no error."""
        environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1"}
        self.patch(activation, "START", 9999)
        self.assertEqual(activation.take_sockets(environ, 7), [9999])


class WorkingFolderTests(SynchronousTestCase):
    """What is imported from the working directory."""

    def path_in(self, folder: str | Path) -> str:
        """The beginning of the path of a program that was started in a folder."""
        script = (
            "import sys\n"
            f"sys.path.append({str(ROOT)!r})\n"
            "from txsticky.system.startup import leave_working_folder\n"
            "leave_working_folder()\n"
            "print(repr(sys.path[0]))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    def test_elsewhere(self) -> None:
        """The working directory leaves the path."""
        self.assertNotIn(self.path_in("/"), ("", "''"))

    def test_checkout(self) -> None:
        """A working directory that this package is in stays in the path."""
        self.assertEqual(self.path_in(ROOT), "''")
