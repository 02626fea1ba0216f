"""Real child processes: what they inherit, say, and end with; titles, accounts, signals."""

from __future__ import annotations

import ast
import grp
import os
import pwd
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.shells import ShellCase, open_descriptors
from txsticky.errors import ConfigError
from txsticky.system import descriptors, process, this_process
from txsticky.system.privileges import account, executed_as, identity_of
from txsticky.system.process import LINE_LIMIT, REAP_EVERY, Process, Reaper
from txsticky.system.system import System, working_folder
from txsticky.system.this_process import FOR_ALL
from txsticky.system.trust import Identity

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


class SpawnTests(ProcessCase):
    """What a child gets."""

    def test_interpreter(self) -> None:
        """It is this interpreter."""
        self.assertEqual(self.run_child("import sys; print(sys.executable)"), 0)
        self.assertEqual(self.said, [sys.executable])

    def test_descriptors(self) -> None:
        """It inherits the descriptors that are named, under their numbers, and no others."""
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
        """Its environment is this process's, and what is added."""
        self.patch(os, "environ", {**os.environ, "TXSTICKY_A": "a"})
        self.run_child(
            "import os; print(os.environ['TXSTICKY_A'], os.environ['TXSTICKY_B'])", TXSTICKY_B="b"
        )
        self.assertEqual(self.said, ["a b"])

    def test_service_manager(self) -> None:
        """What the service manager says to this process alone, it does not get."""
        self.patch(os, "environ", {**os.environ, "NOTIFY_SOCKET": "/x", "LISTEN_FDS": "1"})
        self.run_child("import os; print({'NOTIFY_SOCKET', 'LISTEN_FDS'} & set(os.environ))")
        self.assertEqual(self.said, ["set()"])

    def test_input(self) -> None:
        """It has nothing to read."""
        self.run_child("import sys; print(repr(sys.stdin.read()))")
        self.assertEqual(self.said, ["''"])

    def started_in(self) -> str:
        """Where a child is started."""
        self.run_child("import os; print(os.getcwd())")
        return self.said[-1]

    def test_folder(self) -> None:
        """It is started where the name of the working directory leads at that moment."""
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
        """If it cannot be started, nothing stays open."""
        before = open_descriptors()
        self.patch(subprocess, "Popen", mock.Mock(side_effect=OSError("no more processes")))
        self.assertRaises(OSError, self.system.spawn, [], (), {}, print, print)
        self.assertEqual(open_descriptors(), before)

    def test_random(self) -> None:
        """Random bytes are as many as asked for, and others each time."""
        self.assertEqual(len(self.system.random_bytes(16)), 16)
        self.assertNotEqual(self.system.random_bytes(16), self.system.random_bytes(16))


class EndTests(ProcessCase):
    """How a child ends."""

    def test_exit_code(self) -> None:
        """Its exit code is told."""
        self.assertEqual(self.run_child(EXIT_7), 7)

    def test_signal(self) -> None:
        """The signal that ended it is told as a negative number."""
        child = self.spawn("import time; print('here', flush=True); time.sleep(60)")
        self.until(lambda: self.said)
        child.send_signal(signal.SIGTERM)
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [-signal.SIGTERM])

    def test_once(self) -> None:
        """It is told once, nothing is watched or open then, and no zombie is left."""
        before = open_descriptors()
        self.run_child(EXIT_7)
        self.reactor.settle()
        self.assertEqual((self.ends, self.reactor.getReaders()), ([7], []))
        self.assertEqual(open_descriptors(), before)
        self.assertRaises(ChildProcessError, os.waitpid, self.children[0].pid, os.WNOHANG)

    def test_signal_afterwards(self) -> None:
        """A signal to one that has ended reaches nobody, whoever has its number by now."""
        self.run_child(EXIT_7)
        with mock.patch("os.kill") as kill:
            self.children[0].send_signal(signal.SIGKILL)
        self.assertEqual(kill.call_count, 0)

    def test_signal_too_late(self) -> None:
        """Nor does one to a child that somebody else has reaped."""
        child = self.spawn(EXIT_7)
        os.waitpid(child.pid, 0)
        child.send_signal(signal.SIGKILL)
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [0])

    def test_last_words(self) -> None:
        """All that it said before it ended is told before the end, a last half line included."""
        self.spawn("import sys; print('x\\n' * 20000, end='last words'); sys.exit(5)")
        at_end: list[int] = []
        self.children[0]._exited = lambda status: (
            at_end.append(len(self.said)),
            self.ends.append(status),
        )
        self.until(lambda: self.ends)
        self.assertEqual((at_end, self.said[-1], self.ends), ([20001], "last words", [5]))

    def test_children_of_its_own(self) -> None:
        """It has ended although a child of its own goes on talking, and that is not waited for."""
        self.spawn(
            "import subprocess, sys\n"
            "talk = 'while True: print(\"x\" * 1000)'\n"
            "subprocess.Popen([sys.executable, '-c', talk], stderr=subprocess.DEVNULL)\n"
        )
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [0])

    def test_polled(self) -> None:
        """Where there is no pidfd it is polled."""
        self.patch(process, "_open_pidfd", lambda pid: -1)
        self.spawn(EXIT_7)

        def look() -> bool:
            self.reactor.advance(process._POLL)
            return bool(self.ends)

        self.until(look)
        self.assertEqual((self.ends, self.reactor.getDelayedCalls()), ([7], []))

    def test_no_pidfd(self) -> None:
        """A system that knows no pidfd is no error."""
        self.patch(os, "pidfd_open", mock.Mock(side_effect=OSError("not implemented")))
        self.assertEqual(process._open_pidfd(1), -1)

    def test_reactor_stops(self) -> None:
        """When the reactor stops, the child is watched no more, and nothing stays open."""
        before = open_descriptors()
        child = self.spawn(EXIT_7)
        for watched in self.reactor.removeAll():
            watched.connectionLost(None)
        self.assertEqual(open_descriptors(), before)
        os.waitpid(child.pid, 0)
        self.ends.append(7)


