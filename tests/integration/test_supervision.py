"""Workers that die, hang or fall silent, and what their clients see of it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.load import Load
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Fault, payload, request

APPS = "tests.integration.fault_apps"
CLOSE = [("Connection", "close")]
#: How a connection ends whose worker has died; anything else would be a wrong answer, or none.
TORN = ("ConnectionResetError", "BrokenPipeError", "the connection ended")


class SupervisionCase(SynchronousTestCase):
    """What these tests share."""

    def respawned(self, cluster: Cluster, slot: int, old: int) -> int:
        """Waits until the worker is ready again as another process, whose id this returns."""
        until(lambda: cluster.workers().get(slot, old) != old, 30, f"another worker {slot}")
        cluster.wait_ready()
        return cluster.workers()[slot]

    def gone(self, connection: Connection) -> None:
        """Assert that the connection was closed without an answer: torn, not hanging."""
        with self.assertRaises((OSError, Fault)) as caught:
            connection.response()
        self.assertIn(True, [word in repr(caught.exception) for word in TORN], caught.exception)
        connection.close()


class Deaths(SupervisionCase):
    """kill -9, and worse."""

    def test_under_load(self) -> None:
        """Only what the dead worker held is lost; it is back, and takes its share, not all."""
        with Cluster("echo", workers=3) as cluster:
            with Load(cluster, {"kept": 12, "short": 3}, pause=0.005) as load:
                load.wait(300)
                pid = cluster.workers()[2]
                held = sum(client.pid == str(pid) for client in load.members)
                os.kill(pid, signal.SIGKILL)
                new = self.respawned(cluster, 2, pid)
                load.wait(300)
            self.assertEqual([f for f in load.failures if not any(w in f for w in TORN)], [])
            self.assertLessEqual(len(load.failures), held + 3)
            pids = [cluster.get("/", *CLOSE).header("x-pid") for _ in range(90)]
            self.assertGreater(pids.count(str(new)), 15)
            self.assertLess(pids.count(str(new)), 60)

    def test_not_parsed_as_another_request(self) -> None:
        """What comes behind the death of a worker is no request, though it looks like one."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = Path(folder, "access.log")
        evil = request("GET", "/evil") * 20
        with Cluster("echo", "--access-log", str(path), workers=2) as cluster:
            uploads = [cluster.connect() for _ in range(20)]
            for number, upload in enumerate(uploads):
                length = [("Content-Length", "100000")]
                head = request("POST", f"/{number}?sid={cluster.tag(1)}", headers=length)
                upload.send(head + evil)
            until(lambda: cluster.told("/cluster/pool")[0]["live"] >= 20, 10, "all are taken")
            pid = cluster.kill_worker(1)
            for upload in uploads:
                try:
                    upload.send(evil)
                except OSError:
                    pass
                self.gone(upload)
            self.respawned(cluster, 1, pid)
            cluster.get("/last")
            until(lambda: "/last" in path.read_text(), 10, "the log is written")
            self.assertNotIn("evil", path.read_text())

    def test_last_words(self) -> None:
        """What a worker wrote before it died is in the log with its name, to the last half line."""
        with Cluster(f"{APPS}:faulty", "--factory", workers=2) as cluster:
            pid = cluster.workers()[2]
            with cluster.connect() as connection:
                connection.send(request("GET", f"/noisy?sid={cluster.tag(2)}"))
                self.gone(connection)
            self.respawned(cluster, 2, pid)
            for words in ("the last words", "no more, and not a whole line"):
                lines = [line for line in cluster.log().splitlines() if words in line]
                self.assertEqual([True], ["worker 2: " in line for line in lines], lines)
            self.assertIn("Worker 2 (id 2) exited with code 7 unexpectedly.", cluster.log())

    def test_readiness(self) -> None:
        """A worker that takes its time to start keeps no client waiting meanwhile."""
        word = Path(self.enterContext(tempfile.TemporaryDirectory()), "word")
        word.touch()
        app = (f"{APPS}:when_told", "--factory")
        with Cluster(*app, workers=2, environment={"WHEN": str(word)}) as cluster:
            word.unlink()
            pid = cluster.kill_worker(2)
            with Load(cluster, {"short": 4}) as load:
                until(lambda: cluster.workers().get(2, pid) != pid, 30, "the next one starts")
                load.wait(100)
                word.touch()
                new = self.respawned(cluster, 2, pid)
                load.wait(100)
            self.assertEqual(load.failures, [])
            self.assertIn(str(new), set().union(*(client.pids for client in load.members)))

    def test_a_row_of_deaths(self) -> None:
        """A worker that dies whenever it is started is started ever more rarely."""
        with Cluster(f"{APPS}:short_lived", "--factory", workers=1, probe="") as cluster:
            until(lambda: cluster.log().count("unexpectedly") >= 5, 30, "five deaths")
            time.sleep(2)
            self.assertLess(cluster.log().count("unexpectedly"), 7)

    def test_no_hope(self) -> None:
        """When no worker is left and none gets ready, the cluster says why, and ends."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        module = Path(folder, "app_of_today.py")
        module.write_text("from tests.integration.apps import echo as app\n")
        environment = {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        with Cluster("app_of_today:app", workers=1, environment=environment) as cluster:
            module.write_text("raise LookupError('the disk has gone')\n")
            cluster.kill_worker(1)
            self.assertEqual(cluster.wait(40), 3)
            last = cluster.log().splitlines()[-1]
            self.assertIn("txsticky: Every worker failed to start, 5 times in a row", last)
            errors = [line for line in cluster.log().splitlines() if "#error]" in line]
            self.assertIn("the disk has gone", errors[-1])


class Silence(SupervisionCase):
    """Workers that live and do not answer."""

    def test_stopped(self) -> None:
        """A worker that is stopped is replaced; others answer the clients that waited for it."""
        with Cluster("echo", "--worker-timeout", "4", workers=3) as cluster:
            tag, held = cluster.tag(2), cluster.connect()
            held.ask(request("GET", f"/?sid={tag}"))
            pid = cluster.kill_worker(2, signal.SIGSTOP)
            held.send(request("GET", "/"))
            waiting = [cluster.connect() for _ in range(40)]
            for number, connection in enumerate(waiting):
                sid = f"&sid={tag}" if number % 4 == 0 else ""
                connection.send(request("POST", f"/?n={number}{sid}", body=payload(number)))
            for number, connection in enumerate(waiting):
                answer = connection.response()
                self.assertEqual(
                    (answer.status, answer.header("x-n"), answer.header("x-length")),
                    (200, str(number), str(number)),
                )
                self.assertNotEqual(answer.header("x-pid"), str(pid))
                connection.close()
            self.gone(held)
            self.assertNotEqual(self.respawned(cluster, 2, pid), pid)
            self.assertIn("Worker 2 (id 2) gives no sign of life and is killed.", cluster.log())

    def test_stopped_for_a_while(self) -> None:
        """A worker that runs on in time is avoided meanwhile, stays, and is used again."""
        with Cluster("echo", "--worker-timeout", "120", workers=2) as cluster:
            tag, pid = cluster.tag(2), cluster.kill_worker(2, signal.SIGSTOP)
            queued = cluster.connect()
            queued.send(request("GET", f"/?sid={tag}"))
            until(lambda: self.avoided(cluster, pid), 15, "it is avoided")
            os.kill(pid, signal.SIGCONT)
            self.assertEqual(queued.response().header("x-pid"), str(pid))
            queued.close()
            until(lambda: cluster.get("/").header("x-pid") == str(pid), 10, "it is used again")
            self.assertEqual(cluster.workers()[2], pid)

    def avoided(self, cluster: Cluster, pid: int) -> bool:
        """Whether twenty new connections go elsewhere."""
        connections = []
        try:
            for _ in range(20):
                connection = cluster.connect(timeout=0.5)
                connections.append(connection)
                if connection.ask(request("GET", "/")).header("x-pid") == str(pid):
                    return False
        except TimeoutError:
            return False
        finally:
            for connection in connections:
                connection.close()
        return True

    def test_a_blocked_loop(self) -> None:
        """A worker whose application does not come back is replaced; the others do not notice."""
        with Cluster("echo", "--worker-timeout", "3", workers=2) as cluster:
            tag, pid = cluster.tag(2), cluster.workers()[2]
            blocked = cluster.connect()
            blocked.send(request("GET", f"/cluster/block?seconds=60&sid={tag}"))
            with Load(cluster, {"kept": 3, "short": 2}) as load:
                self.gone(blocked)
                self.respawned(cluster, 2, pid)
            self.assertEqual(load.failures, [])

    def test_a_loop_that_is_late(self) -> None:
        """A loop that comes back in time answers everything, and is not replaced."""
        with Cluster("echo", "--worker-timeout", "60", workers=2) as cluster:
            tag, pid = cluster.tag(2), cluster.workers()[2]
            blocked = cluster.connect()
            blocked.send(request("GET", f"/cluster/block?seconds=3&sid={tag}"))
            time.sleep(0.2)
            behind = [cluster.connect() for _ in range(5)]
            for connection in behind:
                connection.send(request("GET", f"/?sid={tag}"))
            for connection in (blocked, *behind):
                self.assertEqual(connection.response().header("x-pid"), str(pid))
                connection.close()
            self.assertNotIn("no sign of life", cluster.log())
