"""
What is said by Python's `logging`, for the worker's own log.

An application that sets `logging` up has all of it in its own log.  What no handler takes, and what
Python would print if it is a warning (`logging.lastResort`), is logged here, from the level of
``--log-level`` on; so is what uvicorn's loggers say, which applications use for their own.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

from constantly import NamedConstant  # type: ignore[import-untyped]
from twisted.logger import Logger, LogLevel

#: Whose own information is a line or more for each WebSocket, and for each start and end of a
#: worker, which the access log and the primary tell.
_CHATTY = ("uvicorn", "websockets")
#: The logger that `twisted.logger.STDLibLogObserver` takes Twisted's log to, where it is already.
_TWISTED = "twisted"


class Bridge(logging.Handler):
    """
    Takes records over.

    :param least: the number of the level from which on they are taken.
    """

    def __init__(self, least: int = logging.INFO) -> None:
        super().__init__()
        self._least = least
        self._thread = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record over (`logging.Handler`)."""
        number = logging.DEBUG if _is_chatter(record) else record.levelno
        if number < self._least or record.name == _TWISTED:
            return
        if getattr(self._thread, "busy", False):
            return  # an observer of the application has brought it back
        self._thread.busy = True
        try:
            text = self.format(record).replace("\n\n", "\n")
            Logger(record.name).emit(_level(number), "{text}", text=text)
        except Exception:
            self.handleError(record)
        finally:
            self._thread.busy = False

    def install(self) -> None:
        """Take over what no handler takes, from the least level on."""
        logging.lastResort = self
        # uvicorn's loggers have a level of their own under uvicorn, too, whatever the root's is.
        for name in ("", "uvicorn"):
            logging.getLogger(name).setLevel(self._least)


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
    """Tell what uvicorn says of itself from what an application says by uvicorn's loggers."""
    if record.levelno > logging.INFO or not record.name.startswith("uvicorn"):
        return False
    homes = (getattr(sys.modules.get(name), "__file__", None) for name in _CHATTY)
    return record.pathname.startswith(tuple(os.path.dirname(h) + os.sep for h in homes if h))


def bridge(level: str) -> None:
    """
    Have what is said by `logging` in this process logged.

    :param level: one of `config.LOG_LEVELS`.
    """
    Bridge(logging.getLevelNamesMapping()[level.upper()]).install()
