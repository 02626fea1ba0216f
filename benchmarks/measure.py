"""CPU and memory of processes, medians and ratios, rounds in turn."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from attrs import frozen

_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu(pids: Iterable[int]) -> float:
    """
    Microseconds of CPU that processes have used, all their threads together (proc(5), schedstat).

    :raises FileNotFoundError: one of them has ended.
    """
    return sum(
        int((task / "schedstat").read_text().split()[0]) / 1e3
        for pid in pids
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def memory(pids: Iterable[int]) -> int:
    """Bytes of the resident sets of processes."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE for pid in pids)


def descriptors(pids: Iterable[int]) -> int:
    """How many descriptors processes have open."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def children(pid: int) -> list[int]:
    """The child processes of a process, oldest first."""
    return sorted(
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    )


class Peak:
    """
    The most memory that processes held since `start`, beyond what they held then.

    The kernel keeps the high-water mark (proc(5): VmHWM, reset through clear_refs).
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = memory(self._pids)

    def growth(self) -> int:
        """Bytes."""
        marks = 0
        for pid in self._pids:
            status = Path(f"/proc/{pid}/status").read_text()
            marks += int(status.split("VmHWM:")[1].split()[0]) * 1024
        return max(0, marks - self._before)


class WrongAnswer(Exception):
    """A contender answered what it must not."""


#: The figures of one measurement, by name.
Figures = Mapping[str, float]


@frozen
class Summary:
    """One contender at one work: the median of each figure, and of the ratios to the first."""

    name: str
    figures: dict[str, float]
    ratios: dict[str, float]


def medians(rounds: Iterable[Figures]) -> dict[str, float]:
    """The median of each figure that every round has."""
    rounds = list(rounds)
    return {
        key: statistics.median(round[key] for round in rounds)
        for key in rounds[0]
        if all(key in round for round in rounds)
    }


def ratios(ours: Iterable[Figures], theirs: Iterable[Figures]) -> dict[str, float]:
    """The medians, over the rounds, of `theirs` divided by `ours`; only where ours is not 0."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        key: statistics.median(their[key] / our[key] for our, their in pairs)
        for key in pairs[0][0]
        if all(our.get(key) and key in their for our, their in pairs)
    }


def in_turn(
    works: Mapping[str, Callable[[], Figures]], rounds: int
) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """
    Measure A B C A B C ...: a disturbance falls on all alike.

    :param works: by contender.
    :returns: the figures of every round; and of those that failed, which are measured no further,
        how.
    """
    seen: dict[str, list[Figures]] = {name: [] for name in works}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, work in works.items():
            if name in failed:
                continue
            try:
                seen[name].append(work())
            except (WrongAnswer, OSError) as reason:
                failed[name] = str(reason)
                del seen[name]
    return seen, failed


def summaries(seen: Mapping[str, list[Figures]]) -> list[Summary]:
    """Medians for each contender, and ratios to the first."""
    first = next(iter(seen.values()), [])
    return [Summary(name, medians(found), ratios(first, found)) for name, found in seen.items()]
