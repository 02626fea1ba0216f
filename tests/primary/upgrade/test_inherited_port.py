"""Listening sockets that the program before had opened."""

from __future__ import annotations

import os
import socket
import tempfile

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tests.shells import ShellCase
from txsticky.primary.upgrade.inherited_port import InheritedPort


class InheritedPortTests(ShellCase):
    """Listening sockets that the program before had opened."""

    def inherit(self, sock: socket.socket) -> InheritedPort:
        """Inherit a socket."""
        os.set_inheritable(sock.fileno(), True)
        return InheritedPort(sock.detach())

    def test_addresses(self) -> None:
        """The address of an inherited port is the socket's, in each family."""
        for family, kind in ((socket.AF_INET, IPv4Address), (socket.AF_INET6, IPv6Address)):
            sock = self.listening(family)
            name = sock.getsockname()
            port = self.inherit(sock)
            self.assertEqual(port.getHost(), kind("TCP", *name))
            self.assertFalse(os.get_inheritable(port.fileno()))
            port.stopListening()

    def unix(self, name: str) -> InheritedPort:
        """A UNIX socket of that name."""
        sock = self.owned(socket.socket(socket.AF_UNIX))
        sock.bind(name)
        sock.listen()
        return self.inherit(sock)

    def test_unix(self) -> None:
        """A UNIX socket's file goes when it is closed."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "socket")
        port = self.unix(path)
        self.assertEqual(port.getHost(), UNIXAddress(path))
        port.stopListening()
        self.assertEqual(os.listdir(folder), [])

    def test_unix_replaced(self) -> None:
        """The file of another socket that took its place stays."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "socket")
        port = self.unix(path)
        os.unlink(path)
        other = self.unix(path)
        port.stopListening()
        self.assertEqual(os.listdir(folder), ["socket"])
        other.stopListening()

    def test_unix_already_gone(self) -> None:
        """A file that was removed meanwhile is no error."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        port = self.unix(os.path.join(folder, "socket"))
        os.unlink(os.path.join(folder, "socket"))
        port.stopListening()

    def test_abstract(self) -> None:
        """An abstract name has no file."""
        port = self.unix(f"\0txsticky-test-{os.getpid()}")
        self.assertEqual(port.getHost().name[:1], b"\0")
        port.stopListening()
