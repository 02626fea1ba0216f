"""
What tests of an application need: a worker that is none, and a cluster that runs.

Both work in trial, pytest and `unittest`, and need none of them.
"""

from .fake_worker import FakeWorker
from .running import ClusterFailed, RunningCluster
from .trial import ClusterMixin

__all__ = ["ClusterFailed", "ClusterMixin", "FakeWorker", "RunningCluster"]
