"""The status port and the control socket: who has them while one program follows another."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from txsticky.admin import service
from txsticky.admin.journal import Journal
from txsticky.admin.service import Admin, frees_control, frees_status, taken_over
from txsticky.config import Config
from txsticky.errors import ListenError
from txsticky.system.endpoints import open_port


class SuccessionTests(TestCase):
    """A cluster with a real status port and a real control socket, which a successor asks for."""

    def setUp(self) -> None:
        self.leaves = False
        self.patch(service, "History", mock.Mock())
        self.patch(service, "look", lambda *_: mock.Mock(leaves=self.leaves))
        self.journal = Journal()
        self.path = str(Path(self.mktemp()).absolute())
        self.admin = self.open(status="tcp:0", control=self.path)
        self.port = self.admin._ports[0].getHost().port

    def open(self, **options: str) -> Admin:
        """Open the places of a cluster."""
        cluster: Any = mock.Mock(config=Config(**options), journal=self.journal)
        cluster.system.reactor = reactor
        admin = Admin(cluster)
        self.addCleanup(admin.close)
        return admin

    @inlineCallbacks
    def frees(self) -> Any:
        """Whether each place is free once it was asked for."""
        status = yield deferToThread(frees_status, self.port, "127.0.0.1")
        control = yield deferToThread(frees_control, self.path)
        return status, control

    @inlineCallbacks
    def test_running(self) -> Any:
        """A cluster that runs keeps its status port and its control socket."""
        self.assertEqual((yield self.frees()), (False, False))
        self.assertEqual(len(self.admin._ports), 2)

    @inlineCallbacks
    def test_leaving(self) -> Any:
        """A cluster that is told to stop gives both up and says so; the next one can have them."""
        self.leaves = True
        self.assertEqual((yield self.frees()), (True, True))
        self.assertEqual(self.admin._ports, [])
        self.assertEqual(
            [entry.text for entry in self.journal.entries],
            ["A successor gets tcp:0 (--status).", f"A successor gets {self.path} (--control)."],
        )
        self.open(status=f"tcp:{self.port}", control=self.path)
        self.leaves = False
        self.assertEqual((yield self.frees()), (False, False))

    @inlineCallbacks
    def test_unix(self) -> Any:
        """A status port that is a UNIX socket is asked for as well."""
        path = str(Path(self.mktemp()).absolute())
        self.open(status=f"unix:{path}")
        self.assertFalse((yield deferToThread(frees_status, path, None)))
        self.leaves = True
        self.assertTrue((yield deferToThread(frees_status, path, None)))
        self.assertFalse(Path(path).exists())


class StrangerTests(TestCase):
    """A place that is taken by what is no cluster that leaves."""

    def listen(self, port: int) -> Any:
        """Open a port."""
        factory = Factory.forProtocol(Protocol)
        opened = open_port(reactor, f"tcp:{port}:interface=127.0.0.1", factory, str(port))
        self.addCleanup(opened.stopListening)
        return opened

    def taken(self) -> socket.socket:
        """A socket that listens."""
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        return sock

    def test_another_program(self) -> None:
        """A program that answers something else keeps its place, and the start fails as ever."""
        sock = self.taken()
        port = sock.getsockname()[1]

        def answer() -> None:
            client = sock.accept()[0]
            client.recv(1000)
            client.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")
            client.close()

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)
        error = self.assertRaises(
            ListenError,
            taken_over,
            lambda: self.listen(port),
            lambda error: frees_status(error.fields["place"], error.fields["interface"]),
        )
        self.assertIn("Address already in use", str(error))

    def test_freed(self) -> None:
        """A place that is freed is taken at the second attempt."""
        sock = self.taken()
        port = sock.getsockname()[1]

        def frees(error: ListenError) -> bool:
            self.assertEqual(
                (error.fields["place"], error.fields["interface"]), (port, "127.0.0.1")
            )
            sock.close()
            return True

        self.assertEqual(taken_over(lambda: self.listen(port), frees).getHost().port, port)

    def test_no_place(self) -> None:
        """Where it is not known what is taken, or nothing listens there, nothing is free."""
        sock = self.taken()
        port = sock.getsockname()[1]
        sock.close()
        for place in (None, 0, port, "/nowhere"):
            self.assertFalse(frees_status(place, ""))
        self.assertFalse(frees_control("/nowhere"))
