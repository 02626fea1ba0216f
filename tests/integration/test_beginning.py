"""How a cluster begins, and begins again: requests wait for it."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Fault, Response, request
from tests.integration.secure import SecureCluster
from tests.integration.test_service_manager import LAUNCHER

APPS = "tests.integration.span_apps"
ASGI = (f"{APPS}:asgi", "--interface", "asgi")
WSGI = (f"{APPS}:wsgi", "--interface", "wsgi")
WEB = (f"{APPS}:web", "--factory")
NEVER = ("never_ready", "--factory")


class BeginningCase(SynchronousTestCase):
    """What these tests share."""

    def spawn(self, cluster: Cluster, **span: object) -> Cluster:
        """Start a cluster, without waiting until it serves, and end it with the test."""
        cluster._environment |= {f"SPAN_{name.upper()}": str(value) for name, value in span.items()}
        self.addCleanup(cluster.stop)
        cluster.spawn()
        until(lambda: "txsticky listens on" in cluster.log(), 20, "it listens")
        return cluster

    def cluster(self, app: tuple[str, ...], *options: str, workers: int = 1) -> Cluster:
        """A cluster that is not started."""
        return Cluster(*app, *options, workers=workers, probe="")

    def waiting(self, cluster: Cluster, target: str = "/") -> Connection:
        """A connection whose request waits for its response."""
        connection = cluster.connect()
        self.addCleanup(connection.close)
        connection.send(request("GET", target))
        return connection


class FirstStart(BeginningCase):
    """The first workers take their time."""

    def test_requests_wait(self) -> None:
        """Requests that come meanwhile are answered, on each way to accept and each interface."""
        for app, accept in ((ASGI, "primary"), (WSGI, "workers"), (WEB, "primary")):
            cluster = self.cluster(app, "--accept", accept, workers=2)
            self.spawn(cluster, load=5.5)
            waiting = [self.waiting(cluster) for _ in range(20)]
            self.assertNotIn("txsticky serves", cluster.log())
            self.assertEqual({each.response().status for each in waiting}, {200})
            self.assertIn("txsticky serves", cluster.log())
            for each in waiting:
                each.close()
            cluster.stop()

    def test_over_tls(self) -> None:
        """Over TLS requests that come meanwhile are answered; the handshake waits."""
        cluster = SecureCluster(*ASGI, workers=1, probe="")
        self.spawn(cluster, load=5.5)
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(cluster.get("/").status)

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(statuses, [200] * 5)

    def test_socket_activation(self) -> None:
        """The request for which a service manager starts the cluster is answered."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        cluster = self.cluster(ASGI)
        listen = cluster.arguments.index("--listen") + 1
        cluster.arguments[listen] = "systemd:domain=INET:index=0"
        cluster.command = (*cluster.command, "-c", LAUNCHER, str(listener.fileno()), "")
        cluster.inherits = (listener.fileno(),)
        cluster.port = listener.getsockname()[1]
        first = self.waiting(cluster)
        self.spawn(cluster, load=5.5)
        self.assertEqual(first.response().status, 200)

    def test_one_that_is_slow(self) -> None:
        """One worker that does not get ready does not keep the others from serving."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        Path(folder, "uneven.py").write_text(
            "import os, time\n"
            "time.sleep(3600 if os.environ['TXSTICKY_WORKER'] == '2' else 0)\n"
            "from tests.integration.span_apps import wsgi\n"
        )
        cluster = self.cluster(("uneven:wsgi", "--interface", "wsgi"), workers=2)
        cluster._environment["PYTHONPATH"] = folder
        self.spawn(cluster)
        self.assertEqual(self.waiting(cluster).response().status, 200)
        self.assertIn("with 1 of 2 workers.", cluster.log())

    def test_gone(self) -> None:
        """The request of a client that has gone meanwhile is not executed."""
        cluster = self.spawn(self.cluster(ASGI), load=3)
        for _ in range(5):
            self.waiting(cluster).close()
        self.assertEqual(self.waiting(cluster).response().body, b"1")

    def test_half_closed(self) -> None:
        """The request of a client that only ends its sending side is answered."""
        cluster = self.spawn(self.cluster(ASGI), load=3)
        connection = self.waiting(cluster)
        connection.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(connection.response().status, 200)


class Bounds(BeginningCase):
    """What bounds the wait."""

    def test_queue_timeout(self) -> None:
        """After --queue-timeout a request is refused, and told when to try again."""
        cluster = self.spawn(self.cluster(NEVER, "--queue-timeout", "1"))
        self.refused(self.waiting(cluster).response())

    def test_no_queue(self) -> None:
        """With a --queue-timeout of 0 a request is refused at once."""
        cluster = self.spawn(self.cluster(NEVER, "--queue-timeout", "0"))
        self.refused(self.waiting(cluster).response())

    def test_backlog(self) -> None:
        """No more connections wait than --backlog says."""
        cluster = self.spawn(self.cluster(ASGI, "--backlog", "3"), load=4)
        waiting = [self.waiting(cluster) for _ in range(3)]
        time.sleep(0.5)
        self.refused(self.waiting(cluster).response())
        self.assertEqual({each.response().status for each in waiting}, {200})

    def refused(self, answer: Response) -> None:
        """Assert that the answer is the refusal of a client for which there is no worker."""
        self.assertEqual((answer.status, answer.header("connection")), (503, "close"))
        self.assertEqual(answer.header("retry-after"), "1")

    def test_start_timeout(self) -> None:
        """A worker that is not ready in time is replaced; the log names the option."""
        cluster = self.spawn(self.cluster(NEVER, "--start-timeout", "0.5"))
        client = self.waiting(cluster)
        self.assertEqual(cluster.wait(30), 1)
        reason = "it was not ready within --start-timeout 0.5 s and is killed; raise it"
        self.assertEqual(cluster.log().count(f"did not start: {reason}"), 5)
        self.assertIn(f"5 times in a row; the last time: {reason}", cluster.log())
        self.assertEqual(client.response().status, 503)


class Again(BeginningCase):
    """The only worker dies, and another takes its place."""

    def test_killed(self) -> None:
        """No request is refused while the next one starts, on each way to accept."""
        for accept in ("primary", "workers"):
            cluster = self.spawn(self.cluster(WEB, "--accept", accept), load=0.5)
            self.assertEqual(self.waiting(cluster).response().status, 200)
            seen = self.killed(cluster)
            self.assertEqual(set(seen) - {0, 200}, set())
            cluster.stop()

    def killed(self, cluster: Cluster) -> list[int]:
        """Kill the worker again and again; what clients get meanwhile, 0 for nothing."""
        over, seen = threading.Event(), []

        def ask() -> None:
            while not over.is_set():
                try:
                    seen.append(cluster.get("/").status)
                except (Fault, OSError):
                    seen.append(0)  # it was in the hands of the one that was killed

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            pid = 0
            for _ in range(3):
                until(lambda dead=pid: cluster.workers().get(1, dead) != dead, 30, "a new worker")
                pid, before = cluster.workers()[1], len(seen)
                os.kill(pid, signal.SIGKILL)
                until(lambda at=before: seen[at:].count(200) > 10, 30, "it serves again")
        finally:
            over.set()
            for thread in threads:
                thread.join(60)
        return seen

    def test_back_off(self) -> None:
        """A request waits also while the next one fails to start, again and again."""
        fails = Path(self.enterContext(tempfile.TemporaryDirectory()), "fails")
        cluster = self.spawn(self.cluster(WEB), fails=fails)
        self.assertEqual(self.waiting(cluster).response().status, 200)
        fails.touch()
        os.kill(cluster.workers()[1], signal.SIGKILL)
        until(lambda: "did not start" in cluster.log(), 20, "the next one fails")
        connection = self.waiting(cluster)
        until(lambda: cluster.log().count("did not start") >= 3, 20, "others fail")
        fails.unlink()
        self.assertEqual(connection.response().status, 200)

    def test_hopeless(self) -> None:
        """When no worker can get ready any more, those that wait are told at once."""
        fails = Path(self.enterContext(tempfile.TemporaryDirectory()), "fails")
        cluster = self.spawn(self.cluster(WEB, "--queue-timeout", "600"), fails=fails)
        self.assertEqual(self.waiting(cluster).response().status, 200)
        fails.touch()
        os.kill(cluster.workers()[1], signal.SIGKILL)
        until(lambda: "did not start" in cluster.log(), 20, "the next one fails")
        self.assertEqual(self.waiting(cluster).response().status, 503)
        self.assertEqual(cluster.wait(), 1)
