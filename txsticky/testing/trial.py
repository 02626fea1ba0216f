"""A cluster that runs, for tests of trial: the reactor goes on while it starts and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from .running import RunningCluster


class ClusterMixin:
    """
    Beside `twisted.trial.unittest.TestCase`: clusters for its tests.

    ::

        class ChatTests(ClusterMixin, TestCase):
            async def test_hello(self) -> None:
                cluster = await self.run_cluster("chat:app")
    """

    addCleanup: Callable[..., Any]

    def run_cluster(self, app: str, workers: int = 2, **options: Any) -> Deferred[RunningCluster]:
        """
        Start a cluster, which ends with the test.

        :param app: the application, as module:attribute.
        :param workers: the number of workers.
        :param options: as for `RunningCluster`.
        :returns: fires when all workers are ready; fails with `ClusterFailed`.
        """
        cluster = RunningCluster(app, workers, **options)
        self.addCleanup(deferToThread, cluster.stop)
        return deferToThread(cluster.start)
