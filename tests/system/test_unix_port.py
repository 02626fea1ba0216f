"""Listening UNIX sockets: opened again after any end, and never by two."""

from __future__ import annotations

import fcntl
import gc
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

from tests.shells import ReactorCase, open_descriptors
from txsticky.system import unix_port as unixport
from txsticky.system.endpoints import open_port
from txsticky.system.unix_port import UNIXPort

#: Opens a socket when it is told to, says how that went, and waits to be killed.
OPENER = """
import sys
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from txsticky.system.unix_port import UNIXPort, listen
factory = Factory()
factory.noisy = False
print("begun", flush=True)
sys.stdin.readline()
try:
    listen(UNIXPort(sys.argv[1], factory, 50, 0o600, reactor))
except CannotListenError as error:
    print("refused:", error.socketError, flush=True)
else:
    print("listens", flush=True)
sys.stdin.read()
"""


class PortCase(ReactorCase):
    """A folder with a socket in it."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="txsticky-"))
        self.path = os.path.join(self.folder, "s")

    def listen(self, path: str | None = None, mode: int = 0o666) -> UNIXPort:
        """Listen, until the test is over."""
        factory = Factory()
        factory.noisy = False
        port = UNIXPort(path or self.path, factory, 50, mode, self.reactor)
        unixport.listen(port)
        self.addCleanup(self.close, port)
        return port

    def close(self, port: UNIXPort) -> None:
        """Listen no more."""
        closed = port.stopListening()
        self.until(lambda: closed is None or closed.called)

    def refused(self, path: str | None = None) -> str:
        """Listen in vain; returns why."""
        error = self.assertRaises(CannotListenError, self.listen, path)
        return str(error.socketError)

    def stale(self) -> None:
        """Leave the socket of a process that was killed."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(self.path)
            sock.listen(1)


class ListenTests(PortCase):
    """Opening a socket."""

    def test_nothing_beside_it(self) -> None:
        """While a socket listens there is no file beside its own; then not even that."""
        port = self.listen()
        self.assertEqual(os.listdir(self.folder), ["s"])
        self.close(port)
        self.assertEqual(os.listdir(self.folder), [])

    def test_mode(self) -> None:
        """The file of a socket has its mode from the beginning; the umask stays as it was."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        for mode in (0o600, 0o660, 0o666):
            port = self.listen(mode=mode)
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), mode)
            self.close(port)
        self.assertEqual(os.umask(0o077), 0o077)

    def test_after_a_kill(self) -> None:
        """A socket at which nothing answers is replaced, whatever lies beside it."""
        self.stale()
        os.symlink(str(os.getpid()), self.path + ".lock")
        Path(self.path + ".opening").touch()
        self.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)

    def test_in_use(self) -> None:
        """A socket at which something answers is left alone."""
        self.listen()
        self.assertIn("another process answers there", self.refused())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)

    def test_busy(self) -> None:
        """A socket whose queue is full is left alone."""
        with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as client:
            sock.bind(self.path)
            sock.listen(0)
            client.connect(self.path)
            self.assertIn("another process answers there", self.refused())

    def test_no_socket(self) -> None:
        """A file that is no socket is left alone, and so is what a link leads to."""
        precious = Path(self.folder, "precious")
        precious.write_text("precious")
        os.symlink(precious, self.path)
        for path in (str(precious), self.path):
            self.assertIn("no socket", self.refused(path))
        self.assertEqual(precious.read_text(), "precious")

    def test_abstract(self) -> None:
        """An abstract name has no file; it is refused while another socket has it."""
        name = f"\0txsticky-test-{os.getpid()}"
        port = self.listen(name)
        self.assertIn("in use", self.refused(name))
        gc.collect()  # Twisted leaves the socket in the traceback
        self.close(port)
        self.close(self.listen(name))

    def test_replaced(self) -> None:
        """A socket that ends does not remove the file of another one that took its place."""
        first = self.listen()
        os.unlink(self.path)
        self.listen()
        self.close(first)
        self.assertTrue(os.path.exists(self.path))

    def test_endpoint(self) -> None:
        """An endpoint string opens its socket in this way, with its mode."""
        self.stale()
        factory = Factory()
        factory.noisy = False
        endpoint = f"unix:{self.path}:mode=640"
        port = open_port(self.reactor, endpoint, factory, endpoint)
        self.addCleanup(self.close, port)
        self.assertIsInstance(port, UNIXPort)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)


class LockTests(PortCase):
    """Two processes that open a socket at once."""

    def test_held(self) -> None:
        """A lock that another process holds is waited for, but not for ever, and then named."""
        self.patch(unixport, "PATIENCE", 0.1)
        with open(self.path + ".opening", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = open_descriptors()
            self.assertIn(self.path + ".opening", self.refused())
            self.assertEqual(open_descriptors(), before)

    def test_released(self) -> None:
        """A lock that is released is taken."""
        with open(self.path + ".opening", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            threading.Timer(0.1, fcntl.flock, (file, fcntl.LOCK_UN)).start()
            self.listen()
        self.assertEqual(os.listdir(self.folder), ["s"])

    def test_folder_locked(self) -> None:
        """A lock on the folder, which others may open, holds nothing up."""
        folder = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_EX)
        self.listen()

    def test_private(self) -> None:
        """Only this user may open the lock's file."""
        with unixport._locked(self.path):
            mode = os.stat(self.path + ".opening").st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600)

    def test_no_link(self) -> None:
        """A link in place of the lock's file is not followed."""
        precious = Path(self.folder, "precious")
        os.symlink(precious, self.path + ".opening")
        self.refused()
        self.assertFalse(precious.exists())

    def test_one_of_many(self) -> None:
        """Of several that start at once where one was killed, exactly one listens."""
        self.stale()
        root = str(Path(__file__).resolve().parents[2])
        starting = [
            subprocess.Popen(
                [sys.executable, "-c", OPENER, self.path],
                env={**os.environ, "PYTHONPATH": root},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        try:
            for process in starting:
                assert process.stdout is not None
                self.assertEqual(process.stdout.readline(), "begun\n")
            for process in starting:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            said = [p.stdout.readline().strip() for p in starting if p.stdout is not None]
        finally:
            for process in starting:
                process.kill()
                process.communicate()
        self.assertEqual(said.count("listens"), 1, said)
        self.assertEqual(sum("another process answers" in line for line in said), 3, said)
