"""The life of connections: shortage and its end, reloads and stops among them."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import time
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster, free_port
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Fault, request
from tests.integration.secure import SecureCluster

APPS = "tests.integration.life_apps"
CLOSE = [("Connection", "close")]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#: What must not be in any log.
FAULTS = ("Traceback", "could not be dealt with", "could not tell", "failed, and is closed")


def cluster_of(app: str, *options: str, secure: bool = False, workers: int = 2) -> Any:
    """A cluster that serves one of `life_apps`, over TLS or in the clear."""
    make = SecureCluster if secure else Cluster
    return make(f"{APPS}:{app}", *options, workers=workers, probe="/")


class LifeCase(SynchronousTestCase):
    """What these tests share."""

    def assert_quiet(self, cluster: Any) -> None:
        """Assert that nothing has failed by the log."""
        log = cluster.log()
        for fault in FAULTS:
            self.assertNotIn(fault, log)


class Shortage(LifeCase):
    """More idle clients than all processes together may have descriptors."""

    app: ClassVar[str] = "asgi"
    options: ClassVar[tuple[str, ...]] = ()
    secure: ClassVar[bool] = False
    limit: ClassVar[int] = 80
    count: ClassVar[int] = 260

    def knock(self, cluster: Any, idle: list[socket.socket]) -> None:
        """One more client, whose request may be answered or not, stays."""
        try:
            sock = socket.create_connection(("127.0.0.1", cluster.port), timeout=3)
            idle.append(sock)
            if self.secure:
                context = cluster.context()
                context.check_hostname = False
                sock.settimeout(0.5)
                idle[-1] = sock = context.wrap_socket(sock)
            sock.sendall(GET)
        except OSError:
            return

    def test_recovers(self) -> None:
        """When the clients have gone the service answers again, by itself, every time."""
        cluster = cluster_of(self.app, *self.options, secure=self.secure)
        cluster.command = ("sh", "-c", f'ulimit -n {self.limit}; exec "$0" "$@"', sys.executable)
        with cluster:
            for _ in range(2):
                idle: list[socket.socket] = []
                for _ in range(self.count):
                    self.knock(cluster, idle)
                time.sleep(0.5)
                for sock in idle:
                    sock.close()
                until(lambda: self.good(cluster, 8), 30, "all are answered again")
            self.assert_quiet(cluster)

    def good(self, cluster: Any, number: int) -> bool:
        """Whether so many requests in a row are answered."""
        try:
            return all(cluster.get("/", timeout=4).status == 200 for _ in range(number))
        except (OSError, Fault, ssl.SSLError):
            return False


class WebShortage(Shortage):
    """With twisted.web."""

    app = "web"


class WSGIShortage(Shortage):
    """With WSGI."""

    app = "wsgi"


class SecureShortage(Shortage):
    """With ASGI over TLS."""

    secure = True
    limit = 64
    count = 150


class SecureWebShortage(SecureShortage):
    """With twisted.web over TLS."""

    app = "web"


class AcceptShortage(Shortage):
    """With ASGI in workers that accept."""

    options = ("--accept", "workers")


class AcceptWebShortage(AcceptShortage):
    """With twisted.web in workers that accept."""

    app = "web"


class Mailboxes(LifeCase):
    """A worker that cannot take connections any more, though it lives."""

    def answered(self, cluster: Any, seconds: float) -> None:
        """Assert that all is answered again within so many seconds, and by two workers."""

        def good() -> bool:
            try:
                return all(cluster.get("/", timeout=1).status == 200 for _ in range(10))
            except (OSError, Fault):
                return False

        until(good, seconds, "all are answered again")

    def test_ended(self) -> None:
        """A worker whose mailbox has ended is replaced, and no client is left waiting."""
        with cluster_of("web", "--sticky", "none", workers=1) as cluster:
            self.assertEqual(cluster.get("/end").body, b"done")
            waiting = cluster.connect()
            waiting.send(GET)
            self.answered(cluster, 20)
            self.assertEqual(waiting.response().status, 200)
            until(lambda: "exited with code 1" in cluster.log(), 20, "the worker has left")
            self.assertEqual(cluster.log().count("is ready."), 2)
            waiting.close()

    def test_forgotten(self) -> None:
        """A worker that takes nothing and beats on fails `/healthz`, and is killed."""
        status = free_port()
        options = ("--sticky", "none", "--worker-timeout", "4", "--status", str(status))
        options += ("--status-host", "cluster.test")
        with cluster_of("web", *options, workers=1) as cluster:
            self.assertEqual(self.health(status), 200)
            self.assertEqual(cluster.get("/forget").body, b"done")
            waiting = cluster.connect()
            waiting.send(GET)
            until(lambda: self.health(status) == 503, 20, "it is known")
            self.assertEqual(waiting.response().status, 200)
            self.answered(cluster, 20)
            self.assertIn("takes no connections and is killed", cluster.log())
            until(lambda: self.health(status) == 200, 20, "all is well")
            waiting.close()

    def health(self, port: int) -> int:
        """The status of `/healthz`."""
        with Connection(port) as connection:
            return connection.ask(request("GET", "/healthz", headers=CLOSE)).status


CHURN = """
import signal, socket, sys
sent = got = 0
ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
while not ending:
    try:
        clients = []
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60)
            client.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
            clients.append(client)
    except OSError:
        if sys.argv[2] == "stop":
            break
        continue
    for client in clients:
        sent += 1
        try:
            got += client.recv(1000).startswith(b"HTTP/1.1 200")
        except OSError as error:
            print("lost", repr(error), flush=True)
        client.close()
    if sent == 20:
        print("begun", flush=True)
