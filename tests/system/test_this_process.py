"""A process's title, its signals, and its end after its parent's."""

from __future__ import annotations

import ast
import os
import signal
from unittest import mock

from tests.system.cases import ProcessCase
from txsticky.system import this_process
from txsticky.system.this_process import FOR_ALL


class TitleTests(ProcessCase):
    """How a process shows itself."""

    def show(self, title: str) -> tuple[bytes, str]:
        """The command line and the name that the kernel shows; `title` is an expression."""
        self.run_child(
            "from txsticky.system.this_process import set_title\n"
            f"set_title({title})\n"
            "print(repr(open('/proc/self/cmdline', 'rb').read().rstrip(b'\\0')))\n"
            "print(repr(open('/proc/self/comm').read()))\n"
        )
        line, name = map(ast.literal_eval, self.said)
        return line, name

    def test_title(self) -> None:
        """The title takes the place of the command line, and of the name as far as that goes."""
        self.assertEqual(
            self.show("'txsticky: worker 2'"), (b"txsticky: worker 2", "txsticky: worke\n")
        )

    def test_long_title(self) -> None:
        """A title is cut to the room that the command line had."""
        line, _ = self.show("'x' * 10_000")
        self.assertEqual(line, b"x" * len(line))
        self.assertLess(len(line), 10_000)

    def test_no_proc(self) -> None:
        """Where there is no /proc nothing happens."""
        with mock.patch("builtins.open", side_effect=FileNotFoundError):
            this_process.set_title("title")


class SignalTests(ProcessCase):
    """Signals in a worker."""

    def script(self, act: str) -> str:
        """A child that does something, says so, and waits."""
        return (
            "import os, signal, sys, time\n"
            "from txsticky.system import this_process\n"
            f"{act}\n"
            "print('ready', flush=True)\n"
            "time.sleep(60)\n"
        )

    def test_for_all(self) -> None:
        """Signals for all do nothing to a worker; TERM ends it."""
        child = self.spawn(self.script("this_process.heed()"))
        self.until(lambda: self.said)
        for number in FOR_ALL:
            child.send_signal(number)
        child.send_signal(signal.SIGTERM)
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [-signal.SIGTERM])

    def test_while_it_ends(self) -> None:
        """Signals for all do not end a process whose interpreter takes its time to end."""
        self.run_child(
            "import atexit, os, signal\n"
            "from txsticky.system.this_process import FOR_ALL, heed\n"
            "heed()\n"
            "class Last:\n"
            "    def __del__(self, kill=os.kill, pid=os.getpid(), numbers=tuple(FOR_ALL)):\n"
            "        for number in numbers: kill(pid, number)\n"
            "import builtins; builtins.last = Last()\n"
        )
        self.assertEqual(self.ends, [0])

    def test_while_it_starts(self) -> None:
        """Signals for all do not end a process without handlers yet: they are held back."""
        child = self.spawn(self.script("pass"))
        for number in FOR_ALL:
            child.send_signal(number)
        self.until(lambda: self.said)
        child.send_signal(signal.SIGTERM)
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [-signal.SIGTERM])

    def test_held_back(self) -> None:
        """This process holds no signals back once the child is there."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.run_child("pass")
        self.assertEqual(signal.pthread_sigmask(signal.SIG_BLOCK, ()), before)

    def test_grandchildren(self) -> None:
        """A program that a worker starts, by whatever means, has every signal as by default."""
        self.run_child(
            "import os, signal\n"
            "from txsticky.system.this_process import heed\n"
            "heed()\n"
            "os.system('grep -E \"Sig(Blk|Ign)\" /proc/self/status')\n"
        )
        masks = dict(line.split(":\t") for line in self.said)
        real = (1 << 31) - 1  # the C library keeps two of the others for itself
        for name in ("SigBlk", "SigIgn"):
            self.assertEqual(int(masks[name], 16) & real, 0, name)

    def test_after_parent(self) -> None:
        """A process ends some time after its parent, whatever it is busy with."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        child = self.script("this_process.end_after_parent(0.1)").replace(
            "time.sleep(60)", "\nwhile True: sum(range(1000))"
        )
        parent = (
            "import subprocess, sys, time\n"
            f"child = subprocess.Popen([sys.executable, '-c', {child!r}],"
            f" pass_fds=[{writing}], stdout=subprocess.PIPE)\n"
            "child.stdout.readline()\n"
        )
        self.run_child(parent, (writing,))
        os.close(writing)
        os.set_blocking(reading, False)
        self.until(lambda: _at_end(reading))


def _at_end(descriptor: int) -> bool:
    """Whether the last writer of a pipe has closed it."""
    try:
        return os.read(descriptor, 1) == b""
    except BlockingIOError:
        return False
