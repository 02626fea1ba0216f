"""The bus over a stream: what survives an outage, and what is told."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.bus.played import PlayedRedis, Shore, system_of
from txsticky.bus import link, stream, unwritten
from txsticky.bus.stream import StreamBackplane
from txsticky.core.redis_url import STREAM, RedisAddress


class Machine:
    """A backplane, and what it tells its hub."""

    def __init__(self, redis: PlayedRedis, mark: bytes, db: int = 3, ahead: float = 0.0) -> None:
        self.redis = redis
        self.reactor = MemoryReactorClock()
        self.shore = Shore()
        address = RedisAddress(path="/redis", db=db, stream=100)
        system = system_of(self.reactor, mark)
        system.wall = lambda: self.reactor.seconds() + ahead
        self.backplane = StreamBackplane(address, system, self.shore)

    def start(self) -> None:
        """Connect."""
        self.backplane.start()
        self.connect(2)

    def connect(self, count: int) -> None:
        """Have the latest attempts succeed."""
        for client in self.reactor.unixClients[-count:]:
            self.redis.accept(client[1].buildProtocol(None))

    def again(self, count: int = 2) -> None:
        """Connect again."""
        self.reactor.advance(2.0)
        self.connect(count)

    def news(self) -> list[Any]:
        """What was told since the last call, but for outages."""
        return [told for told in self.shore.take() if told[0] != "outage"]

    def heard(self) -> list[Any]:
        """What has arrived since the last call; other news are dropped."""
        return [told[2] for told in self.shore.take() if told[0] == "arrived"]


class StreamCase(SynchronousTestCase):
    """Two machines and a played Redis."""

    def setUp(self) -> None:
        # txredisapi measures the time for an answer by the global reactor's clock.
        self.patch(link, "REPLY_TIMEOUT", None)
        self.redis = PlayedRedis()
        self.one, self.two = Machine(self.redis, b"mark-one"), Machine(self.redis, b"mark-two")
        for machine in (self.one, self.two):
            machine.start()
            machine.shore.take()
        self.redis.said.clear()

    def publish(self, *messages: bytes, topic: bytes = b"a") -> None:
        """Publish from the first machine."""
        for message in messages:
            self.one.backplane.publish(topic, message)
        self.redis.serve()

    def outage(self) -> None:
        """Have Redis end all connections."""
        for machine in (self.one, self.two):
            machine.reactor.advance(10.0)
        self.redis.drop()
        for machine in (self.one, self.two):
            machine.shore.take()


class MessagesTests(StreamCase):
    """While all is well."""

    def test_arrives(self) -> None:
        """What one machine publishes arrives at the other in order, and not at the first itself."""
        self.publish(b"1", b"2")
        self.publish(b"3", topic=b"b")
        self.assertEqual(
            self.two.shore.take(),
            [("arrived", b"a", b"1"), ("arrived", b"a", b"2"), ("arrived", b"b", b"3")],
        )
        self.assertEqual(self.one.shore.take(), [])

    def test_together(self) -> None:
        """What is published while an answer is awaited goes into one entry."""
        before = len(self.redis.entries)
        self.publish(*[b"%d" % number for number in range(20)])
        self.assertEqual(len(self.redis.entries) - before, 2)
        self.assertEqual(len(self.two.heard()), 20)

    def test_many(self) -> None:
        """More entries than are read at once arrive as well."""
        for number in range(3 * stream.COUNT):
            self.one.backplane.publish(b"a", b"%d" % number)
            self.redis.serve()
        self.assertEqual(len(self.two.heard()), 3 * stream.COUNT)

    def test_quiet(self) -> None:
        """If no entry comes for a while, the reader waits again, and nothing is told."""
        self.redis.unblock()
        self.assertEqual(self.two.shore.take(), [])
        self.publish(b"1")
        self.assertEqual(self.two.heard(), [b"1"])

    def test_subscriptions(self) -> None:
        """A subscription changes nothing in the stream: all topics are read."""
        self.two.backplane.subscribe(b"a")
        self.two.backplane.unsubscribe(b"a")
        self.redis.serve()
        self.assertEqual(self.redis.said, [])

    def test_bounded(self) -> None:
        """Redis is asked to keep so many entries, and to be quick about it."""
        self.publish(b"1")
        (command,) = (said for said in self.redis.said if said[0] == b"XADD")
        self.assertEqual(command[1:6], [STREAM, b"MAXLEN", b"~", b"100", b"*"])


class OutageTests(StreamCase):
    """Redis goes away."""

    def test_nothing_is_lost(self) -> None:
        """What is published meanwhile waits, and arrives; no gap is told."""
        self.outage()
        self.publish(b"1", b"2")
        self.assertEqual(self.two.heard(), [])
        for machine in (self.two, self.one):
            machine.again()
        self.assertEqual(self.two.news(), [("arrived", b"a", b"1"), ("arrived", b"a", b"2")])
        self.assertEqual((self.one.backplane.lost, self.one.shore.take()), (0, [("outage", None)]))

    def test_what_others_said(self) -> None:
        """A machine that was away alone reads what was written meanwhile."""
        self.outage()
        self.one.again()
        self.publish(b"1")
        self.two.again()
        self.assertEqual(self.two.news(), [("arrived", b"a", b"1")])

    def test_answer_is_lost(self) -> None:
        """An entry that may not have been written is written again, and read once."""
        self.one.backplane.publish(b"a", b"1")
        self.redis.serve()
        self.one.backplane.publish(b"a", b"2")
        fields = self.one.backplane._unwritten.entry().fields(b"mark-one", 2)
        self.redis.add(*fields)  # so far Redis has come when it died
        self.outage()
        for machine in (self.one, self.two):
            machine.again()
        self.publish(b"3")
        self.assertEqual([fields for _, fields in self.redis.entries].count(fields), 2)
        self.assertEqual(self.two.heard(), [b"2", b"3"])

    def test_told(self) -> None:
        """A publisher can know, and the log tells the outage once and its end."""
        self.one.reactor.advance(10.0)
        self.two.backplane.stop()
        with capturedLogs() as events:
            self.redis.drop()
            self.assertEqual(self.one.shore.take(), [("outage", 10.0)])
            self.one.again()
        away, back = map(formatEvent, events)
        self.assertIn("does not reach Redis at /redis", away)
        self.assertIn("messages wait on this machine", away)
        self.assertIn("reaches Redis again", back)
        self.assertEqual(self.one.shore.take(), [("outage", None)])

    def test_too_long(self) -> None:
        """What has no room to wait is lost, counted, and told to the other machine."""
        self.patch(unwritten, "LIMIT", 2 * (unwritten.COST + 2))
        self.outage()
        self.publish(b"1", b"2", b"3", b"4")
        self.assertEqual(self.one.backplane.lost, 2)
        for machine in (self.two, self.one):
            machine.again()
        self.assertEqual(
            self.two.news(),
            [("arrived", b"a", b"1"), ("arrived", b"a", b"2"), ("missed", b"a", 2)],
        )

    def test_no_room(self) -> None:
        """A Redis that is too slow is an outage until half of the room is free, told once."""
        self.patch(unwritten, "LIMIT", 4 * (unwritten.COST + 2))
        self.patch(unwritten, "MOST", 1)
        self.redis.silent = True
        self.publish(b"1", b"2", b"3", b"4", b"5")
        self.assertEqual(self.one.shore.take(), [("outage", 0.0)])
        for _ in range(2):
            self.assertEqual(self.one.shore.take(), [])
            self.answer()
        self.assertEqual(self.one.shore.take(), [("outage", None)])

    def answer(self) -> None:
        """Have Redis answer one XADD."""
        protocol = self.one.backplane._out.redis
        protocol.transport.clear()
        protocol.dataReceived(b"$3\r\n9-9\r\n")


class LossTests(StreamCase):
    """What cannot be made good is told."""

    def test_trimmed(self) -> None:
        """Entries that were removed before they were read are told as a gap, once."""
        self.outage()
        self.one.again()
        self.publish(b"1")
        self.publish(b"2")
        del self.redis.entries[:-1]
        self.two.again()
        self.assertEqual(self.two.news(), [("gap", 0.0, 12.0), ("arrived", b"a", b"2")])
        self.redis.unblock()
        self.assertEqual(self.two.shore.take(), [])

    def test_trimmed_while_it_reads(self) -> None:
        """Entries removed under a reader that does not keep up are told as a gap, once."""
        self.redis.silent = True
        for number in range(3):
            self.one.backplane.publish(b"a", b"%d" % number)
            self.redis.silent = False
            self.redis.serve()
        self.two.shore.take()
        for _ in range(3):
            last = self.redis.add(b"other", b'{"number": 0}', b"a", b"late")
        self.redis.entries = [entry for entry in self.redis.entries if entry[0] == last]
        self.redis.serve()
        self.assertEqual(self.two.shore.take(), [("gap", 0.0, 0.0), ("arrived", b"a", b"late")])

    def test_trimmed_before_it_reads(self) -> None:
        """Entries removed between the anchor of a new reader and its first read are a gap too."""
        three = Machine(self.redis, b"mark-three")
        tell = Shore.gap

        def told_late(shore: Shore, since: float, until: float) -> None:
            tell(shore, since, until)
            if len(self.redis.entries) > 1:  # the stream moves on before the reader asks
                last = self.redis.add(b"other", b'{"number": 0}', b"a", b"late")
                self.redis.entries = [entry for entry in self.redis.entries if entry[0] == last]

        self.patch(Shore, "gap", told_late)
        three.start()
        kinds = [news[0] for news in three.news()]
        self.assertEqual(kinds, ["gap", "gap", "arrived"])

    def test_emptied(self) -> None:
        """A Redis that begins anew is told as a gap, and what is said from then on arrives."""
        self.outage()
        self.redis.entries.clear()
        for machine in (self.two, self.one):
            machine.again()
        self.assertEqual(self.two.news(), [("gap", 0.0, 12.0)])
        self.publish(b"1")
        self.redis.unblock()
        self.assertEqual(self.two.news(), [("arrived", b"a", b"1")])

    def test_emptied_and_written(self) -> None:
        """What others have written to a Redis that began anew is read."""
        self.outage()
        self.redis.entries.clear()
        self.one.again()
        self.publish(b"1")
        self.two.again()
        self.assertEqual(self.two.news(), [("gap", 0.0, 12.0), ("arrived", b"a", b"1")])

    def test_clock_set_back(self) -> None:
        """What others have written to a new Redis is read though its clock is behind."""
        self.outage()
        self.redis.entries.clear()
        self.redis.time = 10
        self.one.again()
        self.publish(b"1")
        self.two.again()
        self.publish(b"2")
        self.assertEqual(self.two.heard(), [b"1", b"2"])

    def test_clocks_apart(self) -> None:
        """A machine whose clock is hours off hears all, and is told gaps by its own clock."""
        for ahead in (7200.0, -7200.0):
            machine = Machine(self.redis, b"mark%+d" % ahead, ahead=ahead)
            machine.start()
            machine.shore.take()
            self.publish(b"1")
            machine.backplane.publish(b"a", b"2")
            self.redis.serve()
            self.publish(b"3")
            heard = self.two.heard(), machine.heard(), self.one.heard()
            self.assertEqual(heard, ([b"1", b"2", b"3"], [b"1", b"3"], [b"2"]))
            self.redis.entries.clear()
            self.redis.unblock()
            self.assertEqual(machine.shore.take(), [("gap", ahead, ahead)])
            self.two.shore.take()

    def test_flushed(self) -> None:
        """A stream that is deleted under its readers is begun anew."""
        self.redis.entries.clear()
        self.redis.unblock()
        self.assertEqual(self.two.shore.take(), [("gap", 0.0, 0.0)])
        self.publish(b"1")
        self.assertEqual(self.two.heard(), [b"1"])


class BadRedisTests(StreamCase):
    """A Redis that does not do what it is told."""

    def refused(self, error: str, attempts: int = 6) -> list[str]:
        """Publish while XADD is refused; returns what the log says."""
        self.redis.refusing = error
        with capturedLogs() as events:
            self.publish(b"1")
            for _ in range(attempts):
                self.one.again(1)
            self.redis.refusing = None
            self.one.again(1)
        return list(map(formatEvent, events))

    def test_full(self) -> None:
        """A Redis that is full is tried again until it has room; told once, and nothing is lost."""
        away, back = self.refused("OOM command not allowed when used memory > 'maxmemory'.")
        self.assertIn("(OOM command not allowed", away)
        self.assertIn("reaches Redis again", back)
        self.assertEqual((self.two.heard(), self.one.backplane.lost), ([b"1"], 0))
        self.assertEqual(self.one.shore.take(), [("outage", 0.0), ("outage", None)])

    def test_replica(self) -> None:
        """A Redis that is a replica is tried again until it takes entries; nothing is lost."""
        away, _ = self.refused("READONLY You can't write against a read only replica.")
        self.assertIn("(READONLY", away)
        self.assertEqual(self.two.heard(), [b"1"])

    def test_delays_grow(self) -> None:
        """The next attempt comes later each time, though Redis lets us connect each time."""
        self.refused("OOM", 0)
        waits = []
        self.redis.refusing = "OOM"
        self.publish(b"2")
        for _ in range(4):
            now = self.one.reactor.seconds()
            waits.append(max(c.getTime() - now for c in self.one.reactor.getDelayedCalls()))
            self.one.again(1)
        self.assertGreater(max(waits), 1.0)
        self.assertLess(max(waits), 15.1)

    def test_replica_from_the_beginning(self) -> None:
        """A Redis that lets no entry be written at the start is told, and tried again."""
        self.redis.refusing = "READONLY no"
        machine = Machine(self.redis, b"mark-3rd")
        with capturedLogs() as events:
            machine.start()
            self.redis.refusing = None
            machine.again(1)
        self.assertEqual(len(events), 2, list(map(formatEvent, events)))
        self.publish(b"1")
        self.assertEqual(machine.heard(), [b"1"])

    def test_slow(self) -> None:
        """A Redis that does not answer delays messages and loses none."""
        self.redis.silent = True
        self.publish(b"1", b"2", b"3")
        self.assertEqual(self.two.heard(), [])
        self.redis.silent = False
        self.redis.serve()
        self.assertEqual(self.two.heard(), [b"1", b"2", b"3"])

    def test_wrong_database(self) -> None:
        """A database that is not there is told."""
        machine = Machine(self.redis, b"mark-3rd", db=99)
        with capturedLogs() as events:
            machine.start()
        self.assertIn("DB index is out of range", formatEvent(events[0]))


class LifeTests(StreamCase):
    """The beginning and the end of the way to other machines."""

    def test_begins_at_the_end(self) -> None:
        """What was published before a machine came is not heard there."""
        self.publish(b"early")
        machine = Machine(self.redis, b"mark-3rd")
        machine.start()
        self.publish(b"1")
        self.assertEqual(machine.heard(), [b"1"])

    def test_upgrade(self) -> None:
        """A program that takes over reads on where the other stopped, and writes what waited."""
        self.outage()
        self.publish(b"mine")
        self.two.again()
        self.two.backplane.publish(b"a", b"theirs")
        self.redis.serve()
        successor = Machine(self.redis, b"mark-new")
        successor.backplane.restore(self.one.backplane.snapshot())
        successor.start()
        self.assertEqual(successor.heard(), [b"theirs"])
        self.assertEqual(self.two.heard(), [b"mine"])

    def test_upgrade_from_another_bus(self) -> None:
        """A program before that had no stream leaves nothing to go on with."""
        self.one.backplane.restore({"heard": 5.0})
        self.one.backplane.restore({})
        self.assertEqual(self.one.backplane.snapshot()["mark"], b"mark-one".hex())

    def test_stop(self) -> None:
        """A backplane that is stopped ends its connections and makes no further ones."""
        stopped = self.one.backplane.stop()
        self.redis.serve()
        self.successResultOf(stopped)
        self.one.reactor.advance(60.0)
        self.assertEqual(self.one.reactor.getDelayedCalls(), [])
