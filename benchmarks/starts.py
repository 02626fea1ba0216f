"""
What starts cost: ``python -m benchmarks.starts``.

Workers that die, that are many, that are reloaded; their memory; TLS sessions that are resumed.
gunicorn stands beside where it is installed. Medians of three rounds.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.integration import processes
from tests.integration.cluster import Cluster, Server, free_port
from tests.integration.processes import until
from tests.integration.rawhttp import request
from tests.integration.secure import NAME, SecureCluster

APPS = "benchmarks.apps.starting"
ROUNDS = 3
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
            ready = server.log().count("is ready.")
            began = time.perf_counter()
            server.kill_worker(slot)
            while server.log().count("is ready.") == ready:
                time.sleep(0.001)
            times.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.5)
    return statistics.median(times)


def respawn_guest(server: Gunicorn) -> float:
    """Likewise, of the only worker: until the next request is answered."""
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


def resumption(version: ssl.TLSVersion, count: int = 150) -> tuple[float, float, float]:
    """Resumed connections in percent, and ms of the workers' CPU of a full and a resumed one."""
    target = f"{APPS}:site"
    with SecureCluster(target, "--factory", workers=3, probe="/") as cluster:
        until(lambda: cluster.log().count("is ready.") >= 3, 60)
        context = cluster.context()
        context.minimum_version = context.maximum_version = version
        session, reused, costs = None, 0, []
        for resume in (False, True):
            before = sum(map(processes.cpu, cluster.workers().values()))
            for _ in range(count):
                plain = cluster.plain().socket
                with context.wrap_socket(
                    plain, server_hostname=NAME, session=session if resume else None
                ) as secured:
                    secured.sendall(request("GET", "/", headers=[("Connection", "close")]))
                    while secured.recv(65536):
                        pass
                    reused += resume and bool(secured.session_reused)
                    session = secured.session
            used = sum(map(processes.cpu, cluster.workers().values())) - before
            costs.append(used / count * 1e3)
    return 100 * reused / count, costs[0], costs[1]


def row(what: str, name: str, measure: Callable[[], float], unit: str, rounds: int) -> None:
    """Print the median of the rounds."""
    try:
        values = [measure() for _ in range(rounds)]
    except (AssertionError, OSError) as error:
        print(f"{what:14}{name:38} failed: {str(error)[:200]}", flush=True)
        return
    print(f"{what:14}{name:38}{statistics.median(values):9.2f} {unit}", flush=True)


def compared() -> Iterator[tuple[str, str, Callable[[], float], str, int]]:
    """What is measured beside gunicorn: kind, contender, measurement, unit, rounds."""
    alone = {"TXSTICKY_TEMPLATE": "0"}
    guest = importlib.util.find_spec("gunicorn") is not None
    yield "respawn", "site", lambda: respawn(Ours("site", workers=3)), "ms", 1
    yield (
        "respawn",
        "site, no template",
        lambda: respawn(Ours("site", workers=3, environment=alone)),
        "ms",
        1,
    )
    yield (
        "respawn",
        "Flask, --preload",
        lambda: respawn(Ours("flask", "--preload", workers=3)),
        "ms",
        1,
    )
    for options in ((), ("--preload",)) if guest else ():
        name = f"Flask, gunicorn {' '.join(options)}"
        yield "respawn", name, partial(_guest, respawn_guest, "flask", options, 1), "ms", 1
        yield "cpu", name, partial(_guest, start_cpu, "flask", options, 8), "s", ROUNDS
        name = f"Django, gunicorn {' '.join(options)}"
        yield "memory", name, partial(_guest, private, "django", options, 3), "MiB", 1
    yield "cpu", "site", lambda: start_cpu(Ours("site", workers=8)), "s", ROUNDS
    yield (
        "cpu",
        "site, no template",
        lambda: start_cpu(Ours("site", workers=8, environment=alone)),
        "s",
        1,
    )
    yield "memory", "site", lambda: private(Ours("site", workers=3)), "MiB", 1
    yield (
        "memory",
        "Django, --preload",
        lambda: private(Ours("django", "--preload", workers=3)),
        "MiB",
        1,
    )


def _guest(
    measure: Callable[[Gunicorn], float], app: str, options: tuple[str, ...], workers: int
) -> float:
    return measure(Gunicorn(app, *options, workers=workers))


def main() -> None:
    """Measure everything, or what the arguments name: respawn, cpu, memory, reload, tls."""
    wanted = sys.argv[1:] or ["respawn", "cpu", "memory", "reload", "tls"]
    for what, name, measure, unit, rounds in compared():
        if what in wanted:
            row(what, name, measure, unit, rounds)
    if "reload" in wanted:
        imports, seconds, fewest = reload_imports("--preload")
        print(f"HUP of 4, --preload: {imports} imports, {seconds:.1f} s, never fewer than {fewest}")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3) if "tls" in wanted else ():
        rate, full, resumed = resumption(version)
        print(
            f"{version.name}: {rate:.1f} % resumed; CPU {full:.2f} ms full, {resumed:.2f} ms"
            f" resumed, {resumed / full:.2f}"
        )


if __name__ == "__main__":
    main()
