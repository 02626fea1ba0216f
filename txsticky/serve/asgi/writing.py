"""The output of a connection on asyncio's transport: coalesced, watched by the gate, counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ...transport.gate import Gate
from ...transport.write_batch import WriteBatch

#: Bytes that may wait for the end of an iteration of the event loop. More are sent at once, so that
#: the protocol learns of a client that is behind.
MOST_WAITING: Final = 65536


class WritingHost(asyncio.Protocol):
    """
    The writing half of a host of a connection.

    What the protocol inside writes is sent when all connections of an iteration of the loop have
    been served, by one system call, so that no client is woken while others wait to be read.

    :param loop: the running loop.
    :param protocol: the protocol inside.
    :param turn: tells of the end of an iteration.
    """

    native: asyncio.Transport
    gate: Gate
    #: Calls what may fail; a failure closes the connection (`transport.host.Host`).
    guarded: Callable[[Callable[[], None]], None]

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, turn: WriteBatch
    ) -> None:
        self.protocol: Any = protocol
        self._loop = loop
        self._turn = turn
        #: Whether the connection is here, and not yet over.
        self._open = False
        #: What was written in this iteration, and its size in bytes.
        self._pieces: list[bytes] = []
        self._size = 0
        #: Bytes that were given to asyncio's transport.
        self._written = 0
        self._flushed: Callable[[], None] | None = None
        #: Why the protocol is to write no more: the client is behind, or too much is withheld.
        self._behind = self._withholds = False

    def live(self) -> bool:
        """Whether the connection is open and not being closed."""
        return self._open and not self.native.is_closing()

    # -------------------------------------------------- what the protocol inside does

    def write(self, data: bytes) -> None:
        """Send to the client at the end of this iteration, or at once if it is much."""
        if not (self._open and data):
            return
        if self._size + len(data) > MOST_WAITING:
            self._uncork()
            if len(data) > MOST_WAITING:
                self._follow(data)
                return
        self._pieces.append(data)
        self._size += len(data)
        if len(self._pieces) == 1:
            self._turn.add(self)

    def unsent(self) -> int:
        """Bytes that are not in the kernel."""
        return self.native.get_write_buffer_size() + self._size if self._open else 0

    # ---------------------------------------------------------- what the loop says

    def end_turn(self) -> None:
        """Send what was written in this iteration (`write_batch.Sender`)."""
        self.guarded(self._uncork)

    def _uncork(self) -> None:
        pieces = self._pieces
        if pieces and self._open:
            self._pieces, self._size = [], 0
            self._follow(b"".join(pieces))

    def _follow(self, data: bytes) -> None:
        data = self.gate.wrote(data)
        if data:
            self._written += len(data)
            self.native.write(data)

    def pause_writing(self) -> None:
        """Tell the protocol that the write buffer is full."""
        self._pace(True, self._withholds)

    def resume_writing(self) -> None:
        """Tell the protocol, and what waits in `flush`, that the write buffer has room again."""
        callback, self._flushed = self._flushed, None
        try:
            self._pace(False, self._withholds)
        finally:
            if callback is not None:
                self._loop.call_soon(self.guarded, lambda: self._all_sent(callback))

    def _pace(self, behind: bool, withholds: bool) -> None:
        """Tell the protocol to pause, or that it may go on, if that has changed."""
        paused = self._behind or self._withholds
        self._behind, self._withholds = behind, withholds
        if self._open and paused is not (behind or withholds):
            if paused:
                self.protocol.resume_writing()
            else:
                self.protocol.pause_writing()

    def _all_sent(self, callback: Callable[[], None]) -> None:
        if self.live():
            self.native.set_write_buffer_limits()
            self._uncork()  # what was written meanwhile may be a reason to stay
            callback()

    # -------------------------------------------------- what the gate asks: Host

    def send(self, data: bytes) -> None:
        """Write to the client at once."""
        self._written += len(data)
        self.native.write(data)

    def withholds(self, size: int) -> None:
        """Pause the protocol while more is withheld than the write buffer holds."""
        if self._open:
            self._pace(self._behind, size > self.native.get_write_buffer_limits()[1])

    def passed(self) -> int:
        """Bytes that have entered the kernel so far."""
        return self._written - (self.native.get_write_buffer_size() if self._open else 0)

    def flush(self, callback: Callable[[], None]) -> None:
        """Call back once all output is in the kernel."""
        self._uncork()
        if not self.unsent():
            callback()
            return
        self._flushed = callback
        self.native.set_write_buffer_limits(0)  # pauses now, and resumes when all is sent

    def hang_up(self) -> None:
        """Close after what is written."""
        self.native.close()

    def half_close(self) -> None:
        """Tell the client that nothing follows what is written."""
        self.native.write_eof()
