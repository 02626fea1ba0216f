"""Change a module, one thing at a time, and see whether its unit tests notice.

::

    python -m tests.mutants txsticky.core.http.framing txsticky.transport.gate
    python -m tests.mutants txsticky.core --most 20 --seed 7 --jobs 2

Each mutant runs against the unit tests that import the module, in a copy of the tree: those that
run the changed line, the quickest first. Those that no test notices are printed, and then a sum;
the exit code is 1 below 97 %. Mutants that mean the same as the original are listed in
``equivalents.toml`` with the reason, and are not run. The same seed draws the same mutants.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tomllib
from collections import Counter
from pathlib import Path

import attrs

from . import hunt
from .imports import sources, tests_for
from .mutations import Mutant, mutants, sample

EQUIVALENTS = Path(__file__).with_name("equivalents.toml")
#: What part of the mutants that matter is to be caught.
GOAL = 0.97


@attrs.frozen
class Equivalent:
    """
    A mutant that means the same, or a difference that no test is to hold.

    It is known by what it says, not by where it stands, so that moves leave it known.

    :param module: the dotted name of the module.
    :param function: the classes and functions around it, dotted.
    :param line: its line, without the blanks around it.
    :param reason: why it is no hole.
    :param change: as the mutator prints it; None: any change of the line.
    """

    module: str
    function: str
    line: str
    reason: str
    change: str | None = None

    def covers(self, mutant: Mutant) -> bool:
        """Whether this mutant is meant."""
        return (
            (mutant.module, mutant.function, mutant.line) == (self.module, self.function, self.line)
            and self.change in (None, mutant.change)
        )  # fmt: skip


def equivalents(path: Path = EQUIVALENTS) -> list[Equivalent]:
    """Read the list."""
    return [Equivalent(**entry) for entry in tomllib.loads(path.read_text())["equivalent"]]


@attrs.frozen
class Report:
    """What became of the mutants of one module."""

    counts: Counter[str]

    @property
    def share(self) -> float:
        """The part that was caught of those that matter; 1 if there are none."""
        relevant = self.counts["caught"] + self.counts["survived"]
        return self.counts["caught"] / relevant if relevant else 1.0

    def __str__(self) -> str:
        words = ("caught", "survived", "equivalent")
        return f"{', '.join(f'{w} {self.counts[w]}' for w in words)}: {self.share:.1%}"


def examine(module: str, options: argparse.Namespace, places: list[Path]) -> Report:
    """Run the mutants of one module and tell which survive."""
    path = sources(hunt.ROOT)[module]
    every = mutants(module, path.read_text())
    known = [entry for entry in equivalents() if entry.module == module]
    for entry in known:
        if not any(entry.covers(mutant) for mutant in every):
            print(f"no such mutant any more: {entry.function}: {entry.line}  [{entry.change}]")
    chosen = sample([m for m in every if options.match in str(m)], options.most, options.seed)
    relevant = [m for m in chosen if not any(entry.covers(m) for entry in known)]
    left = relevant
    for tests in rounds(module, tests_for(module, hunt.ROOT)):
        if left:
            left = hunt.hunt(left, tests, path.relative_to(hunt.ROOT), places)
    for mutant in left:
        print(f"survived: {mutant}", flush=True)
    caught, equivalent = len(relevant) - len(left), len(chosen) - len(relevant)
    report = Report(Counter(caught=caught, survived=len(left), equivalent=equivalent))
    print(f"{module}: {report}", flush=True)
    return report


def rounds(module: str, tests: list[str]) -> list[list[str]]:
    """
    Divide the tests of a module: those that bear its name are asked first, and then the others.

    Most mutants are caught in the first round, which takes some seconds; the others may take long.
    """
    name = f"_{module.rpartition('.')[2]}"
    named = [test for test in tests if test.endswith(name)]
    return [group for group in (named, [test for test in tests if test not in named]) if group]


def chosen_modules(names: list[str]) -> list[str]:
    """
    The modules that the command line names, packages with all that is below them.

    :raises KeyError: there is none of this name.
    """
    chosen: dict[str, None] = {}
    for name in names:
        dotted = name.removesuffix(".py").rstrip("/").replace("/", ".")
        found = [m for m in sources(hunt.ROOT) if m == dotted or m.startswith(f"{dotted}.")]
        if not found or not dotted.startswith("txsticky"):
            raise KeyError(f"{name} is no module or package of txsticky")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def main(arguments: list[str]) -> int:
    """Do what the command line says, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="a module or a package")
    parser.add_argument("--seed", type=int, default=1, help="draws the mutants (default 1)")
    parser.add_argument("--most", type=int, default=40, help="mutants a module (default 40)")
    parser.add_argument("--jobs", type=int, default=2, help="run side by side (default 2)")
    parser.add_argument("--match", default="", metavar="TEXT", help="only those printed with TEXT")
    options = parser.parse_args(arguments)
    try:
        modules = chosen_modules(options.modules)
    except KeyError as error:
        parser.error(error.args[0])
    hunt.preload()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # it ends its children, and tidies up
    total: Counter[str] = Counter()
    with hunt.copies(options.jobs, hunt.ROOT) as places:
        for module in modules:
            total += examine(module, options, places).counts
    report = Report(total)
    print(report)
    return int(report.share < GOAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
