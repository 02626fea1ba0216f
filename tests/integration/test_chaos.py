"""Chaos, drawn from a seed: everything that can happen to a cluster happens, under load.

At the end every answer that came was right, every body whole, nothing hangs, and no process,
descriptor or file is left over. What may fail is what a killed worker held, and only with a torn
connection.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable
from typing import ClassVar

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from tests.integration import rawws
from tests.integration.cluster import Cluster
from tests.integration.load import Load
from tests.integration.processes import until
from tests.integration.rawhttp import Connection, Fault, request

#: Seconds for which things happen, and the seed; $TXSTICKY_CHAOS may say others: "300 7".
SECONDS, SEED = (int(word) for word in os.environ.get("TXSTICKY_CHAOS", "25 4").split())
#: What a request may end with when its worker was killed.
TORN = ("ConnectionResetError", "BrokenPipeError", "the connection ended", "503")
CLIENTS = {"kept": 3, "browser": 2, "short": 3, "upload": 2, "poll": 2, "slow": 2}


@define
class Chaos:
    """What happens, one thing after the other.

    :ivar deeds: what was done, with the time.
    """

    cluster: Cluster
    draw: random.Random
    deeds: list[str] = field(factory=list)
    stopped: list[int] = field(factory=list)
    clients: list[Connection] = field(factory=list)

    def go_on(self, seconds: float) -> None:
        """Do things for so long."""
        begin = time.monotonic()
        deeds: list[tuple[int, Callable[[], object]]] = [
            (3, self.kill_a_worker),
            (3, self.stop_a_worker),
            (3, self.continue_a_worker),
            (2, self.reload),
            (1, self.upgrade),
            (1, self.one_more),
            (1, self.one_less),
            (2, self.retire_a_worker),
            (2, self.kill_a_template),
            (1, self.stop_a_template),
            (4, self.resets),
            (3, self.slow_heads),
            (3, self.websockets),
            (2, self.nonsense),
            (1, self.reopen_logs),
        ]
        weights, actions = zip(*deeds, strict=True)
        while (now := time.monotonic() - begin) < seconds:
            (deed,) = self.draw.choices(actions, weights)
            self.deeds.append(f"{now:.1f} s {deed.__name__}")
            try:
                deed()
            except OSError as error:
                self.deeds.append(f"{error!r}")
            time.sleep(self.draw.uniform(0, 0.8))

    def a_worker(self) -> int | None:
        """One of the workers that serve, unless it is the last that can."""
        pids = [pid for pid in self.cluster.workers().values() if pid not in self.stopped]
        return self.draw.choice(pids) if len(pids) > 1 else None

    def signal_a_worker(self, number: int) -> int | None:
        """Send a worker a signal."""
        pid = self.a_worker()
        if pid is not None:
            os.kill(pid, number)
        return pid

    def kill_a_worker(self) -> None:
        self.signal_a_worker(signal.SIGKILL)

    def retire_a_worker(self) -> None:
        self.signal_a_worker(signal.SIGTERM)

    def stop_a_worker(self) -> None:
        if not self.stopped and (pid := self.signal_a_worker(signal.SIGSTOP)):
            self.stopped.append(pid)

    def continue_a_worker(self) -> None:
        while self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.stopped.pop(), signal.SIGCONT)

    def kill_a_template(self) -> None:
        self.signal_a_template(signal.SIGKILL)

    def stop_a_template(self) -> None:
        self.signal_a_template(signal.SIGSTOP)

    def signal_a_template(self, number: int) -> None:
        """Send one of them a signal."""
        living = [p.pid for p in self.cluster.living() if p.title == "txsticky: template"]
        if living:
            os.kill(self.draw.choice(living), number)

    def reload(self) -> None:
        self.cluster.signal(signal.SIGHUP)

    def upgrade(self) -> None:
        self.cluster.signal(signal.SIGUSR2)

    def one_more(self) -> None:
        if len(self.cluster.workers()) < 4:
            self.cluster.signal(signal.SIGTTIN)

    def one_less(self) -> None:
        if len(self.cluster.workers()) > 3:
            self.cluster.signal(signal.SIGTTOU)

    def reopen_logs(self) -> None:
        self.cluster.signal(signal.SIGUSR1)

    def resets(self) -> None:
        """Clients that reset at some moment of a request."""
        stream = request("POST", "/?size=200000", body=b"x" * 40_000)
        for _ in range(10):
            connection = self.cluster.connect()
            connection.send(stream[: self.draw.choice((0, 20, 2000, len(stream)))])
            time.sleep(self.draw.choice((0, 0, 0.002)))
            connection.reset()

    def slow_heads(self) -> None:
        """Heads that do not come to an end."""
        for _ in range(20):
            connection = self.cluster.connect()
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
            self.clients.append(connection)
        while len(self.clients) > 100:
            self.clients.pop(0).close()

    def nonsense(self) -> None:
        """Bytes without a meaning."""
        for _ in range(10):
            with self.cluster.connect() as connection:
                connection.send(self.draw.randbytes(self.draw.randint(1, 3000)))

    def websockets(self) -> None:
        """WebSockets that stay, after a word."""
        for number in range(5):
            connection = self.cluster.connect()
            self.clients.append(connection)
            try:
                rawws.join(connection)
                connection.send(rawws.frame(b"word %d" % number))
                opcode, said = rawws.message(connection.reader)
            except Fault as fault:
                self.deeds.append(f"{fault!r:.100}")
                continue
            if opcode != rawws.CLOSE and said.partition(b":")[2] != b"word %d" % number:
                raise AssertionError(f"a WebSocket said {said!r}")


class EverythingAtOnce(SynchronousTestCase):
    """One cluster, one seed."""

    options: ClassVar[tuple[str, ...]] = ()
    #: Listening sockets that a number has, as long as the cluster lives.
    sockets = 0

    def test_chaos(self) -> None:
        """Whatever happens, answers are right, or connections torn; and nothing is left over."""
        draw = random.Random(SEED)
        options = ("--factory", "--worker-timeout", "4", "--head-timeout", "3")
        with Cluster("mixed", *options, *self.options, workers=3) as cluster:
            cluster.signal(signal.SIGUSR2)  # what the first program has open and the next has not
            until(lambda: "has taken over" in cluster.log(), 30, "it has taken over")
            cluster.tags()
            before = cluster.settled()
            chaos = Chaos(cluster, draw)
            with Load(cluster, CLIENTS, seed=SEED, pause=0.02) as load:
                load.wait(100)
                chaos.go_on(SECONDS)
                chaos.continue_a_worker()
                load.wait(100, 40)
            for connection in chaos.clients:
                connection.close()
            self.assertEqual(self.wrong(load), [], chaos.deeds)
            self.assertEqual(set(load.answered), set(CLIENTS), chaos.deeds)
            self.assertGreater(sum(load.answered.values()), 20 * len(load.failures))
            self.rest(cluster)
            until(lambda: self.nothing_left(cluster, before), 40, f"no rest of {chaos.deeds}")
            self.assertNotIn("Traceback", cluster.log())
            cluster.signal(signal.SIGTERM)
            self.assertEqual(cluster.wait(), 0)

    def wrong(self, load: Load) -> list[str]:
        """Failures that are more than a torn connection."""
        return [failure for failure in load.failures if not any(word in failure for word in TORN)]

    def rest(self, cluster: Cluster) -> None:
        """Waits until nothing is under way any more: each number has one worker, all serve."""

        def at_rest() -> bool:
            living = [process.slot for process in cluster.living() if process.slot]
            told = cluster.told("/cluster/pool")
            return len(living) == len(set(living)) == len(told) and all(
                member["state"] == "ready" for member in told
            )

        until(at_rest, 40, "one worker of each number")
        cluster.size = len(cluster.workers())
        cluster.forget_tags()
        cluster.tags()

    def nothing_left(self, cluster: Cluster, before: dict[str, int]) -> bool:
        """Whether no descriptor is left over; workers and templates may come and go a last time."""
        cluster.size = len(cluster.workers())
        settled = cluster.settled()
        if "txsticky: primary" not in settled:  # it is executed anew at this moment
            return False
        return self.counts(settled) == self.expected(cluster, before)

    def counts(self, settled: dict[str, int]) -> dict[str, int]:
        """The descriptors of the primary, and the most that a worker has."""
        workers = [count for title, count in settled.items() if title != "txsticky: primary"]
        return {"primary": settled["txsticky: primary"], "worker": max(workers)}

    def expected(self, cluster: Cluster, before: dict[str, int]) -> dict[str, int]:
        """The descriptors of before, with 5 for each worker in the primary and 1 in each other."""
        more = cluster.size - 3
        said = re.findall(r"The number of workers is (\d+)", cluster.log())
        sockets = self.sockets * (max([3, *map(int, said)]) - 3)
        return {
            "primary": before["txsticky: primary"] + 5 * more + sockets,
            "worker": before["txsticky: worker 1"] + more,
        }


class WorkersAccept(EverythingAtOnce):
    """Chaos where the workers accept."""

    options = ("--accept", "workers")
    sockets = 1
