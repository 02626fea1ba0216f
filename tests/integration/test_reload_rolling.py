"""Rolling reloads: no request fails, sessions end well, and bad code does not get in."""

from __future__ import annotations

import shutil
import signal
import struct
import tempfile
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import rawws
from tests.integration.cluster import ROOT, Cluster
from tests.integration.load import UNHURRIED, Load
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Fault, request

COMPLETE = "The reload is complete."
GIVEN_UP = "The reload is given up"


class ReloadCase(SynchronousTestCase):
    """What these tests share."""

    def reload(self, cluster: Cluster, said: str = COMPLETE) -> None:
        """Reloads, and waits until that is said to be over."""
        before = cluster.log().count(said)
        cluster.signal(signal.SIGHUP)
        until(lambda: cluster.log().count(said) > before, 30, said)

    def left(self, cluster: Cluster, pids: set[int]) -> None:
        """Waits until these processes have gone."""
        until(lambda: not pids & {p.pid for p in cluster.living()}, 15, f"{pids} have left")


class Rolling(ReloadCase):
    """Code that loads."""

    def test_ten_under_load(self) -> None:
        """Ten reloads under every kind of load: not one request fails."""
        clients = {"kept": 4, "short": 2, "upload": 2, "poll": 3, "slow": 2}
        with Cluster("echo", *UNHURRIED, workers=2) as cluster:
            before = cluster.workers()
            with Load(cluster, clients, pause=0.02) as load:
                load.wait(100)
                for _ in range(10):
                    self.reload(cluster)
                load.wait(100)
            self.assertEqual(load.failures, [])
            self.assertEqual(set(load.answered), set(clients))
            self.assertFalse(set(before.values()) & set(cluster.workers().values()))

    def test_idle_connections_move(self) -> None:
        """Idle connections are served by the new workers, and none is closed."""
        with Cluster("echo", workers=2) as cluster:
            connections = [cluster.connect() for _ in range(40)]
            old = {c.ask(request("GET", "/")).header("x-pid") for c in connections}
            pids = set(cluster.workers().values())
            self.assertEqual(old, {str(pid) for pid in pids})
            self.reload(cluster)
            self.left(cluster, pids)
            new = {str(pid) for pid in cluster.workers().values()}
            for connection in connections:
                self.assertIn(connection.ask(request("GET", "/")).header("x-pid"), new)
                connection.close()

    def test_sessions_stay_to_the_end(self) -> None:
        """What is pinned to a worker reaches it as long as it drains, and then its successors."""
        with Cluster("echo", "--graceful-timeout", "6", workers=2) as cluster:
            sid, old = cluster.tag(1), str(cluster.workers()[1])
            answers = []
            cluster.signal(signal.SIGHUP)
            until(lambda: "Worker 1 (id 3) is ready" in cluster.log(), 30, "the successor is ready")
            while not answers or answers[-1] == old:
                answers.append(cluster.get(f"/?sid={sid}&delay=0.1").header("x-pid"))
            self.assertGreater(len(answers), 10)
            self.assertEqual(set(answers[:-1]), {old})

    def test_the_deadline(self) -> None:
        """A response that takes longer than the graceful timeout does not keep the old worker."""
        with Cluster("echo", "--graceful-timeout", "2", workers=1) as cluster:
            pids = set(cluster.workers().values())
            with cluster.connect() as endless:
                endless.send(request("GET", "/?delay=60"))
                time.sleep(0.3)
                self.reload(cluster)
                self.left(cluster, pids)
                self.assertRaises((OSError, Fault), endless.response)

    def test_two_at_once(self) -> None:
        """During a reload one more is noted, and not more than one."""
        with Cluster("echo", workers=1) as cluster:
            for _ in range(4):
                cluster.signal(signal.SIGHUP)
                time.sleep(0.1)
            until(lambda: cluster.log().count(COMPLETE) == 2, 30, "two reloads")
            time.sleep(1.5)
            self.assertEqual(cluster.log().count("The reload begins"), 2)


