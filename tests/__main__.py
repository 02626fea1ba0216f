"""The whole suite, several modules at a time: ``python -m tests``.

::

    python -m tests                               everything
    python -m tests --unit                        only what starts no cluster: a minute or two
    python -m tests tests/core tests.transport.test_gate    these folders and modules
    python -m tests --applications [NAME...]     applications of others, and docs/tested.csv

Most of what the tests do is to wait for processes and for times to pass: alone, a module of
clusters keeps a core busy for a third of its time. So they run in several trials side by side, four
more than there are cores: modules that start processes, or take long, have a trial each, the others
share one, a dozen at a time, which saves the start of the interpreter. Tests of a module stay
together, for they share servers. Those that take longest are begun first (`tests.durations`), and
no two of those that compute all the time run at once.

What failed is printed, and modules with a failure are run again alone at the end, for machines are
small and the neighbours may have been too much; that run counts. But a test that passed only then
is named in the line before the last and counted as ``secondTries`` in the last one, which sums up
as trial's does. ``trial tests`` runs the same tests one after the other.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import attrs

from tests.durations import COMPUTING, SECONDS

HERE = Path(__file__).resolve().parent
LIMIT = 1200  # seconds for one trial
BATCH = 12  # modules that share one
BESIDE = 4  # trials at once, more than there are cores
BAD = ("failures", "errors", "unexpectedSuccesses")

_NUMBERS = itertools.count()
#: Folders of tests that are not unit tests: they start whole clusters, or build all there is.
CLUSTERS = ("integration", "applications")
#: What a module imports that starts processes.
_PROCESSES = re.compile(r"^(?:import|from) (?:subprocess|venv)\b", re.MULTILINE)


def modules(only_unit: bool = False) -> list[str]:
    """Every test module below this folder, those that take longest first, then with clusters."""
    found = [path.relative_to(HERE.parent).with_suffix("") for path in HERE.rglob("test_*.py")]
    slow = {path for path in found if any(folder in path.parts for folder in CLUSTERS)}
    chosen = {".".join(p.parts): p not in slow for p in found if not (only_unit and p in slow)}
    return sorted(chosen, key=lambda name: (-SECONDS.get(name, 0), chosen[name], name))


def choose(names: Iterable[str], only_unit: bool = False) -> list[str]:
    """The modules that `names` stand for: folders, files, packages, modules, tests in a module."""
    existing = modules(only_unit)
    if not names:
        return existing
    chosen: dict[str, None] = {}
    for name in names:
        dotted = name.rstrip("/").removesuffix(".py").replace("/", ".")
        inside = [m for m in existing if m == dotted or m.startswith(f"{dotted}.")]
        chosen.update(dict.fromkeys(inside or [dotted]))
    return list(chosen)


def batches(names: Iterable[str]) -> Iterator[list[str]]:
    """Divide modules among trials; the long ones, and those that start processes, have their own.

    These come first.
    """
    together = []
    for name in names:
        if _alone(name):
            yield [name]
        else:
            together.append(name)
    for at in range(0, len(together), BATCH):
        yield together[at : at + BATCH]


def _alone(name: str) -> bool:
    if name in SECONDS or not set(CLUSTERS).isdisjoint(name.split(".")):
        return True
    path = HERE.parent.joinpath(*name.split(".")).with_suffix(".py")
    return not path.exists() or bool(_PROCESSES.search(path.read_text()))


@attrs.frozen
class Run:
    """
    What one trial did.

    :param names: the modules that it was to run.
    :param outcomes: of each test, by its id: trial's word.
    :param seconds: that each module's tests took.
    :param ended: whether it came to its end: it neither died nor was ended.
    :param said: all that it printed.
    """

    names: list[str]
    outcomes: dict[str, str]
    seconds: Counter[str]
    ended: bool
    said: str

    def counts(self, name: str) -> Counter[str]:
        """How many tests of a module had which outcome; one error if it had nothing to run."""
        counts = Counter(outcome for test, outcome in self.outcomes.items() if _of(test, name))
        if not counts or (not self.ended and name == self.names[-1]):
            counts["errors"] += 1
        return counts

    def failed(self) -> list[str]:
        """The modules that are to be run again: those with a failure, all if it did not end."""
        return [n for n in self.names if not self.ended or any(self.counts(n)[b] for b in BAD)]


def _of(test: str, name: str) -> bool:
    return test == name or test.startswith(f"{name}.")


def run(names: list[str], folder: str, python: str = sys.executable) -> Run:
    """Run trial on some modules, in a process of its own."""
    # Short names: tests have UNIX sockets in trial's folder, whose paths may have 107 bytes.
    place = Path(folder, str(next(_NUMBERS)))
    place.mkdir()
    records, work = place / "records", place / "t"
    command = [python, "-m", "tests.recorder", records, work, *names]
    environment = dict(os.environ)
    # Without bytecode each of some thousand processes would compile the package for itself.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    code: int | None = None
    with open(place / "log", "w+b") as log:
        try:
            code = subprocess.run(
                command,
                cwd=HERE.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
            ).returncode
        except subprocess.TimeoutExpired:
            log.write(f"\n{' '.join(names)}: ended after {LIMIT} s.\n".encode())
        log.seek(0)
        said = log.read().decode(errors="replace")
    lines = records.read_text().splitlines() if records.exists() else []
    outcomes, seconds = read(lines, names)
    # Trial's own exit code: with any other, it died at the very end.
    right = code == int(any(outcome in BAD for outcome in outcomes.values()))
    return Run(names, outcomes, seconds, right and lines[-1:] == ["null"], said)


def read(lines: list[str], names: list[str]) -> tuple[dict[str, str], Counter[str]]:
    """The outcomes and the seconds of each module, from what a recorder wrote."""
    outcomes: dict[str, str] = {}
    seconds: Counter[str] = Counter()
    for line in lines:
        if (record := json.loads(line)) is None:
            continue
        test, outcome, took = record
        if outcomes.get(test) not in BAD:  # a test may fail, and its cleaning up as well
            outcomes[test] = outcome
        for name in names:
            if _of(test, name):
                seconds[name] += took
    return outcomes, seconds


def tell(done: Run) -> None:
    """Print how each module went, and all that was said if one of them failed."""
    if done.failed():
        print(done.said)
    for name in done.names:
        print(f"{name}: {summed(done.counts(name))} in {done.seconds[name]:.1f} s", flush=True)


def summed(counts: Counter[str]) -> str:
    """Counts as trial writes them."""
    return ", ".join(f"{name}={number}" for name, number in sorted(counts.items()))


def second_tries(first: Run, again: Run) -> list[str]:
    """The tests that passed only when they were run again."""
    return [
        test
        for test, outcome in again.outcomes.items()
        if outcome == "successes" and first.outcomes.get(test, BAD[0]) in BAD
    ]


class Waiting:
    """The batches that are still to be run, in their order: what the trials side by side take."""

    def __init__(self, waiting: Iterable[list[str]]) -> None:
        self._waiting = list(waiting)
        self._computing = False
        self._changed = threading.Condition()

    def run_next(self, run: Callable[[list[str]], Run]) -> Run:
        """Run the first batch of which two may run at once, or that is the only one that may not.

        It is called as often as there are batches.
        """
        with self._changed:
            batch = self._changed.wait_for(self._next)
            assert batch is not None
            self._waiting.remove(batch)
            computes = self._computes(batch)
            self._computing |= computes
        try:
            return run(batch)
        finally:
            with self._changed:
                self._computing &= not computes
                self._changed.notify_all()

    def _next(self) -> list[str] | None:
        return next((b for b in self._waiting if not (self._computing and self._computes(b))), None)

    def _computes(self, batch: list[str]) -> bool:
        return not COMPUTING.isdisjoint(batch)


def run_all(names: Iterable[str]) -> tuple[Counter[str], list[str]]:
    """Run modules, telling how each went: the sum, and the tests that passed only when again."""
    total: Counter[str] = Counter()
    firsts: list[Run] = []
    late: list[str] = []
    divided = list(batches(names))
    waiting = Waiting(divided)
    with tempfile.TemporaryDirectory(prefix="txsticky-") as folder:

        def run_here(batch: list[str]) -> Run:
            return run(batch, folder)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) + BESIDE) as pool:
            runs = [pool.submit(waiting.run_next, run_here) for _ in divided]
            try:
                for future in as_completed(runs):
                    done = future.result()
                    tell(done)
                    failed = done.failed()
                    for name in done.names:
                        if name not in failed:
                            total += done.counts(name)
                    if failed:
                        firsts.append(done)
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)  # or all the rest would be run first
                raise
        for first in firsts:
            for name in first.failed():
                print(f"{name}: again, alone", flush=True)
                again = run([name], folder)
                tell(again)
                total += again.counts(name)
                late += second_tries(first, again)
    return total, late


def run_applications(names: list[str]) -> int:
    """Run applications of others; returns the exit code."""
    from tests.applications import runner

    def trial(tests: list[str], folder: str, python: str) -> tuple[bool, str]:
        done = run(tests, folder, python)
        return not done.failed(), done.said

    worked, failed, skipped = runner.run(names, trial)
    total = Counter(failures=failed, skips=skipped, successes=worked)
    print(f"{'FAILED' if failed else 'PASSED'} ({summed(total)})")
    return int(bool(failed))


def main(arguments: list[str]) -> int:
    """Run what the command line asks for, sum up, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests", description="Run the tests.")
    parser.add_argument("--unit", action="store_true", help="only tests that start no cluster")
    parser.add_argument(
        "--applications",
        action="store_true",
        help="applications of others, by the NAMEs they begin with",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a test module, or a folder")
    options = parser.parse_args(arguments)
    if options.applications:
        return run_applications(options.names)
    begun = time.monotonic()
    total, late = run_all(choose(options.names, options.unit))
    print(f"\n{time.monotonic() - begun:.0f} s")
    if late:
        total["secondTries"] = len(late)
    print(f"Passed only at the second try: {len(late)}", *late)
    bad = any(total[name] for name in BAD)
    print(f"{'FAILED' if bad else 'PASSED'} ({summed(total)})")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
