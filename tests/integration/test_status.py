"""The status page in a real browser, and what machines read beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.integration import chromium, processes
from tests.integration.chromium import Browser
from tests.integration.cluster import ROOT, START, Cluster, ServerTestCase, free_port
from tests.integration.processes import SLACK, until
from tests.integration.rawhttp import Connection, request
from tests.integration.rawws import handshake
from tests.integration.test_demo_chromium import DESK, FAINT_TEXT, MOST, PHONE
from txsticky.ipc.outside import ask

STALE = "document.getElementById('main').classList.contains('stale')"


class StatusCluster(Cluster):
    """A cluster with a status site."""

    def __init__(self, *options: str, workers: int = 2) -> None:
        self.status_port = free_port()
        super().__init__("echo", "--status", str(self.status_port), *options, workers=workers)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.status_port}/"

    def read(self, path: str) -> tuple[int, bytes]:
        """Status code and content of something beside the page."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def state(self) -> Any:
        """`/status.json`."""
        return json.loads(self.read("status.json")[1])

    def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`, a name and its only label's value at a time."""
        text = self.read("metrics")[1].decode()
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def at_rest(self) -> bool:
        """
        Whether every connection that was handed to a worker has ended, by the worker's report.

        The primary counts a hand-off as it makes it: what no report has yet is still coming.
        """
        return all(
            worker["coming"] == worker["connections"] == 0 for worker in self.state()["workers"]
        )


class NameTests(SynchronousTestCase):
    """By which names the site is asked for."""

    def statuses(self, address: int | str, name: str) -> dict[str, int]:
        """The status of each path's answer, asked for by a name, at a port or a UNIX socket."""
        found = {}
        for path in ("/", "/status.json", "/metrics", "/healthz", "/ws"):
            if isinstance(address, int):
                sock = socket.create_connection(("127.0.0.1", address))
            else:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(address)
            asked = request("GET", path)
            if path == "/ws":
                asked = handshake(path, ("Origin", f"http://{name}"))
            with Connection.over(sock) as connection:
                answer = connection.ask(asked.replace(b"cluster.test", name.encode()))
                found[path] = answer.status
        return found

    def test_names(self) -> None:
        """Addresses, localhost and what --status-host names; a UNIX socket by any name."""
        told = {"/": 200, "/status.json": 200, "/metrics": 200, "/healthz": 200, "/ws": 101}
        refused = dict.fromkeys(told, 403)
        with StatusCluster("--status-host", "a.example", "--status-host", "b.example") as cluster:
            port = cluster.status_port
            for name in ("127.0.0.1", f"[::1]:{port}", f"localhost:{port}", "B.example"):
                self.assertEqual(self.statuses(port, name), told, name)
            for name in ("evil.example", f"evil.example:{port}", "x.a.example"):
                self.assertEqual(self.statuses(port, name), refused, name)
        path = os.path.join(self.enterContext(tempfile.TemporaryDirectory()), "status")
        with Cluster("echo", "--status", f"unix:{path}", workers=1):
            self.assertEqual(self.statuses(path, "any.example"), told)


class MachineTests(SynchronousTestCase):
    """What machines read."""

    def test_numbers(self) -> None:
        """Requests, routes and refusals are counted exactly, and across a worker's death."""
        with StatusCluster() as cluster:
            tag = cluster.tag(1)
            until(cluster.at_rest)
            before = cluster.metrics()
            for _ in range(30):
                self.assertEqual(cluster.get(f"/?sid={tag}").status, 200)
            for _ in range(3):
                self.assertEqual(cluster.connect().ask(b"nonsense\r\n\r\n").status, 400)

            def counted(name: str) -> float:
                return cluster.metrics()[name] - before[name]

            until(lambda: counted("txsticky_worker_requests_total 1") == 30)
            self.assertEqual(counted("txsticky_routes_total TAG"), 30)
            self.assertEqual(counted("txsticky_refusals_total 400"), 3)
            self.assertEqual(counted("txsticky_connections_accepted_total"), 33)
            cluster.kill_worker(1)
            until(lambda: cluster.metrics().get("txsticky_worker_exits_total -9") == 1)
            self.assertEqual(counted("txsticky_worker_requests_total 1"), 30)
            until(lambda: cluster.state()["ready"] == 2, START)

    def test_processes(self) -> None:
        """The workers' pids, memory and the loopback interface are as the system has them."""
        with StatusCluster() as cluster:

            def agree() -> bool:
                """Looks are taken each second, and a worker that has just begun still grows."""
                return all(
                    worker["memory"]
                    and abs(worker["memory"] / processes.memory(worker["pid"]) - 1) < 0.2
                    for worker in cluster.state()["workers"]
                )

            until(agree)
            for worker in cluster.state()["workers"]:
                self.assertEqual(cluster.workers()[worker["worker"]], worker["pid"])
            self.assertEqual(cluster.state()["primary"]["pid"], cluster.pid)
            with socket.socket() as sock, self.assertRaises(ConnectionRefusedError):
                sock.connect(("127.0.0.2", cluster.status_port))

    def test_health(self) -> None:
        """Without a worker that is ready both checks fail, and recover; all say why."""
        with StatusCluster(workers=1) as cluster:
            self.assertEqual(cluster.read("healthz"), (200, b"ok\n"))
            self.assertEqual(cluster.read("readyz"), (200, b"ok\n"))
            cluster.kill_worker(1)
            until(lambda: cluster.read("healthz") == (503, b"No worker is ready.\n"))
            self.assertEqual(cluster.read("readyz")[0], 503)
            until(lambda: cluster.read("readyz")[0] == 200, START)

    def test_successor(self) -> None:
        """While a cluster drains the next one starts with its options, and is what is looked at."""
        with tempfile.TemporaryDirectory() as folder:
            control = ("--control", f"{folder}/control", "--graceful-timeout", "60")
            old, new = (StatusCluster(*control, workers=1) for _ in range(2))
            new.arguments[new.arguments.index("--status") + 1] = str(old.status_port)
            new.status_port = old.status_port
            with old, old.connect() as slow:
                slow.send(request("POST", "/", headers=[("Content-Length", "2")]))
                until(lambda: old.state()["workers"][0]["connections"] == 1)
                old.signal(signal.SIGTERM)
                until(lambda: old.state()["phase"] == "draining")
                with new:
                    self.assertEqual(new.read("readyz"), (200, b"ok\n"))
                    self.assertEqual(new.state()["primary"]["pid"], new.pid)
                    asked = ask(f"{folder}/control", {"verb": "status"})
                    self.assertEqual(asked["state"]["primary"]["pid"], new.pid)
                    slow.send(b"ok")
                    self.assertEqual(slow.response().status, 200)
                    old.wait()
                    self.assertEqual(new.read("readyz")[0], 200)
                self.assertIn(f"A successor gets {old.status_port} (--status).", old.log())

    def test_port_in_use(self) -> None:
        """A port that is taken is told in one line, before anything is started."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            listen = f"127.0.0.1:{free_port()}"
            options = [
                "-l",
                listen,
                "-w",
                "1",
                "--status",
                str(port),
                "tests.integration.apps:echo",
            ]
            done = subprocess.run(
                [sys.executable, "-m", "txsticky", *options],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=SLACK * START,
            )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            done.stderr,
            f"txsticky: Cannot listen on {port} (--status): Address already in use.\n",
        )
        self.assertNotIn("orker", done.stdout)


class BrowserCluster(StatusCluster):
    """With a browser."""

    def __init__(self) -> None:
        super().__init__()
        self.browser = Browser()

    def start(self) -> None:
        super().start()
        self.browser.__enter__()

    def stop(self) -> None:
        self.browser.close()
        super().stop()


class PageTests(ServerTestCase):
    """A person opens the page."""

    if reason := chromium.missing():
        skip = reason

    def server(self) -> BrowserCluster:
        return BrowserCluster()

    def setUp(self) -> None:
        super().setUp()
        server = self._shared
        assert isinstance(server, BrowserCluster)
        self.cluster, self.browser = server, server.browser
        until(lambda: self.cluster.state()["ready"] == 2, START)
        self.browser.shape(*DESK)
        self.browser.open(self.cluster.address)
        self.browser.until("document.querySelectorAll('#workers tr').length >= 2")
        self.browser.until("points.length > 0")

    def cells(self, slot: int) -> list[str]:
        """What is shown of a worker."""
        return self.browser.texts(f"#workers tr:nth-child({slot}) > *")

    def shown(self, text: str) -> None:
        """Wait until an event is shown."""
        self.browser.until("$('events').textContent.includes(arguments[0])", text)

    def test_workers(self) -> None:
        """Each worker has a row with its state, generation and pid."""
        self.browser.until("document.querySelectorAll('#workers tr').length === 2")
        for worker in self.cluster.state()["workers"]:
            name, generation, pid, *_ = self.cells(worker["worker"])
            self.assertEqual(name, f"{worker['worker']}ready" + ", leads" * worker["leads"])
            self.assertEqual(int(generation), worker["generation"])
            self.assertEqual(int(pid), worker["pid"])
        self.assertEqual(self.browser.text("#health"), "2 of 2 workers ready")

    def test_picture_for_the_documentation(self) -> None:
        """The screen is a PNG that README and documentation can show (tests/pictures.py)."""
        self.browser.shape(1100, 800)
        with self.held(7):
            for turn in range(5):
                for number in range(40 + 30 * (turn % 3)):
                    self.cluster.get(f"/?user={number}")
                before = self.browser.script("return points.length")
                self.browser.until("points.length > arguments[0]", before)
            data = self.browser.picture("status")
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        self.assertLess(len(data), MOST)

    @contextmanager
    def held(self, count: int) -> Iterator[None]:
        """Within this, that many connections are open to worker 1."""
        self.cluster.forget_tags()
        tag = self.cluster.tag(1)
        connections = [self.cluster.connect() for _ in range(count)]
        try:
            for connection in connections:
                request = f"GET /?sid={tag} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                self.assertEqual(connection.ask(request).status, 200)
            yield
        finally:
            for connection in connections:
                connection.close()

    def test_live(self) -> None:
        """Connections show within moments, in the worker's row, in the charts, and go again."""
        with self.held(7):
            self.browser.until("$('workers').rows[0].cells[4].textContent === '7'")
            self.browser.until("charts[1].now.textContent === '7'")
        self.browser.until("$('workers').rows[0].cells[4].textContent === '0'")
        tags = self.browser.script("return points.map(point => point[series.indexOf('TAG')])")
        self.assertGreater(max(tags), 0)
        paths = self.browser.script(
            "return charts.map(c => c.plot.querySelector('.line').getAttribute('d'))"
        )
        self.assertTrue(all(path.startswith("M") for path in paths), paths)

    def test_refusals(self) -> None:
        """A refusal is counted by its code."""
        self.cluster.connect().ask(b"nonsense\r\n\r\n")
        self.browser.until("/refused with 400: [1-9]/.test($('codes').textContent)")

    def test_death(self) -> None:
        """A worker's death is told, and its successor shows up."""
        pid = self.cluster.kill_worker(2)
        self.shown("was ended by signal 9 unexpectedly")
        self.browser.until("$('workers').rows[1].cells[2].textContent !== arguments[0]", str(pid))
        self.browser.until("$('health').textContent === '2 of 2 workers ready'")

    def test_reload(self) -> None:
        """A reload is told from its beginning to its end, and each worker's generation changes."""
        before = int(self.cells(1)[1])
        self.cluster.signal(signal.SIGHUP)
        self.shown(f"The reload begins: generation {before + 1}.")
        self.browser.until(
            "$('workers').rows.length === 2 && Array.from($('workers').rows)"
            ".every(row => Number(row.cells[1].textContent) === arguments[0])",
            before + 1,
        )
        self.shown("The reload is complete.")

    def test_upgrade(self) -> None:
        """When the primary executes itself anew, the page goes on by itself."""
        self.browser.script("socket.addEventListener('close', () => { window.lost = true; })")
        self.cluster.signal(signal.SIGUSR2)
        self.browser.until("window.lost")
        self.browser.until(f"!{STALE} && socket.readyState === 1")
        self.browser.until("$('health').textContent === '2 of 2 workers ready'")
        self.browser.console()

    def test_look_back(self) -> None:
        """An operator who points at a chart is told the value at that moment."""
        moment = self.browser.script(
            "const box = charts[0].plot.getBoundingClientRect();"
            "charts[0].point({ clientX: box.right }); return charts[0].note.textContent"
        )
        self.assertRegex(moment, r"^\d\d:\d\d:\d\d$")

    def test_console_is_silent(self) -> None:
        """The browser finds no fault with the page: no error, and nothing asked from elsewhere."""
        self.browser.console()
        self.browser.open(self.cluster.address)
        self.browser.until("points.length > 0")
        self.assertEqual(self.browser.console(), [])

    def test_fits_the_screen(self) -> None:
        """On a phone and on a desk nothing is wider than the screen, and no text is cut."""
        cut = """
          return Array.from(document.querySelectorAll("h1, h2, h3, p, th, td, .now, .note"))
            .filter(e => e.checkVisibility() && e.clientWidth > 1)
            .filter(e => e.scrollWidth > e.clientWidth + 1)
            .map(e => e.textContent)
        """
        for width, height in (PHONE, DESK, (320, 568), (768, 1024)):
            self.browser.shape(width, height)
            page = self.browser.script("return document.documentElement.scrollWidth")
            self.assertLessEqual(page, width)
            if width >= PHONE[0]:
                self.assertEqual(self.browser.script(cut), [], width)

    def test_contrast(self) -> None:
        """In light and in dark all text can be read (WCAG 2.2 AA: 4.5 to 1)."""
        for size in (DESK, PHONE):
            for dark in (False, True):
                self.browser.shape(*size, dark=dark)
                self.assertEqual(self.browser.script(FAINT_TEXT), [])

    def test_names(self) -> None:
        """Software that reads the page aloud has names for the charts, and a table of workers."""
        for chart in self.browser.elements(".plot svg"):
            self.assertRegex(self.browser.label(chart), r"^\w+: now .*, peak in the last minutes")
        self.browser.shape(*PHONE)
        roles = self.browser.script(
            "return Array.from($('workers').rows[0].children, cell => cell.getAttribute('role'))"
        )
        self.assertEqual(set(roles), {"rowheader", "cell"})
        heads = self.browser.texts("#heads th")
        self.assertEqual(len(heads), len(roles))


class EndTests(SynchronousTestCase):
    """The end of the primary."""

    if reason := chromium.missing():
        skip = reason

    def test_lost(self) -> None:
        """When the primary has gone, the page says that what it shows is old."""
        with BrowserCluster() as cluster, closing(cluster.browser) as browser:
            browser.open(cluster.address)
            browser.until("points.length > 0")
            os.kill(cluster.pid, signal.SIGKILL)
            browser.until(STALE)
            self.assertIn("what you see is old", browser.text("#lost"))
            cluster.wait()
            until(lambda: not cluster.living(), START)
