"""The client of the bus: what is published, and what subscribers get."""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.raw_frames import TOPIC_LIMIT, FrameReader, Kind, encode, pack_message, told
from txsticky.api import MESSAGE_LIMIT
from txsticky.bus import client
from txsticky.bus.client import BusClient
from txsticky.core.messages.from_primary import Gap, Lost, Outage
from txsticky.errors import BusOverrun, ChannelFull, MessageTooLarge, TooManyTopics
from txsticky.ipc.channel import FRAME_LIMIT


class ClientCase(SynchronousTestCase):
    """A client, the test being the primary."""

    def setUp(self) -> None:
        self.channel = mock.Mock(behind=False, full=False, waiting=0)
        self.client = BusClient(self.channel, MESSAGE_LIMIT)
        self.got: list[object] = []

    def sent(self, kind: Kind) -> list[bytes]:
        """What was said to the primary."""
        said = [told(call.args[0]) for call in self.channel.send.call_args_list]
        return [body for of_kind, body in said if of_kind is kind]


class PublishTests(ClientCase):
    """Publishing."""

    def test_said(self) -> None:
        """A message goes to the primary, with its topic."""
        self.client.publish("news", b"hello")
        self.assertEqual(self.sent(Kind.PUBLISH), [pack_message(b"news", b"hello")])

    def test_longest(self) -> None:
        """The longest message fits into a frame, there and back."""
        self.client.publish("n" * 100, bytes(MESSAGE_LIMIT - 100))
        (body,) = self.sent(Kind.PUBLISH)
        for kind in (Kind.PUBLISH, Kind.MESSAGE):
            self.assertEqual(FrameReader(FRAME_LIMIT).feed(encode(kind, body)), [(kind, body)])

    def test_too_long(self) -> None:
        """A message that is longer is refused, and not sent."""
        error = self.assertRaises(
            MessageTooLarge, self.client.publish, "n" * 100, bytes(MESSAGE_LIMIT - 99)
        )
        self.assertIn(str(MESSAGE_LIMIT), str(error))
        self.assertEqual(self.sent(Kind.PUBLISH), [])

    def test_topic_too_long(self) -> None:
        """A topic that is too long is refused, and not sent."""
        self.assertRaises(ValueError, self.client.publish, "ü" * (TOPIC_LIMIT // 2 + 1), b"")
        self.assertRaises(ValueError, self.client.subscribe, "t" * (TOPIC_LIMIT + 1), print)

    def test_behind(self) -> None:
        """If the primary does not keep up, the publisher is told, and nothing is sent."""
        self.channel.behind, self.channel.waiting = True, 5_000_000
        error = self.assertRaises(BusOverrun, self.client.publish, "news", b"hello")
        self.assertIn("5000000", str(error))
        self.assertEqual(self.sent(Kind.PUBLISH), [])


class SubscribeTests(ClientCase):
    """Subscribing."""

    def say(self, topic: str, message: bytes = b"hello") -> None:
        """Have a message come."""
        self.client.message(topic.encode(), message)

    def test_messages(self) -> None:
        """Messages of the topic come, and of no other."""
        self.client.subscribe("news", self.got.append)
        self.say("news")
        self.say("weather")
        self.assertEqual(self.got, [b"hello"])

    def test_told_once(self) -> None:
        """The primary is told with the first subscriber, and with the end of the last."""
        ends = [self.client.subscribe("news", self.got.append) for _ in range(2)]
        self.assertEqual(self.sent(Kind.SUBSCRIBE), [b"news"])
        ends[0]()
        self.assertEqual(self.sent(Kind.UNSUBSCRIBE), [])
        ends[1]()
        self.assertEqual(self.sent(Kind.UNSUBSCRIBE), [b"news"])

    def test_ended(self) -> None:
        """A subscription that has ended gets nothing; ended twice it ends no other."""
        end = self.client.subscribe("news", self.got.append)
        self.client.subscribe("news", self.got.append)
        end()
        end()
        self.say("news")
        self.assertEqual(self.got, [b"hello"])

    def test_too_many_topics(self) -> None:
        """Only so many topics can be listened to; one more is a sentence, and is not sent."""
        self.patch(client, "TOPICS", 3)
        ends = [self.client.subscribe(f"topic {n}", self.got.append) for n in range(3)]
        self.client.subscribe("topic 2", self.got.append)  # a second time costs nothing
        error = self.assertRaises(TooManyTopics, self.client.subscribe, "one more", print)
        self.assertIn("can listen to 3 topics", str(error))
        self.assertEqual(len(self.sent(Kind.SUBSCRIBE)), 3)
        ends[0]()
        self.client.subscribe("one more", self.got.append)

    def test_too_long_names(self) -> None:
        """The topics' names have a limit together, in bytes; one more is refused, and not sent."""
        self.patch(client, "TOPICS_SIZE", 10)
        end = self.client.subscribe("\u20ac\u20ac", self.got.append)
        self.assertRaises(TooManyTopics, self.client.subscribe, "12345", print)
        self.client.subscribe("1234", self.got.append)
        end()
        self.client.subscribe("123456", self.got.append)
        self.assertRaises(TooManyTopics, self.client.subscribe, "1", print)

    def test_primary_does_not_read(self) -> None:
        """While the primary takes nothing, no topic is added to what waits for it."""
        self.channel.full, self.channel.waiting = True, 99
        error = self.assertRaises(ChannelFull, self.client.subscribe, "news", print)
        self.assertIn("99 bytes wait", str(error))
        self.channel.full = False
        self.client.subscribe("news", self.got.append)
        self.assertEqual(self.sent(Kind.SUBSCRIBE), [b"news"])

    def test_again(self) -> None:
        """A topic can be subscribed to again."""
        end = self.client.subscribe("news", self.got.append)
        end()
        self.client.subscribe("news", self.got.append)
        end()
        self.say("news")
        self.assertEqual((self.got, len(self.sent(Kind.SUBSCRIBE))), ([b"hello"], 2))

    def test_in_order(self) -> None:
        """All subscribers are called, in the order in which they came."""
        for number in range(3):
            self.client.subscribe("news", lambda message, number=number: self.got.append(number))
        self.say("news")
        self.assertEqual(self.got, [0, 1, 2])

    def test_fails(self) -> None:
        """A subscriber that fails is logged, and the others are called."""
        self.client.subscribe("news", lambda message: 1 / 0)
        self.client.subscribe("news", self.got.append)
        self.say("news")
        self.assertEqual(self.got, [b"hello"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_ends_another(self) -> None:
        """A subscriber that another one's callback has ended is not called any more."""
        ends = []
        self.client.subscribe("news", lambda message: ends[0]())
        ends.append(self.client.subscribe("news", self.got.append))
        self.say("news")
        self.assertEqual(self.got, [])

    def test_subscribes_meanwhile(self) -> None:
        """A subscriber that comes while a message is told gets the next message."""
        self.client.subscribe(
            "news", lambda message: self.client.subscribe("news", self.got.append)
        )
        self.say("news", b"1")
        self.assertEqual(self.got, [])
        self.say("news", b"2")
        self.assertEqual(self.got, [b"2"])

    def test_lost_elsewhere(self) -> None:
        """What did not leave another machine is told, and does not count as given."""
        self.client.subscribe("news", lambda message: None, self.got.append)
        self.client.drain()
        self.client.heard(Lost("news", 2, elsewhere=True))
        self.client.heard(Lost("news", 3))
        self.assertEqual((self.got, self.client.given), ([2, 3], 3))

    def test_gap(self) -> None:
        """Every subscriber that asks hears from when to when messages may be missing."""
        ends = []

        def gap(since: float, until: float) -> None:
            self.got.append((since, until))
            ends[1]()

        ends.append(self.client.subscribe("news", lambda message: None, gap=gap))
        ends.append(self.client.subscribe("weather", lambda message: None, gap=gap))
        self.client.subscribe("news", lambda message: None)
        self.client.heard(Gap(1.5, 2.5))
        self.assertEqual(self.got, [(1.5, 2.5)], "one of them has ended the other")

    def test_outage(self) -> None:
        """A publisher that asks hears since when messages do not leave the machine."""
        self.assertIsNone(self.client.outage)
        self.client.heard(Outage(5.0))
        self.assertEqual(self.client.outage, 5.0)
        self.client.heard(Outage(0.0))
        self.assertIsNone(self.client.outage)

    def test_lost(self) -> None:
        """A subscriber that asks is told how many messages were lost; no other fails with it."""
        self.client.subscribe("news", print)
        self.client.subscribe("news", print, lambda count: 1 / 0)
        self.client.subscribe("news", print, self.got.append)
        self.client.lost("news", 3)
        self.client.lost("weather", 4)
        self.assertEqual(self.got, [3])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_letters(self) -> None:
        """A topic may have any letters."""
        self.client.subscribe("grün", self.got.append)
        self.say("grün")
        self.assertEqual((self.got, client._name_of("grün")), ([b"hello"], "grün".encode()))
