"""What of a WSGI response waits for its client, between the threads that make and send it."""

from __future__ import annotations

import os
from collections import deque
from threading import Condition, Lock
from typing import Final

from attrs import define

#: So many times the room of one response is the room of all responses of a worker. Beyond, each of
#: them has room for `LOW` only.
TOGETHER: Final = 64
#: Bytes that may wait still when a thread that waited goes on.
LOW: Final = 1 << 16
#: The longest piece that is given to the transport at once, in bytes.
SLICE: Final = 1 << 18


@define(eq=False)
class FilePart:
    """
    A part of a regular file, as a piece of a response.

    :param file: a descriptor, owned by this part.
    :param offset: of the first byte.
    :param count: how many bytes.
    """

    file: int
    offset: int
    count: int

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.file)


class Buffers:
    """
    The bytes that wait in all responses of a worker.

    :param each: bytes of one response that may wait for its client before the application's thread
        waits.
    :ivar lock: guards all of them.
    :ivar size: bytes that wait.
    """

    def __init__(self, each: int) -> None:
        self.each = each
        self.together = TOGETHER * each
        self.low = min(LOW, each)
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
    :ivar failed: whether the application has ended with an exception, within its response.
    """

    def __init__(self, buffers: Buffers) -> None:
        self.gone = False
        self.failed = False
        self._buffers = buffers
        self._lock = buffers.lock
        self._room: Condition | None = None
        self._pieces: deque[bytes | FilePart] = deque()
        self._size = 0
        self._coming = False  # the reactor is to be called, or is at it
        self._flowing = True  # the transport takes more
        self._ended = False

    def put(self, piece: bytes | FilePart, now: bool, last: bool) -> tuple[bool, bool]:
        """
        Add a piece.

        :param now: send it at once, before the next comes.
        :param last: it is the last; nothing may be added behind it.
        :returns: whether to call the reactor, and whether to `wait`; neither, unless `now`.
        """
        size = 0 if piece.__class__ is FilePart else len(piece)  # type: ignore[arg-type]
        with self._lock:
            if self.gone:
                if piece.__class__ is FilePart:
                    piece.close()
                return False, False
            self._pieces.append(piece)
            self._size += size
            self._buffers.size += size
            if last:
                self._ended = True
                return self._calls(), False
            return now and self._calls(), now and self._full()

    def wait(self) -> None:
        """Wait until the client has taken most of what there is, or has gone."""
        with self._lock:
            room = self._room = Condition(self._lock)
            while self._size > self._buffers.low and not self.gone:
                room.wait()
            self._room = None

    def end(self, failed: bool) -> bool:
        """
        Note that no piece will follow.

        :returns: whether to call the reactor.
        """
        with self._lock:
            if self._ended:
                return False
            self._ended, self.failed = True, failed
            return self._calls()

    def pause(self) -> None:
        """Note that the transport is full."""
        self._flowing = False

    def resume(self) -> None:
        """Note that the transport takes more."""
        with self._lock:
            self._flowing = True

    def drop(self) -> None:
        """Drop what waits, and let the application's thread know: nothing is sent any more."""
        with self._lock:
            self.gone = True
            self._buffers.size -= self._size
            self._size = 0
            pieces, self._pieces = self._pieces, deque()
            if self._room is not None:
                self._room.notify()
        for piece in pieces:
            if isinstance(piece, FilePart):
                piece.close()

    def take(self) -> tuple[bytes | FilePart | None, bool]:
        """
        Take out what is to be sent next.

        :returns: it, or None if there is nothing, or the transport takes nothing; and whether
            nothing follows.
        """
        with self._lock:
            if not self._flowing:
                self._coming = False
                return None, False
            pieces = self._pieces
            if not pieces:
                self._coming = False
                return None, self._ended and not self.gone
            piece = pieces.popleft()
            if piece.__class__ is FilePart:
                return piece, self._ended and not pieces
            data = self._joined(piece)  # type: ignore[arg-type]
            self._size -= len(data)
            self._buffers.size -= len(data)
            if self._room is not None and self._size <= self._buffers.low:
                self._room.notify()
            return data, self._ended and not pieces

    # ------------------------------------------- within the lock

    def _joined(self, first: bytes) -> bytes:
        """At most `SLICE` bytes, of which the first piece is taken out already."""
        pieces, size = self._pieces, len(first)
        if size > SLICE:
            view = memoryview(first)
            pieces.appendleft(view[SLICE:])  # type: ignore[arg-type]
            return bytes(view[:SLICE])
        joined = [first]
        while pieces and pieces[0].__class__ is not FilePart:
            size += len(pieces[0])  # type: ignore[arg-type]
            if size > SLICE:
                break
            joined.append(pieces.popleft())  # type: ignore[arg-type]
        # What is left of a long piece is a view.
        return b"".join(joined) if len(joined) > 1 or first.__class__ is not bytes else first

    def _full(self) -> bool:
        size, buffers = self._size, self._buffers
        return size > buffers.each or (size > buffers.low and buffers.size > buffers.together)

    def _calls(self) -> bool:
        """Whether the reactor has to be called: it is not, and there is something to do for it."""
        if self._coming or self.gone:
            return False
        self._coming = self._flowing or (self._ended and not self._pieces)
        return self._coming
