"""``txsticky ctl`` and a running cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import ROOT, START, Cluster, free_port
from tests.integration.processes import SLACK, until


class CtlTests(SynchronousTestCase):
    """An operator with a shell."""

    def setUp(self) -> None:
        folder = tempfile.mkdtemp(prefix="txsticky-")
        self.addCleanup(shutil.rmtree, folder)
        self.path = str(Path(folder, "ctl"))

    def cluster(self, workers: int = 2) -> Cluster:
        """A cluster with a control socket."""
        return Cluster("echo", "--control", self.path, workers=workers)

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run `txsticky`: exit code, output, errors."""
        done = subprocess.run(
            [sys.executable, "-m", "txsticky", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SLACK * START,
            env={**os.environ, "TXSTICKY_CONTROL": self.path},
        )
        return done.returncode, done.stdout, done.stderr

    def ctl(self, *arguments: str) -> str:
        """What `txsticky ctl` prints; it has to be done."""
        code, out, err = self.command("ctl", *arguments)
        self.assertEqual((code, err), (0, ""))
        return out

    def told(self, *arguments: str) -> Any:
        """What `txsticky ctl` tells, as JSON."""
        return json.loads(self.ctl("--json", *arguments))

    def refused(self, *arguments: str) -> str:
        """Why `txsticky ctl` does not do it: one line."""
        code, out, err = self.command(*arguments)
        self.assertEqual((code, out.count("orker 1"), err.count("\n")), (1, 0, 1), err)
        return err

    def ready(self) -> dict[int, int]:
        """The workers that are ready: id by number; empty while there are others as well."""
        workers = self.told("workers")["workers"]
        alone = all(worker["state"] == "ready" for worker in workers)
        return {worker["worker"]: worker["id"] for worker in workers} if alone else {}

    def until_ready(self, *numbers: int, gone: int = 0) -> dict[int, int]:
        """Wait until these are the workers, all ready, and none has the id `gone`."""
        found: list[dict[int, int]] = []

        def fact() -> bool:
            found[:] = [self.ready()]
            return sorted(found[0]) == list(numbers) and gone not in found[0].values()

        until(fact, START, f"workers {numbers} are ready")
        return found[0]

    def test_steering(self) -> None:
        """Every verb does to a real cluster what it says; no request is lost meanwhile."""
        with self.cluster() as cluster:
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
            before = self.until_ready(1, 2)
            self.assertIn("2 of 2 workers ready", self.ctl("status"))
            self.assertEqual(len(self.ctl("workers").splitlines()), 3)

            cluster.get("/cluster/bind?key=JSESSIONID-1")
            self.assertEqual([key["key"] for key in self.told("table")["keys"]], ["JSESSIONID-1"])

            self.ctl("drain", "2")
            self.assertEqual(self.until_ready(1, 2, gone=before[2])[1], before[1])
            self.ctl("kill", "1")
            self.until_ready(1, 2, gone=before[1])
            self.ctl("add")
            self.until_ready(1, 2, 3)
            self.ctl("remove")
            last = self.until_ready(1, 2)
            self.ctl("reload")
            self.until_ready(1, 2, gone=last[2])
            self.assertEqual(self.told("status")["state"]["generation"], 2)
            self.assertEqual(cluster.get("/").status, 200)

            self.assertIn("There is no worker 9", self.refused("ctl", "kill", "9"))
            self.assertEqual(self.ctl("stop"), "The cluster stops.\n")
            self.assertEqual(cluster.wait(), 0)
        self.assertFalse(os.path.lexists(self.path))
        self.assertIn(f"No cluster answers at {self.path}: ", self.refused("ctl", "status"))

    def test_printable(self) -> None:
        """A key that a client chose does nothing to the terminal, and makes no line of its own."""
        key = "a\x1b]0;owned\x07\n9  9  forged\x9b2J"
        with self.cluster(workers=1) as cluster:
            cluster.get(f"/cluster/bind?key={quote(key, encoding='latin-1')}")
            heads, row = self.ctl("table").splitlines()
            self.assertEqual(heads.split(), ["worker", "id", "key"])
            self.assertTrue(row.endswith(r"  a\x1b]0;owned\x07\x0a9  9  forged\x9b2J"), row)
            self.assertEqual([entry["key"] for entry in self.told("table")["keys"]], [key])

    def test_second_instance(self) -> None:
        """A second cluster at the same socket says so in one line; the first goes on."""
        options = ("-w", "1", "--control", self.path, "tests.integration.apps:echo")
        with self.cluster(workers=1) as cluster:
            said = self.refused("-l", f"127.0.0.1:{free_port()}", *options)
            self.assertEqual(
                said,
                f"txsticky: Cannot listen on {self.path} (--control):"
                " another process answers there.\n",
            )
            self.assertEqual(cluster.get("/").status, 200)
            self.assertEqual(sorted(self.until_ready(1)), [1])

    def test_stale_socket(self) -> None:
        """The socket of a primary that was killed is taken over by the next one."""
        with self.cluster(workers=1) as cluster:
            cluster.signal(signal.SIGKILL)
            cluster.wait()
            until(lambda: not cluster.living(), START)
        self.assertTrue(os.path.exists(self.path))
        self.assertIn("No cluster answers", self.refused("ctl", "reload"))
        with self.cluster(workers=1):
            self.until_ready(1)

    def test_upgrade(self) -> None:
        """After the primary has executed itself anew the socket answers as before."""
        with self.cluster(workers=1) as cluster:
            before = self.until_ready(1)
            cluster.signal(signal.SIGUSR2)
            until(lambda: "has taken over" in cluster.log(), START)
            self.assertEqual(self.until_ready(1), before)

    def test_load_failure(self) -> None:
        """A cluster that gives up leaves no socket behind."""
        app = "tests.integration.apps:does_not_load"
        listen = f"127.0.0.1:{free_port()}"
        options = ("-l", listen, "-w", "1", "--factory", "--control", self.path)
        code, out, _ = self.command(*options, app)
        self.assertEqual(code, 3)
        self.assertIn("are missing", out)
        self.assertFalse(os.path.lexists(self.path))
