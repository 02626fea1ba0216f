"""Version 0.1.0 runs, its folder is exchanged for this version, and it is reloaded or upgraded."""

from __future__ import annotations

import os
import signal
import tarfile
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import ROOT, Cluster
from tests.integration.load import UNHURRIED, Load
from tests.integration.processes import until
from tests.integration.rawhttp import request

#: The packages of version 0.1.0, as they were released.
OLD = Path(__file__).with_name("version_0_1_0.tar.xz")


class OldVersion(Cluster):
    """A cluster of version 0.1.0, whose packages stand behind a link that can be exchanged."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__("echo", *UNHURRIED, *options, workers=2)
        old, new = folder / "old", folder / "new"
        with tarfile.open(OLD) as archive:
            archive.extractall(old, filter="data")
        new.mkdir()
        for name in ("txsticky", "twisted"):
            (new / name).symlink_to(ROOT / name)
        self._link = folder / "current"
        self._link.symlink_to(old)
        self.folder = folder
        path = os.pathsep.join([str(self._link), str(ROOT)])
        self._environment["PYTHONPATH"] = path

    def exchange(self) -> None:
        """Put this version in the place of the old one."""
        following = self._link.with_name("following")
        following.symlink_to(self._link.with_name("new"))
        following.rename(self._link)


class OldVersionCase(SynchronousTestCase):
    """A cluster of the old version runs."""

    options: tuple[str, ...] = ()

    def setUp(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.cluster = self.enterContext(OldVersion(Path(folder), *self.options))
        self.assertNotIn("listens on", self.cluster.log(), "it is the old version that runs")

    def reload(self) -> None:
        """Replace the workers."""
        before = [f"/proc/{pid}" for pid in self.cluster.workers().values()]
        self.cluster.signal(signal.SIGHUP)
        until(lambda: not any(map(os.path.exists, before)), 60, "the old workers have left")
        self.cluster.wait_ready()


class OldVersionTests(OldVersionCase):
    """What the operator of an old version sees who installs this one."""

    def test_reload(self) -> None:
        """HUP: the old primary goes on with workers of this version, and no request fails."""
        cluster = self.cluster
        with Load(cluster, {"kept": 3, "short": 3, "poll": 2}, pause=0.02) as load:
            load.wait(60)
            cluster.exchange()
            self.reload()
            load.wait(120)
        self.assertEqual(load.failures, [])
        self.assertNotIn("Traceback", cluster.log())
        tags = cluster.tags()
        for slot, tag in tags.items():
            self.assertEqual(cluster.get(f"/?sid={tag}").header("x-worker"), str(slot))

    def test_upgrade(self) -> None:
        """USR2: this version takes over workers and connections, and no request fails."""
        cluster = self.cluster
        with Load(cluster, {"kept": 3, "short": 3, "poll": 2}, pause=0.02) as load:
            load.wait(60)
            cluster.exchange()
            cluster.signal(signal.SIGUSR2)
            until(lambda: "has taken over" in cluster.log(), 60, "it takes over")
            load.wait(120)
        self.assertEqual(load.failures, [])
        self.assertNotIn("Traceback", cluster.log())


class AddressTests(OldVersionCase):
    """Clients that are known by their addresses, which the old version hashed in another way."""

    options = ("--sticky", "ip")

    def slots(self) -> list[str | None]:
        """The slot that serves each of some addresses; on one connection it is always the same."""
        slots = []
        for number in range(1, 17):
            with self.cluster.connect(source=f"127.0.5.{number}") as connection:
                answers = [connection.ask(request("GET", "/")) for _ in range(4)]
            served = {answer.header("x-worker") for answer in answers}
            self.assertEqual(len(served), 1, "a connection went to and fro")
            slots.append(served.pop())
        return slots

    def test_reload(self) -> None:
        """The new workers agree with the old primary, so that each client keeps its slot."""
        before = self.slots()
        self.assertEqual(set(before), {"1", "2"})
        self.cluster.exchange()
        self.reload()
        self.assertEqual(self.slots(), before)

    def test_upgrade(self) -> None:
        """The new primary goes on as the old workers do, and so do the workers after them."""
        before = self.slots()
        self.cluster.exchange()
        self.cluster.signal(signal.SIGUSR2)
        until(lambda: "has taken over" in self.cluster.log(), 60, "it takes over")
        self.assertEqual(self.slots(), before)
        self.reload()
        self.assertEqual(self.slots(), before)