class WebSockets(ReloadCase):
    """Long-lived connections."""

    def close_of(self, connection: Connection, began: float, ends: list[tuple[float, int]]) -> None:
        """Waits for the close frame, answers it; notes when it came, and its code."""
        opcode, data = rawws.message(connection.reader)
        ends.append((time.monotonic() - began, struct.unpack("!H", data[:2])[0]))
        if opcode != rawws.CLOSE:
            raise Fault(f"{opcode} {data!r}")
        connection.send(rawws.frame(data, rawws.CLOSE))
        connection.end()
        connection.close()

    def test_spread(self) -> None:
        """WebSockets are closed with 1001, one by one over the drain: their clients are no herd."""
        count, seconds = 60, 8
        options = ("--factory", "--graceful-timeout", str(seconds))
        with Cluster("mixed", *options, workers=1) as cluster:
            clients = [cluster.connect() for _ in range(count)]
            for client in clients:
                rawws.join(client)
            ends: list[tuple[float, int]] = []
            began = time.monotonic()
            threads = [
                threading.Thread(target=self.close_of, args=(client, began, ends))
                for client in clients
            ]
            for thread in threads:
                thread.start()
            self.reload(cluster)
            for thread in threads:
                thread.join(20)
            self.assertEqual([code for _, code in ends], [1001] * count)
            times = sorted(when for when, _ in ends)
            busiest = max(sum(a <= b < a + 1 for b in times) for a in times)
            self.assertGreater(times[-1] - times[0], seconds / 2)
            self.assertLess(busiest, count / 2)

    def test_made_late(self) -> None:
        """A WebSocket that was opened on a draining worker is closed with 1001, too."""
        options = ("--factory", "--graceful-timeout", "4")
        with Cluster("mixed", *options, workers=1) as cluster:
            sid = cluster.tag(1)
            self.reload(cluster)
            with cluster.connect() as connection:
                rawws.join(connection, f"/ws?sid={sid}")
                ends: list[tuple[float, int]] = []
                self.close_of(connection, time.monotonic(), ends)
                self.assertEqual(ends[0][1], 1001)


class BadCode(ReloadCase):
    """Code that does not get ready: the workers that run stay."""

    def setUp(self) -> None:
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.module = Path(self.folder, "changing_app.py")
        self.write("version = 1")

    def write(self, first: str) -> None:
        """A new version of the application: a line, and then the usual."""
        text = """
            from twisted.web.resource import Resource
            from tests.integration.apps import Cluster
            class Version(Resource):
                isLeaf = True
                def render_GET(self, request):
                    return str(version).encode()
            app = Resource()
            app.putChild(b"version", Version())
            app.putChild(b"cluster", Cluster())
        """
        lines = [first, *(line[12:] for line in text.splitlines()), ""]
        self.module.write_text("\n".join(lines))

    def cluster(self) -> Cluster:
        """A cluster of two that serves it."""
        environment = {"PYTHONPATH": self.folder, "PYTHONDONTWRITEBYTECODE": "1"}
        return Cluster("changing_app:app", workers=2, environment=environment)

    def test_every_way_to_fail(self) -> None:
        """An error, a clean exit, an unclean one, and a wrong name: each is said; the old serve."""
        with self.cluster() as cluster:
            workers = cluster.workers()
            for first, said in (
                ("raise LookupError('no settings')", "no settings"),
                ("import os; os._exit(0)", "it exited with code 0 before it was ready"),
                ("import os; os._exit(9)", "it exited with code 9 before it was ready"),
                ("import sys; sys.exit('that is all')", "that is all"),
                ("import os; os.abort()", "it was ended by signal 6 before it was ready"),
                ("syntax is not for everybody", "SyntaxError"),
            ):
                self.write(first)
                known = len(cluster.log())
                self.reload(cluster, GIVEN_UP)
                self.assertIn(said, cluster.log()[known:])
                self.assertIn("did not start", cluster.log()[known:])
                until(lambda: cluster.workers() == workers, 5, "the old ones are left")
                self.assertEqual(cluster.get("/version").body, b"1")
            self.write("version = 2")
            self.reload(cluster)
            self.assertEqual(cluster.get("/version").body, b"2")

    def test_hangs(self) -> None:
        """While the new code does not get ready the old serves; to stop does not wait for it."""
        with self.cluster() as cluster:
            self.write("import time; time.sleep(600)")
            cluster.signal(signal.SIGHUP)
            until(lambda: len(cluster.told("/cluster/pool")) == 3, 20, "it loads")
            for _ in range(20):
                self.assertEqual(cluster.get("/version").body, b"1")
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(8), 0)


class Releases(ReloadCase):
    """A directory for each release of the application, and a link to the present one."""

    def test_reload(self) -> None:
        """A reload loads what the link leads to by then, also if the first release is gone."""
        top = Path(self.enterContext(tempfile.TemporaryDirectory()))
        app = "from tests.integration.apps import echo as app\nprint('This is release {}.')\n"
        for release in ("1", "2"):
            (top / release).mkdir()
            (top / release / "released_app.py").write_text(app.format(release))
        link = top / "current"
        link.symlink_to("1")
        cluster = Cluster(
            "released_app:app", environment={"PWD": str(link), "PYTHONPATH": str(ROOT)}
        )
        cluster.folder = link
        with cluster:
            self.assertIn("This is release 1.", cluster.log())
            (top / "next").symlink_to("2")
            (top / "next").rename(link)
            shutil.rmtree(top / "1")
            self.reload(cluster)
            self.assertIn("This is release 2.", cluster.log())
            self.assertEqual(cluster.get().status, 200)
