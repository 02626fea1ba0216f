"""Log events as lines: a worker's on their way to the primary, and the primary's as JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, TextIO

from constantly import NamedConstant  # type: ignore[import-untyped]
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import provider

#: Stands for a line break inside an event, so that a traceback stays one line of a worker's output:
#: the control character that separates units (ECMA-48, 8.3.157, US).
_BREAK = "\x1f"
_LEVEL = re.compile(r"\[(debug|info|warn|error|critical)\] ")


def event_text(event: LogEvent) -> str:
    """An event's text, with the traceback of its failure if it has one."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    return text if failure is None else f"{text}\n{failure.getTraceback().rstrip()}"


def worker_line(event: LogEvent) -> str:
    """An event of a worker as one line for the primary; `read_line` undoes it."""
    level = event.get("log_level", LogLevel.info).name
    return f"[{level}] " + _BREAK.join(event_text(event).splitlines())


def read_line(line: str) -> tuple[NamedConstant, str]:
    """
    Tell the level and the text of a line of a worker's output.

    What the application printed has no level and is information.
    """
    found = _LEVEL.match(line)
    text = line[found.end() if found else 0 :].replace(_BREAK, "\n")
    return (LogLevel.levelWithName(found[1]) if found else LogLevel.info), text


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
