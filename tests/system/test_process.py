"""A child process: how it ends, what it says, and orphans that become children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from unittest import mock

from tests.shells import open_descriptors
from tests.system.cases import EXIT_7, ProcessCase
from txsticky.system import process
from txsticky.system.process import LINE_LIMIT, REAP_EVERY, Reaper


class EndTests(ProcessCase):
    """How a child ends."""

    def test_exit_code(self) -> None:
        """The exit code of a child is told."""
        self.assertEqual(self.run_child(EXIT_7), 7)

    def test_signal(self) -> None:
        """The signal that ended a child is told as a negative number."""
        child = self.spawn("import time; print('here', flush=True); time.sleep(60)")
        self.until(lambda: self.said)
        child.send_signal(signal.SIGTERM)
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [-signal.SIGTERM])

    def test_once(self) -> None:
        """The end of a child is told once; nothing is watched or open then, and no zombie left."""
        before = open_descriptors()
        self.run_child(EXIT_7)
        self.reactor.settle()
        self.assertEqual((self.ends, self.reactor.getReaders()), ([7], []))
        self.assertEqual(open_descriptors(), before)
        self.assertRaises(ChildProcessError, os.waitpid, self.children[0].pid, os.WNOHANG)

    def test_signal_afterwards(self) -> None:
        """A signal to a child that has ended reaches no process, whichever has its number now."""
        self.run_child(EXIT_7)
        with mock.patch("os.kill") as kill:
            self.children[0].send_signal(signal.SIGKILL)
        self.assertEqual(kill.call_count, 0)

    def test_signal_too_late(self) -> None:
        """A signal to a child that was reaped elsewhere reaches no process."""
        child = self.spawn(EXIT_7)
        os.waitpid(child.pid, 0)
        child.send_signal(signal.SIGKILL)
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [0])

    def test_last_words(self) -> None:
        """All that a child said is told before its end, a last half line included."""
        self.spawn("import sys; print('x\\n' * 20000, end='last words'); sys.exit(5)")
        at_end: list[int] = []
        self.children[0]._exited = lambda status: (
            at_end.append(len(self.said)),
            self.ends.append(status),
        )
        self.until(lambda: self.ends)
        self.assertEqual((at_end, self.said[-1], self.ends), ([20001], "last words", [5]))

    def test_children_of_its_own(self) -> None:
        """A child has ended though a child of its own talks on, which is not waited for."""
        self.spawn(
            "import subprocess, sys\n"
            "talk = 'while True: print(\"x\" * 1000)'\n"
            "subprocess.Popen([sys.executable, '-c', talk], stderr=subprocess.DEVNULL)\n"
        )
        self.until(lambda: self.ends)
        self.assertEqual(self.ends, [0])

    def test_polled(self) -> None:
        """Where there is no pidfd a child is polled."""
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
        """A child that is not watched is reaped; one that is watched is left alone."""
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
        """Without any child the reaper goes on looking."""
        self.patch(os, "waitid", mock.Mock(side_effect=ChildProcessError))
        reaper = Reaper(self.reactor)
        reaper.start()
        self.reactor.advance(REAP_EVERY)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        reaper.stop()
        reaper.stop()


class AdoptionTests(ProcessCase):
    """A process that becomes the child of its grandparent."""

    def fork(self, then: str) -> list[str]:
        """A child has a child that forks such a process, which does `then`; what is said."""
        self.run_child(
            "import os, signal, sys\n"
            "from txsticky.system.process import adopting, is_child\n"
            "from txsticky.system.this_process import fork_orphan\n"
            "reading, writing = os.pipe()\n"
            "here = os.getpid()\n"
            "with adopting():\n"
            "    if not os.fork():\n"
            "        pid = fork_orphan()\n"
            "        if not pid:\n"
            f"            {then}\n"
            "            os._exit(7)\n"
            "        os.write(writing, str(pid).encode())\n"
            "        os._exit(0)\n"
            "    pid = int(os.read(reading, 20))\n"
            "    print('child', is_child(pid), is_child(here))\n"
            "    print('ended', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        )
        return self.said

    def test_child(self) -> None:
        """An adopted process is a child with an exit status as any other."""
        self.assertEqual(self.fork("pass")[:2], ["child True False", "ended 7"])

    def test_parent_is_known(self) -> None:
        """As soon as an adopted process runs, its parent is the one that it stays with."""
        said = self.fork("os._exit(9 if os.getppid() == here else 1)")
        self.assertEqual(said[1], "ended 9")

    def test_refused(self) -> None:
        """If there can be no more processes, the error says so."""
        self.run_child(
            "import os\n"
            "from unittest import mock\n"
            "from txsticky.system.this_process import fork_orphan\n"
            "forks = iter([os.fork, mock.Mock(side_effect=OSError(11, 'too many'))])\n"
            "os.fork = lambda fork=os.fork: next(forks)()\n"
            "try:\n"
            "    fork_orphan()\n"
            "except OSError as error:\n"
            "    print(error.errno)\n"
        )
        self.assertEqual(self.said, ["11"])

    def test_unknown(self) -> None:
        """A system that cannot have orphans adopted adopts none."""
        self.patch(process.ctypes, "CDLL", mock.Mock(side_effect=AttributeError))
        self.assertFalse(process.can_adopt())

    def test_strays(self) -> None:
        """A child that ended unwatched is reaped by its name, and no other."""
        script = (
            "import os, signal, time\n"
            "from txsticky.system.process import reap_strays\n"
            "from txsticky.system.this_process import set_title\n"
            "pids = []\n"
            "for name in ('stray', 'other'):\n"
            "    pids.append(os.fork())\n"
            "    if not pids[-1]:\n"
            "        set_title(name)\n"
            "        os._exit(0)\n"
            "for pid in pids:\n"
            "    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n"
            "reap_strays('stray')\n"
            "print([os.path.exists(f'/proc/{pid}') for pid in pids])\n"
        )
        self.run_child(script)
        self.assertEqual(self.said, ["[False, True]"])

    def test_stopped(self) -> None:
        """A process that is stopped is told from one that runs."""
        child = self.spawn("import time; print('here', flush=True); time.sleep(60)")
        self.until(lambda: self.said)
        self.assertFalse(process.is_stopped(child.pid))
        child.send_signal(signal.SIGSTOP)
        self.until(lambda: process.is_stopped(child.pid))
        self.assertFalse(process.is_stopped(1 << 29))
