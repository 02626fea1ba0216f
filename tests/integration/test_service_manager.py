"""Being run by others: systemd, or as the first process of a container; as root, or as nobody."""

from __future__ import annotations

import functools
import os
import pwd
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.cluster import ROOT, Cluster, free_port
from tests.integration.load import Load
from tests.integration.processes import until
from tests.integration.rawhttp import request

APPS = "tests.integration.fault_apps"
#: Becomes the command behind it as a service manager would start it: with a socket of its own or
#: one that it inherited, as descriptor 3.
LAUNCHER = """
import os, sys
descriptor, names, *command = sys.argv[1:]
os.dup2(int(descriptor), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
if names:
    os.environ.update(LISTEN_FDNAMES=names)
os.execv(sys.executable, [sys.executable, *command])
"""
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


class Manager:
    """A service manager's end of NOTIFY_SOCKET.

    :ivar said: what the service has said so far, one message each.
    """

    def __init__(self, address: str) -> None:
        self.said: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.setblocking(False)

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def count(self, word: str) -> int:
        """How often that has been said by now."""
        while True:
            try:
                lines = self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return sum(word in message for message in self.said)
            self.said.append(dict(line.split("=", 1) for line in lines))

    def order(self) -> list[str]:
        """What has been said, less the signs of life and what is said twice in a row."""
        self.count("")
        words = [next(iter(message)) for message in self.said if "WATCHDOG" not in message]
        return [word for n, word in enumerate(words) if words[n - 1 : n] != [word]]


