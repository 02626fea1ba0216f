"""Standard streams that are closed, full or have no reader: nothing fails for that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import ROOT, Cluster
from tests.integration.processes import until
from txsticky.primary.upgrade.execute import STATE

EVERYTHING = ("2>&-", "<&- >&- 2>&-", ">/dev/full 2>&1", ">&- 2>/dev/full")


class StreamTests(SynchronousTestCase):
    """A cluster whose streams cannot be used."""

    def cluster(self, redirections: str, *options: str) -> Cluster:
        """A cluster with such streams."""
        cluster = Cluster("echo", *options, workers=1)
        cluster.command = ("sh", "-c", f'exec "$0" "$@" {redirections}', sys.executable)
        return cluster

    def executed_anew(self, cluster: Cluster) -> bool:
        """Whether the program has taken the place of the one before."""
        environ = Path(f"/proc/{cluster.pid}/environ").read_bytes().split(b"\0")
        return any(name.startswith(STATE.encode()) for name in environ)

    def reload(self, cluster: Cluster) -> None:
        """HUP, until another worker serves alone."""
        before = set(cluster.workers().values())
        cluster.signal(signal.SIGHUP)
        until(lambda: not before & {p.pid for p in cluster.living()}, 20, "it is reloaded")
        until(lambda: cluster.answers("/"), 20, "it serves")

    def test_a_life(self) -> None:
        """A cluster starts, reloads, replaces a worker, is executed anew, and stops with code 0."""
        for redirections in EVERYTHING:
            with self.cluster(redirections) as cluster:
                self.reload(cluster)
                cluster.signal(signal.SIGUSR2)
                until(lambda: self.executed_anew(cluster), 30, f"executed anew {redirections}")
                until(lambda: cluster.answers("/"), 20, "it serves")
                self.reload(cluster)
                dead = cluster.kill_worker(1)
                until(lambda: cluster.workers().get(1, dead) != dead, 20, "it is replaced")  # noqa: B023
                until(lambda: cluster.answers("/"), 20, "it serves")
                cluster.signal(signal.SIGUSR1)
                cluster.signal(signal.SIGTERM)
                self.assertEqual(cluster.wait(), 0, redirections)
                self.assertNotIn("Error", cluster.log(), redirections)

    def test_no_reader(self) -> None:
        """A cluster whose log's reader has gone does all that others do, and stops with code 0."""
        with self.cluster("2>&1 | head -n 1 >&-") as cluster:
            # The shell is the process here, and waits for both sides of the pipe.
            (primary,) = [p.pid for p in cluster.living() if p.title == "txsticky: primary"]
            dead = cluster.kill_worker(1)
            until(lambda: cluster.workers().get(1, dead) != dead, 20, "it is replaced")
            until(lambda: cluster.answers("/"), 20, "it serves")
            os.kill(primary, signal.SIGTERM)
            cluster.wait()

    def test_exit_codes(self) -> None:
        """The exit code is the same as with streams that can be used."""
        for arguments, code in (
            (["--workers", "0"], 64),
            (["--interface", "web", "tests.integration.apps:missing"], 3),
            (["--check-config", "tests.integration.apps:missing"], 3),
            (["--check-config", "tests.integration.apps:echo"], 0),
            (["-l", "carrier:pigeon"], 1),
        ):
            listen = [] if "-l" in arguments else ["-l", "tcp:0:interface=127.0.0.1"]
            for redirections in ("", *EVERYTHING):
                done = subprocess.run(
                    [
                        "sh",
                        "-c",
                        f'exec "$0" "$@" {redirections}',
                        *(sys.executable, "-m", "txsticky", *listen, *arguments),
                    ],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=60,
                )
                self.assertEqual(done.returncode, code, (arguments, redirections, done.stderr))
                self.assertNotIn(b"Traceback", done.stderr, redirections)
