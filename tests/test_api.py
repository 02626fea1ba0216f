"""What an application asks of its cluster: who am I, whose is this, and what is said."""

from __future__ import annotations

import os
from types import SimpleNamespace
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import txsticky
from tests.raw_frames import TOPIC_LIMIT, FrameReader, Kind, encode, pack_message, told
from txsticky import api
from txsticky.api import MESSAGE_LIMIT, Here, current, install
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.tag import Signer
from txsticky.errors import BusOverrun, ChannelFull, MessageTooLarge, TooManyTopics
from txsticky.ipc.channel import FRAME_LIMIT


class HereCase(SynchronousTestCase):
    """Worker 7, in slot 2, of two."""

    def setUp(self) -> None:
        pool = Pool()
        pool.add(3, 1)
        pool.set_ready(3)
        pool.add(7, 2)
        pool.report(3, live=5, taken=0, lag=0.0)
        self.channel = mock.Mock(behind=False, full=False, waiting=0)
        self.worker = SimpleNamespace(
            id=7,
            slot=2,
            pool=pool,
            router=SimpleNamespace(signer=Signer(b"s" * 16)),
            channel=self.channel,
            bind=mock.Mock(return_value=Deferred()),
            free=mock.Mock(),
        )
        self.here = Here(self.worker)  # type: ignore[arg-type]
        self.got: list[object] = []

    def sent(self, kind: Kind) -> list[bytes]:
        """What was said to the primary."""
        said = [told(call.args[0]) for call in self.channel.send.call_args_list]
        return [body for of_kind, body in said if of_kind is kind]


class CurrentTests(HereCase):
    """Where am I?"""

    def test_nowhere(self) -> None:
        """Outside of a worker there is nobody to ask."""
        self.assertIsNone(current())

    def test_here(self) -> None:
        """In a worker there is."""
        self.addCleanup(install, None)
        install(self.here)
        self.assertIs(txsticky.current(), self.here)

    def test_forked(self) -> None:
        """A process that a worker forks is none, and the worker stays one."""
        self.addCleanup(install, None)
        install(self.here)
        pid = os.fork()
        if not pid:
            os._exit(0 if current() is None else 1)
        self.assertEqual(os.waitpid(pid, 0), (pid, 0))
        self.assertIs(current(), self.here)

    def test_numbers(self) -> None:
        """It knows its numbers."""
        self.assertEqual((self.here.id, self.here.slot), (7, 2))

    def test_pool(self) -> None:
        """It knows the others as well, as far as it was told."""
        self.assertEqual(
            self.here.pool(),
            [
                {"id": 3, "slot": 1, "state": "ready", "live": 5},
                {"id": 7, "slot": 2, "state": "starting", "live": 0},
            ],
        )


class StickyTests(HereCase):
    """Whose is it?"""

    def test_mint(self) -> None:
        """An id that is minted here leads here, and says what it said."""
        value = self.here.mint("sid-1")
        self.assertTrue(value.startswith("sid-1."))
        self.assertEqual((self.here.owner(value), self.here.owner(value.encode())), (7, 7))

    def test_others(self) -> None:
        """One that was minted elsewhere leads there; one that was not, nowhere."""
        self.assertEqual(self.here.owner(self.worker.router.signer.mint(3, "x")), 3)
        self.assertIsNone(self.here.owner("sid-1"))
        self.assertIsNone(self.here.owner(self.here.mint("x")[:-1] + "!"))

    def test_bind(self) -> None:
        """Keys may be text or bytes."""
        done = self.here.bind("grün")
        self.here.bind(b"\xff")
        self.assertIs(done, self.worker.bind.return_value)
        self.assertEqual(
            self.worker.bind.call_args_list, [mock.call("grün".encode()), mock.call(b"\xff")]
        )

    def test_free(self) -> None:
        """And are freed the same way."""
        self.here.free("key")
        self.assertEqual(self.worker.free.call_args, mock.call(b"key"))


