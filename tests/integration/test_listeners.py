"""What can be listened on: several ports, IPv6, a UNIX socket; and the access log."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster, free_port
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, payload, request, sha256

BODY = payload(300_000)


class Endpoints(SynchronousTestCase):
    """One cluster, several endpoints."""

    def converse(self, cluster: Cluster, connected: socket.socket) -> dict[str, object]:
        """Uploads, then asks each worker on the same connection; what the last one told."""
        with Connection.over(connected) as connection:
            posted = connection.ask(request("POST", "/", body=BODY))
            self.assertEqual((posted.status, posted.header("x-sha256")), (200, sha256([BODY])))
            for slot, sid in cluster.tags().items():
                answer = connection.ask(request("POST", f"/?sid={sid}", body=b"hello"))
                self.assertEqual((answer.status, answer.header("x-worker")), (200, str(slot)))
            told: dict[str, object] = json.loads(answer.body)
            return told

    def test_all_at_once(self) -> None:
        """A second port, IPv6 and a UNIX socket are served, and connections on them move."""
        second, third = free_port(), free_port()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "socket")
        options = [f"127.0.0.1:{second}", f"[::1]:{third}", f"unix:{path}"]
        listen = [word for option in options for word in ("--listen", option)]
        with Cluster("echo", *listen, workers=2) as cluster:
            told = self.converse(cluster, socket.create_connection(("127.0.0.1", second)))
            self.assertEqual(told["host"], f"127.0.0.1:{second}")
            with socket.create_connection(("::1", third)) as six:
                host, port = six.getsockname()[:2]
                told = self.converse(cluster, six)
            self.assertEqual((told["peer"], told["host"]), (f"{host}:{port}", f"::1:{third}"))
            with socket.socket(socket.AF_UNIX) as local:
                local.connect(path)
                self.converse(cluster, local)
        self.assertFalse(os.path.exists(path), "the UNIX socket is left over")


class AfterKill(SynchronousTestCase):
    """UNIX sockets whose process was killed."""

    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        names = ("listen", "status", "control")
        self.paths = {name: os.path.join(folder, name) for name in names}

    def cluster(self) -> Cluster:
        """A cluster with a UNIX socket of each kind."""
        options = (
            *("--listen", f"unix:{self.paths['listen']}:mode=660"),
            *("--status", f"unix:{self.paths['status']}"),
            *("--control", self.paths["control"]),
        )
        return Cluster("echo", *options, workers=1)

    def ask(self, name: str, target: str = "/") -> int:
        """The status of an answer on a socket."""
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(self.paths[name])
            with Connection.over(local) as connection:
                return connection.ask(request("GET", target)).status

    def test_started_again(self) -> None:
        """UNIX sockets are opened again, though a lock of Twisted's names a process that lives."""
        killed = self.cluster()
        killed.start()
        try:
            os.kill(killed.pid, signal.SIGKILL)
            killed.wait()
        finally:
            killed.stop()
        for path in self.paths.values():
            self.assertTrue(os.path.exists(path))
            os.symlink(str(os.getpid()), path + ".lock")
        with self.cluster():
            self.assertEqual((self.ask("listen"), self.ask("status", "/healthz")), (200, 200))
            with socket.socket(socket.AF_UNIX) as operator:
                operator.connect(self.paths["control"])
        for path in self.paths.values():
            self.assertFalse(os.path.exists(path), path)

    def test_not_by_two(self) -> None:
        """While a socket answers, a second start is refused in one sentence."""
        with self.cluster() as cluster:
            second = self.cluster()
            second.spawn()
            self.assertEqual(second.wait(), 1)
            said = second.log()
            second.stop()
            self.assertIn(f"Cannot listen on unix:{self.paths['listen']}", said)
            self.assertIn("another process answers there", said)
            self.assertNotIn("Traceback", said)
            self.assertEqual((self.ask("listen"), cluster.get("/").status), (200, 200))


class Mapped(SynchronousTestCase):
    """IPv4-mapped addresses have their IPv4 name, wherever they come from."""

    def told(self, cluster: Cluster, port: int, *before: bytes) -> tuple[str, str]:
        """Peer and host as the application sees them, behind a proxy's X-Forwarded-For or not."""
        with Connection.over(socket.create_connection(("127.0.0.1", port))) as connection:
            connection.send(*before)
            answer = json.loads(connection.ask(request("GET", "/")).body)
            host, _ = connection.socket.getsockname()
            self.assertEqual(host, "127.0.0.1")
            forwarded = [("X-Forwarded-For", "::ffff:192.0.2.7")]
            behind = json.loads(connection.ask(request("GET", "/", headers=forwarded)).body)
            self.assertEqual(behind["peer"].rpartition(":")[0], "192.0.2.7")
        return answer["peer"].rpartition(":")[0], answer["host"]

    def listens(self, port: int) -> bool:
        """Whether the port accepts connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def test_listening_on_any(self) -> None:
        """A socket that listens on `::`, of the primary and of workers; the rule is mapped, too."""
        for accept in ("primary", "workers"):
            port = free_port()
            options = ("--listen", f"tcp:{port}:interface=\\:\\:", "--accept", accept)
            rule = ("--forwarded-allow-ips", "::ffff:127.0.0.1")
            with Cluster("echo", *options, *rule) as cluster:
                self.assertEqual(
                    self.told(cluster, port), ("127.0.0.1", f"127.0.0.1:{port}"), accept
                )

    def test_proxy_header(self) -> None:
        """A PROXY header with such addresses, from a peer that such a rule names."""
        port = free_port()
        line = b"PROXY TCP6 ::ffff:10.0.0.9 ::ffff:10.0.0.1 5 6\r\n"
        rule = ("--forwarded-allow-ips", "::ffff:127.0.0.1,::ffff:10.0.0.0/104")
        listen = ("--listen", f"tcp:{port}:interface=\\:\\:")
        with Cluster("echo", *listen, "--proxy-protocol", *rule, probe="") as cluster:
            until(lambda: self.listens(port), 10, "the second port is open")
            peer, _ = self.told(cluster, port, line)
            self.assertEqual(peer, "10.0.0.9")


class AccessLog(SynchronousTestCase):
    """`--access-log FILE`."""

    def test_lines(self) -> None:
        """Each request is one line with the client's address, written by the worker that served it,
        also when its connection came from another; USR1 reopens the file.
        """
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path, moved = Path(folder, "access.log"), Path(folder, "access.log.1")
        with Cluster("echo", "--access-log", str(path), workers=2) as cluster:
            with cluster.connect(source="127.0.0.7") as connection:
                for number in range(6):
                    sid = cluster.tag(number % 2 + 1)
                    connection.ask(request("GET", f"/logged?n={number}&sid={sid}"))
            seen = re.compile(
                r'^127\.0\.0\.7 .*"GET /logged\?n=(\d)\S* HTTP/1\.1" 200 ', re.MULTILINE
            )
            until(lambda: len(seen.findall(path.read_text())) >= 6, 10, "six lines")
            self.assertEqual(sorted(seen.findall(path.read_text())), list("012345"))
            path.rename(moved)
            cluster.signal(signal.SIGUSR1)
            until(path.exists, 10, "the log is opened anew")
            until(lambda: self.both_logged(cluster, path), 10, "both workers write to the new file")

    def both_logged(self, cluster: Cluster, path: Path) -> bool:
        """Whether a request to each worker is in the log."""
        for slot in (1, 2):
            cluster.get(f"/rotated-{slot}?sid={cluster.tag(slot)}")
        return all(f"/rotated-{slot}?" in path.read_text() for slot in (1, 2))
