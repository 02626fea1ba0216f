"""WebSockets of a WSGI application in real workers, in the clear and over TLS."""

from __future__ import annotations

import signal
import ssl
import time
from typing import Any

import websocket
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.rawws import frame, handshake
from tests.integration.secure import SecureCluster

APP = "tests.integration.websocket_wsgi_app:app"
GOING_AWAY = (8, b"\x03\xe9")


class ClearTests(SynchronousTestCase):
    """In the clear, where the application has the connection itself."""

    options: tuple[str, ...] = ()

    def cluster(self) -> Any:
        """The cluster; a graceful timeout is three seconds."""
        return Cluster(APP, *self.options, workers=2, probe="/")

    def opened(self, cluster: Any) -> websocket.WebSocket:
        """A WebSocket."""
        return websocket.create_connection(f"ws://127.0.0.1:{cluster.port}/ws", timeout=20)

    def test_lives(self) -> None:
        """Messages go to and fro; a reload and a stop say 1001, and wait for no rude client."""
        with self.cluster() as cluster:
            clients = [self.opened(cluster) for _ in range(6)]
            for size in (1, 200_000, 0):
                for client in clients:
                    client.send("x" * size)
                for client in clients:
                    self.assertEqual(client.recv(), "x" * size)
            cluster.signal(signal.SIGHUP)
            for client in clients:
                self.assertEqual(client.recv_data(), GOING_AWAY)
                client.close()
            until(lambda: "reload is complete" in cluster.log(), 30, "the reload is complete")
            polite = self.opened(cluster)
            rude = [self.opened(cluster) for _ in range(4)]
            began = time.monotonic()
            cluster.signal(signal.SIGTERM)
            self.assertEqual(polite.recv_data(), GOING_AWAY)
            polite.close()
            self.assertEqual(cluster.wait(), 0)
            self.assertLess(time.monotonic() - began, 12)  # on a machine that is very busy
            for client in rude:
                self.assertEqual(client.recv_data(), GOING_AWAY)
                client.shutdown()
            self.assertNotIn("Traceback", cluster.log())
            self.assertNotIn("signal 9", cluster.log())


class SecureTests(ClearTests):
    """Over TLS, where the reactor carries the bytes."""

    def cluster(self) -> Any:
        """The cluster."""
        return SecureCluster(APP, *self.options, workers=2, probe="/")

    def opened(self, cluster: Any) -> websocket.WebSocket:
        """A WebSocket."""
        options = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
        url = f"wss://127.0.0.1:{cluster.port}/ws"
        return websocket.create_connection(url, timeout=20, sslopt=options)


class AcceptTests(SynchronousTestCase):
    """Where the workers accept."""

    def test_glued(self) -> None:
        """What comes with the handshake arrives, at any cut."""
        with Cluster(APP, "--accept", "workers", workers=2, probe="/") as cluster:
            head = handshake("/ws")
            stream = head + frame(b"first") + frame(b"second")
            for cut in (0, 10, len(head) - 1, len(head), len(head) + 3, len(stream) - 1):
                with cluster.connect(timeout=10) as connection:
                    for piece in (stream[:cut], stream[cut:]):
                        if piece:
                            connection.send(piece)
                            time.sleep(0.02)
                    self.assertEqual(connection.response().status, 101)
                    wanted = b"\x81\x05first\x81\x06second"
                    self.assertEqual(connection.reader.exactly(len(wanted)), wanted)
