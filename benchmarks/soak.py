"""
A cluster under every kind of load for a while: ``python -m benchmarks soak [--minutes 15]``.

Kept and short connections, uploads, polls, WebSockets, broadcasts, and a HUP a minute. Each answer
is checked, and memory (PSS) and descriptors are looked at between the reloads. The exit code is 1
if anything was wrong, or if memory or descriptors have grown without end.
"""

from __future__ import annotations

import argparse
import math
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import define, field, frozen

from tests.integration import load, processes
from tests.integration.cluster import Cluster
from tests.integration.load import Client, Load, expect
from tests.integration.rawhttp import Fault
from tests.integration.rawws import CLOSE, frame, join, message

from .apps.soaking import ALL

COMPLETE = "The reload is complete."
#: Clients of each kind.
CLIENTS = {"kept": 4, "short": 2, "upload": 2, "poll": 3, "slow": 1, "websocket": 6, "speaker": 1}
#: A speaker whose WebSocket was closed, and who cannot know who has heard its last word, goes on
#: with the next multiple.
LEAP = 1_000_000
#: Of a series, the part that is left out: processes fill their caches.
WARM = 0.2
#: Looks without which nothing can be said of a slope.
ENOUGH = 10
#: What may be added in the whole run: of memory as a part of it, and in descriptors.
MEMORY, DESCRIPTORS = 0.03, 3.0
#: A slope is one if it is so many times its standard error.
SURE = 3.0


class Talker(Client):
    """
    Sends messages to a WebSocket and wants each back, and hears what is said to all.

    :ivar heard: the number that was said to all last.
    """

    heard = 0

    def turn(self) -> None:
        """Say one thing, and hear it."""
        self.number += 1
        self.say(b"%d" % self.number)

    def say(self, text: bytes) -> None:
        """Say something, and hear whatever comes until it comes back, or the WebSocket ends."""
        if self.connection is None:
            self.connection = self.server.connect(timeout=self.timeout)
            join(self.connection)
            self.heard = 0
        self.connection.send(frame(text))
        while True:
            opcode, data = message(self.connection.reader)
            if opcode == CLOSE:
                expect(data[:2] == b"\x03\xe9", f"closed with {data!r}")  # 1001: its worker leaves
                self.hang_up()
                return
            if data.startswith(ALL):
                self.hear(int(data.removeprefix(ALL)))
            if data == text:
                return
            expect(data.startswith(ALL), f"{data!r} instead of {text!r}")

    def hear(self, number: int) -> None:
        """Take note of what was said to all: nothing is missing, nothing comes twice."""
        last, self.heard = self.heard, number
        leapt = number > last and not number % LEAP
        expect(not last or number == last + 1 or leapt, f"{number} to all after {last}")


