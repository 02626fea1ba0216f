"""Faults around the cluster and inside its applications; and inputs that no other test sends.

Bad heads and bounds are in :mod:`test_refusals`, framings in :mod:`test_smuggling`, fragments and
half-closes in :mod:`test_bytes`, deaths in :mod:`test_supervision` and :mod:`test_leaks`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster, ClusterTestCase
from tests.integration.converse import Outcome, Script, converse
from tests.integration.load import UNHURRIED, Load
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Fault, Reader, cut, payload, request, sha256
from tests.integration.test_refusals import client_hello

APPS = "tests.integration.fault_apps"


class Inputs(ClusterTestCase):
    """What a client may send."""

    def test_absolute_form_pins(self) -> None:
        """The session id is found in the query of a target in absolute form (RFC 9112 3.2.2)."""
        for slot, sid in self.cluster.tags().items():
            answer = self.cluster.get(f"http://cluster.test/a?sid={sid}")
            self.assertEqual((answer.status, answer.header("x-worker")), (200, str(slot)))

    def test_empty_lines_between_requests(self) -> None:
        """Empty lines behind a body belong to no request, also where the connection moves."""
        tags = self.cluster.tags()
        with self.cluster.connect() as connection:
            for slot in (1, 2, 1):
                stream = request("POST", f"/?sid={tags[slot]}", body=b"hello") + b"\r\n\r\n"
                self.assertEqual(connection.ask(stream).header("x-worker"), str(slot))

    def test_tls_is_told_once(self) -> None:
        """Any number of TLS clients on a plain port make one line in the log."""
        scripts = [Script((client_hello(),))] * 5
        for outcome in converse(self.cluster.port, scripts):
            self.assertEqual(Reader.over(outcome.data).response().status, 400)
        until(lambda: "TLS" in self.cluster.log(), 5, "the log speaks of TLS")
        self.assertEqual(self.cluster.log().count("TLS"), 1)

    def test_host(self) -> None:
        """No Host, or two, are answered as the application's server answers (RFC 9112 3.2)."""
        for lines in (b"", b"Host: a\r\nHost: b\r\n"):
            with self.cluster.connect() as connection:
                answer = connection.ask(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
                self.assertIn(answer.status, (200, 400))

    def test_half_close_behind_a_pipeline(self) -> None:
        """Three requests for different workers and then FIN: all are answered, then the end."""
        tags = self.cluster.tags()
        stream = b"".join(request("GET", f"/?n={n}&sid={tags[n % 2 + 1]}") for n in range(3))
        (outcome,) = converse(self.cluster.port, [Script((stream,), half_close=True)])
        reader = Reader.over(outcome.data)
        self.assertEqual([reader.response().header("x-n") for _ in range(3)], ["0", "1", "2"])
        self.assertEqual(outcome.end, "closed")

    def test_more_while_an_answer_is_due(self) -> None:
        """A client that floods while its answer is due is held back, and loses nothing."""
        with self.cluster.connect() as connection:
            connection.send(request("GET", "/?delay=1"))
            size = 8 << 20
            body = payload(size)
            stream = request("POST", "/", body=body)
            connection.socket.settimeout(30)
            connection.send(*cut(stream, *range(0, len(stream), 1 << 18)))
            self.assertEqual(connection.response().status, 200)
            self.assertEqual(connection.response().header("x-sha256"), sha256([body]))


class ProxyHeader(ClusterTestCase):
    """`--proxy-protocol`, and clients that do not speak it."""

    options = ("--proxy-protocol", "--head-timeout", "1")
    probe = ""

    def one(self, *pieces: bytes, gap: float = 0.01) -> Outcome:
        """What a connection gets that sends these pieces."""
        return converse(self.cluster.port, [Script(pieces, gap)])[0]

    def test_malformed(self) -> None:
        """A connection that begins otherwise ends at once, and nothing of it reaches a worker."""
        for data in (
            request("GET", "/"),
            b"PROXY TCP4 here there 1 2\r\n" + request("GET", "/"),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n" + request("GET", "/"),
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c" + bytes(12) + request("GET", "/"),
            b"PROXY " + b"x" * 200,
        ):
            for pieces in ((data,), tuple(cut(data, *range(1, min(len(data), 120))))):
                outcome = self.one(*pieces, gap=0.0005)
                self.assertIn(outcome.end, ("closed", "reset"), data)
                self.assertNotIn(b" 200 ", outcome.data[:20])

    def test_header_without_request(self) -> None:
        """A header with nothing behind it ends at the deadline."""
        outcome = self.one(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n")
        self.assertIn(outcome.end, ("closed", "reset"))


class Surroundings(SynchronousTestCase):
    """Faults of the system around a cluster."""

    def test_nobody_reads_the_log(self) -> None:
        """When the pipe that the log goes to breaks, everything else goes on."""
        cluster = Cluster("echo", *UNHURRIED, workers=2)
        reading, writing = os.pipe()
        cluster.command = ("sh", "-c", f'exec "$0" "$@" >&{writing} 2>&1', *cluster.command)
        cluster.inherits = (writing,)
        with cluster:
            os.close(writing)
            os.close(reading)
            pid = cluster.kill_worker(2)
            with Load(cluster, {"short": 2}) as load:
                until(lambda: cluster.workers().get(2, pid) != pid, 20, "the worker is back")
                cluster.wait_ready()
                workers = set(cluster.workers().values())
                cluster.signal(signal.SIGHUP)
                until(lambda: not workers & set(cluster.workers().values()), 30, "all are new")
                load.wait(50)
            self.assertEqual([f for f in load.failures if "Reset" not in f], [])
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(), 0)

    def test_a_full_disk(self) -> None:
        """When the access log cannot be written, requests are served."""
        with Cluster("echo", "--access-log", "/dev/full", workers=2) as cluster:
            with Load(cluster, {"kept": 2, "short": 2}) as load:
                load.wait(300)
            self.assertEqual(load.failures, [])

    def test_nobody_reads_the_access_log(self) -> None:
        """When the access log is a full pipe, requests are served, and the end comes."""
        path = Path(self.enterContext(tempfile.TemporaryDirectory()), "pipe")
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        filler = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(filler, bytes(4096))
        os.close(filler)
        with Cluster("echo", "--access-log", str(path), workers=2) as cluster:
            for _ in range(10):
                self.assertEqual(cluster.get("/").status, 200)
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(), 0)
            self.assertIn("lines are lost", cluster.log())

    def test_the_socket_file_is_gone(self) -> None:
        """A removed file of a UNIX socket is no trouble, at the end either."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = Path(folder, "socket")
        with Cluster("echo", "--listen", f"unix:{path}", workers=1) as cluster:
            path.unlink()
            self.assertEqual(cluster.get("/").status, 200)
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(), 0)

    def test_a_storm_of_signals(self) -> None:
        """Signals faster than they can be obeyed leave a cluster serving, and whole."""
        with Cluster("echo", *UNHURRIED, workers=2) as cluster:
            with Load(cluster, {"kept": 2, "short": 2}) as load:
                for _ in range(10):
                    for number in (
                        signal.SIGHUP,
                        signal.SIGUSR1,
                        signal.SIGTTIN,
                        signal.SIGTTOU,
                        signal.SIGUSR2,
                    ):
                        cluster.signal(number)
                        time.sleep(0.01)
                until(lambda: "has taken over" in cluster.log(), 30, "the upgrade is done")
                until(lambda: self.complete(cluster), 60, "the reloads are complete")
                load.wait(50)
            self.assertEqual(load.failures, [])

    def complete(self, cluster: Cluster) -> bool:
        """Whether no reload is under way."""
        log = cluster.log()
        return log.count("The reload is complete.") == log.count("The reload begins") > 0

    def test_ctrl_c(self) -> None:
        """Ctrl-C in a terminal goes to all of them at once; they end in order, without a word."""
        with Cluster("echo", workers=2) as cluster:
            os.killpg(cluster.pid, signal.SIGINT)
            self.assertEqual(cluster.wait(8), 0)
            self.assertNotIn("Traceback", cluster.log())

    def test_everybody_is_told(self) -> None:
        """TERM to every process at once, as some managers do, is as graceful as to the primary."""
        with Cluster("echo", "--graceful-timeout", "10", workers=2) as cluster:
            with cluster.connect() as connection:
                connection.send(request("GET", "/?delay=1"))
                time.sleep(0.3)
                os.killpg(cluster.pid, signal.SIGTERM)
                self.assertEqual(connection.response().status, 200)
            self.assertEqual(cluster.wait(), 0)


class Applications(SynchronousTestCase):
    """What an application does to its worker."""

    def cluster(self, *options: str) -> Cluster:
        """A cluster with an application that does it all."""
        return Cluster(f"{APPS}:faulty", "--factory", *options, workers=2)

    def back(self, cluster: Cluster, slot: int, old: int) -> None:
        """Waits until the worker is another process, and serves."""
        until(lambda: cluster.workers().get(slot, old) != old, 30, "it is replaced")
        cluster.wait_ready()
        cluster.forget_tags()
        self.assertEqual(cluster.get(f"/?sid={cluster.tag(slot)}").header("x-worker"), str(slot))

    def test_closes_everything(self) -> None:
        """A worker whose descriptors the application closed is replaced; others do not notice."""
        with self.cluster("--worker-timeout", "3") as cluster:
            pid = cluster.workers()[2]
            broken = cluster.connect()
            sid = cluster.tag(2)
            with Load(cluster, {"short": 2}) as load:
                broken.send(request("GET", f"/closeall?sid={sid}"))
                self.back(cluster, 2, pid)
            self.assertRaises((OSError, Fault), broken.response)
            broken.close()
            torn = ("Reset", "the connection ended")  # what it had in hand
            self.assertEqual([f for f in load.failures if not any(w in f for w in torn)], [])
            # A reactor that cannot wait any more would say so without a pause.
            self.assertLessEqual(cluster.log().count("Unexpected error in main loop"), 1)

    def test_dies_and_leaves_an_heir(self) -> None:
        """A child that has all of a dead worker's descriptors does not keep it from being replaced,
        nor its mail from being served.
        """
        with self.cluster() as cluster:
            pid, sid = cluster.workers()[2], cluster.tag(2)
            torn = cluster.connect()
            torn.send(request("GET", f"/heir?seconds=6&sid={sid}"))
            mail = [cluster.connect() for _ in range(10)]
            for connection in mail:
                connection.send(request("GET", f"/?sid={sid}"))
            for connection in mail:
                self.assertEqual(connection.response().status, 200)
                connection.close()
            self.back(cluster, 2, pid)
            self.assertRaises((OSError, Fault), torn.response)
            torn.close()

    def test_shouts(self) -> None:
        """What a worker prints, however much, holds no client up, and is in the log to its end."""
        with self.cluster() as cluster:
            with Load(cluster, {"kept": 2, "short": 2}) as load:
                self.assertEqual(cluster.get("/shout?lines=5000").status, 200)
                until(lambda: "the last line" in cluster.log(), 20, "all is logged")
            self.assertEqual(load.failures, [])
            self.assertEqual(len(set(self.lines(cluster))), 5000)

    def lines(self, cluster: Cluster) -> list[str]:
        """The numbers of the lines that were printed."""
        return [line.split()[-2] for line in cluster.log().splitlines() if ": line " in line]

    def test_leaves_a_child(self) -> None:
        """Processes that an application left behind do not keep the cluster from ending."""
        cluster = self.cluster()
        with cluster:
            cluster.get("/fork?seconds=30")
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(8), 0)
            (child,) = cluster.living()
            os.kill(child.pid, signal.SIGKILL)

    def test_slow_and_torn(self) -> None:
        """A client that leaves in the middle of anything takes no other with it."""
        with self.cluster() as cluster:
            pids = cluster.workers()
            for target in ("/?delay=0.2", "/?size=3000000", "/?size=3000000&chunked=1"):
                for pause in (0.0, 0.01, 0.3):
                    connections = [Connection(cluster.port) for _ in range(5)]
                    for connection in connections:
                        connection.send(request("GET", target))
                    time.sleep(pause)
                    for connection in connections:
                        connection.reset()
            self.assertEqual(cluster.get("/").status, 200)
            self.assertEqual(cluster.workers(), pids)
            self.assertNotIn("Traceback", cluster.log())
