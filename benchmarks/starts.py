"""
What starts cost: ``python -m benchmarks.starts``.

Workers that die, that are many, that are reloaded; their memory; TLS sessions that are resumed.
gunicorn stands beside where it is installed. The results are in ``benchmarks/results/starts.rst``.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from attrs import frozen

from tests.integration.cluster import Cluster, Server, free_port
from tests.integration.processes import until

from . import report
from .handshakes import of_openssl, of_workers
from .machine import machine

APPS = "benchmarks.apps.starting"
ROUNDS = 3
RESULTS = Path(__file__).resolve().parent / "results"
TICKS = os.sysconf("SC_CLK_TCK")


class Gunicorn(Server):
    """gunicorn, with applications of `starting`."""

    def __init__(self, app: str, *options: str, workers: int = 1) -> None:
        port = free_port()
        bind = ["-b", f"127.0.0.1:{port}", "-w", str(workers)]
        super().__init__(["-m", "gunicorn", *bind, *options, f"{APPS}:{app}()"], port)
        self.size = workers

    def worker_pids(self) -> list[int]:
        """The workers."""
        return [each.pid for each in self.living() if each.parent == self.pid]


class Ours(Cluster):
    """txsticky, likewise."""

    def __init__(
        self, app: str, *options: str, workers: int = 1, environment: dict[str, str] | None = None
    ) -> None:
        options = ("--factory", *options)
        super().__init__(
            f"{APPS}:{app}", *options, workers=workers, probe="/", environment=environment
        )

    def worker_pids(self) -> list[int]:
        """The workers."""
        return list(self.workers().values())

    def wait_all(self, count: int | None = None) -> None:
        """Wait until so many workers have been ready, or all."""
        wanted = count or self.size
        until(lambda: self.log().count("is ready.") >= wanted, 120, f"{wanted} were ready")


def respawn(server: Ours) -> float:
    """Milliseconds from the death of a worker until its successor is ready; of each worker once."""
    times = []
    with server:
        server.wait_all()
        time.sleep(1)
        for slot in range(1, server.size + 1):
            ready, pid = server.log().count("is ready."), server.workers()[slot]
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            while server.log().count("is ready.") == ready:
                time.sleep(0.001)
            times.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.5)
    return statistics.median(times)


def respawn_guest(server: Gunicorn) -> float:
    """Milliseconds from the death of the only worker until the next request is answered."""
    times = []
    with server:
        for _ in range(ROUNDS):
            time.sleep(1)
            (pid,) = server.worker_pids()
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            while not server.answers("/"):
                pass
            times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


def spent(pid: int) -> float:
    """Seconds of CPU of a process and its children that have ended (proc(5), /proc/pid/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / TICKS


def start_cpu(server: Ours | Gunicorn) -> float:
    """Seconds of CPU until eight workers are ready."""
    with server:
        if isinstance(server, Ours):
            server.wait_all()
        else:
            until(lambda: len(server.worker_pids()) == server.size, 20)
            time.sleep(1)
        return sum(spent(each.pid) for each in server.living())


def private(server: Ours | Gunicorn) -> float:
    """MiB that an idle worker has of its own, the median of three workers."""
    with server:
        if isinstance(server, Ours):
            server.wait_all()
        time.sleep(1.5)
        sizes = []
        for pid in server.worker_pids():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            sizes.append(sum(int(line.split()[1]) for line in lines if "Private_" in line) / 1024)
    return statistics.median(sizes)


def reload_imports(*options: str) -> tuple[int, float, int]:
    """Imports at a HUP of four workers whose application takes 3 s; its seconds; fewest ready."""
    with tempfile.NamedTemporaryFile("r") as record:
        environment = {"BENCHMARK_RECORD": record.name, "BENCHMARK_IMPORT": "3"}
        with Ours("site", *options, workers=4, environment=environment) as server:
            server.wait_all()
            before, began, fewest = len(record.readlines()), time.perf_counter(), 4
            server.signal(signal.SIGHUP)
            while "The reload is complete." not in server.log():
                fewest = min(fewest, len(server.worker_pids()))
                time.sleep(0.02)
            took = time.perf_counter() - began
            record.seek(0)
            return len(record.readlines()) - before, took, fewest


def row(figure: Figure) -> list[str]:
    """Measure a figure, and print the median of its rounds; returns the cells of its row."""
    try:
        value = statistics.median(figure.measure() for _ in range(figure.rounds))
    except (AssertionError, OSError) as error:
        cells = [figure.what, figure.name, f"failed: {str(error)[:200]}", figure.goal]
    else:
        cells = [figure.what, figure.name, f"{report.number(value)} {figure.unit}", figure.goal]
    print("  ".join(cell.ljust(24) for cell in cells), flush=True)
    return cells


@frozen
class Figure:
    """
    What is measured.

    :ivar what: its kind, as it is named on the command line.
    :ivar name: the contender.
    """

    what: str
    name: str
    measure: Callable[[], float]
    unit: str
    goal: str = ""
    rounds: int = 1


def figures() -> Iterator[Figure]:
    """All that is measured, gunicorn beside where it is installed."""
    alone = {"TXSTICKY_TEMPLATE": "0"}
    preload = ("--preload",)
    flask = ("flask", *preload)
    yield Figure("respawn", "web hello", lambda: respawn(Ours("site", workers=3)), "ms", "60 ms")
    yield Figure(
        "respawn", "Flask, --preload", lambda: respawn(Ours(*flask, workers=3)), "ms", "60 ms"
    )
    yield Figure(
        "respawn",
        "web hello, no template",
        lambda: respawn(Ours("site", workers=3, environment=alone)),
        "ms",
    )
    yield from guests("respawn", "Flask", respawn_guest, "flask", 1, "ms")
    yield Figure(
        "cpu", "web hello", lambda: start_cpu(Ours("site", workers=8)), "s", "1.5 s", ROUNDS
    )
    yield Figure(
        "cpu",
        "web hello, no template",
        lambda: start_cpu(Ours("site", workers=8, environment=alone)),
        "s",
    )
    yield from guests("cpu", "Flask", start_cpu, "flask", 8, "s")
    yield Figure("memory", "web hello", lambda: private(Ours("site", workers=3)), "MiB", "10 MiB")
    yield Figure(
        "memory",
        "Django, --preload",
        lambda: private(Ours("django", *preload, workers=3)),
        "MiB",
        "15 MiB",
    )
    yield from guests("memory", "Django", private, "django", 3, "MiB")


def guests(
    what: str, app: str, measure: Callable[[Gunicorn], float], name: str, workers: int, unit: str
) -> Iterator[Figure]:
    """The same of gunicorn, with and without --preload."""
    if importlib.util.find_spec("gunicorn") is None:
        return
    for options in ((), ("--preload",)):
        title = ", ".join((app, "gunicorn", *options))
        begin = partial(Gunicorn, name, *options, workers=workers)
        yield Figure(what, title, lambda begin=begin: measure(begin()), unit)


def reloads() -> list[str]:
    """Measure a reload of an application that takes long to import."""
    imports, seconds, fewest = reload_imports("--preload")
    told = f"{imports} imports in {seconds:.1f} s, never fewer than {fewest} workers"
    print(told, flush=True)
    return ["reload", "4 workers, 3 s to import, --preload", told, "1 import, never fewer than 4"]


def handshakes() -> Iterator[list[str]]:
    """Measure handshakes of TLS."""
    for name, full, again in of_openssl():
        yield _handshake(f"OpenSSL alone, {name}", full, again)
    for name, resumed, full, again in of_workers(f"{APPS}:site"):
        yield _handshake(f"3 workers, P-256, {name}, {resumed:.1f} % resumed", full, again, "0.4")


def _handshake(name: str, full: float, again: float, goal: str = "") -> list[str]:
    told = f"{full:.0f} us full, {again:.0f} us resumed: {again / full:.2f}"
    print(f"{name}: {told}", flush=True)
    return ["tls", name, told, goal]


KINDS = ("respawn", "cpu", "memory", "reload", "tls")


def main() -> None:
    """Measure everything, or what the arguments name, of `KINDS`; other results stay."""
    wanted = sys.argv[1:] or KINDS
    where = machine()
    rows = [row(figure) for figure in figures() if figure.what in wanted]
    rows += [reloads()] if "reload" in wanted else []
    rows += handshakes() if "tls" in wanted else []
    rows += [kept for kept in report.read_rows("starts", RESULTS) if kept[0] not in wanted]
    rows.sort(key=lambda cells: KINDS.index(cells[0]))
    report.write_rows("starts", where, ["", "contender", "measured", "goal"], rows, RESULTS)


if __name__ == "__main__":
    main()
