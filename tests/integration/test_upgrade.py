"""USR2: the primary executes itself anew in place, and no client notices."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import tempfile
import textwrap
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster, free_port
from tests.integration.load import Load
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, cut, payload, request, sha256
from tests.integration.secure import SecureCluster

APPS = "tests.integration.fault_apps"
DONE = "The new program has taken over."


class UpgradeCase(SynchronousTestCase):
    """What these tests share."""

    def upgrade(self, cluster: Cluster) -> None:
        """Upgrades, and waits until the new program has taken over."""
        before = cluster.log().count(DONE)
        cluster.signal(signal.SIGUSR2)
        until(lambda: cluster.log().count(DONE) > before, 30, DONE)

    def asking(self, cluster: Cluster, data: bytes) -> Connection:
        """A connection that has sent this."""
        connection = cluster.connect()
        self.addCleanup(connection.close)
        connection.send(data)
        return connection


class InPlace(UpgradeCase):
    """Upgrades to the same program once more."""

    def test_under_load(self) -> None:
        """Four upgrades under every kind of load: no request fails, nothing is left open."""
        clients = {"kept": 4, "short": 3, "upload": 2, "poll": 2, "slow": 2}
        with Cluster("echo", workers=2) as cluster:
            cluster.tags()
            self.upgrade(cluster)
            before, workers = cluster.settled(), cluster.workers()
            with Load(cluster, clients, pause=0.02) as load:
                load.wait(100)
                for _ in range(4):
                    self.upgrade(cluster)
                    load.wait(60)
            self.assertEqual(load.failures, [])
            self.assertEqual(set(load.answered), set(clients))
            self.assertEqual(cluster.workers(), workers)
            until(lambda: cluster.descriptors() == before, 10, f"{before} descriptors again")

    def test_in_its_hands(self) -> None:
        """Connections whose head is not complete, and those that wait for a worker, are served."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        word = Path(folder, "word")
        word.touch()
        app = (f"{APPS}:when_told", "--factory", "--head-timeout", "60")
        with Cluster(*app, workers=1, environment={"WHEN": str(word)}) as cluster:
            body = payload(200_000)
            stream = request("POST", "/half", body=body)
            first, rest = cut(stream, 20)
            halves = [self.asking(cluster, first) for _ in range(20)]
            silent = [cluster.connect() for _ in range(5)]
            time.sleep(1.5)  # so that the kernel has handed over those that say nothing
            word.unlink()
            cluster.kill_worker(1)
            until(lambda: "unexpectedly" in cluster.log(), 10, "the worker's death is noticed")
            cluster.signal(signal.SIGUSR2)
            until(cluster.others, 10, "the new program is tried out")
            parked = [self.asking(cluster, request("GET", f"/?n={n}")) for n in range(20)]
            until(lambda: DONE in cluster.log(), 20, DONE)
            word.touch()
            for half in halves:
                half.send(rest)
            for connection in silent:
                connection.send(stream)
            for number, connection in enumerate(parked):
                answer = connection.response()
                self.assertEqual((answer.status, answer.header("x-n")), (200, str(number)))
            for connection in (*halves, *silent):
                answer = connection.response()
                self.assertEqual((answer.status, answer.header("x-sha256")), (200, sha256([body])))
                connection.close()

    def test_mail_that_nobody_takes(self) -> None:
        """Hand-offs that wait in the primary, because a mailbox is full, arrive whole."""
        with Cluster("echo", "--worker-timeout", "0", workers=2) as cluster:
            sid, pid = cluster.tag(2), cluster.kill_worker(2, signal.SIGSTOP)
            body = payload(50_000)
            stream = request("POST", f"/?sid={sid}", body=body)
            waiting = [self.asking(cluster, stream) for _ in range(80)]
            self.upgrade(cluster)
            waiting += [self.asking(cluster, stream) for _ in range(10)]
            os.kill(pid, signal.SIGCONT)
            for connection in waiting:
                answer = connection.response()
                self.assertEqual((answer.status, answer.header("x-sha256")), (200, sha256([body])))
                self.assertEqual(answer.header("x-pid"), str(pid))

    def test_what_was_known(self) -> None:
        """Tags and bindings lead where they led."""
        with Cluster("echo", workers=3) as cluster:
            tags = cluster.tags()
            with cluster.connect() as connection:
                owner = connection.ask(request("GET", "/cluster/bind?key=mine")).header("x-worker")
            self.upgrade(cluster)
            for slot, tag in tags.items():
                self.assertEqual(cluster.get(f"/?sid={tag}").header("x-worker"), str(slot))
            for _ in range(6):
                self.assertEqual(cluster.get("/?sid=mine").header("x-worker"), owner)

    def test_afterwards(self) -> None:
        """The new program restarts workers, reloads, upgrades and stops as the old one did."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path, control = os.path.join(folder, "socket"), os.path.join(folder, "control")
        status = free_port()
        options = ("--listen", f"unix:{path}", "--control", control, "--status", str(status))
        options += ("--status-host", "cluster.test")
        with Cluster("echo", *options, workers=2) as cluster:
            self.upgrade(cluster)
            pid = cluster.kill_worker(2)
            until(lambda: cluster.workers().get(2, pid) != pid, 20, "the worker is back")
            cluster.wait_ready()
            workers = set(cluster.workers().values())
            cluster.signal(signal.SIGHUP)
            until(lambda: "The reload is complete." in cluster.log(), 30, "the reload is complete")
            until(lambda: not workers & set(cluster.workers().values()), 10, "all are new")
            self.upgrade(cluster)
            with socket.socket(socket.AF_UNIX) as local:
                local.connect(path)
                with Connection.over(local) as connection:
                    self.assertEqual(connection.ask(request("GET", "/")).status, 200)
            with socket.socket(socket.AF_UNIX) as operator:
                operator.connect(control)
                operator.sendall(b'{"verb": "workers"}\n')
                self.assertIn(b'"ok": true', operator.recv(65536))
            with Connection(status) as page:
                self.assertEqual(page.ask(request("GET", "/healthz")).status, 200)
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(), 0)
        self.assertEqual(os.listdir(folder), [])

    def test_another_listen(self) -> None:
        """Ports that the file names no more are closed, others stay, in whatever order."""
        for accept in ("primary", "workers"):
            ports = [free_port() for _ in range(3)]
            file = Path(self.enterContext(tempfile.TemporaryDirectory()), "config.toml")

            def listen(*ports: int, file: Path = file) -> None:
                file.write_text(f"listen = {[f'127.0.0.1:{port}' for port in ports]}")

            cluster = Cluster("echo", "--config", str(file), "--accept", accept, workers=2)
            at = cluster.arguments.index("--listen")
            del cluster.arguments[at : at + 2]
            cluster.port = ports[1]
            listen(*ports[:2])
            with cluster:
                listen(ports[2], ports[1])
                self.upgrade(cluster)
                cluster.signal(signal.SIGHUP)
                until(lambda: "is complete" in cluster.log(), 30, "workers know it")  # noqa: B023
                until(lambda: not cluster.others(), 10, "alone")  # noqa: B023
                for cluster.port in ports[1:]:
                    for _ in range(6):
                        self.assertEqual(cluster.get("/").status, 200)
                with self.assertRaises(ConnectionRefusedError):
                    Connection(ports[0])

    def test_listen_in_use(self) -> None:
        """A port of the file that another program has is told, and the old program goes on."""
        ports = [free_port() for _ in range(2)]
        other = self.enterContext(socket.create_server(("127.0.0.1", ports[1])))
        file = Path(self.enterContext(tempfile.TemporaryDirectory()), "config.toml")
        file.write_text(f"listen = ['127.0.0.1:{ports[0]}']")
        cluster = Cluster("echo", "--config", str(file), workers=1)
        at = cluster.arguments.index("--listen")
        del cluster.arguments[at : at + 2]
        cluster.port = ports[0]
        with cluster:
            file.write_text(f"listen = ['127.0.0.1:{ports[1]}']")
            cluster.signal(signal.SIGUSR2)
            until(lambda: "This one goes on." in cluster.log(), 30, "it is refused")
            self.assertIn(f"Cannot listen on 127.0.0.1:{ports[1]}: ", cluster.log())
            self.assertNotIn(DONE, cluster.log())
            self.assertEqual(cluster.get("/").status, 200)
            other.close()
            self.upgrade(cluster)
            cluster.port = ports[1]
            self.assertEqual(cluster.get("/").status, 200)

    def test_release_link(self) -> None:
        """A link to the present release leads new workers also after upgrades, wherever it leads
        by then.
        """
        top = Path(self.enterContext(tempfile.TemporaryDirectory()))
        link = top / "current"
        for number in (1, 2, 3):
            release = top / f"release{number}"
            release.mkdir()
            (release / "released.py").write_text(
                "def app(environ, start_response):\n"
                "    start_response('200 OK', [])\n"
                f"    return [b'release {number}']\n"
            )
        link.symlink_to("release1")
        environment = {"PWD": str(link)}
        cluster = Cluster("released:app", workers=1, probe="/", environment=environment)
        cluster.folder = link

        def switch(number: int) -> None:
            new = top / "new"
            new.symlink_to(f"release{number}")
            new.rename(link)

        def reload() -> bytes:
            before = cluster.log().count("The reload is complete.")
            cluster.signal(signal.SIGHUP)
            until(lambda: cluster.log().count("The reload is complete.") > before, 30, "reloaded")
            until(lambda: not cluster.others(), 15, "alone")
            return cluster.get("/").body

        with cluster:
            self.assertEqual(cluster.get("/").body, b"release 1")
            switch(2)
            self.assertEqual(reload(), b"release 2")
            self.upgrade(cluster)
            self.assertEqual(reload(), b"release 2")
            self.upgrade(cluster)
            switch(3)
            self.assertEqual(reload(), b"release 3")
            dead = cluster.kill_worker(1)
            until(lambda: cluster.workers().get(1, dead) != dead, 20, "it is replaced")
            until(lambda: cluster.answers("/"), 20, "it serves")
            self.assertEqual(cluster.get("/").body, b"release 3")

    def test_locked_folder(self) -> None:
        """A lock of another process on the control socket's folder holds nothing up."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        control = os.path.join(folder, "control")
        lock = os.open(folder, os.O_RDONLY)
        self.addCleanup(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Cluster("echo", "--control", control, workers=1) as cluster:
            self.upgrade(cluster)
            self.assertEqual(cluster.get("/").status, 200)
            self.assertEqual(os.listdir(folder), ["control"])

    def test_during_a_reload(self) -> None:
        """A reload that is under way goes on under the new program."""
        with Cluster(f"{APPS}:slow_start", "--factory", workers=2) as cluster:
            workers = set(cluster.workers().values())
            cluster.signal(signal.SIGHUP)
            until(lambda: "The reload begins" in cluster.log(), 10, "the reload begins")
            self.upgrade(cluster)
            until(lambda: "The reload is complete." in cluster.log(), 30, "the reload is complete")
            until(lambda: not workers & set(cluster.workers().values()), 15, "all are new")
            self.assertEqual(cluster.get("/").status, 200)


class NewVersions(UpgradeCase):
    """A program that changes."""

    def setUp(self) -> None:
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.write("")

    def write(self, first: str, rest: str = "") -> None:
        """Write a new version of the program."""
        Path(self.folder, "our_program.py").write_text(
            textwrap.dedent(f"""
            {first}
            import sys
            from txsticky.cli.command import run
            {rest}
            run(sys.argv[1:])
            """)
        )

    def cluster(self, *options: str) -> Cluster:
        """A cluster that is run by it."""
        environment = {"PYTHONPATH": self.folder, "PYTHONDONTWRITEBYTECODE": "1"}
        cluster = Cluster("echo", *options, workers=1, environment=environment)
        cluster.arguments[cluster.arguments.index("txsticky")] = "our_program"
        return cluster

    def test_it_is_new(self) -> None:
        """What is executed is the program as it is by then."""
        with self.cluster() as cluster:
            self.write("print('this is version 2')")
            self.upgrade(cluster)
            self.assertIn("this is version 2", cluster.log().replace("The new program says", ""))
            self.assertEqual(cluster.get("/").status, 200)

    def test_every_way_to_fail(self) -> None:
        """A version that does not start is not executed, whatever is wrong; and why is said."""
        bad = (
            ("syntax is not for everybody", "", "SyntaxError"),
            ("raise SystemExit(0)", "", "it exited with code 0"),
            ("import os; os._exit(9)", "", "it exited with code 9"),
            ("import os; os.abort()", "", "it was ended by signal 6"),
            ("import no_such_module", "", "no_such_module"),
            (
                "",
                "import txsticky.primary.upgrade.trial as t; t.FORM, t.KNOWN_FORMS = 0, ()",
                "this one knows form 0",
            ),
        )
        with self.cluster() as cluster:
            with Load(cluster, {"kept": 1, "short": 1}) as load:
                for first, rest, said in bad:
                    self.write(first, rest)
                    known = len(cluster.log())
                    cluster.signal(signal.SIGUSR2)
                    until(lambda: "This one goes on." in cluster.log()[known:], 30, said)  # noqa: B023
                    self.assertIn(said, cluster.log()[known:])
            self.assertEqual(load.failures, [])
            self.write("")
            self.upgrade(cluster)

    def test_a_certificate_that_has_gone(self) -> None:
        """Files that cannot be used any more are found out before anything is given up."""
        with SecureCluster("echo", workers=1) as cluster:
            context, (pair,) = cluster.context(), cluster.pairs.values()
            Path(pair.certificate).write_text("nothing")
            cluster.signal(signal.SIGUSR2)
            until(lambda: "This one goes on." in cluster.log(), 30, "it does not start")
            self.assertIn("TLS cannot be served", cluster.log())
            self.assertEqual(cluster.get("/", context=context).status, 200)

    def test_hangs(self) -> None:
        """While a program is tried out no second upgrade begins; a stop does not wait for it."""
        with self.cluster() as cluster:
            self.write("import time; time.sleep(600)")
            cluster.signal(signal.SIGUSR2)
            until(cluster.others, 10, "it is tried out")
            cluster.signal(signal.SIGUSR2)
            until(lambda: "an upgrade is under way already" in cluster.log(), 10, "that is said")
            self.assertEqual(cluster.get("/").status, 200)
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(8), 0)
