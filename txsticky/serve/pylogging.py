"""What uvicorn and asyncio say by Python's `logging`, for the worker's own log."""

from __future__ import annotations

import logging

from twisted.logger import Logger, LogLevel

#: Whose loggers are heard.
NAMES = ("uvicorn", "asyncio")
_LEVELS = {
    logging.WARNING: LogLevel.warn,
    logging.ERROR: LogLevel.error,
    logging.CRITICAL: LogLevel.critical,
}


class Bridge(logging.Handler):
    """
    Takes warnings and errors over, unless the application has set `logging` up: then they are in
    its log.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record over (`logging.Handler`)."""
        if not logging.getLogger().handlers:
            level = _LEVELS.get(record.levelno, LogLevel.error)
            Logger(record.name).emit(
                level, "{text}", text=self.format(record).replace("\n\n", "\n")
            )

    def install(self) -> None:
        """Begin to listen."""
        for name in NAMES:
            logging.getLogger(name).addHandler(self)

    def remove(self) -> None:
        """Listen no more."""
        for name in NAMES:
            logging.getLogger(name).removeHandler(self)
