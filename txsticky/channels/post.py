"""
The post office of one layer: its channels and groups, and what it tells the others over the bus.

A channel with a ``!`` belongs to the layer whose name stands before it: messages go to the topic
that this layer alone listens to. What is sent to any other channel waits where it was sent. Layers
that hold some listen to the topic ``have``, and those that wait for some to ``want``, each of that
channel; the layer that comes later says so on the other topic, and is heard, for the bus has one
order. A group is a topic to which each layer listens that has a channel in the group.

All methods are called in one thread, that of the bus.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgpack
from twisted.logger import Logger

from ..errors import BusOverrun
from .stock import Stock

log = Logger()

#: The characters of a layer's name.
NAME: Final = 32

Wake = Callable[[], object]


def owner_of(channel: str) -> str:
    """Return the name of the layer that a channel belongs to; empty if it belongs to none."""
    before, mark, _ = channel.partition("!")
    name = before[-NAME:]
    return name if mark and len(name) == NAME and set(name) <= set("0123456789abcdef") else ""


def topic_of(prefix: str, *parts: str) -> str:
    """Return a topic of the bus."""
    return ":".join((prefix, *parts))


class PostOffice:
    """
    The channels and groups of one layer.

    :param name: the layer's own, of `NAME` hexadecimal digits.
    :param prefix: begins all topics.
    :param stock: keeps messages and groups, empty.
    :param publish: sends to a topic of the bus.
    :param subscribe: listens to a topic; returns what ends that.
    :param clock: seconds.
    :param capacity: says how many messages may wait in a channel.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        stock: Stock,
        publish: Callable[[str, bytes], object],
        subscribe: Callable[[str, Callable[[bytes], object]], Callable[[], object]],
        clock: Callable[[], float],
        capacity: Callable[[str], int],
    ) -> None:
        self._name = name
        self._prefix = prefix
        self._stock = stock
        self._publish = publish
        self._subscribe = subscribe
        self._clock = clock
        self._capacity = capacity
        self._waiting: dict[str, deque[Wake]] = {}
        self._ends: dict[str, Callable[[], object]] = {}
        self._echoes: deque[Wake] = deque()
        self._dropped = False
        self._listen(topic_of(prefix, "layer", name), self._mail)
        self._listen(topic_of(prefix, "flush"), lambda _: self._clear())

    # ---------------------------------------------------------------------- messages

    def send(self, channel: str, packed: bytes, expiry: float) -> bool:
        """
        Send a message to a channel.

        :param expiry: in how many seconds it expires.
        :returns: False, with nothing done, if this layer knows that the channel is full.
        """
        owner = owner_of(channel)
        if owner and owner != self._name:
            self._tell(("layer", owner), ["put", channel, packed, expiry])
            return True
        return self._put(channel, packed, expiry)

    def take(self, channel: str, wake: Wake) -> bytes | None:
        """
        Take the first message of a channel.

        :param wake: called once, when it is worth to try again, if there is none now.
        """
        found = self._stock.take(channel, self._clock())
        if found is None:
            self._waiting.setdefault(channel, deque()).append(wake)
            if not owner_of(channel):
                self._listen(self._of("want", channel), lambda other: self._offered(channel, other))
                self._tell(("have", channel), self._name)
            return None
        self._tidy(channel)
        return found[1]

    def forget(self, channel: str, wake: Wake) -> None:
        """Take note that what gave `wake` waits no more, whether or not that was called."""
        waiting = self._waiting.get(channel, deque())
        if wake in waiting:
            waiting.remove(wake)
        elif waiting and self._stock.holds(channel):
            waiting.popleft()()  # the message that it was woken for is for another one
        self._tidy(channel)
        self._offer(channel)

    def _put(self, channel: str, packed: bytes, expiry: float) -> bool:
        now = self._clock()
        if not self._stock.put(channel, packed, now + expiry, self._capacity(channel), now):
            return False
        if self._waiting.get(channel):
            self._waiting[channel].popleft()()
        else:
            self._offer(channel)
        return True

    def _offer(self, channel: str) -> None:
        """Let the others know that messages wait here that any of them may have."""
        if self._stock.holds(channel) and not owner_of(channel) and not self._waiting.get(channel):
            self._listen(self._of("have", channel), lambda other: self._wanted(channel, other))
            self._tell(("want", channel), self._name)

    def _offered(self, channel: str, other: str) -> None:
        if other != self._name and self._waiting.get(channel):
            self._tell(("have", channel), self._name)

    def _wanted(self, channel: str, other: str) -> None:
        if other == self._name:
            return
        now = self._clock()
        found = self._stock.take(channel, now)
        if found is not None:
            until, packed = found
            self._tell(("layer", other), ["put", channel, packed, until - now])
        self._tidy(channel)

    def _tidy(self, channel: str) -> None:
        """Listen no more to what is no more of use."""
        if not self._waiting.get(channel):
            self._waiting.pop(channel, None)
            self._end(self._of("want", channel))
        if not self._stock.holds(channel):
            self._end(self._of("have", channel))

    # ------------------------------------------------------------------------ groups

    def add(self, group: str, channel: str) -> None:
        """Add a channel to a group."""
        owner = owner_of(channel)
        if owner and owner != self._name:
            self._tell(("layer", owner), ["add", group, channel])
            return
        self._stock.add(group, channel, self._clock())
        self._listen(self._of("group", group), lambda told: self._to_group(group, *told))

    def discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""
        owner = owner_of(channel)
        if owner and owner != self._name:
            self._tell(("layer", owner), ["discard", group, channel])
        elif self._stock.discard(group, channel):
            self._end(self._of("group", group))

    def group_send(self, group: str, packed: bytes, expiry: float) -> None:
        """Send a message to all channels of a group, in every layer."""
        self._tell(("group", group), [packed, expiry])

    def _to_group(self, group: str, packed: bytes, expiry: float) -> None:
        members = self._stock.members(group, self._clock())
        for channel in members:
            self._put(channel, packed, expiry)  # a full channel does not get it (specification)
        if not members:
            self._end(self._of("group", group))

    # ------------------------------------------------------------------- all of them

    def flush(self) -> None:
        """Drop all messages and groups, in every layer."""
        self._tell(("flush",), None)

    def when_settled(self, wake: Wake) -> None:
        """Call `wake` when all that was told so far has been taken in by the bus."""
        self._echoes.append(wake)
        self._tell(("layer", self._name), ["echo"])

    def close(self) -> None:
        """Listen no more."""
        for topic in list(self._ends):
            self._end(topic)

    def _clear(self) -> None:
        self._stock.clear()
        for topic in list(self._ends):
            if topic.startswith((self._of("group", ""), self._of("have", ""))):
                self._end(topic)

    # ----------------------------------------------------------------------- the bus

    def _mail(self, told: list[Any]) -> None:
        match told:
            case ["put", channel, packed, expiry]:
                if not self._put(channel, packed, expiry) and not self._dropped:
                    self._dropped = True
                    log.warn(
                        "The channel {channel} is full: messages of other workers to it are"
                        " dropped. Further ones are not logged.",
                        channel=channel,
                    )
            case ["add", group, channel]:
                self.add(group, channel)
            case ["discard", group, channel]:
                self.discard(group, channel)
            case ["echo"]:
                self._echoes.popleft()()

    def _of(self, *parts: str) -> str:
        return topic_of(self._prefix, *parts)

    def _tell(self, topic: tuple[str, ...], told: object) -> None:
        self._publish(self._of(*topic), msgpack.packb(told))

    def _listen(self, topic: str, heard: Callable[[Any], object]) -> None:
        if topic not in self._ends:
            self._ends[topic] = self._subscribe(topic, lambda data: self._hear(heard, data))

    def _hear(self, heard: Callable[[Any], object], data: bytes) -> None:
        try:
            heard(msgpack.unpackb(data))
        except BusOverrun as error:
            log.warn("A message between channel layers is lost: {error}", error=error)

    def _end(self, topic: str) -> None:
        end = self._ends.pop(topic, None)
        if end is not None:
            end()
