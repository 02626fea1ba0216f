"""What the hub has sent to a worker since its drain began, for those who go on in its place."""

from __future__ import annotations

import collections
from typing import Final

#: Messages that are remembered for one worker that leaves, and the bytes of these.
MOST: Final = 10_000
ROOM: Final = 4 << 20
#: Seconds for which the topics of a worker that has left are remembered: a WebSocket may be on its
#: way, and its application may take a moment to subscribe.
HANDOVER: Final = 5.0


class Backlog:
    """
    The last messages that were sent to one worker, in their order.

    The worker counts what it is given, and a WebSocket that leaves takes the count along. What
    follows in here is what the WebSocket has not been told.

    :param lost: messages that the worker has lost before and not been told of: it will count them.
    """

    def __init__(self, lost: int = 0) -> None:
        self._messages: collections.deque[tuple[bytes, bytes]] = collections.deque()
        self._dropped = lost
        self._size = 0
        self._gap = -1  # before which message one from another machine was last missing

    def gap(self) -> None:
        """Remember that messages of other machines may be missing here."""
        self._gap = self._dropped + len(self._messages)

    def add(self, topic: bytes, message: bytes) -> None:
        """Remember a message; the oldest are dropped if there is no room."""
        messages = self._messages
        messages.append((topic, message))
        self._size += len(message)
        while len(messages) > MOST or self._size > ROOM:
            self._size -= len(messages.popleft()[1])
            self._dropped += 1

    def since(self, given: int, topic: bytes) -> tuple[list[bytes], int]:
        """
        What a worker was sent of a topic behind the first `given` messages of all topics.

        :returns: the messages, and how many of whatever topics are not among them: those that are
            no longer here, and one for what may be missing of other machines.
        """
        begin = max(0, given - self._dropped)
        found = [
            message
            for number, (name, message) in enumerate(self._messages)
            if number >= begin and name == topic
        ]
        return found, max(0, self._dropped - given) + int(self._gap >= given)
