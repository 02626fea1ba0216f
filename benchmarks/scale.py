"""
What grows with what: ``python -m benchmarks scale [--tree FOLDER]``.

Idle CPU, descriptors and reloads over the number of workers, reloads over the number of bound keys
and of idle connections.  With ``--tree`` a checkout of another version is measured beside.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define

from tests.integration.cluster import free_port

from . import measure, report
from .contenders import HERE, ROOT
from .measure import Figures

APPS = HERE / "apps" / "scaling"
BOUND = ("--factory", "--sticky", "query:k", "bound:Root")
REQUEST = b"GET / HTTP/1.1\r\nHost: benchmark\r\n\r\n"
#: Seconds for a start, and for a reload.
PATIENCE = 300.0
#: Seconds for which an idle cluster is looked at.
IDLE = 15.0
#: How often a reload with keys and one without are measured.
PAIRS = 5
#: Seconds between two requests of the client that waits while a table is sent.
ASKS_EVERY = 0.002
#: Connections from one address of 127.0.0.0/8: it has some more ports.
FROM_ONE = 9_000
_TICK = os.sysconf("SC_CLK_TCK")


@define
class Cluster:
    """A cluster of some version that serves, and its log."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def workers(self) -> list[int]:
        """The workers' processes; a template is none."""
        found = measure.children(self.process.pid)
        return [pid for pid in found if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def cpu(self) -> float:
        """Seconds of CPU of all processes until now, those that have ended included (proc(5))."""
        ticks = 0
        for pid in (self.process.pid, *measure.children(self.process.pid)):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / _TICK

    def said(self, sentence: str, count: int = 1) -> None:
        """
        Wait until the log has a sentence so often.

        :raises AssertionError: it has not in time, or the program has ended.
        """
        end = time.monotonic() + PATIENCE
        while self.log.read_text(errors="replace").count(sentence) < count:
            waits = time.monotonic() < end and self.process.poll() is None
            assert waits, f"no {sentence!r} in {self.log.read_text()[-2000:]}"
            time.sleep(0.01)

    def get(self, target: str) -> float:
        """Ask once over a connection of its own; returns the seconds that it took."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request("GET", target, headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == 200, answer.status
        return time.perf_counter() - began

    def reload(self) -> tuple[float, float]:
        """Reload; returns the seconds that it took, and those of CPU until all is quiet again."""
        before, began = self.cpu(), time.monotonic()
        self.process.send_signal(signal.SIGHUP)
        self.said("The reload is complete.")
        took = time.monotonic() - began
        self.said("has left", self.log.read_text().count("is ready.") // 2)
        return took, self.cpu() - before


@contextmanager
def cluster(tree: Path, workers: int, *options: str) -> Iterator[Cluster]:
    """Start a cluster of the version in a checkout; end it with all that belongs to it."""
    port = free_port()
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "txsticky",
                "-l",
                f"127.0.0.1:{port}",
                "-w",
                str(workers),
                *options,
            ],
            cwd=APPS,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            found = Cluster(process, port, Path(log.name))
            found.said("is ready.", workers)
            found.said("serves")
            yield found
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def idle(tree: Path, workers: int) -> Figures:
    """Percent of a core that a cluster needs that does nothing, and its descriptors."""
    with cluster(tree, workers, *BOUND) as running:
        time.sleep(3)
        pids = [running.process.pid, *running.workers()]
        before, began = measure.cpu(pids), time.monotonic()
        time.sleep(IDLE)
        used = (measure.cpu(pids) - before) / 1e6
        return {
            "idle CPU %": 100 * used / (time.monotonic() - began),
            "descriptors": measure.descriptors(pids),
        }


def reload(tree: Path, workers: int) -> Figures:
    """A reload of the demo."""
    with cluster(tree, workers) as running:
        time.sleep(1)
        seconds, cpu = running.reload()
        return {"seconds": seconds, "CPU s": cpu, "CPU s a worker": cpu / workers}


def keys(tree: Path, count: int) -> Figures:
    """
    A reload of three workers with so many bound keys, and one without, by turns.

    What else the machine does is more than what the keys do: so the figures are medians of pairs.
    """
    pairs = []
    for number in range(PAIRS):
        counts = (count, 0) if number % 2 else (0, count)
        pairs.append({each: reload_with_keys(tree, each) for each in counts})
    seen, bare = ([pair[each] for pair in pairs] for each in (count, 0))
    median = statistics.median
    return {
        "CPU s more": median(one[0] - other[0] for one, other in zip(seen, bare, strict=True)),
        "CPU s": median(cpu for cpu, _ in seen),
        "worst wait ms": median(wait for _, wait in seen),
        "worst wait without keys ms": median(wait for _, wait in bare),
    }


def reload_with_keys(tree: Path, count: int) -> tuple[float, float]:
    """
    Reload three workers with so many bound keys, while a client asks over one connection.

    :returns: the seconds of CPU, and the milliseconds of the longest wait for an answer.
    """
    with cluster(tree, 3, *BOUND) as running:
        for first in range(0, count, 1000):
            running.get(f"/?k=client{first}&from={first}&count=1000")
        time.sleep(2)
        waits: list[float] = []
        over = threading.Event()

        def ask_on() -> None:
            client = socket.create_connection(("127.0.0.1", running.port), PATIENCE)
            with client:
                while not over.is_set():
                    began = time.perf_counter()
                    ask(client)
                    assert answered(client), "the connection was closed"
                    waits.append(time.perf_counter() - began)
                    time.sleep(ASKS_EVERY)

        client = threading.Thread(target=ask_on)
        client.start()
        try:
            _, cpu = running.reload()
        finally:
            over.set()
            client.join()
        return cpu, max(waits) * 1e3


def connections(tree: Path, count: int) -> Figures:
    """A reload of three workers with so many idle connections; afterwards each asks once more."""
    options = ("--keep-alive", "600", "--graceful-timeout", "15")
    clients: list[socket.socket] = []
    with cluster(tree, 3, *options, *BOUND) as running:
        try:
            for number in range(count):
                source = f"127.0.{10 + number // FROM_ONE}.1", 0
                clients.append(socket.create_connection(("127.0.0.1", running.port), 60, source))
                clients[-1].sendall(REQUEST)
            before = sum(map(answered, clients))
            seconds, cpu = running.reload()
            refused = 0
            for _ in range(100):
                try:
                    running.get("/")
                except (OSError, AssertionError, http.client.HTTPException):
                    refused += 1
            for client in clients:
                ask(client)
            kept = sum(map(answered, clients))
        finally:
            for client in clients:
                client.close()
    return {
        "closed by the reload": before - kept,
        "closed before": count - before,
        "new clients refused": refused,
        "seconds": seconds,
        "CPU s": cpu,
    }


def ask(client: socket.socket) -> None:
    """Send a request; whether it was taken shows in the answer."""
    try:
        client.sendall(REQUEST)
    except OSError:
        client.close()


def answered(client: socket.socket) -> bool:
    """Whether a client gets its answer."""
    try:
        return client.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@define
class Curve:
    """A measurement over one number: its name for the files, what it is over, goal, main figure."""

    name: str
    title: str
    over: str
    points: tuple[int, ...]
    measure: Callable[[Path, int], Figures]
    main: str
    goal: str

    def result(self, trees: dict[str, Path]) -> report.Result:
        """Measure each version at each point, one after the other."""
        summaries, rounds, missing = [], {}, []
        for point in self.points:
            for version, tree in trees.items():
                name = f"{point:,} {self.over}{version}"
                try:
                    figures = dict(self.measure(tree, point))
                except (AssertionError, OSError) as reason:
                    missing.append(f"{name} failed: {str(reason)[:200]}.")
                    continue
                summaries.append(measure.Summary(name, figures, {}))
                rounds[name] = [figures]
                told = ", ".join(f"{key} {report.number(value)}" for key, value in figures.items())
                print(f"  {name:28}{told}", flush=True)
        main = (self.main, False)
        return report.Result(self.name, self.title, self.goal, main, summaries, rounds, missing)


WORKERS = (2, 4, 8, 16, 32, 64)
CURVES = (
    Curve(
        "scale-idle",
        "A cluster that does nothing",
        "workers",
        WORKERS,
        idle,
        "idle CPU %",
        "64 workers take at most 2 % of a core; descriptors grow as the workers do",
    ),
    Curve(
        "scale-reload",
        "A reload of the demo",
        "workers",
        WORKERS,
        reload,
        "seconds",
        "at most 10 seconds for 16 workers",
    ),
    Curve(
        "scale-keys",
        "A reload of three workers with bound keys, beside one without",
        "keys",
        (10_000, 100_000),
        keys,
        "CPU s more",
        "100,000 keys add 0.2 CPU-seconds, and no wait of more than 20 ms",
    ),
    Curve(
        "scale-connections",
        "A reload of three workers with idle connections",
        "connections",
        (1_000, 6_000, 18_000),
        connections,
        "closed by the reload",
        "18,000 are kept, and no new client is refused",
    ),
)


def main(arguments: list[str], where: str) -> int:
    """
    Measure the curves, or some of them.

    :param where: tells of the machine.
    """
    parser = argparse.ArgumentParser(prog="benchmarks scale", description=__doc__)
    parser.add_argument("--tree", type=Path, help="a checkout of another version, measured beside")
    parser.add_argument("--only", default="", help="idle, reload, keys, connections")
    parser.add_argument("--most", type=int, default=1 << 30, help="leave out what is more than so")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder")
    options = parser.parse_args(arguments)
    trees = {"": ROOT}
    if options.tree is not None:
        trees[", before"] = options.tree.resolve()
    wanted = {f"scale-{name}" for name in options.only.split(",") if name}
    results = []
    for curve in CURVES:
        if wanted and curve.name not in wanted:
            continue
        print(f"\n{curve.title}", flush=True)
        curve.points = tuple(point for point in curve.points if point <= options.most)
        results.append(curve.result(trees))
    report.write(results, where, options.output, "scale")
    return 0
