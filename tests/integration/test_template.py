"""Templates in whole clusters: over reloads, upgrades and faults."""

from __future__ import annotations

import os
import signal
import ssl
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.load import UNHURRIED, Load
from tests.integration.processes import Process, until
from tests.integration.rawhttp import request
from tests.integration.secure import NAME, SecureCluster

APP = "tests.integration.template_apps:app"
#: The clusters fork their workers, whatever the environment of the tests says.
FORKS = {"TXSTICKY_TEMPLATE": "1"}
RELOADED = "The reload is complete."
BROKEN = "raise RuntimeError('no such luck')\n"


def templates(cluster: Cluster) -> list[Process]:
    """The templates that live."""
    return [each for each in cluster.living() if each.title == "txsticky: template"]


class ReloadTests(SynchronousTestCase):
    """A template a generation."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.write("1")

    def write(self, version: str, more: str = "") -> None:
        """Write the application."""
        (self.folder / "shop.py").write_text(
            f"{more}\nprint('imported', flush=True)\n"
            "from twisted.web.resource import Resource\n"
            "class App(Resource):\n"
            "    isLeaf = True\n"
            f"    def render_GET(self, request): return b'{version}'\n"
            "app = App()\n"
        )

    def cluster(self, *options: str, workers: int = 2) -> Cluster:
        """A cluster that serves it."""
        environment = {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1", **FORKS}
        return Cluster("shop:app", *options, workers=workers, probe="/", environment=environment)

    def killed(self, cluster: Cluster, slot: int) -> None:
        """Kill a worker, and wait for its successor."""
        ready = cluster.log().count("is ready.")
        cluster.kill_worker(slot)
        until(lambda: cluster.log().count("is ready.") > ready, 30, "its successor is ready")

    def test_one_code(self) -> None:
        """With --preload all workers of a generation run the same code, and HUP brings new code."""
        with self.cluster("--preload") as cluster:
            until(lambda: cluster.log().count("is ready.") == 2, 30)
            (before,) = templates(cluster)
            self.write("2")
            for slot in (1, 2):
                self.killed(cluster, slot)
            self.assertEqual({cluster.get("/").body for _ in range(6)}, {b"1"})
            cluster.signal(signal.SIGHUP)
            until(lambda: RELOADED in cluster.log(), 30, RELOADED)
            self.assertEqual({cluster.get("/").body for _ in range(6)}, {b"2"})
            until(lambda: len(templates(cluster)) == 1, 10, "the old template ends")
            self.assertNotEqual(templates(cluster)[0].pid, before.pid)
            self.assertEqual(cluster.log().count("imported"), 2)

    def test_broken(self) -> None:
        """If the new code fails, that is told once, and all later workers are of the old code."""
        with self.cluster("--preload") as cluster:
            until(lambda: cluster.log().count("is ready.") == 2, 30)
            workers, (before,) = cluster.workers(), templates(cluster)
            self.write("2", BROKEN)
            cluster.signal(signal.SIGHUP)
            until(lambda: "The reload is given up" in cluster.log(), 30, "it is given up")
            until(lambda: len(templates(cluster)) == 1, 10, "the new template ends")
            self.assertEqual(templates(cluster)[0].pid, before.pid)
            until(lambda: cluster.workers() == workers, 10, "the worker that failed ends")
            self.assertEqual(cluster.log().count("no such luck"), 1, cluster.log())
            self.killed(cluster, 1)
            self.assertEqual({cluster.get("/").body for _ in range(6)}, {b"1"})
            self.write("3")
            cluster.signal(signal.SIGHUP)
            until(lambda: RELOADED in cluster.log(), 30, RELOADED)
            self.assertEqual({cluster.get("/").body for _ in range(6)}, {b"3"})

    def test_under_load(self) -> None:
        """No request fails while it is reloaded, upgraded, and its templates are killed."""
        with Cluster("echo", "--preload", *UNHURRIED, environment=FORKS) as cluster:
            with Load(cluster, {"kept": 2, "short": 2, "poll": 2}, pause=0.02) as load:
                load.wait(40)
                for number in range(1, 4):
                    cluster.signal(signal.SIGHUP)
                    until(lambda: cluster.log().count(RELOADED) == number, 40, RELOADED)  # noqa: B023
                    for template in templates(cluster):
                        os.kill(template.pid, signal.SIGKILL)
                cluster.signal(signal.SIGUSR2)
                until(lambda: "has taken over" in cluster.log(), 40, "it takes over")
                load.wait(80)
            self.assertEqual(load.failures, [])
            self.assertNotIn("Traceback", cluster.log())

    def test_reactor(self) -> None:
        """If the application imports the reactor, --preload has no effect, and that is told."""
        self.write("1", "from twisted.internet import reactor\n")
        with self.cluster("--preload") as cluster:
            self.assertIn("--preload has no effect: the application imports", cluster.log())
            self.assertEqual(cluster.get("/").body, b"1")
            self.assertEqual(len(templates(cluster)), 1)


class FaultTests(SynchronousTestCase):
    """Templates that fail."""

    def replaced(self, cluster: Cluster, slot: int) -> None:
        """Kill a worker; another takes its place."""
        before = cluster.kill_worker(slot)
        until(lambda: cluster.workers().get(slot, before) != before, 20, "it is replaced")
        until(lambda: cluster.answers("/"), 20, "it serves")

    def test_killed_and_stopped(self) -> None:
        """Workers are started alone while there is none, and forked again afterwards."""
        with Cluster(APP, probe="/", environment=FORKS) as cluster:
            until(lambda: cluster.log().count("is ready.") == 2, 30)
            for number in (signal.SIGKILL, signal.SIGSTOP):
                (before,) = templates(cluster)
                os.kill(before.pid, number)
                self.replaced(cluster, 1)
                until(lambda: len(templates(cluster)) == 1, 20, "there is another")
                until(lambda: templates(cluster)[0].pid != before.pid, 20, "it is another")  # noqa: B023
            self.assertNotIn("Traceback", cluster.log())

    def test_primary_dies(self) -> None:
        """When the primary is killed, its template ends, even one that is stopped."""
        with Cluster(APP, probe="/", environment=FORKS) as cluster:
            until(lambda: len(templates(cluster)) == 1, 20)
            os.kill(templates(cluster)[0].pid, signal.SIGSTOP)
            cluster.signal(signal.SIGKILL)
            cluster.wait()
            until(lambda: not templates(cluster), 10, "it ends")
            until(lambda: not cluster.living(), 20, "the workers end")


class ResumeTests(SynchronousTestCase):
    """TLS sessions."""

    def test_any_worker(self) -> None:
        """A session that began in one worker goes on in any."""
        names = ((NAME, "localhost"), ("two.test",))
        with SecureCluster(APP, names=names, workers=3, probe="/", environment=FORKS) as cluster:
            until(lambda: cluster.log().count("is ready.") == 3, 30)
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                for name in (NAME, "two.test"):
                    context = cluster.context()
                    context.minimum_version = context.maximum_version = version
                    pids, resumed = self.visits(cluster, context, name)
                    self.assertEqual(resumed, [False] + [True] * 19, (version, name))
                    self.assertEqual(len(pids), 3, "all workers were visited")

    def visits(
        self, cluster: SecureCluster, context: ssl.SSLContext, name: str
    ) -> tuple[set[int], list[bool]]:
        """Come twenty times; which workers answered, and whether the session was resumed."""
        session, pids, resumed = None, set(), []
        for _ in range(20):
            plain = cluster.plain().socket
            with context.wrap_socket(plain, server_hostname=name, session=session) as secured:
                secured.sendall(request("GET", "/", headers=[("Connection", "close")]))
                answer = b""
                while data := secured.recv(65536):
                    answer += data
                pids.add(int(answer.partition(b"\r\n\r\n")[2]))
                resumed.append(bool(secured.session_reused))
                session = secured.session
        return pids, resumed
