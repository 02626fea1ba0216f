"""An event loop of uvloop whose watches on descriptors outlive an error."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import uvloop

#: What a descriptor is watched for: (descriptor, callback, its arguments).
_Watch = tuple[Any, Callable[..., object], tuple[Any, ...]]


class Loop(uvloop.Loop):
    """
    An event loop of uvloop for Twisted's reactor.

    libuv reports an error on a descriptor, such as a reset, once: uvloop calls back once more,
    closes its own watch, and the next watch on the descriptor raises RuntimeError. But data may
    stand before a reset. Twisted reads a part of it at a time, and would wait for the rest, and for
    the end, for ever. This loop watches a descriptor with an error anew until the watch is removed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._to_read: dict[int, _Watch] = {}
        self._to_write: dict[int, _Watch] = {}

    def add_reader(  # type: ignore[override]
        self, fd: Any, callback: Callable[..., object], *args: Any
    ) -> None:
        """Call back whenever there are bytes to read (`asyncio.loop.add_reader`)."""
        number = _number(fd)
        self._to_read[number] = fd, callback, args
        super().add_reader(fd, self._happened, number, callback, args)

    def remove_reader(self, fd: Any) -> Any:
        """Stop to call back (`asyncio.loop.remove_reader`)."""
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
        """Stop to call back (`asyncio.loop.remove_writer`)."""
        self._to_write.pop(_number(fd), None)
        return super().remove_writer(fd)

    def _happened(self, number: int, callback: Callable[..., object], args: Any) -> None:
        try:
            callback(*args)
        finally:
            if (number in self._to_read or number in self._to_write) and _has_error(number):
                self._renew(number)

    def _renew(self, number: int) -> None:
        """Watch anew at once: the next watch may be asked for before the loop runs again."""
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
    poll.register(descriptor, 0)  # errors are always reported
    return any(event & select.POLLERR for _, event in poll.poll(0))
