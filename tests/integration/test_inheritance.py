"""What a cluster leaves to the programs that its application starts: nothing of its own."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.secure import SecureCluster
from txsticky.system.this_process import FOR_ALL

APPS = "tests.integration.heirs"
INTERFACES = ("web", "wsgi", "asgi", "protocol")
UPGRADED = "The new program has taken over."
RELOADED = "The reload is complete."


def serving(cluster: Cluster, times: int) -> None:
    """Waits until so many workers have been ready."""
    until(lambda: cluster.log().count("is ready.") >= times, 30, f"{times} workers were ready")


class ChildTests(SynchronousTestCase):
    """A program that an application starts."""

    def look(self, cluster: Cluster, where: str) -> None:
        """See what each worker's children inherit, while other connections are open."""
        others = [cluster.connect() for _ in range(4)]
        try:
            for other in others[:2]:
                other.send(b"GET / HTTP/1.1\r\nHost")
            seen = set()
            for _ in range(6):
                told: dict[str, Any] = json.loads(cluster.get("/").body)
                seen.add(told["pid"])
                self.assertEqual(told["descriptors"], [], where)
                self.assertEqual((told["blocked"], told["ignored"]), ([], []), where)
                self.assertEqual(told["survived"], "", where)
            self.assertTrue(seen <= set(cluster.workers().values()), where)
        finally:
            for other in others:
                other.close()

    def through_a_life(self, cluster: Cluster, where: str) -> None:
        """Look at the first workers, at those after a reload, and at those after an upgrade."""
        with cluster:
            serving(cluster, 2)
            self.look(cluster, where)
            cluster.signal(signal.SIGUSR2)
            until(lambda: UPGRADED in cluster.log(), 30, UPGRADED)
            self.look(cluster, f"{where}, upgraded")
            cluster.signal(signal.SIGHUP)
            until(lambda: RELOADED in cluster.log(), 30, RELOADED)
            until(lambda: not cluster.others(), 15, "the old leave")
            self.look(cluster, f"{where}, upgraded and reloaded")

    def test_clear(self) -> None:
        """A program inherits nothing on every interface, and on each way to accept."""
        for interface, accept in itertools.product(INTERFACES, ("primary", "workers")):
            options = ("--interface", interface, "--accept", accept)
            cluster = Cluster(f"{APPS}:{interface}", *options, probe="")
            self.through_a_life(cluster, f"{interface}, accepted by {accept}")

    def test_alone(self) -> None:
        """A program inherits nothing where each worker is an interpreter of its own."""
        for interface in ("web", "asgi"):
            cluster = Cluster(
                f"{APPS}:{interface}", probe="", environment={"TXSTICKY_TEMPLATE": "0"}
            )
            self.through_a_life(cluster, f"{interface}, alone")

    def test_secure(self) -> None:
        """A program inherits nothing where TLS ends in the workers."""
        for interface in INTERFACES:
            options = ("--interface", interface)
            cluster = SecureCluster(f"{APPS}:{interface}", *options, probe="")
            self.through_a_life(cluster, f"{interface} over TLS")

    def test_two_reactors(self) -> None:
        """A program inherits nothing of a worker that was executed anew for asyncio's reactor."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        Path(folder, "both.py").write_text(
            "from twisted.internet import reactor\n"
            "from tests.integration.heirs import asgi as app\n"
        )
        environment = {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        cluster = Cluster("both:app", probe="", environment=environment)
        self.through_a_life(cluster, "executed anew")


class StormTests(SynchronousTestCase):
    """Signals that are sent to all processes (`systemctl kill`)."""

    def send(self, cluster: Cluster, *numbers: int) -> None:
        """Send signals to all processes of the cluster."""
        for process, number in itertools.product(cluster.living(), numbers):
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                pass

    def test_logs(self) -> None:
        """USR1 to all reopens the access log of all, and ends none; so does WINCH."""
        for interface in ("web", "wsgi", "asgi"):
            folder = self.enterContext(tempfile.TemporaryDirectory())
            path = Path(folder, "log")
            options = ("--interface", interface, "--access-log", str(path))
            with Cluster(f"{APPS}:{interface}", *options, probe="") as cluster:
                serving(cluster, 2)
                before = cluster.workers()
                path.rename(path.with_suffix(".1"))
                self.send(cluster, signal.SIGUSR1, signal.SIGWINCH)
                until(path.exists, 10, "the log is opened anew")
                until(lambda: self.both_wrote(cluster, path), 10, "both workers write to it")  # noqa: B023
                self.assertEqual(cluster.workers(), before)

    def both_wrote(self, cluster: Cluster, path: Path) -> bool:
        """Whether both workers have written a line."""
        cluster.get("/")
        lines = path.read_text().splitlines()
        return {line.split()[-2] for line in lines} == {"1", "2"}

    def test_one_worker(self) -> None:
        """USR1 to one worker reopens its log; the others that are the primary's do nothing."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = Path(folder, "log")
        with Cluster("echo", "--access-log", str(path), workers=1) as cluster:
            before = cluster.workers()
            path.unlink()
            for number in FOR_ALL - {signal.SIGUSR1}:
                os.kill(before[1], number)
            self.assertEqual(cluster.get("/").status, 200)
            self.assertFalse(path.exists())
            os.kill(before[1], signal.SIGUSR1)
            until(path.exists, 10, "the log is opened anew")
            self.assertEqual((cluster.get("/").status, cluster.workers()), (200, before))
            self.assertNotIn("has come", cluster.log())

    def test_everything(self) -> None:
        """Any of them to all, while it starts, reloads, upgrades and serves, ends nothing."""
        numbers = sorted(FOR_ALL - {signal.SIGINT})
        cluster = Cluster("echo", workers=2)
        cluster.spawn()
        try:
            until(lambda: "starting" in cluster.log().lower(), 20, "it starts")
            end = time.monotonic() + 6
            while time.monotonic() < end:
                self.send(cluster, *numbers)
                time.sleep(0.1)
            until(lambda: cluster.answers("/"), 60, "it serves")
            cluster.signal(signal.SIGHUP)
            until(lambda: cluster.answers("/"), 10, "it serves")
            said = cluster.log()
            for word in ("unexpectedly", "Traceback", "before it was ready"):
                self.assertNotIn(word, said)
            # TTOU kills the worker that TTIN has just started: nothing else is ended by a signal.
            self.assertEqual(set(re.findall(r"ended by signal (\d+)", said)) - {"9"}, set())
            self.assertIsNone(cluster.process.poll())
        finally:
            cluster.stop()

    def test_as_it_begins(self) -> None:
        """From its first moment on nothing of them ends the command."""
        numbers = sorted(FOR_ALL - {signal.SIGINT, signal.SIGTTOU, signal.SIGTTIN})
        with Cluster("echo", workers=1) as cluster:
            self.send(cluster, *numbers)
            self.assertEqual(cluster.get("/").status, 200)
