"""The post offices of several layers on one bus."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from txsticky.channels.post import PostOffice, owner_of
from txsticky.channels.stock import Stock
from txsticky.errors import BusOverrun

A, B, C = ("a" * 32, "b" * 32, "c" * 32)


class PlayedBus:
    """A bus in which messages wait until `settle`, in one order."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, bytes]] = []
        self.heard: dict[str, list[Callable[[bytes], object]]] = {}
        self.full = False

    def publish(self, topic: str, message: bytes) -> None:
        """Publish."""
        if self.full:
            raise BusOverrun(waiting=1)
        self.waiting.append((topic, message))

    def subscribe(self, topic: str, heard: Callable[[bytes], object]) -> Callable[[], object]:
        """Subscribe."""
        self.heard.setdefault(topic, []).append(heard)

        def end() -> None:
            self.heard[topic].remove(heard)
            if not self.heard[topic]:
                del self.heard[topic]

        return end

    def settle(self) -> None:
        """Deliver all."""
        while self.waiting:
            topic, message = self.waiting.pop(0)
            for heard in list(self.heard.get(topic, ())):
                heard(message)


class PostCase(SynchronousTestCase):
    """Three layers."""

    def setUp(self) -> None:
        self.bus = PlayedBus()
        self.now = 0.0
        self.a, self.b, self.c = (self.office(name) for name in (A, B, C))
        self.resting = set(self.bus.heard)
        self.woken: list[str] = []

    def office(self, name: str) -> PostOffice:
        """A layer, in whose channels two messages may wait."""
        return PostOffice(
            name,
            "test",
            Stock(100.0),
            self.bus.publish,
            self.bus.subscribe,
            lambda: self.now,
            lambda channel: 2,
        )

    def wake(self, name: str) -> Callable[[], object]:
        """What is called when it is worth to try again."""
        return lambda: self.woken.append(name)

    def take(self, office: PostOffice, channel: str) -> bytes | None:
        """Take, and not wait."""
        wake = self.wake("taken")
        found = office.take(channel, wake)
        if found is None:
            office.forget(channel, wake)
        return found


class OwnerTests(SynchronousTestCase):
    """Whose channel it is."""

    def test_names(self) -> None:
        """A layer's name stands in front of the mark; other channels belong to none."""
        self.assertEqual(owner_of(f"specific.{A}!x"), A)
        for channel in ("name", f"specific.{A}", "specific.inmemory!x", "!", f"x{'g' * 32}!"):
            self.assertEqual(owner_of(channel), "")


class ChannelTests(PostCase):
    """Messages."""

    def test_own(self) -> None:
        """A message to a channel of another layer arrives there."""
        channel = f"specific.{B}!x"
        self.assertTrue(self.a.send(channel, b"m", 10.0))
        self.bus.settle()
        self.assertEqual(self.take(self.b, channel), b"m")

    def test_order(self) -> None:
        """Messages come in their order."""
        channel = f"specific.{B}!x"
        for number in (b"1", b"2"):
            self.a.send(channel, number, 10.0)
        self.bus.settle()
        self.assertEqual([self.take(self.b, channel) for _ in range(3)], [b"1", b"2", None])

    def test_full(self) -> None:
        """A channel that is full takes no more, here with an answer and there with a line."""
        for channel, office in (("name", self.b), (f"specific.{B}!x", self.b)):
            sent = [office.send(channel, b"m", 10.0) for _ in range(3)]
            self.assertEqual(sent, [True, True, False])
        with capturedLogs() as logs:
            for _ in range(2):
                self.assertTrue(self.a.send(f"specific.{B}!x", b"m", 10.0))
            self.bus.settle()
        self.assertEqual(len(logs), 1)

    def test_expired(self) -> None:
        """A message that has expired is not received."""
        self.a.send("name", b"m", 10.0)
        self.now = 10.0
        self.assertIsNone(self.take(self.a, "name"))

    def test_woken(self) -> None:
        """What waits is woken by a message, once for each."""
        for name in ("one", "two"):
            self.assertIsNone(self.a.take("name", self.wake(name)))
        self.a.send("name", b"m", 10.0)
        self.assertEqual(self.woken, ["one"])
        self.assertEqual(self.take(self.a, "name"), b"m")

    def test_sent_first(self) -> None:
        """A message that waits in one layer comes to another that wants it, to one of them."""
        self.a.send("name", b"m", 10.0)
        self.bus.settle()
        self.b.take("name", self.wake("b"))
        self.c.take("name", self.wake("c"))
        self.bus.settle()
        self.assertEqual(self.woken, ["b"])
        self.assertEqual(self.take(self.b, "name"), b"m")
        self.assertIsNone(self.take(self.a, "name"))

    def test_wanted_first(self) -> None:
        """A message comes to a layer that has waited for it."""
        self.b.take("name", self.wake("b"))
        self.bus.settle()
        self.a.send("name", b"m", 10.0)
        self.bus.settle()
        self.assertEqual((self.woken, self.take(self.b, "name")), (["b"], b"m"))

    def test_at_once(self) -> None:
        """A message comes to a layer that waits for it when both come at the same time."""
        self.a.send("name", b"m", 10.0)
        self.b.take("name", self.wake("b"))
        self.bus.settle()
        self.assertEqual((self.woken, self.take(self.b, "name")), (["b"], b"m"))

    def test_not_waiting_any_more(self) -> None:
        """A message that came too late for what wanted it goes to the next one that does."""
        wake = self.wake("b")
        self.b.take("name", wake)
        self.bus.settle()
        self.a.send("name", b"m", 10.0)
        self.bus.settle()
        self.b.forget("name", wake)
        self.c.take("name", self.wake("c"))
        self.bus.settle()
        self.assertEqual((self.woken, self.take(self.c, "name")), (["b", "c"], b"m"))

    def test_forgotten(self) -> None:
        """What waits no more does not keep another one from a message."""
        one = self.wake("one")
        self.a.take("name", one)
        self.a.take("name", self.wake("two"))
        self.a.send("name", b"m", 10.0)
        self.a.forget("name", one)
        self.assertEqual(self.woken, ["one", "two"])

    def test_several(self) -> None:
        """Each of several messages is received once, wherever it was sent."""
        for number, office in enumerate((self.a, self.b, self.a)):
            office.send("name", b"%d" % number, 10.0)
        self.bus.settle()
        got = []
        for office in (self.c, self.b, self.c, self.c):
            wake = self.wake("again")
            found = office.take("name", wake)
            self.bus.settle()
            if found is None:
                office.forget("name", wake)
                found = self.take(office, "name")
            self.bus.settle()
            got.append(found)
        self.assertEqual(sorted(got[:3]), [b"0", b"1", b"2"])  # type: ignore[type-var]
        self.assertIsNone(got[3])

    def test_nothing_left(self) -> None:
        """No layer listens to anything beside its mail when all is received."""
        self.test_several()
        self.a.add("group", "name")
        self.a.discard("group", "name")
        self.bus.settle()
        self.assertEqual(set(self.bus.heard), self.resting)
        for office in (self.a, self.b, self.c):
            office.close()
        self.assertEqual(self.bus.heard, {})

    def test_full_bus(self) -> None:
        """A bus that is full is an error for what sends, and a line for what answers."""
        self.bus.full = True
        self.assertRaises(BusOverrun, self.a.send, f"specific.{B}!x", b"m", 10.0)
        self.bus.full = False
        self.b.take("name", self.wake("b"))
        self.bus.settle()
        self.a.send("name", b"m", 10.0)
        self.assertEqual(len(self.bus.waiting), 1)
        self.bus.full = True
        with capturedLogs() as logs:
            self.bus.settle()
        self.assertEqual([event["log_format"][:9] for event in logs], ["A message"])