class Speaker(Talker):
    """Says one thing after the other to all."""

    def turn(self) -> None:
        self.number += 1
        self.say(ALL + b"%d" % self.number)
        if self.heard != self.number:
            self.number = (self.number // LEAP + 1) * LEAP - 1


@frozen
class Look:
    """What a cluster holds at one moment: seconds, bytes (PSS), descriptors."""

    time: float
    memory: float
    primary: float
    descriptors: float


def look(cluster: Cluster, now: float) -> Look:
    """
    Look at all processes of a cluster.

    :raises FileNotFoundError: one of them has ended meanwhile.
    """
    sizes = {each.pid: pss(each.pid) for each in cluster.living()}
    descriptors = sum(map(processes.descriptors, sizes))
    return Look(now, sum(sizes.values()), sizes[cluster.pid], descriptors)


def pss(pid: int) -> int:
    """Bytes of a process's proportional set (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@frozen
class Trend:
    """What a series does in the whole time: how much it grows, with which standard error."""

    mean: float
    growth: float
    error: float

    def grows(self, allowed: float) -> bool:
        """Whether it grows by more than is allowed, and that is not chance."""
        return self.growth > allowed and self.growth > SURE * self.error


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """
    Lay a straight line through a series (least squares), its beginning left out.

    :param points: times and values, three at least.
    """
    points = points[int(len(points) * WARM) :]
    times, values = zip(*points, strict=True)
    line = statistics.linear_regression(times, values)
    rest = sum((value - line.slope * at - line.intercept) ** 2 for at, value in points)
    spread = statistics.variance(times) * (len(points) - 1)
    error = math.sqrt(rest / (len(points) - 2) / spread) if len(points) > 2 else math.inf
    span = times[-1] - times[0]
    return Trend(statistics.fmean(values), line.slope * span, error * span)


@define
class Soak:
    """
    A run.

    :ivar errors: what went wrong.
    :ivar looks: between the reloads.
    """

    cluster: Cluster
    minutes: float
    period: float
    errors: list[str] = field(factory=list)
    looks: list[Look] = field(factory=list)
    reloads: int = 0

    def run(self) -> None:
        """Run it."""
        begin = time.monotonic()
        kinds = {**load.KINDS, "websocket": Talker, "speaker": Speaker}
        with Load(self.cluster, CLIENTS, kinds=kinds) as clients:
            while time.monotonic() < begin + 60 * self.minutes:
                self._look_on(begin, begin + (self.reloads + 1) * self.period)
                self._reload()
                self._tell(clients)
        self.errors += clients.failures
        self.errors += [f"no answer to {kind}" for kind in CLIENTS if not clients.answered[kind]]
        log = self.cluster.log()
        self.errors += [line for line in log.splitlines() if "Traceback" in line or "#err" in line]
        print("answered: " + ", ".join(f"{k} {n}" for k, n in clients.answered.items()))

    def _look_on(self, begin: float, until: float) -> None:
        """Look at the cluster now and then."""
        while (now := time.monotonic()) < until:
            workers = sum(1 for each in self.cluster.living() if each.slot)
            if workers == self.cluster.size:
                try:
                    self.looks.append(look(self.cluster, now - begin))
                except FileNotFoundError:
                    continue  # one has ended meanwhile
            time.sleep(min(self.period / 12, max(0.0, until - now)))

    def _reload(self) -> None:
        """Reload, and wait until that is over."""
        before = self.cluster.log().count(COMPLETE)
        self.cluster.signal(signal.SIGHUP)
        processes.until(lambda: self.cluster.log().count(COMPLETE) > before, 60, COMPLETE)
        self.reloads += 1

    def _tell(self, clients: Load) -> None:
        last = self.looks[-1]
        print(
            f"{last.time / 60:5.1f} min: {sum(clients.answered.values())} answers,"
            f" {len(clients.failures)} errors, {last.memory / 2**20:.1f} MiB, of which the primary"
            f" {last.primary / 2**20:.1f}, {last.descriptors:.0f} descriptors",
            flush=True,
        )

    def verdict(self) -> list[str]:
        """What was wrong, as sentences."""
        wrong = [f"{len(self.errors)} errors: {self.errors[:5]}"] if self.errors else []
        if len(self.looks) < ENOUGH:
            return [*wrong, f"It was too short: {len(self.looks)} looks, {ENOUGH} are needed."]
        for name, unit, size in (
            ("memory", "MiB", 2**20),
            ("primary", "MiB", 2**20),
            ("descriptors", "descriptors", 1),
        ):
            seen = trend([(each.time, getattr(each, name) / size) for each in self.looks])
            allowed = DESCRIPTORS if size == 1 else MEMORY * seen.mean
            sentence = (
                f"{name}: {seen.mean:.1f} {unit}, and {seen.growth:+.2f} in the whole run, with a"
                f" standard error of {seen.error:.2f}"
            )
            print(sentence)
            if seen.grows(allowed):
                wrong.append(f"It grows. {sentence}; {allowed:.2f} are allowed.")
        return wrong


def main(arguments: Sequence[str]) -> int:
    """
    Run a soak.

    :param arguments: of the command line.
    :returns: the exit code.
    """
    parser = argparse.ArgumentParser(prog="benchmarks soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long")
    parser.add_argument("--period", type=float, default=60.0, help="seconds between two reloads")
    parser.add_argument("--workers", type=int, default=2, help="workers of the cluster")
    options = parser.parse_args(arguments)
    with Cluster(
        "benchmarks.apps.soaking:app", "--graceful-timeout", "10", workers=options.workers
    ) as cluster:
        soak = Soak(cluster, options.minutes, options.period)
        try:
            soak.run()
        except (AssertionError, Fault, OSError) as error:
            soak.errors.append(str(error))
        wrong = soak.verdict()
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    if not wrong:
        print(f"{soak.reloads} reloads, no error, no slope.")
    return 1 if wrong else 0
