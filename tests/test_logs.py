"""Log events as lines, from the workers and as JSON."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from txsticky.handle import WorkerHandle
from txsticky.logs import json_observer, read_line, worker_line
from txsticky.testing import FakeSystem

TEXTS = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]))


def event(level: str, format: str, **fields: Any) -> dict[str, Any]:
    """What a logger emits."""
    events: list[dict[str, Any]] = []
    logger = Logger(namespace="shop", observer=events.append)  # type: ignore[arg-type]
    logger.emit(LogLevel.levelWithName(level), format, **fields)
    return events[0]


def raised() -> dict[str, Any]:
    """The event of an exception."""
    try:
        raise LookupError("no such shelf")
    except LookupError:
        return event("critical", "It broke.", log_failure=Failure())


class WorkerLineTests(TestCase):
    """From a worker to the primary."""

    @given(st.sampled_from(["debug", "info", "warn", "error", "critical"]), TEXTS)
    @example("info", "\n")
    @example("info", "\n\n")
    def test_back(self, level: str, text: str) -> None:
        """Level and text come back from one line, whatever lines the text has."""
        line = worker_line(event(level, "{line}", line=text))
        self.assertEqual(line.splitlines() + [""] * (not line), [line])
        told_level, told = read_line(line)
        # A line break at the very end is nothing, also if there is nothing else.
        self.assertEqual((told_level.name, told), (level, "\n".join(text.splitlines())))

    def test_traceback(self) -> None:
        """An exception is one line, and its traceback comes back with it."""
        level, text = read_line(worker_line(raised()))
        self.assertIs(level, LogLevel.critical)
        self.assertEqual(text.splitlines()[0], "It broke.")
        self.assertIn("builtins.LookupError: no such shelf", text.splitlines()[-1])

    def test_printed(self) -> None:
        """What an application prints is information, and stays as it is."""
        self.assertEqual(read_line("[12] apples"), (LogLevel.info, "[12] apples"))

    def test_primary_logs_it(self) -> None:
        """The primary logs it at the worker's level and says which worker it was."""
        system = FakeSystem()
        handle = WorkerHandle(system, None, 7, 2, 3, 10)  # type: ignore[arg-type]
        with capturedLogs() as events:
            handle._said("[warn] It is cold.")
        (said,) = events
        self.assertIs(said["log_level"], LogLevel.warn)
        self.assertEqual((said["id"], said["slot"], said["generation"]), (7, 2, 3))
        self.assertEqual(worker_line(said), "[warn] worker 2: It is cold.")


class JSONTests(TestCase):
    """The primary's log as JSON."""

    def written(self, event: dict[str, Any]) -> dict[str, Any]:
        """What is written of an event, which has to be one line."""
        stream = io.StringIO()
        json_observer(stream)(event)
        (line,) = stream.getvalue().splitlines()
        told = json.loads(line)
        assert isinstance(told, dict)
        return told

    def test_event(self) -> None:
        """An event has its time, level, logger, text and its own fields."""
        said = event("warn", "Worker {slot} is {how}.", slot=2, how="late", lag=0.5)
        told = self.written({**said, "log_time": 1.5})
        expected = {
            "time": "1970-01-01T00:00:01.500+00:00",
            "level": "warn",
            "logger": "shop",
            "text": "Worker 2 is late.",
            "slot": 2,
            "how": "late",
            "lag": 0.5,
        }
        self.assertEqual(told, expected)

    def test_objects(self) -> None:
        """What is neither text nor a number is told in the text alone."""
        told = self.written(event("info", "{what}", what=[1]))
        self.assertEqual((told["text"], "what" in told), ("[1]", False))

    def test_exception(self) -> None:
        """An exception is one line as well, with its traceback."""
        self.assertIn("no such shelf", self.written(raised())["text"])
