"""The hub of the bus: who listens to what, and what a slow worker loses."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any
from unittest import mock

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from tests.raw_frames import (
    FrameReader,
    Kind,
    decode_json,
    told,
    unpack_message,
)
from txsticky.bus.hub import Bus, bus_of
from txsticky.errors import ConfigError


@define
class Outlet:
    """A channel that notes what was sent."""

    behind: bool = False
    _frames: list[tuple[Kind, bytes]] = field(factory=list, init=False)

    def write(self, data: bytes) -> None:
        self._frames += FrameReader(1 << 24).feed(data)

    def send(self, frame: Any) -> None:
        self._frames.append(told(frame))

    def take(self) -> list[Any]:
        """What was sent since the last call: (topic, message), or (topic, number lost)."""
        frames, self._frames[:] = list(self._frames), []
        taken: list[Any] = []
        for kind, body in frames:
            if kind is Kind.MESSAGE:
                topic, message = unpack_message(body)
                taken.append((topic.decode(), message))
            elif kind is Kind.LOST:
                lost = decode_json(body)
                taken.append((lost["topic"], lost["count"]))
            else:
                taken.append((kind, body))
        return taken


@define
class Backplane:
    """A backplane that remembers what it was told."""

    told: list[tuple[Any, ...]] = field(factory=list)

    def start(self) -> None:
        self.told.append(("start",))

    def publish(self, topic: bytes, message: bytes) -> None:
        self.told.append(("publish", topic, message))

    def subscribe(self, topic: bytes) -> None:
        self.told.append(("subscribe", topic))

    def unsubscribe(self, topic: bytes) -> None:
        self.told.append(("unsubscribe", topic))


class BusTests(SynchronousTestCase):
    """The primary's part."""

    def setUp(self) -> None:
        self.bus = Bus()
        self.outlets = defaultdict(Outlet)

    def subscribe(self, id: int, *topics: bytes) -> Outlet:
        for topic in topics:
            self.bus.subscribe(id, f"worker {id}", self.outlets[id], topic)
        return self.outlets[id]

    def publish(self, topic: bytes, *messages: bytes) -> None:
        for message in messages:
            self.bus.publish(topic, message)

    def test_all_who_listen(self) -> None:
        """A message reaches every worker that listens to its topic, once, and no other."""
        one, two, three = self.subscribe(1, b"a"), self.subscribe(2, b"b", b"a"), Outlet()
        self.subscribe(1, b"a")
        self.publish(b"a", b"hello")
        self.assertEqual((one.take(), two.take(), three.take()), ([("a", b"hello")],) * 2 + ([],))

    def test_nobody_listens(self) -> None:
        """A message that no worker listens to is counted, and goes nowhere."""
        self.publish(b"a", b"hello")
        self.assertEqual((self.bus.published, self.bus.delivered, self.bus.lost), (1, 0, 0))

    def test_unsubscribed(self) -> None:
        """A worker that has unsubscribed gets no more of that topic; twice is no error."""
        one = self.subscribe(1, b"a", b"b")
        self.bus.unsubscribe(1, b"a")
        self.bus.unsubscribe(1, b"a")
        self.publish(b"a", b"x")
        self.publish(b"b", b"y")
        self.assertEqual(one.take(), [("b", b"y")])

    def test_forgotten(self) -> None:
        """A worker that is gone is out of every topic; others stay; twice is no error."""
        one, two = self.subscribe(1, b"a", b"b"), self.subscribe(2, b"a")
        self.bus.forget(1)
        self.bus.forget(1)
        self.publish(b"a", b"x")
        self.publish(b"b", b"y")
        self.assertEqual((one.take(), two.take()), ([], [("a", b"x")]))
        self.assertEqual(self.bus.subscriptions(), [(2, b"a")])

    def test_slow(self) -> None:
        """A worker that is behind loses messages, and hears how many before it gets the next."""
        one, two = self.subscribe(1, b"a", b"b"), self.subscribe(2, b"a")
        one.behind = True
        self.publish(b"a", b"1", b"2")
        self.publish(b"b", b"3")
        one.behind = False
        self.publish(b"a", b"4")
        self.assertEqual(one.take(), [("a", 2), ("b", 1), ("a", b"4")])
        self.assertEqual(two.take(), [("a", b"1"), ("a", b"2"), ("a", b"4")])
        self.assertEqual((self.bus.published, self.bus.delivered, self.bus.lost), (4, 4, 3))

    def test_settles(self) -> None:
        """If no message follows, a worker hears of its loss when it speaks and is not behind."""
        one = self.subscribe(1, b"a")
        one.behind = True
        self.publish(b"a", b"1")
        self.bus.settle(1)
        self.assertEqual(one.take(), [])
        one.behind = False
        self.bus.settle(1)
        self.bus.settle(1)
        self.bus.settle(2)
        self.assertEqual(one.take(), [("a", 1)])

    def test_told_once(self) -> None:
        """The log names a slow worker once, however often it falls behind."""
        one = self.subscribe(1, b"a")
        with capturedLogs() as events:
            for _ in range(3):
                one.behind = True
                self.publish(b"a", b"1")
                one.behind = False
                self.bus.settle(1)
        self.assertEqual(["worker 1 does not" in formatEvent(event) for event in events], [True])

    def test_loss_of_what_is_left(self) -> None:
        """What was lost of a topic that the worker has left is not told."""
        one = self.subscribe(1, b"a", b"b")
        one.behind = True
        self.publish(b"a", b"1")
        self.bus.unsubscribe(1, b"a")
        one.behind = False
        self.bus.settle(1)
        self.assertEqual(one.take(), [])

    def test_relay(self) -> None:
        """The backplane gets what is published here, and each topic's first and last listener."""
        backplane = self.bus.backplane = Backplane()
        self.subscribe(1, b"a")
        self.subscribe(2, b"a")
        self.publish(b"a", b"x")
        self.publish(b"b", b"y")
        self.bus.forget(1)
        self.bus.forget(2)
        self.assertEqual(
            backplane.told,
            [
                ("subscribe", b"a"),
                ("publish", b"a", b"x"),
                ("publish", b"b", b"y"),
                ("unsubscribe", b"a"),
            ],
        )

    def test_from_elsewhere(self) -> None:
        """What comes from another machine is delivered here, and not sent back."""
        backplane = self.bus.backplane = Backplane()
        one = self.subscribe(1, b"a")
        backplane.told.clear()
        self.bus.arrived(b"a", b"x")
        self.assertEqual((one.take(), backplane.told), ([("a", b"x")], []))

    def test_lost_elsewhere(self) -> None:
        """What did not leave another machine is told to the workers that listen to the topic."""
        one, two = self.subscribe(1, b"a"), self.subscribe(2, b"b")
        self.bus.missed(b"a", 3)
        (frame,) = one.take()
        self.assertEqual((frame, two.take(), self.bus.lost), (("a", 3), [], 0))

    def test_upgrade(self) -> None:
        """A program that takes over has what the backplane had, and the same subscribers."""
        self.bus.backplane = mock.Mock(snapshot=lambda: {"heard": 3.0})
        self.bus.outages.join(1, Outlet(), 0.0)
        state = self.bus.snapshot()
        self.assertEqual(state, {"told": [1], "backplane": {"heard": 3.0}})
        self.bus.restore(state)
        self.bus.backplane.restore.assert_called_once_with({"heard": 3.0})
        Bus().restore({})

    def test_local(self) -> None:
        """A local bus starts and stops alone."""
        bus = bus_of("local", FakeSystem())
        bus.start()
        self.assertIsNone(self.successResultOf(bus.stop()))

    def test_library_is_missing(self) -> None:
        """A bus over Redis without its library is refused, with what to install."""
        with mock.patch.dict(sys.modules, {"txredisapi": None}):
            error = self.assertRaises(ConfigError, bus_of, "redis://cache", FakeSystem())
        self.assertIn("pip install 'txsticky[redis]'", str(error))

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("publish"), st.sampled_from("ab")),
                st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), st.sampled_from("ab")),
                st.tuples(st.sampled_from(["behind", "well", "forget", "settle"]), st.just("a")),
            ),
            max_size=40,
        )
    )
    def test_nothing_is_lost_in_silence(self, events: list[tuple[str, str]]) -> None:
        """In any order of events, what a listener gets and the losses it hears of are all."""
        bus, outlet = Bus(), Outlet()
        due: dict[str, list[bytes]] = {}  # what was published and is not accounted for yet

        def account() -> None:
            for topic, said in outlet.take():
                count = said if isinstance(said, int) else due[topic].index(said) + 1
                self.assertTrue(isinstance(said, int) or count == 1, "a gap that was not told")
                self.assertLessEqual(count, len(due[topic]))
                del due[topic][:count]

        for number, (event, topic) in enumerate([*events, ("well", "a"), ("settle", "a")]):
            if event == "publish":
                bus.publish(topic.encode(), b"%d" % number)
                if topic in due:
                    due[topic].append(b"%d" % number)
            elif event == "subscribe":
                due.setdefault(topic, [])
                bus.subscribe(1, "worker 1", outlet, topic.encode())
            elif event == "unsubscribe":
                bus.unsubscribe(1, topic.encode())
                due.pop(topic, None)
            elif event == "forget":
                bus.forget(1)
                due.clear()
            elif event == "settle":
                bus.settle(1)
            else:
                outlet.behind = event == "behind"
            account()
        self.assertEqual([left for left in due.values() if left], [])
