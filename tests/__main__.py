"""The whole suite, several modules at a time: ``python -m tests``.

Much of what the tests do is to wait for processes. So each module runs in a trial of its own, as
many at a time as there are cores; tests of a module share servers and stay together. What a module
that fails has said is printed, and it is run again alone at the end, for machines are small and its
neighbours may have been too much; that run counts. The last line sums up as trial's does.
``trial tests`` runs the same tests one after the other, and ``python -m tests NAME...`` only the
modules that are named.
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
LIMIT = 600  # seconds for one module
BAD = ("failures", "errors", "unexpectedSuccesses")


def modules() -> list[str]:
    """Every test module, those with real processes first, because they take longest."""
    paths = [*sorted(HERE.glob("integration/test_*.py")), *sorted(HERE.glob("test_*.py"))]
    return [".".join(path.relative_to(HERE.parent).with_suffix("").parts) for path in paths]


def run(module: str, folder: str) -> tuple[str, float, Counter[str], str]:
    """Run trial on one module: its name, seconds, what trial counted, and all that it said."""
    begun = time.monotonic()
    trial = [sys.executable, "-m", "twisted.trial", "--temp-directory", f"{folder}/{module}"]
    with open(f"{folder}/{module}.log", "w+b") as log:
        try:
            code: int | None = subprocess.run(
                [*trial, module],
                cwd=HERE.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
            log.write(f"\n{module} was ended after {LIMIT} s.\n".encode())
        log.seek(0)
        said = log.read().decode(errors="replace")
    counts: Counter[str] = Counter()
    verdicts = VERDICT.findall(said)
    for name, number in re.findall(r"(\w+)=(\d+)", verdicts[-1] if verdicts else ""):
        counts[name] = int(number)
    if not counts or (code != 0 and not any(counts[name] for name in BAD)):
        counts["errors"] += 1  # it died, hung, or had nothing to run
    return module, time.monotonic() - begun, counts, said


def tell(module: str, seconds: float, counts: Counter[str], said: str) -> bool:
    """Print how a module went, with all that it said if it failed. Whether it did."""
    failed = any(counts[name] for name in BAD)
    if failed:
        print(said)
    print(f"{module}: {summed(counts)} in {seconds:.1f} s", flush=True)
    return failed


def summed(counts: Counter[str]) -> str:
    """Counts as trial writes them."""
    return ", ".join(f"{name}={number}" for name, number in sorted(counts.items()))


def main(names: list[str]) -> int:
    """Run the modules, tell how each went, and return the exit code."""
    total: Counter[str] = Counter()
    again = []
    jobs = min(4, max(2, len(os.sched_getaffinity(0))))
    with tempfile.TemporaryDirectory(prefix="txsticky-") as folder:
        with ThreadPoolExecutor(jobs) as pool:
            runs = [pool.submit(run, name, folder) for name in names or modules()]
            for future in as_completed(runs):
                module, _, counts, _ = future.result()
                if tell(*future.result()):
                    again.append(module)
                else:
                    total += counts
        for module in again:
            print(f"{module}: again, alone", flush=True)
            result = run(module, folder)
            tell(*result)
            total += result[2]
    print(f"\n{'FAILED' if any(total[name] for name in BAD) else 'PASSED'} ({summed(total)})")
    return int(any(total[name] for name in BAD))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
