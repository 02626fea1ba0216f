"""`txsticky.testing`, as docs/testing.rst shows it, and where it fails."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.cluster import ROOT
from tests.test_readme import blocks
from txsticky.errors import ConfigError
from txsticky.testing import ClusterFailed, RunningCluster


class PageTests(SynchronousTestCase):
    """The examples of the page."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        page = (ROOT / "docs" / "testing.rst").read_text()
        self.files = {kind: text for kind, text in blocks(page) if kind.endswith(".py")}
        for name, text in self.files.items():
            (self.folder / name).write_text(text)

    def run_tests(self, *command: str) -> str:
        """Run a test runner on the examples; returns what it says."""
        path = os.pathsep.join([str(self.folder), str(ROOT)])
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_pytest(self) -> None:
        """pytest runs those that need no reactor."""
        if importlib.util.find_spec("pytest") is None:
            raise SkipTest("pytest is not installed")
        said = self.run_tests("pytest", "-q", "test_worker.py", "test_cluster.py")
        self.assertIn("4 passed", said)

    def test_trial(self) -> None:
        """trial runs those that are written for it."""
        self.assertIn("successes=1", self.run_tests("twisted.trial", "test_trial"))


class ThreadTests(SynchronousTestCase):
    """What an application asks of its worker in another thread than the reactor's."""

    def test_wsgi(self) -> None:
        """The threads of requests ask as the reactor's thread does; callbacks are called there."""
        with RunningCluster("tests.integration.thread_app:app") as cluster:
            for path in ("a", "b", "a"):
                self.assertEqual(
                    json.loads(urlopen(f"{cluster.url}/{path}").read()),
                    {
                        "request in the main thread": False,
                        "bound": True,
                        "refused": True,
                        "heard in the main thread": True,
                        "workers": 2,
                        "owner": True,
                    },
                )


class FailureTests(SynchronousTestCase):
    """What a test is told when something goes wrong."""

    def test_does_not_load(self) -> None:
        """An application that does not load fails at once, with the log, and leaves nothing."""
        cluster = RunningCluster("nothing:here")
        self.addCleanup(cluster.stop)
        error = self.assertRaises(ClusterFailed, cluster.start)
        self.assertIn("has ended with exit code 3", str(error))
        self.assertIn("there is no module nothing", str(error))

    def test_option(self) -> None:
        """An option that cannot be is told before anything is started."""
        self.assertRaises(ConfigError, RunningCluster, "a:b", sticky="bogus")

    def test_failing_test(self) -> None:
        """A test that fails has the log of the cluster with its error, and ends the cluster."""
        one = RunningCluster("txsticky.demo:resource")
        with self.assertRaises(ZeroDivisionError) as caught, one:
            self.assertEqual(urlopen(f"{one.url}/whoami").status, 200)
            workers = one.workers
            self.assertEqual(set(workers), {1, 2})
            raise ZeroDivisionError
        (note,) = caught.exception.__notes__
        self.assertIn("Worker 1 (id 1) is ready.", note)
        self.assertFalse(os.path.exists(os.path.dirname(one.control)))
        for pid in workers.values():
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)
