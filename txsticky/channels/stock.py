"""What a channel layer keeps: messages that wait in channels, and the groups of channels."""

from __future__ import annotations

from collections import deque


class Stock:
    """
    The messages and the groups of one layer; times are seconds of any one clock.

    :param group_expiry: seconds after which a channel leaves a group that it was added to.
    """

    def __init__(self, group_expiry: float) -> None:
        self._group_expiry = group_expiry
        self._channels: dict[str, deque[tuple[float, bytes]]] = {}
        self._groups: dict[str, dict[str, float]] = {}

    def put(self, channel: str, data: bytes, until: float, capacity: int, now: float) -> bool:
        """
        Add a message.

        :param until: when it expires.
        :param capacity: how many messages may wait in the channel.
        :returns: False, with nothing done, if the channel is full.
        """
        self._expire(channel, now)
        waiting = self._channels.setdefault(channel, deque())
        if len(waiting) >= capacity:
            return False
        waiting.append((until, data))
        return True

    def take(self, channel: str, now: float) -> tuple[float, bytes] | None:
        """Take the first message out of a channel, with the time when it expires."""
        self._expire(channel, now)
        waiting = self._channels.get(channel)
        if waiting is None:
            return None
        found = waiting.popleft()
        if not waiting:
            del self._channels[channel]
        return found

    def holds(self, channel: str) -> bool:
        """Whether messages wait in a channel."""
        return channel in self._channels

    def _expire(self, channel: str, now: float) -> None:
        """Drop the messages that have expired: their channel is not read, and leaves its groups."""
        waiting = self._channels.get(channel)
        if waiting is None or waiting[0][0] > now:
            return
        while waiting and waiting[0][0] <= now:
            waiting.popleft()
        if not waiting:
            del self._channels[channel]
        for group in list(self._groups):
            self.discard(group, channel)

    # -------------------------------------------------------------------- groups

    def add(self, group: str, channel: str, now: float) -> None:
        """Add a channel to a group."""
        self._groups.setdefault(group, {})[channel] = now + self._group_expiry

    def discard(self, group: str, channel: str) -> bool:
        """
        Take a channel out of a group.

        :returns: whether that was the last one here.
        """
        members = self._groups.get(group)
        if members is None or members.pop(channel, None) is None or members:
            return False
        del self._groups[group]
        return True

    def members(self, group: str, now: float) -> list[str]:
        """The channels that are in a group."""
        for channel, until in list(self._groups.get(group, {}).items()):
            if until <= now:
                self.discard(group, channel)
        for channel in list(self._groups.get(group, {})):
            self._expire(channel, now)
        return list(self._groups.get(group, ()))

    def clear(self) -> None:
        """Drop everything."""
        self._channels.clear()
        self._groups.clear()
