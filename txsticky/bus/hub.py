"""
The primary's part of the bus: which worker listens to what, and what each of them has missed.

A worker publishes over its channel (`api`), the primary passes the message on to the channels of
the workers that subscribed, the publisher's own included, and, when it has one, to the relay to
other machines.  The primary sees all messages in one order, so that every worker of it sees those
of one publisher in theirs.

What a worker does not read waits in the primary, up to a bound; beyond it the worker loses
messages, and is told how many of which topic before it gets the next one.  So a slow worker grows
nobody but itself.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ..core.messages.frames import Frame, encode
from ..core.messages.from_primary import Lost, Message
from ..core.redis_url import parse_bus
from ..errors import ConfigError

log = Logger()


class Outlet(Protocol):
    """What leads to a worker: `channel.Channel`."""

    @property
    def behind(self) -> bool:
        """Whether it takes nothing that may be dropped."""

    def write(self, data: bytes) -> None:
        """Send frames."""

    def send(self, frame: Frame) -> None:
        """Send one frame."""


class Relay(Protocol):
    """
    What leads to other machines: `relay.RedisRelay`.

    :ivar lost: messages that could not be passed on.
    """

    lost: int

    def start(self) -> None:
        """Connect."""

    def stop(self) -> Deferred[Any]:
        """Disconnect."""

    def publish(self, topic: bytes, message: bytes) -> None:
        """Pass a message of this machine on."""

    def subscribe(self, topic: bytes) -> None:
        """Somebody here listens to the topic now."""

    def unsubscribe(self, topic: bytes) -> None:
        """Nobody here does any longer."""


@attrs.define
class _Member:
    """A worker that has subscribed to something."""

    name: str
    outlet: Outlet
    topics: set[bytes] = attrs.Factory(set)
    #: How many messages of each topic it has missed and not been told of.
    missed: dict[bytes, int] = attrs.Factory(dict)
    complained: bool = False


class Bus:
    """
    Who listens to what.

    :ivar relay: the way to other machines, if there is one; set before anybody subscribes.
    :ivar published: messages that workers of this machine have published.
    :ivar delivered: copies that were sent to workers.
    :ivar lost: copies that were not, because their worker was behind.
    """

    def __init__(self) -> None:
        self.relay: Relay | None = None
        self.published = 0
        self.delivered = 0
        self.lost = 0
        self._members: dict[int, _Member] = {}
        self._topics: dict[bytes, dict[int, _Member]] = {}

    def start(self) -> None:
        """Connect with other machines."""
        if self.relay is not None:
            self.relay.start()

    def stop(self) -> Deferred[Any]:
        """Part from them; fires when that is done."""
        return succeed(None) if self.relay is None else self.relay.stop()

    def subscribe(self, id: int, name: str, outlet: Outlet, topic: bytes) -> None:
        """
        A worker listens to a topic from now on.

        :param id: the worker's.
        :param name: what the log calls it.
        :param outlet: its channel.
        """
        member = self._members.get(id)
        if member is None:
            member = self._members[id] = _Member(name, outlet)
        member.topics.add(topic)
        listeners = self._topics.setdefault(topic, {})
        if not listeners and self.relay is not None:
            self.relay.subscribe(topic)
        listeners[id] = member

    def unsubscribe(self, id: int, topic: bytes) -> None:
        """It no longer does."""
        member = self._members.get(id)
        if member is None or topic not in member.topics:
            return
        member.topics.remove(topic)
        member.missed.pop(topic, None)
        if not member.topics:
            del self._members[id]
        listeners = self._topics[topic]
        del listeners[id]
        if not listeners:
            del self._topics[topic]
            if self.relay is not None:
                self.relay.unsubscribe(topic)

    def forget(self, id: int) -> None:
        """The worker is gone, or leaving: it listens to nothing."""
        member = self._members.get(id)
        for topic in list(member.topics) if member is not None else ():
            self.unsubscribe(id, topic)

    def subscriptions(self) -> list[tuple[int, bytes]]:
        """Who listens to what: (worker's id, topic)."""
        return [(id, topic) for id, member in self._members.items() for topic in member.topics]

    def publish(self, topic: bytes, message: bytes) -> None:
        """A worker publishes."""
        self.published += 1
        if self.relay is not None:
            self.relay.publish(topic, message)
        self._deliver(topic, message)

    def arrived(self, topic: bytes, message: bytes) -> None:
        """A message has come from another machine."""
        self._deliver(topic, message)

    def _deliver(self, topic: bytes, message: bytes) -> None:
        listeners = self._topics.get(topic)
        if not listeners:
            return
        frame = encode(Message(topic, message))
        for member in listeners.values():
            if member.outlet.behind:
                self._miss(member, topic)
            else:
                self._tell(member)
                member.outlet.write(frame)
                self.delivered += 1

    def _miss(self, member: _Member, topic: bytes) -> None:
        self.lost += 1
        member.missed[topic] = member.missed.get(topic, 0) + 1
        if not member.complained:
            member.complained = True
            log.warn(
                "{worker} does not keep up with the bus: it loses messages until it does, and is"
                " told how many.",
                worker=member.name,
            )

    def _tell(self, member: _Member) -> None:
        missed, member.missed = member.missed, {}
        for topic, count in missed.items():
            member.outlet.send(Lost(topic.decode(), count))

    def settle(self, id: int) -> None:
        """A worker has spoken: if it keeps up again, it hears at last what it has missed."""
        member = self._members.get(id)
        if member is not None and member.missed and not member.outlet.behind:
            self._tell(member)


def bus_of(url: str, reactor: Any, mark: bytes) -> Bus:
    """
    Make the bus that `--bus` asks for, not connected yet.

    :param mark: 8 random bytes, for this primary.
    :raises ConfigError: a library that it needs is missing.
    """
    bus = Bus()
    address = parse_bus(url)
    if address is not None:
        try:
            from .redis import RedisRelay
        except ImportError as error:
            raise ConfigError(
                option="--bus", value=url, hint=f"pip install 'txsticky[redis]' ({error})"
            ) from None
        bus.relay = RedisRelay(address, reactor, mark, bus.arrived)
    return bus
