"""uvloop, with watches on descriptors that outlive an error. Needs uvloop."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import uvloop

#: What a descriptor is watched for: (descriptor, callback, its arguments).
_Watch = tuple[Any, Callable[..., object], tuple[Any, ...]]


class Loop(uvloop.Loop):
    """
    A loop of uvloop's for Twisted's reactor.

    libuv takes an error on a descriptor, such as a reset, for the last that is to be told of it:
    uvloop calls back once more, and closes its own watch without a word; the next watch on that
    descriptor raises RuntimeError. But a reset may have data in front of it, of which Twisted reads
    a part at a time, and would wait for the rest, and for the end, for ever. Here a descriptor with
    an error on it is watched anew until its owner lets go of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._to_read: dict[int, _Watch] = {}
        self._to_write: dict[int, _Watch] = {}

    def add_reader(  # type: ignore[override]
        self, fd: Any, callback: Callable[..., object], *args: Any
    ) -> None:
        """Call back whenever there is something to read (`asyncio.loop.add_reader`)."""
        number = _number(fd)
        self._to_read[number] = fd, callback, args
        super().add_reader(fd, self._happened, number, callback, args)

    def remove_reader(self, fd: Any) -> Any:
        """Call back no more (`asyncio.loop.remove_reader`)."""
        self._to_read.pop(_number(fd), None)
        return super().remove_reader(fd)

    def add_writer(  # type: ignore[override]
        self, fd: Any, callback: Callable[..., object], *args: Any
    ) -> None:
        """Call back whenever there is room to write (`asyncio.loop.add_writer`)."""
        number = _number(fd)
        self._to_write[number] = fd, callback, args
        super().add_writer(fd, self._happened, number, callback, args)

    def remove_writer(self, fd: Any) -> Any:
        """Call back no more (`asyncio.loop.remove_writer`)."""
        self._to_write.pop(_number(fd), None)
        return super().remove_writer(fd)

    def _happened(self, number: int, callback: Callable[..., object], args: Any) -> None:
        try:
            callback(*args)
        finally:
            if (number in self._to_read or number in self._to_write) and _has_error(number):
                self._renew(number)

    def _renew(self, number: int) -> None:
        """Watch anew, and at once: there may be no chance before the next watch is asked for."""
        reader, writer = self._to_read.get(number), self._to_write.get(number)
        if reader is not None:
            self.remove_reader(reader[0])
        if writer is not None:
            self.remove_writer(writer[0])
        if reader is not None:
            self.add_reader(reader[0], reader[1], *reader[2])
        if writer is not None:
            self.add_writer(writer[0], writer[1], *writer[2])


def _number(fd: Any) -> int:
    return fd if isinstance(fd, int) else int(fd.fileno())


def _has_error(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)  # errors are always told
    return any(event & select.POLLERR for _, event in poll.poll(0))