class OutputTests(ProcessCase):
    """What a child says."""

    def say(self, *pieces: bytes) -> list[str]:
        """What is told of an output that comes in these pieces."""
        reading, writing = os.pipe()
        lines = process._Lines(self.reactor, reading, self.said.append)
        for piece in pieces:
            os.write(writing, piece)
            self.reactor.settle()
        os.close(writing)
        self.reactor.settle()
        self.assertEqual(lines.fileno(), -1)
        return self.said

    def test_both_streams(self) -> None:
        """Standard output and standard error are one."""
        self.run_child("import os; os.write(1, b'one\\n'); os.write(2, b'two\\n')")
        self.assertEqual(self.said, ["one", "two"])

    def test_pieces(self) -> None:
        """A line that comes in pieces is told when it is whole; empty lines are not told."""
        self.assertEqual(self.say(b"on", b"e\n\n \ntw", b"o\nthree"), ["one", "two", "three"])

    def test_letters_in_pieces(self) -> None:
        """Letters of several bytes may be cut anywhere; what is no UTF-8 is replaced."""
        self.assertEqual(self.say(b"gr\xc3", b"\xbc\xc3\x9fe\n", b"\xff!\n"), ["grüße", "�!"])

    def test_endless_line(self) -> None:
        """A line without end is told in pieces."""
        self.say(*[b"x" * 10_000] * 4)
        self.assertEqual("".join(self.said), "x" * 40_000)
        self.assertLess(max(map(len, self.said)), LINE_LIMIT + 65536)
        self.assertGreater(len(self.said), 1)


class ReaperTests(ProcessCase):
    """Orphans."""

    def test_orphan(self) -> None:
        """A child that nobody watches is reaped; one that is watched is left alone."""
        with mock.patch.object(process, "Process") as watched:
            watched.living = set()
            orphan = subprocess.Popen([sys.executable, "-c", EXIT_7])
            orphan.returncode = 0  # as if it were not ours
            os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOWAIT)
            reaper = Reaper(self.reactor)
            reaper.start()
            watched.living = {orphan.pid}
            self.reactor.advance(REAP_EVERY)
            os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOWAIT)  # is there still
            watched.living = set()
            self.reactor.advance(REAP_EVERY)
        self.assertRaises(ChildProcessError, os.waitpid, orphan.pid, os.WNOHANG)
        reaper.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nobody(self) -> None:
        """Without any child it goes on looking."""
        self.patch(os, "waitid", mock.Mock(side_effect=ChildProcessError))
        reaper = Reaper(self.reactor)
        reaper.start()
        self.reactor.advance(REAP_EVERY)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        reaper.stop()
        reaper.stop()


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


