"""
What each test does on the clean source: how long it takes, and which lines of the module it runs.

Of a change in a function the tests are asked that run its line, the quickest of them first: most
mutants are caught by the first few. The other tests could not tell.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import TestCase, TestSuite

import attrs
from twisted.trial.reporter import TreeReporter

#: The file in a copy of the tree that holds what was seen there.
SEEN = "seen.json"


@attrs.define
class Witness:
    """
    A test, as it was on the clean source.

    :param name: its id.
    :param seconds: that it took, all tests of its name together.
    :param lines: of the module, that it ran.
    """

    name: str
    seconds: float = 0.0
    lines: set[int] = attrs.field(factory=set, converter=set)


def reporter(hooks: Callable[[str, bool], None]) -> type[TreeReporter]:
    """
    A class of reporters of trial.

    :param hooks: is told the id of a test, and whether it begins.
    """

    class Reporter(TreeReporter):
        """A reporter that tells when a test begins and ends."""

        def startTest(self, method: Any) -> None:
            super().startTest(method)
            hooks(method.id(), True)

        def stopTest(self, method: Any) -> None:
            hooks(method.id(), False)
            super().stopTest(method)

    return Reporter


class Watch:
    """Sees which lines of a file each test runs, in whatever thread."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)
        self._witnesses: dict[str, Witness] = {}
        self._now = Witness("")
        self._begun = 0.0
        sys.settrace(self._call)
        threading.settrace(self._call)

    def hook(self, name: str, begins: bool) -> None:
        """A test begins or ends."""
        if begins:
            self._now = self._witnesses.setdefault(name, Witness(name))
            self._begun = time.monotonic()
        else:
            self._now.seconds += time.monotonic() - self._begun

    def write(self, path: Path) -> None:
        """Write down what was seen, and see no more."""
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]  # its stub allows no None
        rows = [(w.name, w.seconds, sorted(w.lines)) for w in self._witnesses.values()]
        path.write_text(json.dumps(rows))

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename == self._file else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self._now.lines.add(frame.f_lineno)
        return self._line


class Limits:
    """Ends the process when a test takes much longer than on the clean source."""

    def __init__(self, witnesses: Iterable[Witness], times: float, more: float) -> None:
        self._seconds = {w.name: w.seconds * times + more for w in witnesses}
        self._more = more

    def hook(self, name: str, begins: bool) -> None:
        """A test begins or ends."""
        if begins:
            seconds = self._seconds.get(name, self._more)
            faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
        else:
            faulthandler.cancel_dump_traceback_later()


def read(path: Path) -> list[Witness]:
    """Read what was written down."""
    return [Witness(*row) for row in json.loads(path.read_text())]


def order(witnesses: Iterable[Witness], number: int, at_call: bool) -> dict[str, int]:
    """
    The places of the tests for a change of a line, by their ids; below 0 is one that is not asked.

    Those that run the line come first, the quickest of them before the others. The rest is asked if
    the line is run when the module is loaded. A line that no test was seen
    in is part of the statement that begins above it.
    """
    witnesses = list(witnesses)
    line = max((n for w in witnesses for n in w.lines if n <= number), default=0)
    ranked = sorted(witnesses, key=lambda w: (line not in w.lines, not w.lines, w.seconds))
    return {
        w.name: -1 if at_call and line and line not in w.lines else at
        for at, w in enumerate(ranked)
    }


def cases(suite: TestSuite | TestCase) -> Iterator[TestCase]:
    """The single tests of a suite."""
    if isinstance(suite, TestSuite):
        for one in suite:
            yield from cases(one)
    else:
        yield suite
