"""
Records of Python's `logging`, passed on to the worker's log.

An application that configures `logging` keeps all records in its own log. A record that no handler
takes, and that Python would print if it were a warning (`logging.lastResort`), is logged here, from
the level of ``--log-level`` on. So are the records of uvicorn's loggers, which applications use for
their own.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from constantly import NamedConstant  # type: ignore[import-untyped]
from twisted.logger import Logger, LogLevel

#: Packages that log each WebSocket, and each start and end of a worker, at level INFO: the access
#: log and the primary tell that already.
_CHATTY = ("uvicorn", "websockets")
#: The logger of `twisted.logger.STDLibLogObserver`: its records come from Twisted's log.
_TWISTED = "twisted"


class Bridge(logging.Handler):
    """
    Passes records on to Twisted's log.

    :param least: the number of the lowest level that is passed on.
    :ivar least: the same.
    """

    def __init__(self, least: int = logging.INFO) -> None:
        super().__init__()
        self.least = least
        self._thread = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on (`logging.Handler`)."""
        number = logging.DEBUG if _is_chatter(record) else record.levelno
        if number < self.least or record.name == _TWISTED:
            return
        if getattr(self._thread, "busy", False):
            return  # an observer of the application has logged it again
        self._thread.busy = True
        try:
            text = self.format(record).replace("\n\n", "\n")
            Logger(record.name).emit(_level(number), "{text}", text=text)
        except Exception:
            self.handleError(record)
        finally:
            self._thread.busy = False

    def install(self) -> None:
        """Take the records that no handler takes."""
        logging.lastResort = self
        # uvicorn gives its loggers a level of their own, too, whatever the root's is.
        for name in ("", "uvicorn"):
            logging.getLogger(name).setLevel(self.least)


class Chatter(logging.LoggerAdapter[logging.Logger]):
    """
    uvicorn's logger for what it tells of its WebSockets, which makes no record in vain.

    What it tells at level INFO is passed on for debugging only. Where it is not, and the
    application has no handler for it, no record is made.
    """

    @property
    def level(self) -> int:
        """The logger's level, which uvicorn asks for."""
        return self.logger.level

    def isEnabledFor(self, level: int) -> bool:
        """Whether a record would be taken (`logging.Logger`)."""
        last = logging.lastResort
        quiet = level <= logging.INFO and isinstance(last, Bridge) and last.least > logging.DEBUG
        return not (quiet and not self.logger.hasHandlers()) and self.logger.isEnabledFor(level)


def _level(number: int) -> NamedConstant:
    for least, level in (
        (logging.CRITICAL, LogLevel.critical),
        (logging.ERROR, LogLevel.error),
        (logging.WARNING, LogLevel.warn),
        (logging.INFO, LogLevel.info),
    ):
        if number >= least:
            return level
    return LogLevel.debug


def _is_chatter(record: logging.LogRecord) -> bool:
    """Whether uvicorn itself has made the record, not an application by uvicorn's loggers."""
    if record.levelno > logging.INFO or not record.name.startswith("uvicorn"):
        return False
    homes = (getattr(sys.modules.get(name), "__file__", None) for name in _CHATTY)
    return record.pathname.startswith(tuple(os.path.dirname(h) + os.sep for h in homes if h))


def bridge(level: str) -> None:
    """
    Pass the records of `logging` in this process on to Twisted's log.

    :param level: one of `config.LOG_LEVELS`.
    """
    Bridge(logging.getLevelNamesMapping()[level.upper()]).install()