class AccountTests(SynchronousTestCase):
    """Users and groups."""

    def test_own(self) -> None:
        """With nothing said it is the user that this process runs as, and that one's group."""
        entry = pwd.getpwuid(os.geteuid())
        self.assertEqual(account(None, None), (entry.pw_uid, entry.pw_gid, entry.pw_name))

    def test_names_and_numbers(self) -> None:
        """Users and groups may be named or numbered."""
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(os.getegid())
        expected = (user.pw_uid, group.gr_gid, user.pw_name)
        self.assertEqual(account(user.pw_name, group.gr_name), expected)
        self.assertEqual(account(str(user.pw_uid), str(group.gr_gid)), expected)

    def test_unknown(self) -> None:
        """Unknown ones are refused, each under its option."""
        for arguments, option in (
            (("nobody-knows", None), "--user"),
            (("4294967294999", None), "--user"),
            ((None, "nobody-knows"), "--group"),
            ((None, "4294967294999"), "--group"),
        ):
            error = self.assertRaises(ConfigError, account, *arguments)
            self.assertIn(option, str(error))

    def test_only_root(self) -> None:
        """Who is not root can become nobody else."""
        self.patch(os, "geteuid", lambda: 12345)
        error = self.assertRaises(ConfigError, account, "root", None)
        self.assertIn("only root", str(error))

    def test_identity(self) -> None:
        """Workers are another user if one is named, with all of its groups; and root says so."""
        self.patch(os, "geteuid", lambda: 0)
        entry = pwd.getpwnam("nobody")
        self.patch(os, "getgrouplist", lambda name, gid: [gid, 7] if name == "nobody" else [])
        self.assertEqual(
            identity_of("nobody", None), Identity(entry.pw_uid, entry.pw_gid, (entry.pw_gid, 7))
        )
        self.assertIsNone(identity_of(None, None))

    def test_own_identity(self) -> None:
        """Who is not root, and names himself, stays who he is."""
        entry = pwd.getpwnam("nobody")
        self.patch(os, "geteuid", lambda: entry.pw_uid)
        self.patch(os, "getegid", lambda: entry.pw_gid)
        self.assertIsNone(identity_of("nobody", None))

    def test_executed_as(self) -> None:
        """A child is that user before it executes anything; without one it is this process's."""
        self.assertEqual(
            executed_as(Identity(7, 8, (8, 9))),
            {"user": 7, "group": 8, "extra_groups": (8, 9)},
        )
        self.assertEqual(executed_as(None), {})


class LimitTests(SynchronousTestCase):
    """The limit of open files."""

    def raised(self, soft: int, hard: int, refuse: bool = False) -> list[tuple[int, int]]:
        """What is asked for when these are the limits."""
        asked: list[tuple[int, int]] = []

        def set_limit(which: int, limits: tuple[int, int]) -> None:
            if refuse:
                raise ValueError("not permitted")
            asked.append(limits)

        self.patch(resource, "getrlimit", lambda which: (soft, hard))
        self.patch(resource, "setrlimit", set_limit)
        descriptors.raise_file_limit()
        return asked

    def test_to_the_hard_limit(self) -> None:
        """The soft limit becomes the hard one."""
        self.assertEqual(self.raised(1024, 4096), [(4096, 4096)])

    def test_unlimited(self) -> None:
        """Where there is no hard limit it becomes a million."""
        infinite = resource.RLIM_INFINITY
        self.assertEqual(self.raised(1024, infinite), [(1 << 20, infinite)])

    def test_enough(self) -> None:
        """If it is that already, nothing is asked for."""
        self.assertEqual(self.raised(4096, 4096), [])

    def test_refused(self) -> None:
        """If the system refuses, things stay as they are."""
        self.assertEqual(self.raised(1024, 4096, refuse=True), [])


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
        """Nothing happens at signals that are sent to all processes; TERM ends it."""
        child = self.spawn(self.script("this_process.heed()"))
        self.until(lambda: self.said)
        for number in FOR_ALL:
            child.send_signal(number)
        child.send_signal(signal.SIGTERM)
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [-signal.SIGTERM])

    def test_while_it_starts(self) -> None:
        """A process that has no handlers yet is not ended by them: they are held back."""
        child = self.spawn(self.script("pass"))
        for number in FOR_ALL:
            child.send_signal(number)
        self.until(lambda: self.said)
        child.send_signal(signal.SIGTERM)
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [-signal.SIGTERM])

    def test_held_back(self) -> None:
        """This process holds none of them back once the child is there."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.run_child("pass")
        self.assertEqual(signal.pthread_sigmask(signal.SIG_BLOCK, ()), before)

    def test_grandchildren(self) -> None:
        """A program that it starts, by whatever means, has every signal as it is by default."""
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
