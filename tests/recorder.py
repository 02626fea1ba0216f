"""
Trial on some modules, which writes down how each test went: what ``python -m tests`` starts.

``python -m tests.recorder RECORDS FOLDER NAME...`` runs the tests of the names in a fresh folder
and reports as trial does.  Each test adds a line of JSON to the file RECORDS: its id, its outcome
in trial's words and how long it took; the last line is ``null``, so that a process that died is
known by its absence.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, TextIO, cast

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner


class Recorder(TreeReporter):
    """Trial's reporter, which also writes to `records`."""

    records: TextIO
    _begun = 0.0

    def startTest(self, test: Any) -> None:
        self._begun = time.monotonic()
        super().startTest(test)

    def _record(self, test: Any, outcome: str) -> None:
        line = [test.id(), outcome, round(time.monotonic() - self._begun, 3)]
        print(json.dumps(line), file=self.records, flush=True)

    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        self._record(test, "successes")

    def addFailure(self, test: Any, fail: Any) -> None:
        super().addFailure(test, fail)
        self._record(test, "failures")

    def addError(self, test: Any, error: Any) -> None:
        super().addError(test, error)
        self._record(test, "errors")

    def addSkip(self, test: Any, reason: Any) -> None:
        super().addSkip(test, reason)
        self._record(test, "skips")

    def addExpectedFailure(self, test: Any, error: Any, todo: Any = None) -> None:
        super().addExpectedFailure(test, error, todo)
        self._record(test, "expectedFailures")

    def addUnexpectedSuccess(self, test: Any, todo: Any = None) -> None:
        super().addUnexpectedSuccess(test, todo)
        self._record(test, "unexpectedSuccesses")


def main(records: str, folder: str, *names: str) -> int:
    """Run the tests of `names` in `folder` and write to the file `records`; the exit code."""
    with open(records, "w") as file:
        Recorder.records = file
        runner = TrialRunner(cast(Any, Recorder), workingDirectory=folder)
        result = runner.run(TestLoader().loadByNames(list(names), True))
        print("null", file=file)
    return int(not result.wasSuccessful())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
