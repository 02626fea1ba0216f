"""The channel layer in three real workers, and in a process outside of them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import Cluster
from tests.integration.processes import until
from txsticky.channels import ChannelLayer
from txsticky.errors import NoListener

COUNT = 3
JOBS = 40


class ChannelsTests(SynchronousTestCase):
    """Three workers."""

    def told(self) -> dict[int, dict[str, Any]]:
        """What each worker has received."""
        found: dict[int, dict[str, Any]] = {}

        def asked() -> bool:
            answer = json.loads(self.cluster.get("/").body)
            found[answer["pid"]] = answer
            return len(found) == COUNT

        until(asked, 20, "each worker has answered")
        return found

    def test_across(self) -> None:
        """A group reaches all its channels in all workers; what waits in a channel comes to one."""
        folder = tempfile.TemporaryDirectory(prefix="txsticky-")
        self.addCleanup(folder.cleanup)
        path = str(Path(folder.name, "ctl"))
        app = "tests.integration.channels_app:app"
        with Cluster(app, "--control", path, workers=COUNT, probe="/") as self.cluster:
            self.told()
            self.cluster.get("/group/1")
            outside = ChannelLayer(control=path)
            asyncio.run(outside.group_send("all", {"n": 2}))
            self.assertRaises(NoListener, asyncio.run, outside.group_send("none", {"n": 2}))
            until(
                lambda: all(each["group"] == [1, 2] for each in self.told().values()),
                20,
                "each has both",
            )
            self.cluster.get(f"/jobs/{JOBS}")

            def jobs() -> list[int]:
                return sorted(n for each in self.told().values() for n in each["jobs"])

            until(lambda: len(jobs()) >= JOBS, 20, "all jobs have come")
            self.assertEqual(jobs(), list(range(JOBS)))
