"""The client of the bus in a worker: what its application publishes and subscribes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.logger import Logger

from ..core.messages.frames import TOPIC_LIMIT, Frame
from ..core.messages.from_primary import CaughtUp, Gap, Message, Missed, Outage
from ..core.messages.from_primary import Lost as LostMessages
from ..core.messages.from_worker import Follow, Publish, Subscribe, Unsubscribe
from ..errors import BusOverrun, ChannelFull, MessageTooLarge, TooManyTopics

log = Logger()

#: How many topics a worker may listen to, and how many bytes their names may have together.
TOPICS = 100_000
TOPICS_SIZE = 16_000_000

Subscriber = Callable[[bytes], object]
Lost = Callable[[int], object]
Missing = Callable[[float, float], object]


@attrs.define(eq=False)
class _Subscription:
    """
    What an application does with the messages of a topic.

    :ivar pending: whether messages that another worker had not been given come first.
    """

    topic: str
    callback: Subscriber
    lost: Lost | None
    gap: Missing | None
    pending: bool


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
    :ivar given: how many messages the hub has sent here since `drain`, or lost on the way.
    :ivar outage: the time since which messages do not leave this machine, in seconds since the
        epoch; None: they do.
    """

    def __init__(self, channel: ToPrimary, limit: int) -> None:
        self._channel = channel
        self._limit = limit
        self._subscriptions: dict[str, dict[_Subscription, None]] = {}
        self._pending: dict[int, _Subscription] = {}
        self._tickets = 0
        self._leaves = False
        self._names = 0  # bytes of the topics
        self.given = 0
        self.outage: float | None = None

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
        self,
        topic: str,
        callback: Subscriber,
        lost: Lost | None = None,
        behind: tuple[int, int] | None = None,
        gap: Missing | None = None,
    ) -> Callable[[], None]:
        """
        Call `callback(message)` for each message published to `topic` from now on.

        :param lost: called with the number of messages that did not reach this worker.
        :param behind: a worker's id, and how many messages it was given since its drain began: what
            it was not given comes first.
        :param gap: called with two times between which messages of other machines may be missing.
        :returns: a function that ends the subscription.
        :raises TooManyTopics: there are `TOPICS` already, or their names would be longer than
            `TOPICS_SIZE` together.
        :raises ChannelFull: the primary does not read what this worker tells it.
        """
        name = _name_of(topic)
        mine = _Subscription(topic, callback, lost, gap, pending=behind is not None)
        if topic not in self._subscriptions:
            self._listen(topic, name, mine.pending)
        subscriptions = self._subscriptions[topic]
        subscriptions[mine] = None
        if behind is not None:
            self._tickets += 1
            self._pending[self._tickets] = mine
            self._channel.send(Follow(topic, self._tickets, *behind))

        def unsubscribe() -> None:
            if mine in subscriptions:
                del subscriptions[mine]
                if not (subscriptions or self._leaves):
                    del self._subscriptions[topic]
                    self._names -= len(name)
                    self._channel.send(Unsubscribe(name))

        return unsubscribe

    def drain(self) -> None:
        """
        Count what is given from now on, and stay subscribed to all topics: this worker leaves.

        The hub remembers what of them it sends, for those who go on.
        """
        if not self._leaves:  # it may be told to hurry later
            self._leaves = True
            self.given = 0

    @property
    def pending(self) -> bool:
        """Whether messages that another worker had not been given are still to come."""
        return bool(self._pending)

    def _listen(self, topic: str, name: bytes, follows: bool) -> None:
        channel = self._channel
        if len(self._subscriptions) >= TOPICS or self._names + len(name) > TOPICS_SIZE:
            raise TooManyTopics(count=TOPICS, size=TOPICS_SIZE)
        if channel.full:
            raise ChannelFull(waiting=channel.waiting)
        self._subscriptions[topic] = {}
        self._names += len(name)
        if not follows:
            channel.send(Subscribe(name))

    def heard(self, frame: Message | Missed | CaughtUp | LostMessages | Outage | Gap) -> None:
        """Take in what the hub says."""
        match frame:
            case Message(topic, message):
                self.message(topic, message)
            case Missed(ticket, message):
                self.missed(ticket, message)
            case CaughtUp(ticket, lost):
                self.caught_up(ticket, lost)
            case LostMessages(name, count, elsewhere):
                self.lost(name, count, elsewhere)
            case Outage(since):
                self.outage = since or None
            case Gap(since, until):
                self.missing(since, until)

    def message(self, name: bytes, message: bytes) -> None:
        """Give a message of the topic `name` to its subscribers."""
        self.given += 1
        topic = name.decode()
        subscriptions = self._subscriptions.get(topic, {})
        for each in list(subscriptions):
            # If it is there no more, the callback of another subscription has ended it.
            if each in subscriptions and not each.pending:
                _call(topic, each.callback, message)

    def lost(self, topic: str, count: int, elsewhere: bool = False) -> None:
        """
        Tell the subscribers of a topic how many messages have not reached this worker.

        :param elsewhere: whether they did not leave another machine.
        """
        if not elsewhere:
            self.given += count
        for each in list(self._subscriptions.get(topic, {})):
            if each.lost is not None and not each.pending:
                _call(topic, each.lost, count)

    def missing(self, since: float, until: float) -> None:
        """Tell all subscribers from when to when messages of other machines may be missing."""
        for each in [each for those in self._subscriptions.values() for each in those]:
            if each.gap is not None and each in self._subscriptions.get(each.topic, {}):
                _call(each.topic, each.gap, since, until)

    def missed(self, ticket: int, message: bytes) -> None:
        """Give a message to the subscription that another worker had not been given."""
        each = self._pending.get(ticket)
        if each is not None and each in self._subscriptions.get(each.topic, {}):
            _call(each.topic, each.callback, message)

    def caught_up(self, ticket: int, lost: int) -> None:
        """
        Give a subscription what is published from now on.

        :param lost: how many messages before are not remembered.
        """
        each = self._pending.pop(ticket, None)
        if each is not None:
            each.pending = False
            if lost and each.lost is not None:
                _call(each.topic, each.lost, lost)


def _call(topic: str, callback: Callable[..., object], *arguments: object) -> None:
    try:
        callback(*arguments)
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
