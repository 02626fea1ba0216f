"""The control socket: its file, who may open it, and what travels over it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from txsticky.admin.control import GUESTS, PATIENCE, ControlConnection, listen
from txsticky.errors import ListenError, Unanswered
from txsticky.ipc.outside import ask


def echo(line: bytes) -> dict[str, Any]:
    """Answer with what was asked."""
    return {"ok": True, "asked": json.loads(line)}


class SocketTests(TestCase):
    """The socket's file."""

    def setUp(self) -> None:
        folder = tempfile.mkdtemp(prefix="txsticky-")  # short: a socket's path has 107 bytes
        self.addCleanup(shutil.rmtree, folder)
        self.path = str(Path(folder, "ctl"))

    def open(self) -> IListeningPort:
        """Listen, until the test is over."""
        port = listen(self.path, echo, reactor)
        self.addCleanup(port.stopListening)
        return port

    def refused(self) -> str:
        """Listen in vain; returns why."""
        error = self.assertRaises(ListenError, listen, self.path, echo, reactor)
        self.assertTrue(str(error).startswith(f"Cannot listen on {self.path} (--control): "))
        self.assertNotIn("\n", str(error))
        return str(error)

    def stale(self) -> None:
        """Leave the socket of a cluster that was killed."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(self.path)
            sock.listen(1)

    @inlineCallbacks
    def answers(self) -> Any:
        """Whether a server answers."""
        answer = yield deferToThread(ask, self.path, {"verb": "status"})
        self.assertEqual(answer, {"ok": True, "asked": {"verb": "status"}})

    @inlineCallbacks
    def test_flood(self) -> Any:
        """Requests without end whose answers are not taken cost the cluster a few answers."""
        asked = 0

        def long(line: bytes) -> dict[str, Any]:
            nonlocal asked
            asked += 1
            return {"ok": True, "text": "x" * 100_000}

        port = listen(self.path, long, reactor)
        self.addCleanup(port.stopListening)

        def flood() -> socket.socket:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.path)
            sock.settimeout(1)
            with contextlib.suppress(TimeoutError):
                sock.sendall(b"{}\n" * 100_000)
            return sock

        sock = yield deferToThread(flood)
        self.addCleanup(sock.close)
        self.assertLess(asked, 50)
        self.assertGreater(asked, 0)

    @inlineCallbacks
    def test_many(self) -> Any:
        """Idle connections do not keep an operator out, however many there are."""
        self.open()
        idle = []
        for _ in range(3 * GUESTS):
            sock = socket.socket(socket.AF_UNIX)
            self.addCleanup(sock.close)
            yield deferToThread(sock.connect, self.path)
            idle.append(sock)
        yield self.answers()
        gone = []
        for sock in idle:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                gone.append(sock.recv(1))
        self.assertEqual(gone, [b""] * (2 * GUESTS + 1))

    def test_private(self) -> None:
        """Only the owner may open the socket, whatever the umask; the umask stays as it was."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.open()
        found = os.stat(self.path)
        self.assertEqual(stat.S_IMODE(found.st_mode), 0o600)
        self.assertTrue(stat.S_ISSOCK(found.st_mode))
        self.assertEqual(os.umask(0), 0)

    def test_never_public(self) -> None:
        """The socket has its mode before Twisted, a moment later, gives it one."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        modes = []
        chmod = os.chmod

        def seen(path: Any, mode: int) -> None:
            modes.append(stat.S_IMODE(os.stat(path).st_mode))
            chmod(path, mode)

        self.patch(os, "chmod", seen)
        self.open()
        self.assertEqual(modes, [0o600])

    def test_answers(self) -> Deferred[Any]:
        """A request is answered."""
        self.open()
        return self.answers()

    def test_stale(self) -> Deferred[Any]:
        """A socket that no server answers at is replaced."""
        self.stale()
        self.open()
        return self.answers()

    def test_live(self) -> Deferred[Any]:
        """A socket that a server answers at is left alone, and the server goes on."""
        self.open()
        self.assertIn("another process answers there", self.refused())
        return self.answers()

    def test_no_socket(self) -> None:
        """A file that is no socket is left alone."""
        Path(self.path).write_text("precious")
        self.assertIn("no socket", self.refused())
        self.assertEqual(Path(self.path).read_text(), "precious")

    def test_no_folder(self) -> None:
        """A folder that does not exist is told."""
        self.path = self.path + "/deeper/ctl"
        self.assertIn("No such file or directory", self.refused())

    def test_too_long(self) -> None:
        """A path that is too long for a socket is told."""
        self.path += "x" * 120
        self.assertIn("too long", self.refused())

    @inlineCallbacks
    def test_closed(self) -> Any:
        """At the end the file is removed."""
        yield listen(self.path, echo, reactor).stopListening()
        self.assertFalse(os.path.lexists(self.path))

    @inlineCallbacks
    def test_file_was_removed(self) -> Any:
        """A file that was removed meanwhile is no error at the end."""
        port = listen(self.path, echo, reactor)
        os.unlink(self.path)
        yield port.stopListening()

    @inlineCallbacks
    def test_file_was_replaced(self) -> Any:
        """The file of a cluster that came later stays."""
        port = listen(self.path, echo, reactor)
        os.unlink(self.path)
        self.open()
        yield port.stopListening()
        yield self.answers()

    @inlineCallbacks
    def test_nobody(self) -> Any:
        """Where no server answers, ctl says so, whether a stale socket is there or not."""
        for _ in range(2):
            error = yield self.assertFailure(
                deferToThread(ask, self.path, {"verb": "stop"}), Unanswered
            )
            self.assertIn(f"No cluster answers at {self.path}: ", str(error))
            if not os.path.exists(self.path):
                self.stale()


class ConnectionTests(TestCase):
    """One connection."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.connection = ControlConnection(echo)
        self.connection.callLater = self.clock.callLater  # type: ignore[method-assign]
        self.transport = StringTransport()
        self.connection.makeConnection(self.transport)
        self.addCleanup(self.connection.connectionLost)

    def answers(self) -> list[dict[str, Any]]:
        """What was answered since the last call."""
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    def test_lines(self) -> None:
        """Each line is answered by a line, however the lines arrive."""
        for piece in (b'{"a": 1}\n{"a"', b": 2}\n", b'{"a": 3}\r\n'):
            self.connection.dataReceived(piece)
        self.assertEqual([answer["asked"]["a"] for answer in self.answers()], [1, 2, 3])

    def test_long_line(self) -> None:
        """A line that is too long to be a request is refused, and the connection closed."""
        self.connection.dataReceived(b"x" * (ControlConnection.MAX_LENGTH + 1))
        (answer,) = self.answers()
        self.assertFalse(answer["ok"])
        self.assertTrue(self.transport.disconnecting)

    def test_answers_that_are_not_taken(self) -> None:
        """While answers wait to be taken no request is answered; then the others are, in order."""
        self.connection.dataReceived(b'{"a": 1}\n')
        self.connection.pauseProducing()  # as a full transport does
        self.connection.dataReceived(b'{"a": 2}\n{"a": 3}\n{"a"')
        self.assertEqual([answer["asked"]["a"] for answer in self.answers()], [1])
        self.assertEqual(self.transport.producerState, "paused")
        self.connection.resumeProducing()
        self.connection.dataReceived(b": 4}\n")
        self.assertEqual([answer["asked"]["a"] for answer in self.answers()], [2, 3, 4])

    def test_not_taken_for_long(self) -> None:
        """An operator who does not take answers is hung up on at once, not after the answers."""
        ends: list[str] = []
        self.patch(self.transport, "abortConnection", lambda: ends.append("at once"))
        self.connection.dataReceived(b"{}\n")
        self.connection.pauseProducing()
        self.clock.advance(PATIENCE)
        self.assertEqual(ends, ["at once"])

    def test_closed(self) -> None:
        """What follows a line that was too long is not answered."""
        self.connection.dataReceived(b"x" * (ControlConnection.MAX_LENGTH + 1) + b"\n{}\n")
        self.assertEqual(len(self.answers()), 1)

    def test_silence(self) -> None:
        """A silent connection is hung up on; after a line it has the whole time again."""
        self.clock.advance(PATIENCE - 1)
        self.connection.dataReceived(b"{}\n")
        self.clock.advance(PATIENCE - 1)
        self.assertFalse(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.disconnecting)
