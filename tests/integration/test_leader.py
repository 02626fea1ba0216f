"""One of the workers leads, exactly one at a time, through reloads, deaths and upgrades."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.processes import until


class LeaderCase(SynchronousTestCase):
    """A cluster whose workers note what they do while they lead."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "notes")
        self.path.touch()

    def cluster(self, app: str, *options: str, workers: int = 3) -> Cluster:
        """A cluster of `leader_apps`."""
        return Cluster(
            f"tests.integration.leader_apps:{app}",
            *options,
            workers=workers,
            probe="/",
            environment={"LEADER_NOTES": str(self.path)},
        )

    def notes(self) -> list[tuple[str, int]]:
        """What was noted, by whom, in order."""
        lines = self.path.read_text().splitlines()
        return [(what, int(pid)) for what, pid in (line.split() for line in lines)]

    def leaders(self) -> list[int]:
        """The processes that have begun to lead, in order."""
        return [pid for what, pid in self.notes() if what == "start"]

    def next_leader(self, count: int, seconds: float = 20.0) -> int:
        """Wait until there were so many leaders; returns the last."""
        until(lambda: len(self.leaders()) >= count, seconds, f"{count} leaders")
        return self.leaders()[-1]

    def check(self, dead: tuple[int, ...] = ()) -> None:
        """
        Assert that no two lead at a time: each begins when the one before has ended.

        :param dead: processes that were killed or stopped, and so noted no end in time.
        """
        leader = None
        for what, pid in self.notes():
            if what == "start":
                self.assertTrue(leader is None or leader in dead, self.notes())
                leader = pid
            elif what == "tick":
                self.assertEqual(pid, leader, self.notes())
            elif pid == leader:
                leader = None
            else:
                self.assertIn(pid, dead, self.notes())

    def answers(self, cluster: Cluster) -> dict[int, bool]:
        """Which workers say that they lead."""
        told: dict[int, bool] = {}
        for _ in range(12):
            answer: dict[str, Any] = json.loads(cluster.get("/").body)
            told[answer["pid"]] = answer["leader"]
        return told


class ReloadTests(LeaderCase):
    """The workers are replaced."""

    app = "asgi"

    def test_reloads(self) -> None:
        """One of three leads; a reload changes the leader once, and a stop ends it."""
        with self.cluster(self.app) as cluster:
            first = self.next_leader(1)
            until(lambda: self.answers(cluster).get(first) is True, 10, "the leader answers")
            self.assertEqual(sum(self.answers(cluster).values()), 1)
            cluster.signal(signal.SIGHUP)
            until(lambda: "reload is complete" in cluster.log(), 40, "the reload is complete")
            last = self.next_leader(2)
            until(lambda: ("tick", last) in self.notes(), 10, "it works")
            self.assertIn(last, cluster.workers().values())
        self.check()
        self.assertEqual(self.notes()[-1], ("stop", last))
        self.assertEqual(len(self.leaders()), 2)


class ReloadWSGITests(ReloadTests):
    """With WSGI, where nothing but the import is there to register by."""

    app = "wsgi"


class FaultTests(LeaderCase):
    """Workers and primaries that end or stop."""

    def test_killed(self) -> None:
        """When the leader is killed another one leads; when the program is upgraded it stays."""
        with self.cluster("asgi") as cluster:
            first = self.next_leader(1)
            os.kill(first, signal.SIGKILL)
            second = self.next_leader(2)
            self.assertNotEqual(first, second)
            cluster.signal(signal.SIGUSR2)
            until(lambda: "The new program has taken over." in cluster.log(), 30, "the upgrade")
            ticks = len(self.notes())
            until(lambda: len(self.notes()) > ticks + 5, 10, "the leader leads on")
            self.assertEqual(self.leaders(), [first, second])
            os.kill(second, signal.SIGKILL)
            self.assertNotIn(self.next_leader(3), (first, second))
        self.check((first, second))

    def test_stopped(self) -> None:
        """A leader that was stopped leads no more when it runs again, from its first step on."""
        with self.cluster("asgi", "--worker-timeout", "0") as cluster:
            first = self.next_leader(1)
            os.kill(first, signal.SIGSTOP)
            self.addCleanup(_continue, first)
            second = self.next_leader(2, 30.0)
            os.kill(first, signal.SIGCONT)
            until(lambda: ("stop", first) in self.notes(), 10, "it learns that it leads no more")
            told = self.answers(cluster)
            until(
                lambda: first in told or told.update(self.answers(cluster)) or False,
                10,
                "it serves",
            )
            self.assertEqual([pid for pid, leads in told.items() if leads], [second])
        self.check((first,))

    def test_primary_killed(self) -> None:
        """Without its primary no worker leads."""
        with self.cluster("asgi") as cluster:
            first = self.next_leader(1)
            os.kill(cluster.pid, signal.SIGKILL)
            until(lambda: ("stop", first) in self.notes(), 10, "the leader learns it")
            ended = len(self.notes())
            until(lambda: not cluster.living(), 20, "the workers have ended")
            self.assertEqual(len(self.notes()), ended)
        self.check()


def _continue(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return