class GroupTests(PostCase):
    """Groups."""

    def test_all(self) -> None:
        """What is sent to a group reaches its channels in every layer, and no other."""
        for office, name in ((self.a, A), (self.b, B)):
            office.add("group", f"specific.{name}!x")
        self.c.group_send("group", b"m", 10.0)
        self.c.group_send("another", b"m", 10.0)
        self.bus.settle()
        self.assertEqual(self.take(self.a, f"specific.{A}!x"), b"m")
        self.assertEqual(self.take(self.b, f"specific.{B}!x"), b"m")
        self.assertIsNone(self.take(self.a, f"specific.{A}!x"))

    def test_added_by_another(self) -> None:
        """A channel of another layer can be added and taken out."""
        channel = f"specific.{B}!x"
        self.a.add("group", channel)
        self.bus.settle()
        self.c.group_send("group", b"m", 10.0)
        self.bus.settle()
        self.assertEqual(self.take(self.b, channel), b"m")
        self.a.discard("group", channel)
        self.bus.settle()
        self.c.group_send("group", b"m", 10.0)
        self.bus.settle()
        self.assertIsNone(self.take(self.b, channel))

    def test_expiry(self) -> None:
        """A channel leaves its groups after a time, and when a message in it expires."""
        one, two = f"specific.{A}!one", f"specific.{A}!two"
        for channel in (one, two):
            self.a.add("group", channel)
        self.a.send(one, b"old", 10.0)
        self.now = 10.0
        self.a.group_send("group", b"m", 10.0)
        self.bus.settle()
        self.assertEqual([self.take(self.a, each) for each in (one, two)], [None, b"m"])
        self.now = 100.0
        self.a.group_send("group", b"m", 10.0)
        self.bus.settle()
        self.assertIsNone(self.take(self.a, two))
        self.assertEqual(set(self.bus.heard), self.resting)

    def test_full(self) -> None:
        """A channel that is full does not keep the others from what is sent to the group."""
        one, two = f"specific.{A}!one", f"specific.{A}!two"
        for channel in (one, two):
            self.a.add("group", channel)
        for _ in range(2):
            self.a.send(one, b"m", 10.0)
        self.a.group_send("group", b"new", 10.0)
        self.bus.settle()
        self.assertEqual([self.take(self.a, one) for _ in range(3)], [b"m", b"m", None])
        self.assertEqual(self.take(self.a, two), b"new")

    def test_flush(self) -> None:
        """A flush drops the messages and groups of every layer."""
        channel = f"specific.{B}!x"
        self.b.add("group", channel)
        self.b.send("name", b"m", 10.0)
        self.b.send(channel, b"m", 10.0)
        self.a.flush()
        settled: list[int] = []
        self.a.when_settled(lambda: settled.append(1))
        self.assertEqual(settled, [])
        self.bus.settle()
        self.a.group_send("group", b"m", 10.0)
        self.bus.settle()
        self.assertEqual([self.take(self.b, each) for each in ("name", channel)], [None, None])
        self.assertEqual((settled, set(self.bus.heard)), ([1], self.resting))
