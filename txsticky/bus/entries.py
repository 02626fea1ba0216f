"""
What an entry of the stream says, and what of it is new to a reader.

An entry has what one machine had to say at one moment. Its first field is the machine's mark, with
a header in JSON as the value; each further field is a topic, with a message as the value. Entries
of one machine are numbered, because one whose answer was lost is written again: a reader drops what
it has seen. A number of 0 is never dropped: such entries are written once.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from .losses import Notice

#: Machines whose last number is remembered.
MACHINES: Final = 1000

Message = tuple[bytes, bytes]


@attrs.frozen
class Entry:
    """
    What one machine had to say at one moment.

    :param messages: each as (topic, message).
    :param notice: what the machine has lost before these messages, if anything.
    """

    messages: tuple[Message, ...] = ()
    notice: Notice | None = None

    def fields(self, mark: bytes, number: int) -> list[bytes]:
        """
        Write the entry, as XADD takes it.

        :param mark: tells one machine's entries from another's.
        :param number: 1 for the first one; 0 for an entry that is not written again.
        """
        header: dict[str, Any] = {"number": number}
        if self.notice is not None:
            header["lost"] = self.notice.to_json()
        parts = [mark, json.dumps(header).encode()]
        for message in self.messages:
            parts += message
        return parts


def later(one: bytes, other: bytes) -> bool:
    """Tell whether the id `one` of an entry comes after `other`; ids are ``MS-NUMBER``."""
    first, second = (tuple(map(int, id.split(b"-"))) for id in (one, other))
    return first > second


class Reading:
    """
    Reads the entries of other machines.

    :param mark: this machine's; its own entries are nothing new to it.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._numbers: collections.OrderedDict[bytes, int] = collections.OrderedDict()

    def read(self, fields: Sequence[bytes]) -> Entry | None:
        """
        Read an entry.

        :returns: None if it is this machine's own, was read before, or is of another program.
        """
        if len(fields) < 2 or fields[0] == self._mark:
            return None
        try:
            header = json.loads(fields[1])
            number = int(header["number"])
            notice = Notice.from_json(header["lost"]) if "lost" in header else None
        except (ValueError, TypeError, KeyError):
            return None
        if number and not self._new(fields[0], number):
            return None
        return Entry(tuple(_pairs(fields[2:])), notice)

    def _new(self, mark: bytes, number: int) -> bool:
        numbers = self._numbers
        if number <= numbers.get(mark, 0):
            return False
        numbers[mark] = number
        numbers.move_to_end(mark)
        if len(numbers) > MACHINES:
            numbers.popitem(last=False)
        return True


def _pairs(fields: Sequence[bytes]) -> Iterable[Message]:
    return zip(fields[::2], fields[1::2], strict=False)
