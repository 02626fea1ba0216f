"""``python -m tests``: nothing is left out, and a failure is one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import __main__ as runner
from tests.__main__ import HERE, Run, Waiting, batches, choose, modules
from tests.durations import COMPUTING, SECONDS
from tests.shells import PATIENCE


def run(*names: str, path: str = "") -> tuple[int, list[str]]:
    """Run it on these modules, also from `path`; the exit code and the lines of its output."""
    done = subprocess.run(
        [sys.executable, "-m", "tests", *names],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return done.returncode, done.stdout.splitlines()


def a_run(outcomes: dict[str, str], *, names: list[str], ended: bool = True) -> Run:
    """What one trial did."""
    return Run(names, outcomes, Counter(), ended, "")


class ModulesTests(SynchronousTestCase):
    """Which modules are run."""

    def names(self, *folders: str) -> list[str]:
        """The modules of tests in these folders and below, as the file system has them."""
        files = [path for folder in folders for path in (HERE / folder).rglob("test_*.py")]
        return sorted(".".join(p.relative_to(HERE.parent).with_suffix("").parts) for p in files)

    def test_all(self) -> None:
        """Every file of tests is run, whatever folder it lies in."""
        self.assertEqual(sorted(modules()), self.names("."))

    def test_order(self) -> None:
        """Modules that are known to take long come first, the longest before all; then clusters."""
        known = [name for name in modules() if name in SECONDS]
        self.assertEqual(modules()[: len(known)], known)
        self.assertEqual(known, sorted(known, key=lambda name: (-SECONDS[name], name)))
        rest = modules()[len(known) :]
        places = [bool({"integration", "applications"} & {*name.split(".")}) for name in rest]
        self.assertEqual(places, sorted(places, reverse=True))
        self.assertIn(True, places)
        self.assertIn(False, places)

    def test_durations(self) -> None:
        """What is known of modules is of modules that are here."""
        self.assertEqual((SECONDS.keys() | COMPUTING) - set(modules()), set())

    def test_unit(self) -> None:
        """Unit tests are all those outside the folders of clusters."""
        left_out = set(modules()) - set(modules(only_unit=True))
        self.assertEqual(sorted(left_out), self.names("integration", "applications"))

    def test_nested(self) -> None:
        """A folder in a folder is looked through, and may itself be one of clusters."""
        here = Path(self.mktemp()).resolve() / "tests"
        for name in ("test_a.py", "core/http/test_b.py", "core/integration/test_c.py", "core/d.py"):
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).touch()
        self.patch(runner, "HERE", here)
        slow, core, plain = (
            "tests.core.integration.test_c",
            "tests.core.http.test_b",
            "tests.test_a",
        )
        self.assertEqual(modules(), [slow, core, plain])
        self.assertEqual(modules(only_unit=True), [core, plain])
        self.assertEqual(choose(["tests/core/http"]), [core])
        self.assertEqual(sorted(choose(["tests.core"])), [core, slow])
        self.assertEqual(choose(["tests/core/"], only_unit=True), [core])

    def test_names(self) -> None:
        """A module is named by its file or with dots, and is run once."""
        chosen = choose(["tests/test_wire.py", "tests.test_wire", "tests.test_tag.TagTests.test_x"])
        self.assertEqual(chosen, ["tests.test_wire", "tests.test_tag.TagTests.test_x"])

    def test_batches(self) -> None:
        """Modules that start processes or take long have a trial each; the others share some."""
        apart = ["tests.test_runner", "tests.worker.test_hosts", "tests.integration.test_bounds"]
        together = [name for name in modules(only_unit=True) if name not in apart][-20:]
        divided = list(batches([*together, *apart]))
        self.assertEqual(divided[-1][-1], together[-1])
        self.assertEqual([batch for batch in divided if batch[0] in apart], [[n] for n in apart])
        every = [name for batch in divided for name in batch]
        self.assertEqual(sorted(every), sorted([*together, *apart]))
        self.assertLess(len(divided), len(apart) + len(together))
        self.assertLessEqual(max(map(len, divided)), runner.BATCH)


class WaitingTests(SynchronousTestCase):
    """Which batch a trial takes next."""

    def test_all(self) -> None:
        """Each is run once, in their order; of those that compute no two at a time."""
        heavy = [[name] for name in sorted(COMPUTING)[:2]]
        divided = [["a"], *heavy, ["b"], ["c", "d"]]
        waiting = Waiting(divided)
        begun: list[list[str]] = []
        open_ = {name[0]: threading.Event() for name in divided}

        def run(names: list[str]) -> Run:
            begun.append(names)
            self.assertTrue(open_[names[0]].wait(PATIENCE))
            return a_run({}, names=names)

        with ThreadPoolExecutor(3) as pool:
            runs = [pool.submit(waiting.run_next, run) for _ in divided]
            self.until(lambda: len(begun) == 3)
            self.assertEqual(begun, [["a"], heavy[0], ["b"]])
            open_["a"].set()
            self.until(lambda: len(begun) == 4)
            self.assertEqual(begun[3], ["c", "d"])
            for each in open_.values():
                each.set()
            self.assertCountEqual([future.result().names for future in runs], divided)
        self.assertEqual(begun[4], heavy[1])

    def until(self, fact: Callable[[], bool]) -> None:
        """Wait until it is so."""
        end = time.monotonic() + PATIENCE
        while not fact():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.001)


class CountingTests(SynchronousTestCase):
    """What follows from the records of a trial."""

    def test_counts(self) -> None:
        """A module has the tests below its name, and not those of one with a longer name."""
        outcomes = {"a.b.C.test_1": "successes", "a.b.C.test_2": "skips", "a.bb.C.test": "failures"}
        done = a_run(outcomes, names=["a.b", "a.bb"])
        self.assertEqual(done.counts("a.b"), {"successes": 1, "skips": 1})
        self.assertEqual(done.failed(), ["a.bb"])

    def test_nothing(self) -> None:
        """A module of which no test was run has failed."""
        done = a_run({"a.b.test": "successes"}, names=["a.b", "a.c"])
        self.assertEqual((done.counts("a.c"), done.failed()), ({"errors": 1}, ["a.c"]))

    def test_died(self) -> None:
        """All modules of a trial that did not end are run again."""
        done = a_run({"a.test": "successes", "b.test": "successes"}, names=["a", "b"], ended=False)
        self.assertEqual(done.failed(), ["a", "b"])
        self.assertEqual(done.counts("b"), {"successes": 1, "errors": 1})

    def test_twice_recorded(self) -> None:
        """A test that fails, and whose cleaning up fails or succeeds as well, has failed once."""
        lines = ['["a.test", "failures", 0.5]', '["a.test", "errors", 0.0]', "null"]
        outcomes, seconds = runner.read([*lines, '["a.test", "successes", 0.25]'], ["a"])
        self.assertEqual((outcomes, seconds), ({"a.test": "failures"}, {"a": 0.75}))

    def test_second_tries(self) -> None:
        """Of what succeeds when run again, that counts which had not succeeded or not been run."""
        first = a_run(
            {"a.failed": "errors", "a.passed": "successes", "a.never": "failures"}, names=["a"]
        )
        again = {"a.failed": "successes", "a.passed": "successes", "a.new": "successes"}
        done = a_run({**again, "a.never": "failures", "a.skip": "skips"}, names=["a"])
        self.assertEqual(runner.second_tries(first, done), ["a.failed", "a.new"])


#: The last lines of a run in which nothing needed a second try.
AT_ONCE = "Passed only at the second try: 0"


class RunnerTests(SynchronousTestCase):
    """Whole runs."""

    def sample(self, source: str) -> str:
        """Make a module `sample_tests`; the folder that it is imported from."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        begin = "import os, pathlib, sys\nfrom twisted.trial.unittest import TestCase\n"
        (folder / "sample_tests.py").write_text(f"{begin}class Sample(TestCase):\n{source}")
        return str(folder)

    def test_passed(self) -> None:
        """The counts of several modules are summed."""
        code, lines = run("tests.test_errors", "tests/core/routing/test_cookies.py")
        single = [int(line.partition("successes=")[2].split()[0]) for line in lines[:2]]
        self.assertEqual(code, 0)
        self.assertEqual(lines[-2:], [AT_ONCE, f"PASSED (successes={sum(single)})"])

    def test_failed(self) -> None:
        """A module that cannot be run is an error, and what it said is printed."""
        code, lines = run("tests.test_errors", "tests.nonsuch")
        self.assertEqual(code, 1)
        self.assertIn("builtins.AttributeError: tests.nonsuch does not exist.", lines)
        self.assertEqual(lines[-2], AT_ONCE)
        self.assertRegex(lines[-1], r"^FAILED \(errors=1, successes=\d+\)$")

    def test_empty(self) -> None:
        """A module without a test is an error."""
        code, lines = run("tests.shells")
        self.assertEqual((code, lines[-1]), (1, "FAILED (errors=1)"))

    def test_second_try(self) -> None:
        """A test that fails once and then passes is named and counted, and the run has passed."""
        mark = Path(self.mktemp()).resolve()
        path = self.sample(
            "    def test_right(self): pass\n"
            "    def test_skipped(self): pass\n"
            "    test_skipped.skip = 'not here'\n"
            "    def test_flaky(self):\n"
            f"        mark = pathlib.Path({str(mark)!r})\n"
            "        seen = mark.exists()\n"
            "        mark.touch()\n"
            "        self.assertTrue(seen)\n"
        )
        code, lines = run("sample_tests", path=path)
        self.assertEqual(code, 0)
        self.assertEqual(
            lines[-2:],
            [
                "Passed only at the second try: 1 sample_tests.Sample.test_flaky",
                "PASSED (secondTries=1, skips=1, successes=2)",
            ],
        )

    def test_bytecode(self) -> None:
        """Trials keep the bytecode that they make, whatever the environment says."""
        path = self.sample("    def test_kept(self): self.assertFalse(sys.dont_write_bytecode)\n")
        self.patch(os, "environ", {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        code, lines = run("sample_tests", path=path)
        self.assertEqual((code, lines[-1]), (0, "PASSED (successes=1)"))

    def test_dies(self) -> None:
        """A trial that dies behind tests that passed has failed."""
        path = self.sample("    def test_1(self): pass\n    def test_2(self): os._exit(0)\n")
        code, lines = run("sample_tests", path=path)
        self.assertEqual((code, lines[-1]), (1, "FAILED (errors=1, successes=1)"))
