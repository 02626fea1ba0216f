"""
The hub of the bus, in the primary: which worker listens to which topic, and what it has missed.

A worker publishes over its channel (`txsticky.api`). The primary passes the message on to the
channels of the workers that have subscribed, the publisher's own included, and to the backplane
between machines if there is one. The primary sees all messages in one order, so that each of its
workers receives the messages of one publisher in the order in which they were published.

What a worker does not read waits in the primary, up to a bound. Beyond the bound the worker loses
messages, and is told how many of which topic before it gets the next message. So a slow worker
takes no memory that grows without end, and delays no other worker.

What a worker is sent from the beginning of its drain on is remembered for a while. The application
that goes on with one of its WebSockets in another worker subscribes behind what that one was given,
and gets the rest from here before what comes next (`follow`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ..core.messages.frames import Frame, encode
from ..core.messages.from_primary import CaughtUp, Lost, Message, Missed
from ..core.messages.from_worker import Follow, Subscribe
from ..core.redis_url import parse_bus
from ..errors import ConfigError
from ..system.system import System, monotonic
from .backlog import HANDOVER, Backlog
from .backplane import Backplane
from .outages import Outages

log = Logger()


class WorkerOutlet(Protocol):
    """The way to a worker (`ipc.channel.Channel`)."""

    @property
    def behind(self) -> bool:
        """Whether messages that may be dropped are to be dropped now."""

    def write(self, data: bytes) -> None:
        """Send encoded frames."""

    def send(self, frame: Frame) -> None:
        """Send one frame."""


@attrs.define
class _Member:
    """
    A worker that has subscribed to a topic.

    :ivar backlog: what it was sent since its drain began; None for one that does not leave.
    :ivar gone: whether it has left, and its topics are only remembered.
    :ivar missed: how many messages of each topic the worker has lost and not been told of.
    :ivar complained: whether the log has said so.
    """

    name: str
    outlet: WorkerOutlet
    backlog: Backlog | None = None
    gone: bool = False
    topics: set[bytes] = attrs.Factory(set)
    missed: dict[bytes, int] = attrs.Factory(dict)
    complained: bool = False


class Bus:
    """
    Passes messages on to the workers that listen to their topics.

    :param later: calls a function in so many seconds; without it nothing is remembered of a worker
        that has left.
    :param clock: seconds, monotonic.
    :ivar backplane: the way to other machines, if there is one; set before the first subscription.
    :ivar outages: tells the workers when the way to other machines is closed.
    :ivar published: messages that workers of this machine have published.
    :ivar delivered: copies of messages that were sent to workers.
    :ivar lost: copies that were dropped, because their worker did not read.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], Any] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._later = later
        self._backlogs: dict[int, Backlog] = {}
        self._calls: dict[int, Any] = {}
        self.backplane: Backplane | None = None
        self.outages = Outages(clock)
        self.published = 0
        self.delivered = 0
        self.lost = 0
        self._members: dict[int, _Member] = {}
        self._topics: dict[bytes, dict[int, _Member]] = {}

    def start(self) -> None:
        """Connect to other machines."""
        if self.backplane is not None:
            self.backplane.start()

    def stop(self) -> Deferred[Any]:
        """Disconnect from other machines; the Deferred fires when that is done."""
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()
        return succeed(None) if self.backplane is None else self.backplane.stop()

    def snapshot(self) -> dict[str, Any]:
        """What a program that takes this one's place needs to go on, as JSON values."""
        backplane = self.backplane.snapshot() if self.backplane is not None else {}
        return {"told": self.outages.told(), "backplane": backplane}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where the program before stopped; to be called before `start`."""
        if self.backplane is not None:
            self.backplane.restore(state.get("backplane", {}))

    def subscribe(self, id: int, name: str, outlet: WorkerOutlet, topic: bytes) -> None:
        """
        Subscribe a worker to a topic.

        :param id: the worker's id.
        :param name: what the log calls the worker.
        :param outlet: the worker's channel.
        """
        member = self._members.get(id)
        if member is None:
            member = self._members[id] = _Member(name, outlet, self._backlogs.get(id))
        member.topics.add(topic)
        listeners = self._topics.setdefault(topic, {})
        if not listeners and self.backplane is not None:
            self.backplane.subscribe(topic)
        listeners[id] = member

    def join(self, id: int, name: str, outlet: WorkerOutlet, frame: Subscribe | Follow) -> None:
        """Subscribe a worker as it asks for it; the arguments are those of `follow`."""
        if isinstance(frame, Follow):
            self.follow(id, name, outlet, frame)
        else:
            self.subscribe(id, name, outlet, frame.topic)

    def unsubscribe(self, id: int, topic: bytes) -> None:
        """Unsubscribe a worker from a topic."""
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
            if self.backplane is not None:
                self.backplane.unsubscribe(topic)

    def remember(self, id: int) -> None:
        """Remember what a worker is sent from now on: its drain begins."""
        if id not in self._backlogs:
            member = self._members.get(id)
            lost = sum(member.missed.values()) if member is not None else 0
            self._backlogs[id] = backlog = Backlog(lost)
            if member is not None:
                member.backlog = backlog

    def forget(self, id: int) -> None:
        """Send nothing more to a worker that is gone, or leaving; its topics are kept a while."""
        self.outages.leave(id)
        if id in self._calls:
            return
        if id not in self._backlogs or self._later is None:
            self._drop(id)
            return
        if id in self._members:
            self._members[id].gone = True
        self._calls[id] = self._later(HANDOVER, lambda: self._drop(id))

    def _drop(self, id: int) -> None:
        """Unsubscribe a worker from all topics."""
        self._calls.pop(id, None)
        self._backlogs.pop(id, None)
        member = self._members.get(id)
        for topic in list(member.topics) if member is not None else ():
            self.unsubscribe(id, topic)

    def follow(self, id: int, name: str, outlet: WorkerOutlet, frame: Follow) -> None:
        """
        Subscribe a worker to a topic, behind what another one had been given of it.

        :param id: the worker's id.
        :param name: what the log calls the worker.
        :param outlet: the worker's channel.
        :param frame: what the worker asks for.
        """
        topic = frame.topic.encode()
        self.subscribe(id, name, outlet, topic)
        backlog = self._backlogs.get(frame.source)
        # Of a worker that is gone for long, or that another program knew, nothing can be told.
        messages, lost = ([], 1) if backlog is None else backlog.since(frame.given, topic)
        if outlet.behind:
            messages, lost = [], lost + len(messages)
        for message in messages:
            outlet.send(Missed(frame.ticket, message))
        self.delivered += len(messages)
        self.lost += lost
        outlet.send(CaughtUp(frame.ticket, lost))

    def subscriptions(self) -> list[tuple[int, bytes]]:
        """List all subscriptions: (worker's id, topic)."""
        here = [(id, member) for id, member in self._members.items() if not member.gone]
        return [(id, topic) for id, member in here for topic in member.topics]

    def publish(self, topic: bytes, message: bytes) -> int:
        """
        Pass a message of this machine on to all subscribers.

        :returns: how many have it, as far as is known: the workers here, or 1 for a way to other
            machines.
        """
        self.published += 1
        if self.backplane is not None:
            self.backplane.publish(topic, message)
        return self._deliver(topic, message) or int(self.backplane is not None)

    def arrived(self, topic: bytes, message: bytes) -> None:
        """Pass a message of another machine on to the subscribers here."""
        self._deliver(topic, message)

    def missed(self, topic: bytes, count: int) -> None:
        """Tell the subscribers here how many messages have not left another machine."""
        for member in self._topics.get(topic, {}).values():
            if member.backlog is not None:
                member.backlog.gap()
            if not member.gone:
                member.outlet.send(Lost(topic.decode(), count, elsewhere=True))

    def gap(self, since: float, until: float) -> None:
        """Tell all workers that messages of other machines may be missing."""
        for backlog in self._backlogs.values():
            backlog.gap()
        self.outages.gap(since, until)

    def outage(self, since: float | None) -> None:
        """Tell all workers that messages do not leave this machine, or do again (None)."""
        self.outages.outage(since)

    def _deliver(self, topic: bytes, message: bytes) -> int:
        listeners = self._topics.get(topic)
        if not listeners:
            return 0
        before = self.delivered
        frame = encode(Message(topic, message))
        for member in listeners.values():
            if member.backlog is not None:
                member.backlog.add(topic, message)
            if member.gone:
                continue
            if member.outlet.behind:
                self._miss(member, topic)
            else:
                self._tell(member)
                member.outlet.write(frame)
                self.delivered += 1
        return self.delivered - before

    def _miss(self, member: _Member, topic: bytes) -> None:
        self.lost += 1
        member.missed[topic] = member.missed.get(topic, 0) + 1
        if not member.complained:
            member.complained = True
            log.warn(
                "{worker} does not keep up with the bus, and loses messages until it does. It is"
                " told how many.",
                worker=member.name,
            )

    def _tell(self, member: _Member) -> None:
        missed, member.missed = member.missed, {}
        for topic, count in missed.items():
            member.outlet.send(Lost(topic.decode(), count))

    def settle(self, id: int) -> None:
        """Tell a worker what it has lost, if it keeps up again. To be called when it has sent."""
        member = self._members.get(id)
        if member is not None and not member.gone and member.missed and not member.outlet.behind:
            self._tell(member)


def bus_of(url: str, system: System) -> Bus:
    """
    Make the bus that ``--bus`` asks for, not yet connected.

    :param url: what ``--bus`` says.
    :param system: the operating system.
    :raises ConfigError: a library that it needs is missing.
    """
    bus = Bus(system.reactor.callLater, system.clock)
    address = parse_bus(url)
    if address is not None:
        check_library(url)
        from .redis import RedisBackplane
        from .stream import StreamBackplane

        kind = StreamBackplane if address.stream else RedisBackplane
        bus.backplane = kind(address, system, bus)
    return bus


def check_library(url: str) -> None:
    """
    See whether the library is there that the bus needs.

    :param url: what ``--bus`` says.
    :raises ConfigError: it is missing.
    """
    if parse_bus(url) is None:
        return
    try:
        import txredisapi  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            option="--bus", value=url, hint=f"pip install 'txsticky[redis]' ({error})"
        ) from None
