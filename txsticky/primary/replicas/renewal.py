"""
The table, as a worker gets it: in pieces, between which both processes do other things.

A new worker is ready for connections when it has them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ...core.messages.frames import encode
from ...core.messages.from_primary import Bound, bound_all
from ...core.routing.table import Table
from ...ipc.channel import Channel

#: Bindings that are encoded, and taken in, in one go: a millisecond's work.
PIECE: Final = 2000
#: Seconds until it is looked again whether the worker has read the piece before.
PAUSE: Final = 0.005


def pieces(table: Table, together: bool) -> Iterator[bytes]:
    """
    Encode a table as control frames, some bindings at a time.

    What is bound meanwhile need not be in it, and what is freed is not.

    :param together: whether many bindings go into one frame, which version 0.1.0 does not read.
    """
    keys = table.keys()
    for start in range(0, len(keys), PIECE):
        frames: list[bytes] = []
        for owner, owned in table.owners(keys[start : start + PIECE]).items():
            if together:
                frames += map(encode, bound_all(owned, owner))
            else:
                frames += (encode(Bound(key, owner)) for key in owned)
        yield b"".join(frames)


class Renewal:
    """
    A table on its way to a worker.

    :param channel: leads to the worker; each piece is sent when the kernel has taken the one
        before.
    :param parts: the pieces.
    :param reactor: calls at a time.
    :param done: called once, when all is on its way.
    """

    def __init__(
        self, channel: Channel, parts: Iterator[bytes], reactor: Any, done: Callable[[], object]
    ) -> None:
        self._channel = channel
        self._parts = parts
        self._reactor = reactor
        self._done = done
        self._call: Any = None

    def go_on(self) -> None:
        """Send the next piece, or look later."""
        self._call = None
        if not self._channel.waiting:
            part = next(self._parts, None)
            if part is None:
                self._done()
                return
            self._channel.write(part)
        self._call = self._reactor.callLater(PAUSE if self._channel.waiting else 0, self.go_on)

    def finish(self) -> None:
        """Send all that is left now."""
        self.cancel()
        for part in self._parts:
            self._channel.write(part)
        self._done()

    def cancel(self) -> None:
        """Send no more: the worker is gone."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
