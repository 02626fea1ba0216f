"""A part of a file as content, where the kernel does not send it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol

#: Bytes of a file that are read at a time.
_PIECE: Final = 1 << 17


class Filed(Protocol):
    """What a file's content is for (`answering.OpenExchange`)."""

    def write(self, data: bytes) -> None:
        """Send a piece of the response's content."""

    def unregister_producer(self) -> None:
        """Let the producer go."""

    def file_is_short(self) -> None:
        """End the connection: the file is shorter than it was."""


class FileReading:
    """
    Reads a file at the client's pace (`IPullProducer`).

    :param exchange: gets what is read.
    :param file: a descriptor.
    :param offset: of the first byte.
    :param count: how many bytes.
    :param sent: called when all are written.
    """

    def __init__(
        self,
        exchange: Filed,
        file: int,
        offset: int,
        count: int,
        sent: Callable[[], None],
    ) -> None:
        self._exchange = exchange
        self._file = file
        self._offset = offset
        self._left = count
        self._sent = sent

    def resumeProducing(self) -> None:
        """Write the next piece (`IPullProducer`)."""
        data = os.pread(self._file, min(self._left, _PIECE), self._offset)
        if not data:
            self._exchange.file_is_short()
            return
        self._offset += len(data)
        self._left -= len(data)
        if not self._left:
            self._exchange.unregister_producer()
        self._exchange.write(data)
        if not self._left:
            self._sent()

    def stopProducing(self) -> None:
        """Do nothing: the exchange's answer is told (`IPullProducer`)."""
