"""The end of a cluster, for clients that are connected and have not asked yet."""

from __future__ import annotations

import signal
import socket

from tests.raw_frames import Kind
from tests.shells import received
from tests.test_cluster import GET, ClusterCase


class SilentTests(ClusterCase):
    """A client that the kernel holds back until it says something."""

    def start_deferring(self) -> None:
        """Start a cluster, and wait until the kernel holds silent clients back."""
        self.start()
        (acceptor,) = self.cluster.primary.listeners.acceptors
        option = (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
        self.until(lambda: acceptor.sock.getsockopt(*option))

    def test_silent(self) -> None:
        """A client that is connected by then, and speaks later, is served; then the port closes."""
        self.start_deferring()
        client = self.connect(data=b"")
        self.cluster.stop(graceful=True)
        client.sendall(GET)
        self.assertEqual(self.taken().prefix, GET)
        self.workers[0].hands[0][0].send(b"served")
        self.until(lambda: received(client) == b"served")
        self.told(self.workers[0], Kind.DRAIN)
        self.assertEqual(self.cluster.addresses(), [])

    def test_silent_in_a_hurry(self) -> None:
        """In a hurry, a silent client is not waited for."""
        self.start_deferring()
        self.connect(data=b"")
        self.cluster.stop(graceful=True)
        self.assertNotEqual(self.cluster.addresses(), [])
        self.cluster.stop(graceful=False)
        self.assertEqual(self.cluster.addresses(), [])
        self.assertEqual(self.workers[0].process.signals, [signal.SIGQUIT])

    def test_half_a_head(self) -> None:
        """A client whose head is not complete goes to a worker, which waits for the rest."""
        self.start_deferring()
        client = self.connect(data=GET[:9])
        self.until(lambda: self.cluster.accepted)
        self.cluster.stop(graceful=True)
        self.assertEqual(self.taken().prefix, GET[:9])
        client.sendall(GET[9:])
        self.until(lambda: received(self.workers[0].hands[0][0]) == GET[9:])
