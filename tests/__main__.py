"""The whole suite, several modules at a time: ``python -m tests``.

Much of what the tests do is to wait for processes. So each module runs in a trial of its own, as
many at a time as there are cores; tests of a module share servers and stay together. What a module
that fails has said is printed, and the last line sums up as trial's does. ``trial tests`` runs the
same tests one after the other, and ``python -m tests NAME...`` only the modules that are named.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERDICT = re.compile(r"^(?:PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE)
BAD = ("failures", "errors", "unexpectedSuccesses")


def modules() -> list[str]:
    """Every test module, those with real processes first, because they take longest."""
    paths = [*sorted(HERE.glob("integration/test_*.py")), *sorted(HERE.glob("test_*.py"))]
    return [".".join(path.relative_to(HERE.parent).with_suffix("").parts) for path in paths]


def run(module: str, folder: str) -> tuple[str, float, Counter[str], str]:
    """Run trial on one module: its name, seconds, what trial counted, and all that it said."""
    begun = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "twisted.trial"),
            *("--temp-directory", f"{folder}/{module}", module),
        ],
        cwd=HERE.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    counts: Counter[str] = Counter()
    verdicts = VERDICT.findall(done.stdout)
    for name, number in re.findall(r"(\w+)=(\d+)", verdicts[-1] if verdicts else ""):
        counts[name] = int(number)
    if not counts or (done.returncode and not any(counts[name] for name in BAD)):
        counts["errors"] += 1  # it died, or there was nothing to run
    return module, time.monotonic() - begun, counts, done.stdout


def main(names: list[str]) -> int:
    """Run the modules, tell how each went, and return the exit code."""
    total: Counter[str] = Counter()
    jobs = min(4, max(2, len(os.sched_getaffinity(0))))
    with (
        tempfile.TemporaryDirectory(prefix="txsticky-") as folder,
        ThreadPoolExecutor(jobs) as pool,
    ):
        for future in as_completed([pool.submit(run, name, folder) for name in names or modules()]):
            module, seconds, counts, said = future.result()
            total += counts
            told = ", ".join(f"{name}={number}" for name, number in sorted(counts.items()))
            if any(counts[name] for name in BAD):
                print(said)
            print(f"{module}: {told} in {seconds:.1f} s", flush=True)
    failed = any(total[name] for name in BAD)
    told = ", ".join(f"{name}={number}" for name, number in sorted(total.items()))
    print(f"\n{'FAILED' if failed else 'PASSED'} ({told})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
