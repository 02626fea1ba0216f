"""Sockets that a service manager passes: sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from txsticky.system.activation import take_sockets

#: Passes its listening socket as a manager does that gives no names, and listens on it.
CHILD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
import {module}
from twisted.internet.endpoints import serverFromString
serverFromString(None, "systemd:domain=INET:index=0")
"""


class TakeTests(SynchronousTestCase):
    """What is read, and what is filled in."""

    def test_names(self) -> None:
        """Sockets without names get one each."""
        environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2"}
        self.assertEqual(take_sockets(environ, 7), [3, 4])
        self.assertEqual(environ["LISTEN_FDNAMES"], "unknown:unknown")

    def test_named(self) -> None:
        """Names that were passed are kept."""
        environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
        take_sockets(environ, 7)
        self.assertEqual(environ["LISTEN_FDNAMES"], "web")

    def test_of_another(self) -> None:
        """Sockets that are meant for another process are left alone."""
        environ = {"LISTEN_PID": "8", "LISTEN_FDS": "1"}
        self.assertEqual(take_sockets(environ, 7), [])
        self.assertNotIn("LISTEN_FDNAMES", environ)


class OrderTests(SynchronousTestCase):
    """The names of sockets are there before Twisted looks, which it does once."""

    def _find(self, module: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            subprocess.run(
                [sys.executable, "-c", CHILD.format(module=module), str(listener.fileno())],
                pass_fds=[listener.fileno()],
                env={k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")},
                check=True,
            )

    def test_command(self) -> None:
        """The command finds a socket without a name."""
        self._find("txsticky.cli.command")

    def test_cluster(self) -> None:
        """A program that embeds a cluster finds a socket without a name."""
        self._find("txsticky.cluster")
