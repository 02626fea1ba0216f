"""How a cluster ends, whatever ends it; and how it grows and shrinks."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.load import UNHURRIED, Load
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Fault, payload, request, sha256
from tests.integration.secure import SecureCluster


class StoppingCase(SynchronousTestCase):
    """What these tests share."""

    def asking(self, cluster: Cluster, target: str) -> Connection:
        """A connection whose request a worker is serving."""
        connection = cluster.connect()
        self.addCleanup(connection.close)
        connection.send(request("GET", target))
        return connection

    def taken(self, cluster: Cluster, count: int) -> None:
        """Waits until the workers hold so many connections beside the one that asks."""

        def counted() -> bool:
            pool = cluster.told("/cluster/pool")
            return sum(member["live"] for member in pool) >= count

        until(counted, 10, f"{count} connections are taken")

    def refused(self, cluster: Cluster) -> bool:
        """Whether the system refuses new connections: no process listens."""
        try:
            cluster.connect(timeout=1).close()
        except ConnectionRefusedError:
            return True
        except TimeoutError:  # it came in the moment before
            return False
        return False

    def ends(self, cluster: Cluster, seconds: float) -> float:
        """Waits until no process is left; how many seconds it took."""
        start = time.monotonic()
        until(lambda: cluster.process.poll() is not None, seconds, "the primary ends")
        until(lambda: not cluster.living(), seconds, f"no process is left of {cluster.living()}")
        return time.monotonic() - start


class Newcomers(threading.Thread):
    """
    A client after another, each with one request, until one is refused.

    :param pause: seconds between a client's connection and its request.
    :ivar failure: what became of one that was neither served nor refused.
    """

    def __init__(self, cluster: Cluster, pause: float) -> None:
        super().__init__(daemon=True)
        self._cluster, self._pause = cluster, pause
        self.served, self.failure = 0, ""
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection = self._cluster.connect(timeout=10)
            except ConnectionRefusedError:
                return
            try:
                time.sleep(self._pause)
                connection.send(request("POST", "/", body=b"hello"))
                answer = connection.response()
            except (OSError, Fault) as error:
                self.failure = repr(error)
                return
            finally:
                connection.close()
            if answer.status != 200:
                self.failure = f"{answer.status} {answer.body!r:.80}"
                return
            self.served += 1


class Graceful(StoppingCase):
    """TERM."""

    def test_last_connections(self) -> None:
        """Under load of new connections each is answered or refused, and none is reset."""
        accepts, lame = ("--accept", "workers"), ("--lame-duck", "1")
        for options in ((), lame, accepts, (*accepts, *lame)):
            for kind in (Cluster, SecureCluster):
                self.last_connections(kind("echo", "--graceful-timeout", "20", *options))

    def last_connections(self, of: Cluster) -> None:
        """The last connections of one cluster."""
        pauses = (0, 0, 0, 0.003, 0.003, 0.003, 0.1, 0.6)
        with of as cluster:
            clients = [Newcomers(cluster, pause) for pause in pauses]
            until(lambda: all(client.served > 0 for client in clients), 20, "all ask")
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(), 0)
            for client in clients:
                client.join()
            self.assertEqual([client.failure for client in clients], [""] * 8, of.arguments)

    def test_what_is_under_way(self) -> None:
        """Requests under way are finished, bodies too; new clients are refused at once."""
        size = 3_000_000
        with Cluster("echo", "--graceful-timeout", "20", workers=2) as cluster:
            late = [self.asking(cluster, f"/?delay=1.5&n={n}") for n in range(10)]
            upload = cluster.connect()
            upload.send(request("POST", "/", headers=[("Content-Length", str(size))]))
            upload.send(payload(size)[: size // 2])
            idle = cluster.connect()
            idle.ask(request("GET", "/"))
            self.taken(cluster, 12)
            cluster.signal(signal.SIGTERM)
            until(lambda: self.refused(cluster), 5, "new connections are refused")
            idle.end()
            upload.send(payload(size)[size // 2 :])
            self.assertEqual(upload.response().header("x-sha256"), sha256([payload(size)]))
            upload.end()
            for number, connection in enumerate(late):
                answer = connection.response()
                self.assertEqual((answer.status, answer.header("x-n")), (200, str(number)))
                connection.end()
            self.assertEqual(cluster.wait(), 0)
            for connection in (idle, upload):
                connection.close()

    def test_whoever_is_there_already(self) -> None:
        """Connections made before a stop are served, though none was accepted yet."""
        with Cluster("echo", workers=2) as cluster:
            os.kill(cluster.pid, signal.SIGSTOP)
            waiting = [self.asking(cluster, f"/?n={number}") for number in range(150)]
            cluster.signal(signal.SIGTERM)
            os.kill(cluster.pid, signal.SIGCONT)
            for number, connection in enumerate(waiting):
                answer = connection.response()
                self.assertEqual((answer.status, answer.header("x-n")), (200, str(number)))
            self.assertEqual(cluster.wait(), 0)

    def test_the_deadline(self) -> None:
        """What takes longer than --graceful-timeout is cut off."""
        with Cluster("echo", "--graceful-timeout", "2", workers=2) as cluster:
            endless = self.asking(cluster, "/?delay=60")
            self.taken(cluster, 1)
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(8), 0)
            self.assertRaises((OSError, Fault), endless.response)

    def test_a_second_signal(self) -> None:
        """A second TERM does not wait for what is under way."""
        with Cluster("echo", "--graceful-timeout", "60", workers=2) as cluster:
            endless = self.asking(cluster, "/?delay=60")
            self.taken(cluster, 1)
            cluster.signal(signal.SIGTERM)
            until(lambda: self.refused(cluster), 5, "new connections are refused")
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(8), 0)
            self.assertRaises((OSError, Fault), endless.response)

    def test_before_it_serves(self) -> None:
        """Workers that are starting are no reason to wait; who waits for them is told."""
        with Cluster("never_ready", "--factory", workers=2, probe="") as cluster:
            client = self.asking(cluster, "/")
            time.sleep(0.3)
            cluster.signal(signal.SIGTERM)
            self.assertEqual(client.response().status, 503)
            self.assertEqual(cluster.wait(8), 0)


class Quick(StoppingCase):
    """INT and QUIT."""

    def test_at_once(self) -> None:
        """A quick stop waits for nothing."""
        for number in (signal.SIGINT, signal.SIGQUIT):
            with Cluster("echo", "--graceful-timeout", "60", workers=2) as cluster:
                endless = self.asking(cluster, "/?delay=60")
                self.taken(cluster, 1)
                cluster.signal(number)
                self.assertEqual(cluster.wait(8), 0)
                self.assertRaises((OSError, Fault), endless.response)

    def test_workers_that_do_not_listen(self) -> None:
        """A worker that is stopped, and one that is blocked, are killed by a second signal."""
        with Cluster("echo", "--graceful-timeout", "60", workers=2) as cluster:
            self.asking(cluster, f"/cluster/block?seconds=600&sid={cluster.tag(1)}")
            cluster.kill_worker(2, signal.SIGSTOP)
            time.sleep(0.3)
            cluster.signal(signal.SIGINT)
            time.sleep(1)
            cluster.signal(signal.SIGINT)
            self.assertEqual(cluster.wait(8), 0)


class Orphans(StoppingCase):
    """kill -9 of the primary."""

    def test_they_finish(self) -> None:
        """Orphans finish what they hold, take what was on its way to them, and leave."""
        with Cluster("echo", "--graceful-timeout", "20", workers=2) as cluster:
            late = [self.asking(cluster, f"/?delay=1&n={number}") for number in range(10)]
            idle = cluster.connect()
            idle.ask(request("GET", "/"))
            self.taken(cluster, 11)
            sid, pid = cluster.tag(1), cluster.kill_worker(1, signal.SIGSTOP)
            mail = [self.asking(cluster, f"/?n={n}&sid={sid}") for n in range(20)]
            time.sleep(0.5)
            cluster.signal(signal.SIGKILL)
            os.kill(pid, signal.SIGCONT)
            for connections in (late, mail):
                for number, connection in enumerate(connections):
                    answer = connection.response()
                    self.assertEqual((answer.status, answer.header("x-n")), (200, str(number)))
            idle.end()
            idle.close()
            self.ends(cluster, 8)

    def test_whatever_they_do(self) -> None:
        """A blocked worker, one that still loads, and one that serves a long answer leave, too."""

        def blocked(cluster: Cluster) -> None:
            self.asking(cluster, "/cluster/block?seconds=600")
            self.asking(cluster, "/?delay=600")

        def loading(cluster: Cluster) -> None:
            until(lambda: len(cluster.workers()) == 2, 10, "they load")

        cases: tuple[tuple[tuple[str, ...], str, Callable[[Cluster], None]], ...] = (
            (("echo",), "/cluster/pool", blocked),
            (("never_ready", "--factory"), "", loading),
        )
        for words, probe, prepare in cases:
            options = (*words, "--graceful-timeout", "1")
            with Cluster(*options, workers=2, probe=probe) as cluster:
                prepare(cluster)
                time.sleep(0.5)
                cluster.signal(signal.SIGKILL)
                self.ends(cluster, 12)


class Size(StoppingCase):
    """More workers, fewer, others."""

    def test_more_and_less(self) -> None:
        """TTIN adds a worker and TTOU takes the last one away, without a failed request."""
        with Cluster("echo", *UNHURRIED, workers=2) as cluster:
            with Load(cluster, {"kept": 4, "short": 2, "poll": 2, "upload": 1}) as load:
                for number, size in ((signal.SIGTTIN, 3), (signal.SIGTTIN, 4), (signal.SIGTTOU, 3)):
                    cluster.signal(number)
                    cluster.size = size
                    cluster.wait_ready()
                    self.assertEqual(cluster.ready(), set(range(1, size + 1)))
                    load.wait(100)
                until(lambda: len(cluster.workers()) == 3, 10, "the last one has left")
            self.assertEqual(load.failures, [])
            for left in (2, 1, 1):
                cluster.signal(signal.SIGTTOU)
                time.sleep(0.5)
                until(lambda left=left: len(cluster.workers()) == left, 15, f"{left} are left")
            self.assertEqual(cluster.get("/").status, 200)

    def test_max_requests(self) -> None:
        """Workers are replaced after so many requests, not all at once, and no client notices."""
        options = (*UNHURRIED, "--max-requests", "150", "--max-requests-jitter", "150")
        with Cluster("echo", *options, workers=2) as cluster:
            with Load(cluster, {"kept": 4, "short": 2, "poll": 2, "slow": 1}) as load:
                until(lambda: cluster.log().count("has left") >= 4, 90, "four were replaced")
            self.assertEqual(load.failures, [])
            self.assertIn("asks to be replaced", cluster.log())

    def test_one_by_hand(self) -> None:
        """TERM, sent to a worker, has it replaced, and no client notices."""
        with Cluster("echo", *UNHURRIED, workers=2) as cluster:
            with Load(cluster, {"kept": 4, "short": 2, "upload": 1}) as load:
                load.wait(50)
                pid = cluster.kill_worker(2, signal.SIGTERM)
                until(lambda: pid not in [p.pid for p in cluster.living()], 15, "it has left")
                cluster.wait_ready()
            self.assertEqual(load.failures, [])
