"""What clients and applications can make a cluster remember, and what they can make it hold."""

from __future__ import annotations

import os
import signal
import socket
import sys
import urllib.parse

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import processes
from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, request
from tests.integration.test_status import StatusCluster

MIB = 1 << 20


class GuestTests(SynchronousTestCase):
    """The status site, whose connections are the primary's."""

    def test_idle(self) -> None:
        """300 idle connections to it take no client's place, nor the operator's."""
        cluster = StatusCluster()
        cluster.command = ("sh", "-c", 'ulimit -n 250; exec "$0" "$@"', sys.executable)
        with cluster:
            before = processes.descriptors(cluster.pid)
            idle = []
            try:
                for _ in range(300):
                    idle.append(socket.create_connection(("127.0.0.1", cluster.status_port), 5))
                until(lambda: processes.descriptors(cluster.pid) < before + 40)
                for _ in range(20):
                    self.assertEqual(cluster.get("/").status, 200)
                    self.assertEqual(cluster.read("healthz")[0], 200)
            finally:
                for sock in idle:
                    sock.close()
            until(lambda: processes.descriptors(cluster.pid) <= before + 2)


class MemoTests(SynchronousTestCase):
    """What is remembered between requests."""

    def check(self, *options: str) -> None:
        """Long X-Forwarded-For texts, each of its own, are not kept."""
        with Cluster("echo", "--forwarded-allow-ips", "127.0.0.1", *options, workers=1) as cluster:
            pid = cluster.workers()[1]

            def ask(connection: Connection, number: int) -> None:
                text = f"{number:0>16}" + "7" * 12_000
                asked = request("GET", "/", headers=[("X-Forwarded-For", text)])
                self.assertEqual(connection.ask(asked).status, 200)

            with cluster.connect() as connection:
                for number in range(100):
                    ask(connection, number)
                before = processes.memory(pid), processes.memory(cluster.pid)
                for number in range(4200):
                    ask(connection, 1000 + number)
            for number in range(300):
                with cluster.connect() as connection:
                    ask(connection, 9000 + number)
            self.assertLess(processes.memory(pid) - before[0], 12 * MIB)
            self.assertLess(processes.memory(cluster.pid) - before[1], 12 * MIB)

    def test_accepted_by_the_primary(self) -> None:
        """The memory of workers and primary does not grow."""
        self.check()

    def test_accepted_by_the_workers(self) -> None:
        """The memory of a worker that accepts does not grow."""
        self.check("--accept", "workers")


class BindTests(SynchronousTestCase):
    """Keys that applications bind."""

    def bind(self, cluster: Cluster, connection: Connection, key: str) -> int:
        """Have an application bind a key; returns the status of its answer."""
        target = f"/cluster/bind?key={urllib.parse.quote(key)}"
        return connection.ask(request("GET", target)).status

    def test_stopped_worker(self) -> None:
        """
        Bindings while a worker is stopped cost the primary a bounded memory; when the worker goes
        on, it knows the keys that were bound.
        """
        with Cluster("echo", "--worker-timeout", "0", "--sticky", "query:sid") as cluster:
            tags = cluster.tags()
            stopped = cluster.kill_worker(2, signal.SIGSTOP)
            try:
                with cluster.connect() as connection:
                    # The first request keeps the connection with the worker that is not stopped.
                    first = request("GET", f"/?sid={tags[1]}")
                    self.assertEqual(connection.ask(first).status, 200)
                    for number in range(2000):
                        self.assertEqual(self.bind(cluster, connection, f"{number:0>4000}"), 200)
                    before = processes.memory(cluster.pid)
                    for number in range(2000, 14_000):
                        self.assertEqual(self.bind(cluster, connection, f"{number:0>4000}"), 200)
                    grown = processes.memory(cluster.pid) - before
                    self.assertEqual(self.bind(cluster, connection, "known"), 200)
            finally:
                os.kill(stopped, signal.SIGCONT)
            self.assertLess(grown, 40 * MIB)

            def told() -> bool:
                """The key is looked for by the second worker, on a connection of its own."""
                with cluster.connect() as connection:
                    connection.ask(request("GET", f"/?sid={tags[2]}"))
                    answer = connection.ask(request("GET", "/?sid=known"))
                return answer.header("X-Worker") == "1"

            until(told)
            self.assertEqual(set(cluster.workers()), {1, 2})

    def test_too_long(self) -> None:
        """A key of 9 MB is the application's error; nothing else is the worse for it."""
        with Cluster("tests.integration.bind_app:app", "--interface", "web", probe="/") as cluster:
            before = cluster.workers()
            answer = cluster.get("/?size=9000000")
            self.assertTrue(answer.body.startswith(b"A key of 9000000 bytes is too long"), answer)
            self.assertEqual(cluster.get("/?size=4096").body, b"bound")
            self.assertEqual(cluster.workers(), before)
