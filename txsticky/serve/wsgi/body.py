"""The content of a request, between the reactor that receives it and the thread that reads it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from threading import Condition, Lock
from typing import IO, Any, Final

#: Bytes of a body with which the application may start, and which may wait to be read.
ENOUGH: Final = 1 << 20
#: Bytes that may wait still when the client is read again.
LOW: Final = 1 << 18
#: Bytes that are taken at once from what waits.
_PIECE: Final = 1 << 16


class Body:
    """
    The content of one request.

    `add`, `end`, `drop` and `stream` are called in the reactor's thread.

    :param pause: has the client not be read.
    :param resume: has it be read again.
    :param in_reactor: calls a function in the reactor's thread, from any thread.
    :param aside: waits in the application's thread (`Threads.aside`).
    :param whole: whether the application starts with the whole body only, which then waits in a
        temporary file if it is large.
    :ivar size: how many bytes have come.
    :ivar complete: whether all of it has come.
    """

    def __init__(
        self,
        pause: Callable[[], object],
        resume: Callable[[], object],
        in_reactor: Callable[[Callable[[], object]], object],
        aside: Callable[[Callable[[], object]], object],
        whole: bool,
    ) -> None:
        self.size = 0
        self.complete = False
        self._pause = pause
        self._resume = resume
        self._in_reactor = in_reactor
        self._aside = aside
        self._whole = whole
        self._lock = Lock()
        self._come: Condition | None = None
        self._data = bytearray()
        self._file: IO[bytes] | None = None
        self._paused = False
        self._streams = False
        self._gone = False

    # ------------------------------------------------------ the reactor's thread

    def add(self, data: bytes) -> bool:
        """
        Take a piece.

        :returns: whether the application may start now.
        """
        if self._gone:
            return False
        self.size += len(data)
        if self._file is not None:
            self._file.write(data)
            return False
        with self._lock:
            self._data += data
            held = len(self._data)
            if self._come is not None:
                self._come.notify()
        if held < ENOUGH:
            return False
        if self._whole:
            # The piece is handed on to the application.
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.write(self._data)
            self._data.clear()
            return False
        if not self._paused:
            self._paused = True
            self._pause()
        return not self._streams

    def end(self) -> None:
        """Take note that all has come."""
        with self._lock:
            self.complete = True
            if self._come is not None:
                self._come.notify()

    def drop(self) -> None:
        """Hold nothing any more, and take what comes still: nothing of it will be read."""
        with self._lock:
            self._gone = True
            self._data.clear()
            if self._come is not None:
                self._come.notify()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._read_on()

    def stream(self) -> IO[bytes]:
        """Return what the application reads: a file of all that has come, or that follows it."""
        if self._file is not None:
            file, self._file = self._file, None
            file.seek(0)
            return file
        if self.complete:
            file, self._data = io.BytesIO(self._data), bytearray()
            return file
        self._streams = True
        return io.BufferedReader(_Stream(self.take), _PIECE)

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            self._resume()

    # ------------------------------------------------- the application's thread

    def take(self, into: memoryview) -> int:
        """
        Move what has come, and wait for it if there is nothing.

        :returns: how many bytes were moved: none if the body is at its end.
        :raises ConnectionError: the client has left.
        """
        if not (self._data or self.complete or self._gone):
            self._aside(self._wait)
        data = self._data
        with self._lock:
            if self._gone:
                raise ConnectionError("the request is over: its client has left, or was answered")
            size = min(len(into), len(data))
            into[:size] = data[:size]
            del data[:size]
            low = self._paused and len(data) <= LOW
        if low:
            self._in_reactor(self._read_on)
        return size

    def _wait(self) -> None:
        with self._lock:
            come = self._come = Condition(self._lock)
            while not (self._data or self.complete or self._gone):
                come.wait()
            self._come = None


class _Stream(io.RawIOBase):
    """A body that is still coming, for `io.BufferedReader`, which has all ways of reading."""

    def __init__(self, take: Callable[[memoryview], int]) -> None:
        self._take = take

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what there is, or wait for it."""
        return self._take(memoryview(buffer))
