"""What of a WSGI response waits for its client, between the threads that make and send it."""

from __future__ import annotations

from collections import deque
from threading import Condition, Lock
from typing import Final

#: Bytes of one response that may wait for its client before the application's thread waits.
BUFFER: Final = 1 << 20
#: Bytes of all responses of a worker that may wait. Beyond, each of them has room for `LOW` only.
TOGETHER: Final = 64 << 20
#: Bytes that may wait still when a thread that waited goes on.
LOW: Final = 1 << 16
#: The longest piece that is given to the transport at once, in bytes.
SLICE: Final = 1 << 18


class Buffers:
    """
    The bytes that wait in all responses of a worker.

    :ivar lock: guards all of them.
    :ivar size: bytes that wait.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.size = 0


class Pending:
    """
    The pieces of one response that have not been sent.

    `put`, `wait` and `end` are called in the application's thread, all other methods in the
    reactor's. Where a method returns whether to call the reactor, `Call.drain` is to be called in
    the reactor's thread.

    :param buffers: counts the bytes that wait for all clients.
    :ivar gone: whether nothing is to be sent any more.
    :ivar failed: whether the application has ended with an exception.
    """

    def __init__(self, buffers: Buffers) -> None:
        self.gone = False
        self.failed = False
        self._buffers = buffers
        self._lock = buffers.lock
        self._room: Condition | None = None
        self._pieces: deque[bytes | memoryview] = deque()
        self._size = 0
        self._coming = False  # the reactor is to be called, or is at it
        self._flowing = True  # the transport takes more
        self._ended = False

    def put(self, piece: bytes, now: bool) -> tuple[bool, bool]:
        """
        Add a piece.

        :param now: send it at once, before the next comes.
        :returns: whether to call the reactor, and whether to `wait`; neither, unless `now`.
        """
        with self._lock:
            if self.gone:
                return False, False
            self._pieces.append(piece)
            self._size += len(piece)
            self._buffers.size += len(piece)
            return now and self._calls(False), now and self._full()

    def wait(self) -> None:
        """Wait until the client has taken most of what there is, or has gone."""
        with self._lock:
            room = self._room = Condition(self._lock)
            while self._size > LOW and not self.gone:
                room.wait()
            self._room = None

    def end(self, failed: bool) -> bool:
        """
        Note that no piece will follow.

        :returns: whether to call the reactor.
        """
        with self._lock:
            self._ended, self.failed = True, failed
            return self._calls(True)

    def pause(self) -> None:
        """Note that the transport is full."""
        self._flowing = False

    def resume(self) -> None:
        """Note that the transport takes more."""
        with self._lock:
            self._flowing = True

    def drop(self) -> None:
        """Drop what waits, and let the application's thread know: the client has gone."""
        with self._lock:
            self.gone = True
            self._buffers.size -= self._size
            self._size = 0
            self._pieces.clear()
            if self._room is not None:
                self._room.notify()

    def close(self) -> None:
        """Take no more pieces: the response is complete."""
        with self._lock:
            self.gone = True

    def take(self) -> bytes | None:
        """Take the next piece out; None if there is none, or the transport takes none."""
        with self._lock:
            if not (self._pieces and self._flowing):
                self._coming = False
                return None
            piece = self._pieces.popleft()
            if len(piece) > SLICE:
                view = memoryview(piece)
                self._pieces.appendleft(view[SLICE:])
                piece = view[:SLICE]
            self._size -= len(piece)
            self._buffers.size -= len(piece)
            if self._room is not None and self._size <= LOW:
                self._room.notify()
        return bytes(piece)

    def complete(self) -> bool:
        """Whether the application has ended, and all of its response is sent."""
        with self._lock:
            return self._ended and not self._pieces and not self.gone

    # ------------------------------------------- within the lock

    def _full(self) -> bool:
        size = self._size
        return size > BUFFER or (size > LOW and self._buffers.size > TOGETHER)

    def _calls(self, ended: bool) -> bool:
        """Whether the reactor has to be called: it is not, and there is something to do for it."""
        if self._coming or self.gone:
            return False
        self._coming = self._flowing or (ended and not self._pieces)
        return self._coming
