"""More than the cluster can take: it neither grows nor spins nor stops, and recovers by itself."""

from __future__ import annotations

import collections
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration import processes
from tests.integration.cluster import Cluster
from tests.integration.converse import Outcome, Script, converse, whole
from tests.integration.load import Load
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Reader, payload, request

CLOSE = [("Connection", "close")]


class PressureCase(SynchronousTestCase):
    """What these tests share."""

    def setUp(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.most = hard if hard != resource.RLIM_INFINITY else 1 << 20

    def limited(self, limit: int, *options: str) -> Cluster:
        """A cluster of two whose processes may have so many descriptors."""
        cluster = Cluster("echo", *options, workers=2)
        cluster.command = ("sh", "-c", f'ulimit -n {limit}; exec "$0" "$@"', sys.executable)
        return cluster

    def stop_all(self, cluster: Cluster) -> Callable[[], None]:
        """Stops all workers; returns what lets them run on."""
        pids = [cluster.kill_worker(slot, signal.SIGSTOP) for slot in cluster.workers()]

        def go_on() -> None:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

        return go_on

    def clients(self, cluster: Cluster, *streams: bytes) -> Callable[[], list[Outcome]]:
        """All at once, each sends one of these; returns what waits for them and tells the ends."""
        outcomes: list[Outcome] = []
        scripts = [Script((stream,), quiet=60, enough=whole()) for stream in streams]
        play = threading.Thread(
            target=lambda: outcomes.extend(converse(cluster.port, scripts, len(scripts))),
            daemon=True,
        )
        play.start()

        def joined() -> list[Outcome]:
            play.join(90)
            self.assertFalse(play.is_alive(), "clients wait for ever")
            return outcomes

        return joined

    def statuses(self, outcomes: list[Outcome]) -> collections.Counter[int]:
        """How often each status came; each answer is whole."""
        return collections.Counter(Reader.over(each.data).response().status for each in outcomes)

    def share(self, pid: int, seconds: float = 1.5) -> float:
        """The part of a core that the process uses."""
        before, start = processes.cpu(pid), time.monotonic()
        time.sleep(seconds)
        return (processes.cpu(pid) - before) / (time.monotonic() - start)


class Stopped(PressureCase):
    """All workers are stopped."""

    def test_five_thousand(self) -> None:
        """Mailboxes fill, then queues; then it is 503 with Retry-After. Others are served later."""
        count = min(5000, self.most - 500)
        with Cluster("echo", "--worker-timeout", "0", "--backlog", "300", workers=2) as cluster:
            descriptors = cluster.settled()
            memory = processes.memory(cluster.pid)
            go_on = self.stop_all(cluster)
            streams = [
                request("POST", f"/?n={n}", body=payload(20_000), headers=CLOSE)
                for n in range(count)
            ]
            joined = self.clients(cluster, *streams)
            until(lambda: self.calm(cluster), 40, "those who are refused have gone")
            self.assertLessEqual(cluster.descriptors()["txsticky: primary"], 700)
            self.assertLess(processes.memory(cluster.pid) - memory, 100 << 20)
            self.assertLess(self.share(cluster.pid), 0.2)
            go_on()
            outcomes = joined()
            statuses = self.statuses(outcomes)
            self.assertEqual(sum(statuses.values()), count)
            self.assertEqual(set(statuses), {200, 503})
            self.assertGreater(statuses[200], 600)
            for number, outcome in enumerate(outcomes):
                answer = Reader.over(outcome.data).response()
                if answer.status == 200:
                    self.assertEqual(answer.header("x-n"), str(number))
                    self.assertEqual(answer.header("x-length"), "20000")
                else:
                    self.assertEqual(answer.header("retry-after"), "1")
            until(lambda: cluster.descriptors() == descriptors, 10, f"{descriptors} again")

    def calm(self, cluster: Cluster) -> bool:
        """Whether the primary has, for a second, as many descriptors, and more than the queues."""
        seen = set()
        for _ in range(10):
            seen.add(cluster.descriptors()["txsticky: primary"])
            time.sleep(0.1)
        return len(seen) == 1 and min(seen) > 500

    def test_in_flight(self) -> None:
        """Too many descriptors in flight for an unprivileged user (ETOOMANYREFS): they wait."""
        if shutil.which("setpriv") is None:
            raise SkipTest("setpriv is not here (util-linux)")
        cluster = self.limited(200, "--worker-timeout", "0")
        if not os.geteuid():
            cluster.command = (
                "setpriv",
                "--inh-caps=-sys_resource,-sys_admin",
                "--bounding-set=-sys_resource,-sys_admin",
                *cluster.command,
            )
        with cluster:
            descriptors = cluster.settled()
            go_on = self.stop_all(cluster)
            joined = self.clients(cluster, *[request("GET", "/", headers=CLOSE)] * 500)
            # Mailboxes hold thousands: it is for the limit that these wait in the primary.
            until(lambda: cluster.descriptors()["txsticky: primary"] > 100, 20, "they wait")
            self.assertLess(self.share(cluster.pid), 0.3)
            go_on()
            self.assertEqual(self.statuses(joined()), {200: 500})
            until(lambda: cluster.descriptors() == descriptors, 10, f"{descriptors} again")


class Descriptors(PressureCase):
    """`ulimit -n`, and more clients than that."""

    def test_forty(self) -> None:
        """40 descriptors, 80 clients that keep their connections: all are served, none spins."""
        with self.limited(40) as cluster:
            descriptors = cluster.settled()
            with Load(cluster, {"browser": 80}, pause=0.05) as load:
                load.wait(2000, 40)
                for pid in (cluster.pid, *cluster.workers().values()):
                    self.assertLess(self.share(pid, 1), 0.9)
            self.assertEqual(load.failures, [])
            self.assertEqual([client for client in load.members if client.number < 3], [])
            self.assertNotIn("lost its descriptor", cluster.log())
            until(lambda: cluster.descriptors() == descriptors, 10, f"{descriptors} again")

    def test_a_worker_dies_meanwhile(self) -> None:
        """Though the primary is full, a worker can be started, and every client is answered."""
        with self.limited(64, "--worker-timeout", "2") as cluster:
            self.stop_all(cluster)
            joined = self.clients(cluster, *[request("GET", "/", headers=CLOSE)] * 200)
            self.assertEqual(self.statuses(joined()), {200: 200})
            self.assertNotIn("lost its descriptor", cluster.log())

    def test_slow_heads(self) -> None:
        """Slow heads that take all descriptors of the primary do not keep others out."""
        with self.limited(100, "--head-timeout", "60") as cluster:
            slow = [Connection(cluster.port) for _ in range(300)]
            for connection in slow:
                connection.send(b"GET / HTTP/1.1\r\n")
            for _ in range(10):
                self.assertEqual(cluster.get("/").status, 200)
            self.assertLess(self.share(cluster.pid), 0.3)
            for connection in slow:
                connection.close()


class SlowClients(PressureCase):
    """Clients that take their time."""

    def test_ten_thousand_half_open(self) -> None:
        """10,000 heads that do not come to their end do not keep a healthy client waiting."""
        count = min(10_300, self.most - 500)
        options = ("--head-timeout", "6", "--backlog", "4096")
        with Cluster("echo", *options, workers=2) as cluster:
            descriptors = cluster.settled()
            memory = processes.memory(cluster.pid)
            slow = []
            for number in range(count):
                slow.append(Connection(cluster.port))
                slow[-1].send(b"GET / HTTP/1.1\r\nHost: a\r\n")
                if number % 500 == 0:
                    self.assertEqual(cluster.get("/", timeout=5).status, 200)
            for _ in range(20):
                self.assertEqual(cluster.get("/", timeout=5).status, 200)
            self.assertLess(processes.memory(cluster.pid) - memory, 100 << 20)
            for connection in slow:
                self.assertIn(connection.response().status, (408, 503))
                connection.close()
            until(lambda: cluster.descriptors() == descriptors, 20, f"{descriptors} again")

    def attack(self, cluster: Cluster, mode: str, *options: str) -> str:
        """100 connections of slowhttptest; what it says at the end. Others are served meanwhile."""
        tool = shutil.which("slowhttptest")
        if tool is None:
            raise SkipTest("slowhttptest is not here")
        url = f"http://127.0.0.1:{cluster.port}/?size=300000"
        arguments = [tool, mode, "-c", "100", "-r", "200", "-i", "1", "-p", "3", "-u", url]
        with Load(cluster, {"kept": 2, "short": 2, "upload": 1}, timeout=5) as load:
            done = subprocess.run(
                [*arguments, *options], capture_output=True, text=True, timeout=60, check=False
            )
        self.assertEqual(load.failures, [])
        said = re.sub("\x1b\\[[0-9;]*[A-Za-z]", "", done.stdout)
        self.assertEqual(set(re.findall(r"service available: +(\w+)", said)), {"YES"}, said)
        return said

    def test_slow_heads(self) -> None:
        """Slowloris: all are gone a moment after the deadline."""
        with Cluster("echo", "--head-timeout", "2", workers=2) as cluster:
            said = self.attack(cluster, "-H", "-l", "10", "-x", "8")
            self.assertIn("No open connections left", said)

    def test_slow_bodies(self) -> None:
        """Bodies that trickle in cost a worker their connection, and other clients nothing."""
        with Cluster("echo", workers=2) as cluster:
            descriptors = cluster.settled()
            self.attack(cluster, "-B", "-l", "5", "-s", "8192", "-x", "8")
            until(lambda: cluster.descriptors() == descriptors, 20, f"{descriptors} again")

    def test_slow_readers(self) -> None:
        """Answers that are hardly read cost a worker a connection, and other clients nothing."""
        with Cluster("echo", workers=2) as cluster:
            descriptors = cluster.settled()
            memory = {pid: processes.memory(pid) for pid in cluster.workers().values()}
            self.attack(cluster, "-X", "-l", "5", "-w", "512", "-y", "1024", "-z", "32", "-k", "3")
            for pid, before in memory.items():
                self.assertLess(processes.memory(pid) - before, 60 << 20)
            until(lambda: cluster.descriptors() == descriptors, 20, f"{descriptors} again")
