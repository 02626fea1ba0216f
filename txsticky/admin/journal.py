"""The journal: the last things that happened to the workers."""

from __future__ import annotations

import collections

import attrs
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    globalLogPublisher,
)
from zope.interface import implementer

from ..printable import printable

KEPT = 100


@attrs.frozen
class JournalEntry:
    """
    One event.

    :param time: seconds since the epoch.
    :param level: `info`, `warn` or `error`.
    :param slot: the number of the worker that it is about, if it is about one.
    """

    time: float
    level: str
    text: str
    slot: int | None


@implementer(ILogObserver)
class Journal:
    """
    Remembers the last events of its logger, all of which go to the log as well.

    :ivar entries: the oldest first.
    :ivar log: what is told to it is remembered.
    """

    def __init__(self) -> None:
        self.entries: collections.deque[JournalEntry] = collections.deque(maxlen=KEPT)
        self.log = Logger(namespace="txsticky.supervisor", observer=self)

    def __call__(self, event: LogEvent) -> None:
        """Remember an event and pass it on (`ILogObserver`)."""
        level = event["log_level"]
        if level >= LogLevel.info:
            self.entries.append(
                JournalEntry(
                    event["log_time"],
                    level.name,
                    printable(formatEvent(event), lines=True),
                    event.get("slot"),
                )
            )
        globalLogPublisher(event)
