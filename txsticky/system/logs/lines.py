"""
Log events as lines: a worker's on their way to the primary, and the primary's as text or JSON; and
which of them are told.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, TextIO

from constantly import NamedConstant  # type: ignore[import-untyped]
from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
    formatEvent,
    formatEventAsClassicLogText,
)
from zope.interface import provider

from ...printable import printable

#: Stands for a line break inside an event, so that a traceback stays one line of a worker's output:
#: the control character that separates units (ECMA-48, 8.3.157, US).
_BREAK = "\x1f"
_LEVEL = re.compile(r"\[(debug|info|warn|error|critical)\] ")

#: What twisted.web tells of each connection that was idle for too long: it is not news.
PER_CONNECTION = frozenset(("Timing out client: {peer}", "Forcibly timing out client: {peer}"))


def level_named(name: str) -> NamedConstant:
    """Twisted's level for one of `config.LOG_LEVELS`."""
    return LogLevel.levelWithName("warn" if name == "warning" else name)


def at_level(observer: ILogObserver, name: str) -> ILogObserver:
    """
    Have an observer told what is of a level, or above it.

    It is told all that an application prints, which has no level: only the application can tell
    what that is worth.

    :param name: one of `config.LOG_LEVELS`.
    """
    least = level_named(name)

    @provider(ILogFilterPredicate)
    def judge(event: LogEvent) -> NamedConstant:
        level = event.get("log_level", LogLevel.info)
        if event.get("log_format") in PER_CONNECTION:
            level = LogLevel.debug
        told = level >= least or "output" in event
        return PredicateResult.maybe if told else PredicateResult.no

    return FilteringLogObserver(observer, [judge])


def event_text(event: LogEvent) -> str:
    """An event's text, with the traceback of its failure if it has one."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    return text if failure is None else f"{text}\n{failure.getTraceback().rstrip()}"


def worker_line(event: LogEvent) -> str:
    """An event of a worker, printable, as one line for the primary; `read_line` undoes that."""
    level = event.get("log_level", LogLevel.info).name
    text = event_text(event).replace("\r\n", "\n").removesuffix("\n")
    return f"[{level}] " + printable(text, lines=True).replace("\n", _BREAK)


def read_line(line: str) -> tuple[NamedConstant | None, str]:
    """
    Tell the level and the text of a line of a worker's output.

    What the application printed has no level, and is one line.
    """
    found = _LEVEL.match(line)
    if found is None:
        return None, line
    return LogLevel.levelWithName(found[1]), line[found.end() :].replace(_BREAK, "\n")


def json_line(event: LogEvent) -> str:
    """
    An event as one JSON object: time, level, logger, text, and the fields that the event has.

    Fields that are neither text nor numbers are in the text alone.
    """
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": event.get("log_level", LogLevel.info).name,
        "logger": event.get("log_namespace", ""),
        "text": event_text(event),
    }
    for name, value in event.items():
        own = name not in _LEGACY and not name.startswith("log_")
        if own and isinstance(value, str | int | float):
            fields.setdefault(name, value)
    return json.dumps(fields)


#: What twisted.python.log adds to events, for observers older than twisted.logger.
_LEGACY = frozenset(("format", "isError", "message", "printed", "system", "time", "why"))


def json_observer(stream: TextIO) -> ILogObserver:
    """Make an observer that writes each event as a line of JSON."""

    @provider(ILogObserver)
    def write(event: LogEvent) -> None:
        stream.write(json_line(event) + "\n")
        stream.flush()

    observer: ILogObserver = write
    return observer


def text_observer(stream: TextIO) -> ILogObserver:
    """
    Make an observer that writes each event as Twisted does (`formatEventAsClassicLogText`):
    printable, and with each line but the first indented, so that no event looks like two.
    """

    @provider(ILogObserver)
    def write(event: LogEvent) -> None:
        text = formatEventAsClassicLogText(event)
        if text:
            stream.write(printable(text, lines=True))
            stream.flush()

    observer: ILogObserver = write
    return observer
