"""Clients that pause: not for longer than --stall-timeout, on every interface the same."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import processes
from tests.integration.cluster import Cluster
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, request
from tests.integration.secure import SecureCluster

APPS = "tests.integration.pausing_apps:"
LIMIT = 2.0
#: So much neither the kernel nor a buffer of ours takes before the client reads.
BIG = 64 << 20


class PauseCase(SynchronousTestCase):
    """
    One interface, in the clear and over TLS.

    :ivar app: the application.
    :ivar environment: what is added to the environment.
    :ivar options: further options.
    """

    app: ClassVar[str] = "web"
    environment: ClassVar[dict[str, str]] = {}
    options: ClassVar[tuple[str, ...]] = ()

    def cluster(self, *options: str, secure: bool = False) -> Cluster:
        """A cluster of one worker."""
        options = ("--interface", self.app, *self.options, *options)
        target = APPS + self.app
        if secure:
            cluster = SecureCluster(target, *options, workers=1, probe="/length")
            cluster._environment.update(self.environment)
            return cluster
        return Cluster(target, *options, workers=1, probe="/length", environment=self.environment)

    # -------------------------------------------------------- what clients do

    def upload(self, connection: Connection) -> None:
        """A client that pauses in its upload is answered with 408, in time, and hung up on."""
        head = request("POST", "/length", headers=[("Content-Length", "100")])
        began = time.monotonic()
        answer = connection.ask(head + b"x" * 10)
        self.assertEqual(answer.status, 408)
        self.assertGreater(time.monotonic() - began, LIMIT)
        self.assertEqual(connection.socket.recv(1), b"")

    def chunked(self, connection: Connection) -> None:
        """A client that pauses within a chunk is answered with 408, in time, and hung up on."""
        head = request("POST", "/length", headers=[("Transfer-Encoding", "chunked")])
        self.assertEqual(connection.ask(head + b"ff\r\nxyz").status, 408)

    def download(self, connection: Connection) -> None:
        """A client that pauses in its download does not get the rest."""
        connection.send(request("GET", f"/big?{BIG}"))
        got = len(connection.socket.recv(1000))
        time.sleep(3 * LIMIT)
        try:
            while data := connection.socket.recv(1 << 20):
                got += len(data)
        except (ConnectionResetError, OSError):
            pass
        self.assertLess(got, BIG)

    def slow(self, connection: Connection) -> None:
        """An application that takes long is answered for, and so is the next request."""
        self.assertEqual(connection.ask(request("GET", f"/slow?{2 * LIMIT}")).status, 200)
        self.assertEqual(connection.ask(request("GET", "/length")).body, b"0")

    def trickle(self, connection: Connection) -> None:
        """A client whose upload moves, however slowly, may take its time."""
        connection.send(request("POST", "/length", headers=[("Content-Length", "8")]))
        for _ in range(7):
            connection.send(b"x")
            time.sleep(LIMIT / 2)
        self.assertEqual(connection.ask(b"x").body, b"8")

    def sip(self, connection: Connection) -> None:
        """A client whose download moves, however slowly, may take its time."""
        connection.send(request("GET", f"/big?{BIG}"))
        got = 0
        for _ in range(int(6 * LIMIT)):
            end = got + (2 << 20)
            while got < end:
                got += len(connection.socket.recv(1 << 16))
            time.sleep(0.5)
        while got < BIG:
            data = connection.socket.recv(1 << 20)
            self.assertNotEqual(data, b"", "the download was cut off")
            got += len(data)

    def idle(self, connection: Connection) -> None:
        """Between two requests another time counts."""
        self.assertEqual(connection.ask(request("GET", "/length")).body, b"0")
        time.sleep(3 * LIMIT)
        self.assertEqual(connection.ask(request("GET", "/length")).body, b"0")

    def play(self, cluster: Cluster, *clients: Callable[[Connection], None]) -> None:
        """Let the clients do what they do, all at the same time."""
        faults: list[BaseException] = []

        def act(client: Callable[[Connection], None]) -> None:
            try:
                with cluster.connect() as connection:
                    client(connection)
            except BaseException as fault:
                fault.add_note(f"in {client.__name__}")
                faults.append(fault)

        threads = [threading.Thread(target=act, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if faults:
            raise faults[0]

    def check(self, secure: bool) -> None:
        """Do all of these; then nothing of them is left in the worker."""
        with self.cluster("--stall-timeout", str(LIMIT), secure=secure) as cluster:
            self.assertEqual(cluster.get("/length").status, 200)
            pid = cluster.workers()[1]
            before = processes.descriptors(pid)
            self.play(
                cluster,
                self.upload,
                self.chunked,
                self.download,
                self.slow,
                self.trickle,
                self.sip,
                self.idle,
            )
            until(lambda: processes.descriptors(pid) <= before + 1)


class WebTests(PauseCase):
    """twisted.web."""

    def test_in_the_clear(self) -> None:
        """In the clear clients that pause are treated as told."""
        self.check(secure=False)

    def test_over_tls(self) -> None:
        """Over TLS clients that pause are treated as told."""
        self.check(secure=True)

    def test_shorter_keep_alive(self) -> None:
        """A keep-alive that is shorter than the pauses has no say in them."""
        with self.cluster("--keep-alive", "1") as cluster:
            self.play(cluster, self.slow_reader, self.slow_writer)

    def slow_reader(self, connection: Connection) -> None:
        """A client that reads its response late gets all of it."""
        connection.send(request("GET", f"/big?{BIG}"))
        time.sleep(5)
        got = 0
        while got < BIG:
            data = connection.socket.recv(1 << 20)
            self.assertNotEqual(data, b"", "the download was cut off")
            got += len(data)

    def slow_writer(self, connection: Connection) -> None:
        """A client that pauses in its upload is answered."""
        connection.send(request("POST", "/length", headers=[("Content-Length", "2")]) + b"x")
        time.sleep(5)
        self.assertEqual(connection.ask(b"x").body, b"2")


class WorkersTests(WebTests):
    """Clients that pause, where the workers accept."""

    options = ("--accept", "workers")


class WsgiTests(WebTests):
    """WSGI."""

    app = "wsgi"


class HttptoolsTests(WebTests):
    """ASGI."""

    app = "asgi"
    environment: ClassVar[dict[str, str]] = {"UVICORN_HTTP": "httptools"}


class H11Tests(WebTests):
    """ASGI with the other engine."""

    app = "asgi"
    environment: ClassVar[dict[str, str]] = {"UVICORN_HTTP": "h11"}


class ThreadTests(SynchronousTestCase):
    """Clients that would hold the threads of a WSGI application."""

    def unread(self, port: int) -> socket.socket:
        """A client that reads nothing of a large response."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", port))
        sock.sendall(request("GET", f"/big?{BIG}"))
        return sock

    def test_clients_that_do_not_read(self) -> None:
        """Hundreds that do not read keep no other waiting, and cost a bounded memory."""
        cluster = Cluster(APPS + "wsgi", "--threads", "4", workers=1, probe="/length")
        with cluster:
            pid = cluster.workers()[1]
            before = processes.memory(pid)
            clients = [self.unread(cluster.port) for _ in range(200)]
            try:
                time.sleep(1)
                for _ in range(20):
                    self.assertEqual(cluster.get("/length").body, b"0")
                grown = processes.memory(pid) - before
            finally:
                for client in clients:
                    client.close()
            # 64 MiB of buffers together, a little for each client beyond, and the threads' own.
            self.assertLess(grown, 160 << 20)
            self.assertEqual(cluster.get("/length").body, b"0")

    def test_slow_uploads(self) -> None:
        """Hundreds that send a large body slowly keep no other waiting."""
        with Cluster(APPS + "wsgi", "--threads", "2", workers=1, probe="/length") as cluster:
            head = request("POST", "/length", headers=[("Content-Length", "3000000")])
            clients = []
            for _ in range(30):
                client = cluster.connect()
                client.send(head + b"x" * 2_000_000)
                clients.append(client)
            self.assertEqual(cluster.get("/length").body, b"0")
            for client in clients:
                self.assertEqual(client.ask(b"x" * 1_000_000).body, b"3000000")
                client.close()

    def test_crowd_that_polls(self) -> None:
        """A hundred Socket.IO clients that poll leave room for others."""
        with Cluster(APPS + "crowd", "--interface", "wsgi", probe="/length") as cluster:
            polls = []
            try:
                for _ in range(100):
                    connection = cluster.connect()
                    polls.append(connection)
                    answer = connection.ask(request("GET", "/socket.io/?EIO=4&transport=polling"))
                    self.assertEqual(answer.status, 200)
                    sid = json.loads(answer.body[1:])["sid"]
                    poll = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
                    with cluster.connect() as other:
                        self.assertEqual(other.ask(request("POST", poll, body=b"40")).body, b"OK")
                    connection.ask(request("GET", poll))
                    connection.send(request("GET", poll))
                for _ in range(20):  # the first poll ends after 25 s
                    self.assertEqual(cluster.get("/length", timeout=20).body, b"0")
                threads = sum(self.threads(pid) for pid in cluster.workers().values())
                self.assertGreater(threads, 90)
            finally:
                for connection in polls:
                    connection.close()

    def threads(self, pid: int) -> int:
        """How many threads a process has."""
        with open(f"/proc/{pid}/status") as file:
            (count,) = [line.split()[1] for line in file if line.startswith("Threads:")]
        return int(count)
