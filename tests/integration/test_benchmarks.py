"""The benchmarks run: the smallest work of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.integration.cluster import ROOT


class SmokeTests(TestCase):
    """The command."""

    if shutil.which("cc") is None:
        skip = "the load generator needs a C compiler"

    def test_smallest_work(self) -> None:
        """`python -m benchmarks --only gate --rounds 1` writes a table, a plot and the figures."""
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "benchmarks"),
                    *("--only", "gate", "--rounds", "1", "--output", folder),
                ],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=120,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("with the gate", Path(folder, "results.rst").read_text())
            self.assertEqual(
                sorted(os.listdir(folder)), ["gate.svg", "results.json", "results.rst"]
            )
