"""The door of a listening socket, in the real kernel."""

from __future__ import annotations

import errno
import os
import select
import socket
import tempfile
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txsticky.system.sockets.door import close_everywhere, shut

DEFER = (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)


class DoorTests(SynchronousTestCase):
    """A socket that listens."""

    family, host = socket.AF_INET, "127.0.0.1"

    def setUp(self) -> None:
        self.listening = self.owned(socket.socket(self.family))
        self.listening.bind((self.host, 0))
        self.listening.listen(5)
        self.listening.settimeout(60)
        self.address = self.listening.getsockname()

    def owned(self, sock: socket.socket) -> socket.socket:
        """Close it in the end."""
        self.addCleanup(sock.close)
        return sock

    def connect(self) -> socket.socket:
        """Connect."""
        return self.owned(socket.create_connection(self.address[:2], timeout=60))

    def test_nobody_new(self) -> None:
        """No connection begins behind a shut door; it is refused once the socket is closed."""
        shut(self.listening.dup())
        client = self.owned(socket.socket(self.family))
        client.setblocking(False)
        self.assertEqual(client.connect_ex(self.address), errno.EINPROGRESS)
        self.assertEqual(select.select([self.listening], [client], [], 0.1), ([], [], []))
        self.listening.close()
        self.assertEqual(select.select([], [client], [], 60)[1], [client])
        error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.assertEqual(error, errno.ECONNREFUSED)

    def test_in_the_backlog(self) -> None:
        """A connection that is in the backlog is accepted, and goes on both ways."""
        client = self.connect()
        shut(self.listening)
        server = self.owned(self.listening.accept()[0])
        for one, other in ((client, server), (server, client)):
            one.sendall(b"x")
            self.assertEqual(other.recv(9), b"x")

    def test_held_back(self) -> None:
        """A connection that the kernel holds back comes in when it says something."""
        self.listening.setsockopt(*DEFER, 1)
        client = self.connect()
        self.listening.setsockopt(*DEFER, 0)
        shut(self.listening)
        client.sendall(b"late")
        self.assertEqual(self.owned(self.listening.accept()[0]).recv(9), b"late")

    def test_closed_everywhere(self) -> None:
        """A socket closed everywhere refuses though it is open elsewhere."""
        elsewhere = self.owned(self.listening.dup())
        close_everywhere(self.listening)
        with self.assertRaises(ConnectionRefusedError):
            self.connect()
        with self.assertRaises(OSError) as caught:
            elsewhere.accept()
        self.assertEqual((caught.exception.errno, self.listening.fileno()), (errno.EINVAL, -1))

    def test_closed_twice(self) -> None:
        """A socket that listens no more is closed as well."""
        elsewhere = self.owned(self.listening.dup())
        for sock in (self.listening, elsewhere):
            close_everywhere(sock)
        self.assertEqual(elsewhere.fileno(), -1)

    def test_unable(self) -> None:
        """A system that cannot goes on as before."""
        sock = mock.Mock(family=self.family)
        sock.setsockopt.side_effect = OSError(errno.ENOPROTOOPT, "no filters")
        shut(sock)
        sock.setsockopt.assert_called_once()


class SixTests(DoorTests):
    """A socket that listens over IPv6."""

    family, host = socket.AF_INET6, "::1"


class UnixTests(SynchronousTestCase):
    """A UNIX socket has no such door."""

    def test_as_before(self) -> None:
        """A UNIX socket that is to be shut goes on as before."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
            listening.bind(os.path.join(folder, "socket"))
            listening.listen(5)
            shut(listening)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(listening.getsockname())
                listening.accept()[0].close()
