"""What a child process prints, in the log."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel

from ...system.logs.lines import read_line

log = Logger(namespace="txsticky.worker")


def log_line(name: str, line: str, **fields: object) -> None:
    """
    Log a line that a process has printed.

    :param name: what the log calls the process.
    :param fields: what else the event tells.
    """
    level, text = read_line(line)
    output = {} if level else {"output": True}
    log.emit(level or LogLevel.info, "{worker}: {line}", worker=name, **fields, line=text, **output)
