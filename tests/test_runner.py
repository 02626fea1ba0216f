"""``python -m tests``: nothing is left out, and a failure is one."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.__main__ import HERE, modules


def run(*names: str) -> tuple[int, list[str]]:
    """Run it on these modules; the exit code and the lines of its output."""
    done = subprocess.run(
        [sys.executable, "-m", "tests", *names], cwd=HERE.parent, capture_output=True, text=True
    )
    return done.returncode, done.stdout.splitlines()


class RunnerTests(SynchronousTestCase):
    """The runner of the suite."""

    def test_modules(self) -> None:
        """Every file of tests is run, whatever folder it lies in."""
        files = sorted(HERE.rglob("test_*.py"))
        names = [".".join(p.relative_to(HERE.parent).with_suffix("").parts) for p in files]
        self.assertEqual(sorted(modules()), sorted(names))

    def test_passed(self) -> None:
        """The counts of several modules are summed."""
        code, lines = run("tests.test_errors", "tests.test_cookies")
        single = [int(line.partition("successes=")[2].split()[0]) for line in lines[:2]]
        self.assertEqual((code, lines[-1]), (0, f"PASSED (successes={sum(single)})"))

    def test_failed(self) -> None:
        """A module that cannot be run is an error, and what it said is printed."""
        code, lines = run("tests.test_errors", "tests.nonsuch")
        self.assertEqual(code, 1)
        self.assertIn("builtins.AttributeError: tests.nonsuch does not exist.", lines)
        self.assertRegex(lines[-1], r"^FAILED \(errors=1, successes=\d+\)$")

    def test_empty(self) -> None:
        """A module without a test is an error."""
        code, lines = run("tests.shells")
        self.assertEqual((code, lines[-1]), (1, "FAILED (errors=1)"))
