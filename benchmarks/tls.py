"""
What TLS costs, and what a relay adds: ``python -m benchmarks.tls``.

Two workers, one client, one connection. CPU is that of both workers together.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial

from tests.integration import processes
from tests.integration.cluster import Cluster
from tests.integration.rawhttp import Connection, payload, request
from tests.integration.secure import APPS, SecureCluster

REQUESTS = 2000
ROUNDS = 5
SIZE = 256 << 20


def cpu(cluster: Cluster) -> float:
    """Seconds of CPU that the workers have used."""
    return sum(processes.cpu(pid) for pid in cluster.workers().values())


def cost(cluster: Cluster, action: Callable[[], object]) -> tuple[float, float]:
    """Seconds of CPU and of time that something takes."""
    before, began = cpu(cluster), time.perf_counter()
    action()
    return cpu(cluster) - before, time.perf_counter() - began


def sids(cluster: Cluster) -> dict[str, str]:
    """A session id of each worker."""
    found: dict[str, str] = {}
    while len(found) < 2:
        answer = json.loads(cluster.get().body)
        found[answer["worker"]] = answer["told"]
    return found


def row(name: str, costs: list[tuple[float, float]], each: float, unit: str) -> None:
    """Print the median of the rounds."""
    used = statistics.median(cpu for cpu, _ in costs) / each
    taken = statistics.median(seconds for _, seconds in costs) / each
    print(f"{name:34}{used * 1e6:9.0f} us of CPU, {taken * 1e6:9.0f} us  {unit}", flush=True)


def requests(cluster: Cluster, names: tuple[str, str]) -> None:
    """Small requests: those that are the connection's own worker's, and the other's."""
    tags = sids(cluster)
    with cluster.connect(timeout=60) as connection:
        home = json.loads(connection.ask(request("GET", "/")).body)["worker"]
        other = next(slot for slot in tags if slot != home)
        for name, slot in zip(names, (home, other), strict=True):
            asking = partial(ask, connection, request("GET", f"/?sid={tags[slot]}"))
            costs = [cost(cluster, asking) for _ in range(ROUNDS)]
            row(name, costs, REQUESTS, "a request")


def ask(connection: Connection, data: bytes) -> None:
    """Ask many times."""
    for _ in range(REQUESTS):
        connection.ask(data)


def transfer(connection: Connection, data: bytes) -> None:
    """Ask once, and throw the answer away."""
    connection.send(data)
    connection.response(keep=False)


def bodies(cluster: Cluster) -> None:
    """Large bodies, up and down."""
    tags, body = sids(cluster), payload(SIZE)
    with cluster.connect(timeout=60) as connection:
        for relayed in (False, True):
            home = json.loads(connection.ask(request("GET", "/")).body)["worker"]
            slot = next(slot for slot in tags if (slot != home) == relayed)
            up = request("POST", f"/?sid={tags[slot]}", body=body)
            down = request("GET", f"/?sid={tags[slot]}", headers=[("X-Size", str(SIZE))])
            for name, data in (("upload", up), ("download", down)):
                costs = [cost(cluster, partial(transfer, connection, data)) for _ in range(ROUNDS)]
                rate = SIZE / (1 << 20) / statistics.median(seconds for _, seconds in costs)
                where = "relayed" if relayed else "served here"
                row(f"TLS, {name}, {where}", costs, SIZE / (1 << 20), f"a MiB: {rate:.0f} MiB/s")


def main() -> None:
    """Measure."""
    with Cluster(f"{APPS}:asgi", workers=2, probe="/") as plain:
        requests(plain, ("plain", "plain, the connection moved once"))
    with SecureCluster(":asgi", workers=2, probe="/") as secure:
        requests(secure, ("TLS, served here", "TLS, relayed"))
        new = [cost(secure, lambda: [secure.get() for _ in range(100)]) for _ in range(ROUNDS)]
        row("TLS, a connection for each", new, 100, "a request")
        bodies(secure)


if __name__ == "__main__":
    main()
