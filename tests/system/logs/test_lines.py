"""Log events as lines, from the workers and as JSON."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, LogLevel, capturedLogs, textFileLogObserver
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.http import HTTPChannel

from tests.fakes import FakeSystem
from txsticky.config import LOG_LEVELS
from txsticky.primary.supervision.worker_handle import WorkerHandle
from txsticky.printable import printable
from txsticky.system.logs.lines import (
    at_level,
    json_observer,
    level_named,
    read_line,
    text_observer,
    worker_line,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


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
    @example("info", "a\r\nb\x1fc\x1cd\u2028e\x85f\n")
    @example("info", "\n\n")
    def test_back(self, level: str, text: str) -> None:
        """Level and text come back from one line, whatever lines the text has."""
        line = worker_line(event(level, "{line}", line=text))
        self.assertEqual(line.splitlines(), [line])
        told_level, told = read_line(line)
        assert told_level is not None
        # A line break at the very end is nothing, also if there is nothing else.
        lines = text.replace("\r\n", "\n").removesuffix("\n")
        self.assertEqual((told_level.name, told), (level, printable(lines, lines=True)))

    def test_traceback(self) -> None:
        """An exception is one line, and its traceback comes back with it."""
        level, text = read_line(worker_line(raised()))
        self.assertIs(level, LogLevel.critical)
        self.assertEqual(text.splitlines()[0], "It broke.")
        self.assertIn("builtins.LookupError: no such shelf", text.splitlines()[-1])

    def test_printed(self) -> None:
        """What an application prints is information, and stays as it is."""
        self.assertEqual(read_line("[12] apples"), (None, "[12] apples"))

    def test_primary_logs_it(self) -> None:
        """The primary logs it at the worker's level and says which worker it was."""
        system = FakeSystem()
        handle = WorkerHandle(system, None, 7, 2, 3, 10)  # type: ignore[arg-type]
        with capturedLogs() as events:
            handle.said("[warn] It is cold.")
        (said,) = events
        self.assertIs(said["log_level"], LogLevel.warn)
        self.assertEqual((said["id"], said["slot"], said["generation"]), (7, 2, 3))
        self.assertEqual(worker_line(said), "[warn] worker 2: It is cold.")


class LevelTests(TestCase):
    """What is told at a level."""

    def told(self, level: str, *events: dict[str, Any]) -> list[str]:
        """The texts of those events that are told."""
        kept: list[Any] = []
        observer = at_level(kept.append, level)  # type: ignore[arg-type]
        for said in events:
            observer(said)
        return [said["text"] for said in kept]

    def test_levels(self) -> None:
        """What is below the level is not told."""
        names = ("debug", "info", "warn", "error", "critical")
        events = [event(name, "{text}", text=name) for name in names]
        self.assertEqual(self.told("debug", *events), list(names))
        self.assertEqual(self.told("warning", *events), ["warn", "error", "critical"])
        self.assertEqual(self.told("critical", *events), ["critical"])
        self.assertEqual([level_named(name).name for name in LOG_LEVELS], list(names)[::-1])

    def test_printed(self) -> None:
        """What an application prints is told at every level."""
        system = FakeSystem()
        handle = WorkerHandle(system, None, 7, 2, 3, 10)  # type: ignore[arg-type]
        with capturedLogs() as events:
            for line in ("[info] ours", "printed", "[debug] ours"):
                handle.said(line)
        kept: list[Any] = []
        for said in events:
            at_level(kept.append, "critical")(said)  # type: ignore[arg-type]
        self.assertEqual([said["line"] for said in kept], ["printed"])

    def test_idle_connections(self) -> None:
        """The end of an idle connection is news for debugging alone."""
        channel = HTTPChannel()
        channel.abortTimeout = None
        channel.makeConnection(StringTransport())
        with capturedLogs() as events:
            channel.timeoutConnection()
            channel.forceAbortClient()
        self.assertEqual(len(events), 2)
        for said in events:
            said["text"] = said["log_format"]
        self.assertEqual(self.told("info", *events), [])
        self.assertEqual(len(self.told("debug", *events)), 2)


class TextTests(TestCase):
    """The primary's log as text."""

    def written(self, said: dict[str, Any]) -> str:
        """What is written of an event."""
        stream = io.StringIO()
        text_observer(stream)({**said, "log_time": 0.0})
        return stream.getvalue()

    def test_like_twisted(self) -> None:
        """An event as text is what Twisted writes."""
        said = {**event("warn", "Worker {slot} is late.", slot=2), "log_time": 0.0}
        stream = io.StringIO()
        textFileLogObserver(stream)(said)
        self.assertEqual(self.written(said), stream.getvalue())
        self.assertEqual(self.written({}), "")

    def test_printable(self) -> None:
        """Nothing that a client or an application chose does anything to the terminal."""
        told = self.written(event("info", "{key}", key="\x1b[2J\r\x9b1m\u202e"))
        self.assertTrue(told.endswith("] \\x1b[2J\\x0d\\x9b1m\\u202e\n"), told)

    def test_one_event(self) -> None:
        """No event looks like two: each further line of its text is indented."""
        told = self.written(event("info", "{key}", key="a\n1970-01-01T00:00:00+0000 [x#info] b"))
        self.assertEqual([line[:1] for line in told.splitlines()], ["1", "\t"])


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
