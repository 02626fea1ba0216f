"""Writing to a log whose reader may be slow, or may have stopped: a pipe, a terminal."""

from __future__ import annotations

import errno
import os
import select
import stat

#: Milliseconds that a line waits for a reader that is behind. The worker serves no request
#: meanwhile: when they are over, lines are lost until the reader goes on.
PATIENCE = 100
#: What pipe(7) takes as a whole when it says that it takes anything.
_PIECE = select.PIPE_BUF


class PatientWriter:
    """
    Writes to one descriptor.

    :param descriptor: where to; it stays its owner's.
    """

    __slots__ = ("_descriptor", "_may_wait", "_patience")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._may_wait = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._patience = PATIENCE

    def write(self, data: bytes) -> None:
        """
        Write all of it; a file takes it in one piece.

        :raises OSError: it cannot be written, or its reader is too far behind.
        """
        if not self._may_wait:
            os.write(self._descriptor, data)
            return
        room = select.poll()
        room.register(self._descriptor, select.POLLOUT)
        for at in range(0, len(data), _PIECE):
            if not room.poll(self._patience):
                self._patience = 0
                raise BlockingIOError(errno.EAGAIN, "its reader does not read")
            os.write(self._descriptor, data[at : at + _PIECE])
        self._patience = PATIENCE
