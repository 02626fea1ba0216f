"""A topic goes from one worker to the next without a gap."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsticky.bus.backlog import HANDOVER, MOST, ROOM, Backlog
from txsticky.bus.client import BusClient
from txsticky.bus.hub import Bus
from txsticky.core.messages.frames import Frame, FrameReader
from txsticky.core.messages.from_primary import FROM_PRIMARY
from txsticky.core.messages.from_worker import Follow, Publish, Subscribe, Unsubscribe


class BacklogTests(SynchronousTestCase):
    """What a worker was sent."""

    def test_since(self) -> None:
        """What follows on a count is told, of one topic."""
        backlog = Backlog()
        for number in range(6):
            backlog.add(b"ab"[number % 2 :][:1], b"%d" % number)
        self.assertEqual(backlog.since(3, b"a"), ([b"4"], 0))
        self.assertEqual(backlog.since(6, b"a"), ([], 0))

    def test_many(self) -> None:
        """Beyond the number of messages the oldest are dropped, and counted if they are wanted."""
        backlog = Backlog()
        for number in range(MOST + 3):
            backlog.add(b"a", b"%d" % number)
        messages, lost = backlog.since(1, b"a")
        self.assertEqual((len(messages), messages[0], lost), (MOST, b"3", 2))
        self.assertEqual(backlog.since(3, b"a")[1], 0)

    def test_large(self) -> None:
        """Beyond the room in bytes the oldest are dropped, and counted if they are wanted."""
        backlog = Backlog()
        for _ in range(3):
            backlog.add(b"a", b"x" * (ROOM // 2))
        self.assertEqual([len(m) for m in backlog.since(0, b"a")[0]], [ROOM // 2] * 2)

    def test_gap(self) -> None:
        """What may be missing of other machines counts for one, from its place in the order on."""
        backlog = Backlog()
        self.assertEqual(backlog.since(0, b"a")[1], 0)
        backlog.add(b"a", b"1")
        backlog.gap()
        backlog.add(b"a", b"2")
        self.assertEqual([backlog.since(n, b"a")[1] for n in (0, 1, 2)], [1, 1, 0])


class Worker:
    """
    A worker at the hub: what the hub says is heard when the test lets it.

    :ivar got: the messages that its application was given.
    """

    def __init__(self, bus: Bus, id: int) -> None:
        self.bus, self.id = bus, id
        self.waiting = 0
        self.behind = self.full = False
        self.client = BusClient(self, 1000)
        self.reader = FrameReader(FROM_PRIMARY, 10_000)
        self.unheard: list[Any] = []
        self.got: list[str] = []

    # What the hub writes to, and what the client sends by.

    def write(self, data: bytes) -> None:
        """Queue what the hub says, for `hear`."""
        self.unheard += self.reader.feed(data)

    def send(self, frame: Frame) -> None:
        """Take a frame of the hub's, or of the client's."""
        match frame:
            case Subscribe(topic):
                self.bus.subscribe(self.id, "w", self, topic)
            case Follow():
                self.bus.follow(self.id, "w", self, frame)
            case Unsubscribe(topic):
                self.bus.unsubscribe(self.id, topic)
            case Publish(topic, message):
                self.bus.publish(topic, message)
            case _:
                self.unheard.append(frame)

    def hear(self, count: int = 1000) -> None:
        """Take in what the hub has said."""
        heard, self.unheard = self.unheard[:count], self.unheard[count:]
        for frame in heard:
            self.client.heard(frame)

    def subscribe(self, behind: tuple[int, int] | None = None) -> Any:
        """The application subscribes to the topic "t"."""

        def lost(count: int) -> None:
            self.got.append(f"lost {count}")

        return self.client.subscribe("t", lambda m: self.got.append(m.decode()), lost, behind)


class HandoverTests(SynchronousTestCase):
    """Worker 1 leaves, and worker 2 goes on."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.bus = Bus(self.clock.callLater)
        self.old, self.new = Worker(self.bus, 1), Worker(self.bus, 2)
        self.end = self.old.subscribe()
        self.publish("before")
        self.old.hear()
        self.bus.remember(1)
        self.old.client.drain()

    def publish(self, *messages: str) -> None:
        """Publish messages to the topic "t", and others to another one."""
        for message in messages:
            self.bus.publish(b"t", message.encode())
            self.bus.publish(b"other", b"")

    @property
    def behind(self) -> tuple[int, int]:
        """What a WebSocket that leaves the old worker takes along."""
        return 1, self.old.client.given

    def test_in_between(self) -> None:
        """What the old worker had not been given comes first, then what is published."""
        self.publish("a", "b", "c")
        self.old.hear(1)
        behind = self.behind
        self.end()
        self.publish("d")
        self.new.subscribe(behind)
        self.publish("e")
        self.assertTrue(self.new.client.pending)
        self.new.hear()
        self.assertEqual(self.old.got + self.new.got, ["before", "a", "b", "c", "d", "e"])
        self.assertFalse(self.new.client.pending)

    def test_subscribed_already(self) -> None:
        """Beside a subscription that was there before, neither gets a message twice."""
        other = Worker.subscribe
        other(self.new)
        first, self.new.got = self.new.got, []
        self.publish("a", "b")
        self.old.hear(1)
        self.new.subscribe(self.behind)
        self.publish("c")
        self.new.hear()
        self.assertEqual(sorted(self.new.got), ["a", "b", "b", "c", "c"])
        self.assertEqual(first, [])

    def test_old_worker_gone(self) -> None:
        """What the old worker would have been sent is remembered for a while after its end."""
        behind = self.behind
        self.publish("a")
        self.bus.forget(1)
        self.bus.forget(1)
        self.publish("b")
        self.assertEqual(self.bus.subscriptions(), [])
        self.clock.advance(HANDOVER - 1)
        self.new.subscribe(behind)
        self.new.hear()
        self.assertEqual(self.new.got, ["a", "b"])
        self.clock.advance(1)
        late = Worker(self.bus, 3)
        late.subscribe(behind)
        late.hear()
        self.assertEqual(late.got, ["lost 1"])

    def test_slow(self) -> None:
        """A worker that does not read is told how many it has not got."""
        behind = self.behind
        self.publish("a", "b")
        self.new.behind = True
        self.new.subscribe(behind)
        self.new.hear()
        self.assertEqual(self.new.got, ["lost 2"])

    def test_ended_early(self) -> None:
        """A subscription that ends before it has caught up gets nothing."""
        self.publish("a")
        self.new.subscribe((1, 0))()
        self.new.hear()
        self.assertEqual((self.new.got, self.new.client.pending), ([], False))

    def test_counted(self) -> None:
        """What a worker that leaves loses counts as given, for the worker itself is told."""
        self.old.behind = True
        self.publish("a")
        self.old.behind = False
        self.bus.settle(1)
        self.old.hear()
        self.assertEqual(self.behind, (1, 1))

    def test_lost_before(self) -> None:
        """What was lost before the drain, and is told in it, moves nothing out of place."""
        slow = Worker(self.bus, 4)
        slow.subscribe()
        slow.behind = True
        self.publish("lost")
        self.bus.remember(4)
        slow.client.drain()
        slow.behind = False
        self.publish("a", "b")
        slow.hear(2)  # that one was lost, and "a"
        self.assertEqual(slow.got, ["lost 1", "a"])
        self.new.subscribe((4, slow.client.given))
        self.new.hear()
        self.assertEqual(self.new.got, ["b"])

    def test_stop(self) -> None:
        """A hub that stops leaves no call behind."""
        self.bus.forget(1)
        self.bus.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
