"""
The command: ``python -m benchmarks [--long] [--only NAME,...] [--output FOLDER]``.

``python -m benchmarks soak``, ``scale`` and ``websockets`` are of their own (`soak`, `scale`,
`reloads`).
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

from . import contenders, measure, reloads, report, scale, soak
from .contenders import Missing, Running, Starter
from .machine import machine
from .measure import WrongAnswer
from .works import WORKS, Work


class Cast:
    """The contenders that are running: they stay for the works that follow."""

    def __init__(self) -> None:
        self._running: dict[Starter, Running | Missing] = {}

    def get(self, start: Starter) -> Running:
        """
        The contender, started if it is not running.

        :raises Missing: it cannot take part.
        """
        if start not in self._running:
            try:
                self._running[start] = start()
            except Missing as reason:
                self._running[start] = reason
        found = self._running[start]
        if isinstance(found, Missing):
            raise found
        return found

    def leave(self) -> None:
        """End all."""
        self._running.clear()
        contenders.stop_all()


def run(work: Work, rounds: int, cast: Cast) -> report.Result:
    """Measure the contenders of a work in turn."""
    missing: list[str] = []
    ready = {}
    if work.fresh:
        cast.leave()
    for start in work.contenders:
        try:
            server = cast.get(start)
            ready[server.name] = work.measure(server)
        except Missing as reason:
            missing.append(f"Left out: {reason}.")
        except (WrongAnswer, OSError) as reason:
            missing.append(f"{server.name} failed: {reason}.")
    seen, failed = measure.in_turn(ready, rounds)
    missing += [f"{name} failed: {reason}." for name, reason in failed.items()]
    summaries = measure.summaries(seen)
    return report.Result(work.name, work.title, work.goal, work.main, summaries, seen, missing)


def show(result: report.Result) -> None:
    """Tell what was measured."""
    for summary in result.summaries:
        figures = ", ".join(f"{k} {report.number(v)}" for k, v in summary.figures.items())
        print(f"  {summary.name:24}{figures}", flush=True)
    for reason in result.missing:
        print(f"  {reason}", flush=True)


def main() -> int:
    """Run the suite, or a command of its own."""
    if sys.argv[1:2] == ["soak"]:
        return soak.main(sys.argv[2:])
    if sys.argv[1:2] == ["scale"]:
        return scale.main(sys.argv[2:], machine())
    if sys.argv[1:2] == ["websockets"]:
        return reloads.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--long", action="store_true", help="all works, and more rounds")
    parser.add_argument(
        "--only",
        default="",
        help="works, by name, with commas between; what is there of others stays",
    )
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each work")
    parser.add_argument(
        "--output", type=Path, default=contenders.HERE / "results", help="folder for the results"
    )
    options = parser.parse_args()
    names = set(filter(None, options.only.split(",")))
    unknown = names - {work.name for work in WORKS}
    if unknown:
        parser.error(
            f"no such work: {', '.join(sorted(unknown))};"
            f" there are {', '.join(work.name for work in WORKS)}"
        )
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    works = [w for w in WORKS if (w.name in names if names else w.short or options.long)]
    where, start, cast = machine(), time.monotonic(), Cast()
    results: list[report.Result] = []
    try:
        for work in works:
            print(f"\n{work.title}", flush=True)
            # A second round would find the memory that the first has left.
            rounds = options.rounds or work.rounds * (3 if options.long and not work.fresh else 1)
            results.append(run(work, rounds, cast))
            show(results[-1])
    finally:
        cast.leave()
    report.write(results, where, options.output)
    print(f"\n{time.monotonic() - start:.0f} s; the results are in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
