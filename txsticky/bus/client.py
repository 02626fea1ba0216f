"""The client of the bus in a worker: what its application publishes and subscribes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from ..core.messages.frames import TOPIC_LIMIT, Frame
from ..core.messages.from_worker import Publish, Subscribe, Unsubscribe
from ..errors import BusOverrun, ChannelFull, MessageTooLarge, TooManyTopics

log = Logger()

#: How many topics a worker may listen to, and how many bytes their names may have together.
TOPICS = 100_000
TOPICS_SIZE = 16_000_000

Subscriber = Callable[[bytes], object]
Lost = Callable[[int], object]


class ToPrimary(Protocol):
    """What leads to the primary (`ipc.channel.Channel`)."""

    @property
    def waiting(self) -> int:
        """Bytes that wait here for a slow reader."""

    @property
    def behind(self) -> bool:
        """Whether the reader is so slow that nothing that may be dropped should be sent to it."""

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing more is to be added."""

    def send(self, frame: Frame) -> None:
        """Send one frame."""


class BusClient:
    """
    Publishes, and calls subscribers.

    :param channel: leads to the primary, where the hub is.
    :param limit: the longest message with its topic, in bytes.
    """

    def __init__(self, channel: ToPrimary, limit: int) -> None:
        self._channel = channel
        self._limit = limit
        self._subscriptions: dict[str, dict[object, tuple[Subscriber, Lost | None]]] = {}
        self._names = 0  # bytes of the topics

    def publish(self, topic: str, message: bytes) -> None:
        """
        Send `message` to every subscriber of `topic` in every worker, this one included.

        :raises MessageTooLarge: topic and message together are longer than the limit.
        :raises BusOverrun: the primary is behind; nothing was sent.
        """
        name = _name_of(topic)
        if len(name) + len(message) > self._limit:
            raise MessageTooLarge(size=len(message), limit=self._limit)
        channel = self._channel
        if channel.behind:
            raise BusOverrun(waiting=channel.waiting)
        channel.send(Publish(name, message))

    def subscribe(
        self, topic: str, callback: Subscriber, lost: Lost | None = None
    ) -> Callable[[], None]:
        """
        Call `callback(message)` for each message published to `topic` from now on.

        :param lost: called with the number of messages that did not reach this worker.
        :returns: a function that ends the subscription.
        :raises TooManyTopics: there are `TOPICS` already, or their names would be longer than
            `TOPICS_SIZE` together.
        :raises ChannelFull: the primary does not read what this worker tells it.
        """
        name = _name_of(topic)
        if topic not in self._subscriptions:
            self._listen(topic, name)
        subscriptions = self._subscriptions[topic]
        mine = object()
        subscriptions[mine] = (callback, lost)

        def unsubscribe() -> None:
            if subscriptions.pop(mine, None) and not subscriptions:
                del self._subscriptions[topic]
                self._names -= len(name)
                self._channel.send(Unsubscribe(name))

        return unsubscribe

    def _listen(self, topic: str, name: bytes) -> None:
        channel = self._channel
        if len(self._subscriptions) >= TOPICS or self._names + len(name) > TOPICS_SIZE:
            raise TooManyTopics(count=TOPICS, size=TOPICS_SIZE)
        if channel.full:
            raise ChannelFull(waiting=channel.waiting)
        self._subscriptions[topic] = {}
        self._names += len(name)
        channel.send(Subscribe(name))

    def message(self, name: bytes, message: bytes) -> None:
        """Give a message of the topic `name` to its subscribers."""
        topic = name.decode()
        subscriptions = self._subscriptions.get(topic, {})
        for mine in list(subscriptions):
            if mine in subscriptions:  # else the callback of another subscription has ended it
                _call(topic, subscriptions[mine][0], message)

    def lost(self, topic: str, count: int) -> None:
        """Tell the subscribers of a topic how many messages have not reached this worker."""
        for _, lost in list(self._subscriptions.get(topic, {}).values()):
            if lost is not None:
                _call(topic, lost, count)


def _call(topic: str, callback: Callable[[Any], object], argument: object) -> None:
    try:
        callback(argument)
    except Exception:
        log.failure("A subscriber of {topic} failed.", topic=topic)


def _name_of(topic: str) -> bytes:
    """
    Encode a topic.

    :raises ValueError: it is longer than `TOPIC_LIMIT`.
    """
    name = topic.encode()
    if len(name) > TOPIC_LIMIT:
        raise ValueError(f"A topic of {len(name)} bytes is too long: it may have {TOPIC_LIMIT}.")
    return name
