"""Messages that wait to be written to the stream, a batch at a time."""

from __future__ import annotations

import base64
import collections
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .entries import Entry, Message
from .losses import Losses, Notice

#: Bytes of messages that may wait; beyond, messages are dropped.
LIMIT: Final = 16 << 20
#: What a message that waits costs beside its text, in bytes.
COST: Final = 1024
#: Messages of one entry, and bytes beyond which no further one is added to it.
MOST: Final = 64
ROOM: Final = 1 << 20


class Unwritten:
    """
    Puts messages together to entries, in their order, and keeps each until it is written.

    What is dropped for want of room is told in the order as well: a notice stands in the place of
    the messages.

    :ivar number: of the entry that is to be written, or was last.
    """

    def __init__(self) -> None:
        self._waiting: collections.deque[Message | Notice] = collections.deque()
        self._size = 0
        self._losses = Losses()
        self._entry: Entry | None = None
        self.number = 0

    def add(self, topic: bytes, message: bytes, now: float) -> bool:
        """
        Have a message written.

        :param now: seconds since the epoch.
        :returns: False if there is no room: it is lost.
        """
        size = _size([(topic, message)])
        if self._size + size > LIMIT and self._size:
            self._losses.add(topic, now)
            return False
        if not self._losses.empty:
            self._waiting.append(self._losses.take())
        self._waiting.append((topic, message))
        self._size += size
        return True

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return self._entry is None and not self._waiting and self._losses.empty

    @property
    def relaxed(self) -> bool:
        """Whether so little waits that the next messages will find room."""
        return self._size <= LIMIT // 2

    def entry(self) -> Entry:
        """Make the entry that is to be written; the same one until it is `written`."""
        if self._entry is None:
            self._entry = self._next()
            self.number += 1
        return self._entry

    def _next(self) -> Entry:
        notice = None
        messages: list[Message] = []
        room = ROOM
        while self._waiting and len(messages) < MOST and room > 0:
            first = self._waiting[0]
            if isinstance(first, Notice):
                if notice is not None or messages:
                    break
                notice = first
            else:
                messages.append(first)
                room -= len(first[0]) + len(first[1])
            self._waiting.popleft()
        if not (messages or notice):
            notice = self._losses.take()
        return Entry(tuple(messages), notice)

    def written(self) -> None:
        """Go on to the next entry: Redis has this one."""
        assert self._entry is not None
        self._size -= _size(self._entry.messages)
        self._entry = None

    def snapshot(self) -> dict[str, Any]:
        """What is not written, and the number of the entry that may be, as JSON values."""
        entry = self._entry
        begun = None if entry is None else [_pack(m) for m in _of(entry)]
        return {
            "number": self.number,
            "entry": begun,
            "waiting": [_pack(message) for message in self._waiting],
            "lost": None if self._losses.empty else self._losses.look().to_json(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with what another program had not written (`snapshot`)."""
        self.number = state["number"]
        if state["entry"] is not None:
            parts = [_unpack(text) for text in state["entry"]]
            messages = tuple(part for part in parts if not isinstance(part, Notice))
            notices = [part for part in parts if isinstance(part, Notice)]
            self._entry = Entry(messages, *notices)
            self._size += _size(messages)
        self._waiting.extend(map(_unpack, state["waiting"]))
        self._size += _size(part for part in self._waiting if not isinstance(part, Notice))
        if state["lost"] is not None:
            self._losses.put_back(Notice.from_json(state["lost"].encode()))


def _size(messages: Iterable[Message]) -> int:
    return sum(len(topic) + len(text) + COST for topic, text in messages)


def _of(entry: Entry) -> Iterable[Message | Notice]:
    if entry.notice is not None:
        yield entry.notice
    yield from entry.messages


def _pack(part: Message | Notice) -> Any:
    if isinstance(part, Notice):
        return part.to_json()
    return [base64.b64encode(text).decode() for text in part]


def _unpack(part: Any) -> Message | Notice:
    if isinstance(part, str):
        return Notice.from_json(part.encode())
    topic, message = map(base64.b64decode, part)
    return topic, message
