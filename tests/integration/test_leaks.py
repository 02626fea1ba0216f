"""Nothing is left behind and no client is left waiting: descriptors, deaths, resets."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import processes, rawws
from tests.integration.cluster import Cluster, ClusterTestCase
from tests.integration.converse import Script, converse, whole
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, payload, request

CLOSE = [("Connection", "close")]


class Descriptors(ClusterTestCase):
    """Connections come and go."""

    app = "mixed"
    options = ("--factory",)
    ROUNDS, EACH = 20, 1000

    def short(self, draw: random.Random) -> Script:
        """One short connection: mostly a request, else something that goes wrong."""
        kind = draw.random()
        sid = self.cluster.tag(draw.randint(1, 2))
        if kind < 0.7:
            return Script((request("GET", f"/?sid={sid}", headers=CLOSE),))
        if kind < 0.8:
            return Script((request("GET", f"/?sid={sid}"),), enough=whole())
        if kind < 0.85:
            both = [request("GET", f"/?sid={self.cluster.tag(slot)}") for slot in (1, 2)]
            return Script((b"".join(both),), enough=whole(2))
        if kind < 0.9:
            return Script((rawws.handshake(),), enough=lambda data: b"\r\n\r\n" in data)
        return draw.choice(
            [
                Script((b"GET / HT",), half_close=True),
                Script((b"nonsense\r\n\r\n",)),
                Script((b"",), quiet=0.0),
                Script((request("POST", "/", headers=[("Content-Length", "9")]),), quiet=0.0),
                Script((request("GET", "/?size=3000000"),), enough=lambda data: len(data) > 10_000),
            ]
        )

    def test_twenty_thousand(self) -> None:
        """After 20,000 connections primary and workers have as many descriptors open as before."""
        draw = random.Random(5)
        self.cluster.tags()
        converse(self.cluster.port, [self.short(draw) for _ in range(200)])
        before = self.cluster.settled()
        for _ in range(self.ROUNDS):
            outcomes = converse(self.cluster.port, [self.short(draw) for _ in range(self.EACH)])
            self.assertEqual(len(outcomes), self.EACH)
        until(lambda: self.cluster.descriptors() == before, 10, f"{before} descriptors again")
        self.assertEqual(self.cluster.settled(), before)

    def test_the_primary_holds_nothing(self) -> None:
        """300 connections that stay open cost the primary no descriptor."""
        before = self.cluster.settled()["txsticky: primary"]
        connections = [Connection(self.cluster.port) for _ in range(300)]
        for connection in connections:
            connection.send(request("GET", "/"))
        for connection in connections:
            self.assertEqual(connection.response().status, 200)
        self.assertLessEqual(self.cluster.descriptors()["txsticky: primary"], before + 2)
        for connection in connections:
            connection.close()

    def test_the_primary_does_not_grow(self) -> None:
        """A large upload and a large download cost the primary neither memory nor CPU."""
        before, cpu = processes.memory(self.cluster.pid), processes.cpu(self.cluster.pid)
        with self.cluster.connect() as connection:
            size = 64 << 20
            connection.send(request("POST", "/", headers=[("Content-Length", str(size))]))
            for _ in range(64):
                connection.send(payload(1 << 20))
            self.assertEqual(connection.response().header("x-length"), str(size))
            connection.send(request("GET", f"/?size={size}"))
            self.assertEqual(connection.response(keep=False).length, size)
        self.assertLess(processes.memory(self.cluster.pid) - before, 5 << 20)
        # The heartbeats of the workers go on meanwhile; 128 MiB that pass through cost far more.
        self.assertLess(processes.cpu(self.cluster.pid) - cpu, 0.1)


class Deaths(SynchronousTestCase):
    """A worker dies before it has taken connections in hand."""

    def stopped(self, cluster: Cluster, slot: int) -> int:
        """Stops the worker, so that its mail stays in its mailbox; returns its process id."""
        pid = cluster.kill_worker(slot, signal.SIGSTOP)
        self.addCleanup(self.resume, pid)
        return pid

    def resume(self, pid: int) -> None:
        """Lets a process that may be gone run on."""
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            return

    def test_two_hundred_in_the_mailbox(self) -> None:
        """kill -9 with 200 connections in the mailbox: others answer all 200, once each."""
        with Cluster("echo", "--worker-timeout", "60", workers=3) as cluster:
            tag = cluster.tag(2)
            pid = self.stopped(cluster, 2)
            clients = [
                self.opened(
                    cluster, request("POST", f"/?sid={tag}&n={n}", body=payload(n), headers=CLOSE)
                )
                for n in range(200)
            ]
            for number in range(20):
                self.assertEqual(cluster.get(f"/?n=new-{number}").header("x-n"), f"new-{number}")
            until(lambda: self.taken(cluster), 10, "the primary has let go of all")
            os.kill(pid, signal.SIGKILL)
            for number, connection in enumerate(clients):
                answer = connection.response()
                self.assertEqual(
                    (answer.status, answer.header("x-n"), answer.header("x-length")),
                    (200, str(number), str(number)),
                )
                self.assertNotEqual(answer.header("x-pid"), str(pid))
                connection.end()
                connection.close()

    def test_large_prefixes_in_the_mailbox(self) -> None:
        """kill -9 with 60 KB of body in each message, more than the mailbox holds: all answered."""
        with Cluster("echo", "--worker-timeout", "60", workers=2) as cluster:
            tag = cluster.tag(2)
            pid = self.stopped(cluster, 2)
            stream = request("POST", f"/?sid={tag}", body=payload(60_000), headers=CLOSE)
            clients = [self.opened(cluster, stream) for _ in range(60)]
            self.assertEqual(cluster.get().status, 200)
            os.kill(pid, signal.SIGKILL)
            for connection in clients:
                answer = connection.response()
                self.assertEqual((answer.status, answer.header("x-length")), (200, "60000"))
                self.assertNotEqual(answer.header("x-pid"), str(pid))
                connection.end()
                connection.close()

    def test_given_away_to_a_dead_worker(self) -> None:
        """A kept-alive connection that a worker gave to one that dies is answered by another."""
        with Cluster("echo", "--worker-timeout", "60", workers=3) as cluster:
            tags = cluster.tags()
            clients = [cluster.connect() for _ in range(20)]
            for connection in clients:
                answer = connection.ask(request("GET", f"/?sid={tags[1]}"))
                self.assertEqual(answer.header("x-worker"), "1")
            pid = self.stopped(cluster, 2)
            for number, connection in enumerate(clients):
                connection.send(request("POST", f"/?sid={tags[2]}&n={number}", body=b"hello"))
            time.sleep(0.3)
            os.kill(pid, signal.SIGKILL)
            for number, connection in enumerate(clients):
                answer = connection.response()
                self.assertEqual((answer.status, answer.header("x-n")), (200, str(number)))
                self.assertNotEqual(answer.header("x-pid"), str(pid))
                connection.close()

    def test_resets_in_the_mailbox(self) -> None:
        """Clients that reset while they wait in a mailbox leave nothing behind."""
        with Cluster("echo", "--worker-timeout", "60", workers=2) as cluster:
            tag = cluster.tag(2)
            before = cluster.settled()
            pid = self.stopped(cluster, 2)
            for stream in self.waiting(tag):
                connection = self.opened(cluster, stream)
                time.sleep(0.001)
                connection.reset()
            self.resume(pid)
            for slot in (1, 2):
                for _ in range(10):
                    answer = cluster.get(f"/?sid={cluster.tag(slot)}")
                    self.assertEqual((answer.status, answer.header("x-worker")), (200, str(slot)))
            until(lambda: cluster.descriptors() == before, 10, f"{before} descriptors again")

    def waiting(self, tag: str) -> Iterator[bytes]:
        """Requests of every size."""
        for number in range(100):
            yield request("POST", f"/?sid={tag}", body=payload(number * 100))

    def opened(self, cluster: Cluster, stream: bytes) -> Connection:
        """A connection that has sent this and waits."""
        connection = cluster.connect()
        self.addCleanup(connection.close)
        connection.send(stream)
        return connection

    def taken(self, cluster: Cluster) -> bool:
        """Whether the primary has no connection of a client in its own hands."""
        held = f"/proc/{cluster.pid}/fd"
        counts = []
        for _ in range(10):
            counts.append(len(os.listdir(held)))
            time.sleep(0.02)
        return len(set(counts)) == 1 and counts[0] < 100