class Notify(SynchronousTestCase):
    """sd_notify(3)."""

    def manager(self, address: str = "") -> tuple[Manager, dict[str, str]]:
        """A manager, and the environment that tells of it."""
        if not address:
            address = os.path.join(self.enterContext(tempfile.TemporaryDirectory()), "notify")
        manager = Manager(address)
        self.addCleanup(manager.close)
        return manager, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "600000"}

    def test_a_life(self) -> None:
        """Ready when it serves and not before, reloading, ready again, alive, stopping."""
        manager, environment = self.manager()
        word = Path(self.enterContext(tempfile.TemporaryDirectory()), "word")
        environment["WHEN"] = str(word)
        app = (f"{APPS}:when_told", "--factory")
        with Cluster(*app, workers=2, probe="", environment=environment) as cluster:
            self.assertEqual(manager.count("READY"), 0)
            word.touch()
            until(lambda: manager.count("READY"), 20, "it is ready")
            self.assertEqual(cluster.log().count("is ready."), 2)
            self.assertEqual(cluster.get("/").status, 200)
            before = time.monotonic()
            cluster.signal(signal.SIGHUP)
            until(lambda: manager.count("RELOADING"), 10, "it reloads")
            until(lambda: manager.count("READY") == 2, 30, "it is ready again")
            self.assertIn("The reload is complete.", cluster.log())
            (reloading,) = [each for each in manager.said if "RELOADING" in each]
            told = int(reloading["MONOTONIC_USEC"]) / 1_000_000
            self.assertTrue(before <= told <= time.monotonic())
            alive = manager.count("WATCHDOG")
            until(lambda: manager.count("WATCHDOG") >= alive + 5, 10, "it is alive")
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(), 0)
        self.assertEqual(manager.order(), ["READY", "RELOADING", "READY", "STOPPING"])

    def test_a_reload_that_fails(self) -> None:
        """When a reload is given up the service is ready as before."""
        manager, environment = self.manager()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        module = Path(folder, "app_of_today.py")
        module.write_text("from tests.integration.apps import echo as app\n")
        environment |= {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        with Cluster("app_of_today:app", workers=1, environment=environment) as cluster:
            module.write_text("raise LookupError\n")
            cluster.signal(signal.SIGHUP)
            until(lambda: manager.count("READY") == 2, 20, "it is ready again")
        self.assertEqual(manager.order(), ["READY", "RELOADING", "READY", "STOPPING"])

    def test_an_application_that_does_not_load(self) -> None:
        """A cluster whose application does not load never says READY."""
        manager, environment = self.manager()
        cluster = Cluster("does_not_load", "--factory", probe="", environment=environment)
        cluster.spawn()
        self.assertEqual(cluster.wait(), 3)
        cluster.stop()
        self.assertEqual(manager.count("READY"), 0)

    def test_upgrade(self) -> None:
        """A new program goes on with the signs of life, to a socket of any kind."""
        manager, environment = self.manager(f"@txsticky-test-{os.getpid()}")
        with Cluster("echo", workers=1, environment=environment) as cluster:
            cluster.signal(signal.SIGUSR2)
            until(lambda: "has taken over" in cluster.log(), 20, "it has taken over")
            alive = manager.count("WATCHDOG")
            until(lambda: manager.count("WATCHDOG") >= alive + 5, 10, "it is alive")

    def test_not_the_workers_business(self) -> None:
        """The workers know nothing of the service manager."""
        _, environment = self.manager()
        app = (f"{APPS}:faulty", "--factory")
        with Cluster(*app, workers=1, environment=environment) as cluster:
            names = cluster.get("/environment").body.decode().split("\n")
        self.assertIn("TXSTICKY_WORKER", names)
        self.assertEqual({"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(names), set())


class Activation(SynchronousTestCase):
    """sd_listen_fds(3)."""

    def setUp(self) -> None:
        self.socket = socket.socket()
        self.addCleanup(self.socket.close)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(100)

    def cluster(self, endpoint: str, names: str = "web") -> Cluster:
        """A cluster that gets the socket of this test, under a name or without one."""
        cluster = Cluster(f"{APPS}:faulty", "--factory", workers=2)
        arguments = cluster.arguments
        arguments[arguments.index("--listen") + 1] = f"systemd:domain=INET:{endpoint}"
        cluster.arguments = ["-c", LAUNCHER, str(self.socket.fileno()), names, *arguments]
        cluster.inherits = (self.socket.fileno(),)
        cluster.port = self.socket.getsockname()[1]
        return cluster

    def test_restart(self) -> None:
        """The port stays open through a restart: who comes in between is served by the next."""
        with self.cluster("index=0") as cluster:
            names = cluster.get("/environment").body.decode().split("\n")
            self.assertEqual({n for n in names if n.startswith("LISTEN")}, set())
        waiting = cluster.connect()
        waiting.send(request("GET", "/"))
        with self.cluster("name=web"):
            self.assertEqual(waiting.response().status, 200)
            waiting.close()

    def test_without_names(self) -> None:
        """A manager may leave the names out: then it is the index that tells."""
        for endpoint in ("index=0", "name=unknown"):
            with self.cluster(endpoint, names="") as cluster:
                names = cluster.get("/environment").body.decode().split("\n")
                self.assertEqual({n for n in names if n.startswith("LISTEN")}, set())
                cluster.signal(signal.SIGUSR2)
                until(lambda: "has taken over" in cluster.log(), 20, "it has taken over")
                self.assertEqual(cluster.get("/").status, 200)

    def test_no_such_socket(self) -> None:
        """A socket that was not passed is told in one sentence."""
        for endpoint in ("index=1", "name=other"):
            cluster = self.cluster(endpoint)
            cluster.spawn()
            self.assertEqual(cluster.wait(), 1)
            said = cluster.log()
            cluster.stop()
            self.assertIn("the service manager has passed no such socket", said)
            self.assertNotIn("Traceback", said)

    def test_upgrade(self) -> None:
        """A new program keeps the socket."""
        with self.cluster("name=web") as cluster:
            with Load(cluster, {"kept": 2, "short": 2}) as load:
                cluster.signal(signal.SIGUSR2)
                until(lambda: "has taken over" in cluster.log(), 20, "it has taken over")
                load.wait(50)
            self.assertEqual(load.failures, [])


class FirstProcess(SynchronousTestCase):
    """PID 1, as in a container."""

    def setUp(self) -> None:
        try:
            subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SkipTest(f"no PID namespace can be made here: {error}") from None
        self.cluster = Cluster(f"{APPS}:faulty", "--factory", workers=2)
        self.cluster.command = (*NAMESPACE, sys.executable)

    def primary(self) -> int:
        """The primary, by its number outside."""
        (pid,) = [p.pid for p in self.cluster.living() if p.title == "txsticky: primary"]
        return pid

    def test_orphans(self) -> None:
        """A first process reaps orphans, and still knows how its workers end."""
        with self.cluster as cluster:
            self.assertIn("NSpid", Path(f"/proc/{self.primary()}/status").read_text())
            usual = len(self.children())
            for _ in range(5):
                self.assertEqual(cluster.get("/fork?seconds=5").status, 200)
            until(lambda: len(self.children()) == usual + 5, 5, "it has adopted them")
            until(lambda: len(self.children()) == usual, 10, "it has reaped them")
            cluster.kill_worker(2)
            until(lambda: "was ended by signal 9 unexpectedly" in cluster.log(), 10, "it is told")
            cluster.wait_ready()
            os.kill(self.primary(), signal.SIGTERM)
            self.assertEqual(cluster.wait(), 0)

    def children(self) -> list[str]:
        """The states of the primary's children."""
        primary = str(self.primary())
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[1] == primary:
                found.append(fields[0])
        return found

    def test_requests_under_way(self) -> None:
        """TERM is graceful there as well, and nothing of the container is left."""
        with self.cluster as cluster, cluster.connect() as connection:
            connection.send(request("GET", "/?delay=1"))
            time.sleep(0.3)
            os.kill(self.primary(), signal.SIGTERM)
            self.assertEqual(connection.response().status, 200)
            self.assertEqual(cluster.wait(), 0)


@functools.cache
def for_nobody() -> tuple[tuple[str, ...], dict[str, str]] | None:
    """An interpreter that the user nobody can run, and the environment in which it finds all."""
    paths = [str(ROOT), *{sysconfig.get_path(name) for name in ("purelib", "platlib")}]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    for interpreter in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run(
                [interpreter, "-c", "import txsticky.worker.process, twisted.internet.reactor"],
                env=environment,
                cwd="/",
                user="nobody",
                check=True,
                capture_output=True,
            )
        except (OSError, KeyError, subprocess.CalledProcessError):
            continue
        return (interpreter,), environment
    return None


class Privileges(SynchronousTestCase):
    """--user and --group."""

    def setUp(self) -> None:
        if os.geteuid():
            raise SkipTest("only root can run workers as another user")
        found = for_nobody()
        if found is None:
            raise SkipTest("the user nobody can run no interpreter that has what is needed")
        self.command, self.environment = found

    def test_workers_are_nobody(self) -> None:
        """The port is bound as root; the workers, and those that follow them, are nobody."""
        nobody = pwd.getpwnam("nobody").pw_uid
        port = next((n for n in range(1023, 600, -1) if self.is_free(n)), free_port())
        options = ("--listen", f"127.0.0.1:{port}", "--user", "nobody")
        with self.server(*options) as cluster:
            cluster.signal(signal.SIGHUP)
            until(lambda: "The reload is complete." in cluster.log(), 30, "the reload is complete")
            cluster.signal(signal.SIGUSR2)
            until(lambda: "has taken over" in cluster.log(), 20, "it has taken over")
            cluster.kill_worker(2)
            until(lambda: cluster.log().count("is ready.") == 5, 20, "it is replaced")
            owners = {os.stat(f"/proc/{pid}").st_uid for pid in cluster.workers().values()}
            self.assertEqual((owners, os.stat(f"/proc/{cluster.pid}").st_uid), ({nobody}, 0))
            cluster.port = port
            self.assertEqual(cluster.get("/").status, 200)

    def is_free(self, port: int) -> bool:
        """Whether the port can be bound."""
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True

    def server(self, *options: str) -> Cluster:
        """A cluster whose interpreter the user nobody can run, too."""
        cluster = Cluster("echo", *options, workers=2, environment=self.environment)
        cluster.command = self.command
        return cluster