class PublishTests(HereCase):
    """Publishing."""

    def test_said(self) -> None:
        """A message goes to the primary, with its topic."""
        self.here.publish("news", b"hello")
        self.assertEqual(self.sent(Kind.PUBLISH), [pack_message(b"news", b"hello")])

    def test_longest(self) -> None:
        """The longest message fits into a frame, there and back."""
        self.here.publish("n" * 100, bytes(MESSAGE_LIMIT - 100))
        (body,) = self.sent(Kind.PUBLISH)
        for kind in (Kind.PUBLISH, Kind.MESSAGE):
            self.assertEqual(FrameReader(FRAME_LIMIT).feed(encode(kind, body)), [(kind, body)])

    def test_too_long(self) -> None:
        """A longer one is refused, and not sent."""
        error = self.assertRaises(
            MessageTooLarge, self.here.publish, "n" * 100, bytes(MESSAGE_LIMIT - 99)
        )
        self.assertIn(str(MESSAGE_LIMIT), str(error))
        self.assertEqual(self.sent(Kind.PUBLISH), [])

    def test_topic_too_long(self) -> None:
        """So is a topic."""
        self.assertRaises(ValueError, self.here.publish, "ü" * (TOPIC_LIMIT // 2 + 1), b"")
        self.assertRaises(ValueError, self.here.subscribe, "t" * (TOPIC_LIMIT + 1), print)

    def test_behind(self) -> None:
        """If the primary does not keep up, the publisher is told, and nothing is sent."""
        self.channel.behind, self.channel.waiting = True, 5_000_000
        error = self.assertRaises(BusOverrun, self.here.publish, "news", b"hello")
        self.assertIn("5000000", str(error))
        self.assertEqual(self.sent(Kind.PUBLISH), [])


class SubscribeTests(HereCase):
    """Subscribing."""

    def say(self, topic: str, message: bytes = b"hello") -> None:
        """A message comes."""
        self.here.message(topic.encode(), message)

    def test_messages(self) -> None:
        """Messages of the topic come, and of no other."""
        self.here.subscribe("news", self.got.append)
        self.say("news")
        self.say("weather")
        self.assertEqual(self.got, [b"hello"])

    def test_told_once(self) -> None:
        """The primary is told with the first subscriber, and with the end of the last."""
        ends = [self.here.subscribe("news", self.got.append) for _ in range(2)]
        self.assertEqual(self.sent(Kind.SUBSCRIBE), [b"news"])
        ends[0]()
        self.assertEqual(self.sent(Kind.UNSUBSCRIBE), [])
        ends[1]()
        self.assertEqual(self.sent(Kind.UNSUBSCRIBE), [b"news"])

    def test_ended(self) -> None:
        """What has ended gets nothing; ended twice it ends nobody else's."""
        end = self.here.subscribe("news", self.got.append)
        self.here.subscribe("news", self.got.append)
        end()
        end()
        self.say("news")
        self.assertEqual(self.got, [b"hello"])

    def test_too_many_topics(self) -> None:
        """Only so many topics can be listened to; one more is a sentence, and is told nobody."""
        self.patch(api, "TOPICS", 3)
        ends = [self.here.subscribe(f"topic {n}", self.got.append) for n in range(3)]
        self.here.subscribe("topic 2", self.got.append)  # a second time costs nothing
        error = self.assertRaises(TooManyTopics, self.here.subscribe, "one more", print)
        self.assertIn("can listen to 3 topics", str(error))
        self.assertEqual(len(self.sent(Kind.SUBSCRIBE)), 3)
        ends[0]()
        self.here.subscribe("one more", self.got.append)

    def test_too_long_names(self) -> None:
        """Nor may the names of the topics be longer than so many bytes together."""
        self.patch(api, "TOPICS_SIZE", 10)
        end = self.here.subscribe("\u20ac\u20ac", self.got.append)
        self.assertRaises(TooManyTopics, self.here.subscribe, "12345", print)
        self.here.subscribe("1234", self.got.append)
        end()
        self.here.subscribe("123456", self.got.append)
        self.assertRaises(TooManyTopics, self.here.subscribe, "1", print)

    def test_primary_does_not_read(self) -> None:
        """While the primary takes nothing, no topic is added to what waits for it."""
        self.channel.full, self.channel.waiting = True, 99
        error = self.assertRaises(ChannelFull, self.here.subscribe, "news", print)
        self.assertIn("99 bytes wait", str(error))
        self.channel.full = False
        self.here.subscribe("news", self.got.append)
        self.assertEqual(self.sent(Kind.SUBSCRIBE), [b"news"])

    def test_again(self) -> None:
        """A topic can be subscribed to again."""
        end = self.here.subscribe("news", self.got.append)
        end()
        self.here.subscribe("news", self.got.append)
        end()
        self.say("news")
        self.assertEqual((self.got, len(self.sent(Kind.SUBSCRIBE))), ([b"hello"], 2))

    def test_in_order(self) -> None:
        """All subscribers are called, in the order in which they came."""
        for number in range(3):
            self.here.subscribe("news", lambda message, number=number: self.got.append(number))
        self.say("news")
        self.assertEqual(self.got, [0, 1, 2])

    def test_fails(self) -> None:
        """One that fails is logged, and the others are called."""
        self.here.subscribe("news", lambda message: 1 / 0)
        self.here.subscribe("news", self.got.append)
        self.say("news")
        self.assertEqual(self.got, [b"hello"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_ends_another(self) -> None:
        """One that another one's callback has ended is not called any more."""
        ends = []
        self.here.subscribe("news", lambda message: ends[0]())
        ends.append(self.here.subscribe("news", self.got.append))
        self.say("news")
        self.assertEqual(self.got, [])

    def test_subscribes_meanwhile(self) -> None:
        """One that comes while a message is told gets the next."""
        self.here.subscribe("news", lambda message: self.here.subscribe("news", self.got.append))
        self.say("news", b"1")
        self.assertEqual(self.got, [])
        self.say("news", b"2")
        self.assertEqual(self.got, [b"2"])

    def test_lost(self) -> None:
        """Who wants to know how many messages were lost is told; a failure harms nobody else."""
        self.here.subscribe("news", print)
        self.here.subscribe("news", print, lambda count: 1 / 0)
        self.here.subscribe("news", print, self.got.append)
        self.here.lost("news", 3)
        self.here.lost("weather", 4)
        self.assertEqual(self.got, [3])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_letters(self) -> None:
        """A topic may have any letters."""
        self.here.subscribe("grün", self.got.append)
        self.say("grün")
        self.assertEqual((self.got, api._topic("grün")), ([b"hello"], "grün".encode()))
