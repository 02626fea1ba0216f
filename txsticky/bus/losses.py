"""Messages that did not leave their machine, counted until the other machines can be told."""

from __future__ import annotations

import json
from typing import Final, Self

import attrs

from .backplane import Shore

#: Topics that are counted one by one, and the bytes of their names together; of what is lost of
#: further ones, the other machines are told the time alone.
TOPICS: Final = 1000
ROOM: Final = 1 << 18


@attrs.frozen
class Notice:
    """
    What one machine tells the others of its losses.

    :param since: when the first message was lost, in seconds since the epoch; `until` the last.
    :param lost: how many of each topic.
    :param others: whether messages of further topics were lost.
    """

    since: float
    until: float
    lost: dict[bytes, int]
    others: bool = False

    def to_json(self) -> str:
        """The notice as JSON. A topic is UTF-8, or escaped where it is not."""
        named = {topic.decode(errors="surrogateescape"): n for topic, n in self.lost.items()}
        return json.dumps([self.since, self.until, named, self.others])

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """
        Undo `to_json`.

        :raises ValueError: it is no notice.
        """
        try:
            since, until, named, others = json.loads(text)
            lost = {
                topic.encode(errors="surrogateescape"): int(count) for topic, count in named.items()
            }
            return cls(float(since), float(until), lost, bool(others))
        except (TypeError, AttributeError) as error:
            raise ValueError(f"no notice of losses: {error}") from None

    def tell(self, shore: Shore) -> None:
        """Tell the hub of another machine."""
        for topic, count in self.lost.items():
            shore.missed(topic, count)
        if self.others:
            shore.gap(self.since, self.until)


class Losses:
    """Counts what is lost, of each topic."""

    def __init__(self) -> None:
        self._lost: dict[bytes, int] = {}
        self._room = ROOM
        self._others = False
        self._since = self._until = 0.0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self._lost or self._others)

    def add(self, topic: bytes, now: float, count: int = 1) -> None:
        """Count messages of a topic, lost at the time `now`."""
        if self.empty:
            self._since = now
        self._until = now
        if topic not in self._lost:
            if len(self._lost) >= TOPICS or len(topic) > self._room:
                self._others = True
                return
            self._room -= len(topic)
        self._lost[topic] = self._lost.get(topic, 0) + count

    def look(self) -> Notice:
        """What there is to tell."""
        return Notice(self._since, self._until, self._lost, self._others)

    def take(self) -> Notice:
        """What there is to tell; from here on nothing is."""
        notice = self.look()
        self._lost, self._others, self._room = {}, False, ROOM
        return notice

    def put_back(self, notice: Notice) -> None:
        """Count again what could not be told."""
        until = notice.until if self.empty else self._until
        for topic, count in notice.lost.items():
            self.add(topic, until, count)
        self._others = self._others or notice.others
        self._since, self._until = notice.since, until
