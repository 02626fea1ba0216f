``txsticky.testing`` is for the tests of applications: ``FakeWorker`` plays the worker that ``txsticky.current()`` returns,
and ``RunningCluster`` is a real cluster on a free port, for pytest, ``unittest`` and, with ``ClusterMixin``, trial.