print(sent, got, flush=True)
"""


class UnderLoad(LifeCase):
    """Workers leave while new connections come in."""

    app: ClassVar[str] = "asgi"
    options: ClassVar[tuple[str, ...]] = ()

    def churn(self, cluster: Any, until_what: str) -> list[subprocess.Popen[str]]:
        """Clients that come and go without a pause."""
        command = [sys.executable, "-c", CHURN, str(cluster.port), until_what]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        for client in clients:
            assert client.stdout is not None
            client.stdout.readline()
        return clients

    def test_stop(self) -> None:
        """TERM: all leave at once, for nothing is under way; nothing fails."""
        for _ in range(2):
            options = ("--graceful-timeout", "300", *self.options)
            with cluster_of(self.app, *options, workers=3) as cluster:
                clients = self.churn(cluster, "stop")
                cluster.signal(signal.SIGTERM)
                cluster.wait()
                for client in clients:
                    client.kill()
                    client.communicate()
                self.assert_quiet(cluster)

    def test_reload(self) -> None:
        """HUP again and again: every new connection is answered."""
        with cluster_of(self.app, *self.options, workers=2) as cluster:
            clients = self.churn(cluster, "go on")
            for number in range(1, 4):
                cluster.signal(signal.SIGHUP)
                until(
                    lambda number=number: cluster.log().count("The reload is complete.") == number,
                    40,
                    "the reload is complete",
                )
            for client in clients:
                client.terminate()
            for client in clients:
                lines = (client.communicate()[0]).splitlines()
                self.assertEqual([line for line in lines if line.startswith("lost")], [])
                sent, got = map(int, lines[-1].split())
                self.assertEqual(sent, got)
            self.assert_quiet(cluster)


class AcceptUnderLoad(UnderLoad):
    """Workers that accept leave while new connections come in."""

    options = ("--accept", "workers")


#: Requests that are not plain HTTP/1.1, which all the same may have a response.
ODD = {
    "plain": b"GET /?wait=3 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0": b"GET /?wait=3 HTTP/1.0\r\nHost: a\r\n\r\n",
    "a control character": b"GET /?wait=3 HTTP/1.1\r\nHost: a\r\nX-A: a\x01b\r\n\r\n",
    "bare LF": b"GET /?wait=3 HTTP/1.1\nHost: a\n\n",
    "both lengths": b"POST /?wait=3 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "Upgrade": b"GET /?wait=3 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "Connection: close": b"GET /?wait=3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
}


class OpenResponses(LifeCase):
    """A response that is open is waited for, whatever its request looked like."""

    app: ClassVar[str] = "web"
    secure: ClassVar[bool] = False

    def answers(self, cluster: Any, number: int | None) -> dict[str, bytes]:
        """How each request's answer begins, if this signal comes meanwhile."""
        connections: dict[str, Connection] = {}
        for name, data in ODD.items():
            connections[name] = cluster.connect()
            connections[name].send(data)
        time.sleep(0.8)
        if number is not None:
            cluster.signal(number)
        found = {}
        for name, connection in connections.items():
            got = b""
            try:
                while len(got) < 12:
                    piece = connection.socket.recv(4096)
                    if not piece:
                        break
                    got += piece
            except OSError as error:
                got = repr(error).encode()
            found[name] = got[:12]
            connection.close()
        return found

    def check(self, number: int) -> None:
        """Assert that what is answered without a signal is answered all the same with it."""
        options = ("--graceful-timeout", "20")
        with cluster_of(self.app, *options, secure=self.secure, workers=1) as cluster:
            expected = self.answers(cluster, None)
            self.assertEqual(expected["plain"], b"HTTP/1.1 200")
            self.assertEqual(self.answers(cluster, number), expected)
            self.assert_quiet(cluster)

    def test_reload(self) -> None:
        """Open responses are waited for during a reload."""
        self.check(signal.SIGHUP)

    def test_stop(self) -> None:
        """Open responses are waited for during a stop."""
        self.check(signal.SIGTERM)


class ASGIOpenResponses(OpenResponses):
    """With ASGI."""

    app = "asgi"


class WSGIOpenResponses(OpenResponses):
    """With WSGI."""

    app = "wsgi"


class SecureOpenResponses(OpenResponses):
    """Over TLS."""

    secure = True
