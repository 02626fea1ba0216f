"""The link to Redis: how often it is tried, and how it ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.bus.played import Shore, system_of
from txsticky.bus import link
from txsticky.bus.losses import Notice
from txsticky.bus.redis import UNANSWERED_LIMIT, RedisBackplane
from txsticky.core.redis_url import RedisAddress

LISTENS = b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n"
SUBSCRIBE_A = b"*2\r\n$9\r\nSUBSCRIBE\r\n$12\r\ntxsticky:3:a\r\n"
SUBSCRIBE_NOTICES = b"*2\r\n$9\r\nSUBSCRIBE\r\n$15\r\ntxsticky-lost:3\r\n"
OPEN = ("outage", None)


class BackplaneTests(SynchronousTestCase):
    """A backplane whose Redis is played here, command by command."""

    def setUp(self) -> None:
        # txredisapi measures the time for an answer by the global reactor's clock.
        self.patch(link, "REPLY_TIMEOUT", None)
        self.reactor = MemoryReactorClock()
        self.shore = Shore()
        self.backplane = RedisBackplane(
            RedisAddress(path="/redis", db=3), system_of(self.reactor, b"mark-own"), self.shore
        )
        self.backplane.start()
        self.assertEqual(self.shore.take(), [("outage", 0.0)])

    def attempts(self) -> int:
        return len(self.reactor.unixClients)

    def refuse(self) -> None:
        """Have the latest attempt of each link fail."""
        refusal = Failure(ConnectionRefusedError())
        for client, connector in zip(
            self.reactor.unixClients[-2:], self.reactor.connectors[-2:], strict=True
        ):
            client[1].clientConnectionFailed(connector, refusal)

    def connect(self) -> tuple[Any, Any]:
        """Have the latest attempts succeed; returns the protocols that publish and that listen."""
        protocols = []
        for client in self.reactor.unixClients[-2:]:
            protocol = client[1].buildProtocol(None)
            protocol.makeConnection(StringTransport())
            protocol.dataReceived(b"+PONG\r\n")
            protocol.transport.clear()
            protocols.append(protocol)
        return protocols[0], protocols[1]

    def lose(self, *protocols: Any) -> None:
        """Have connections end."""
        for protocol in protocols:
            protocol.connectionLost(Failure(ConnectionDone()))

    def waits(self) -> list[float]:
        """When the next attempts are made, in seconds from now."""
        now = self.reactor.seconds()
        return sorted(call.getTime() - now for call in self.reactor.getDelayedCalls())

    def test_backoff(self) -> None:
        """After each failure the next attempt comes twice as late, up to 2 s, less by chance."""
        seen = []
        for _ in range(8):
            self.refuse()
            waits = self.waits()
            self.assertNotEqual(*waits)  # the two do not come together
            seen.append(waits)
            self.reactor.advance(2.0)
        for (first, second), least in zip(seen, [0.2, 0.4, 0.8, *[1.5] * 5], strict=True):
            self.assertTrue(least <= first < second <= least + 0.5, (first, second, least))

    def test_soon_again(self) -> None:
        """Once Redis was there, the delays begin anew."""
        for _ in range(5):
            self.refuse()
            self.reactor.advance(2.0)
        self.lose(*self.connect())
        self.assertLess(self.waits()[-1], 0.71)

    def test_told_once(self) -> None:
        """An outage is told once, and its end."""
        with capturedLogs() as events:
            for _ in range(3):
                self.refuse()
                self.reactor.advance(30.0)
            self.backplane.publish(b"t", b"lost")
            self.connect()
        away, back = map(formatEvent, events)
        self.assertIn("does not reach Redis at /redis", away)
        self.assertIn("stayed on this machine: 1.", back)

    def test_again(self) -> None:
        """A connection that is lost is made again soon, and its topics are listened to again."""
        self.backplane.subscribe(b"a")
        self.refuse()
        self.reactor.advance(2.0)
        self.lose(*self.connect())
        before = self.attempts()
        self.reactor.advance(2.0)
        self.assertEqual(self.attempts(), before + 2)
        for client in self.reactor.unixClients[-2:]:
            protocol = client[1].buildProtocol(None)
            protocol.makeConnection(StringTransport())
            protocol.transport.clear()
            protocol.dataReceived(b"+PONG\r\n")
            said = protocol.transport.value()
            if said:
                self.assertEqual(said, SUBSCRIBE_A + SUBSCRIBE_NOTICES)

    def test_commands(self) -> None:
        """What is said to Redis: channels named by database and topic, marked messages."""
        out, listening = self.connect()
        listening.dataReceived(LISTENS % (15, b"txsticky-lost:3"))
        self.backplane.subscribe(b"a")
        listening.dataReceived(LISTENS % (12, b"txsticky:3:a"))
        self.backplane.unsubscribe(b"a")
        self.backplane.publish(b"a", b"12")
        self.assertEqual(
            listening.transport.value(),
            SUBSCRIBE_A + b"*2\r\n$11\r\nUNSUBSCRIBE\r\n$12\r\ntxsticky:3:a\r\n",
        )
        self.assertEqual(
            out.transport.value(),
            b"*3\r\n$7\r\nPUBLISH\r\n$12\r\ntxsticky:3:a\r\n$10\r\nmark-own12\r\n",
        )

    def test_heard(self) -> None:
        """What other machines publish is passed on as it is; the machine's own messages are not."""
        _, listening = self.connect()
        frame = b"*3\r\n$7\r\nmessage\r\n$12\r\ntxsticky:3:a\r\n$10\r\n%s\r\n"
        listening.dataReceived(frame % b"mark-own12" + frame % b"mark-oth12")
        self.assertEqual(self.shore.take(), [OPEN, ("arrived", b"a", b"12")])

    def test_gap(self) -> None:
        """What may be missing is told from the last sign of Redis until it has all topics again."""
        self.reactor.advance(100.0)
        self.backplane.subscribe(b"a")
        _, listening = self.connect()
        listening.dataReceived(LISTENS % (12, b"txsticky:3:a"))
        self.reactor.advance(1.0)
        listening.dataReceived(LISTENS % (15, b"txsticky-lost:3"))
        self.assertEqual(self.shore.take(), [OPEN, ("gap", 0.0, 101.0)])
        self.reactor.advance(5.0)
        self.lose(listening)
        self.reactor.advance(2.0)
        listening = self.reactor.unixClients[-1][1].buildProtocol(None)
        listening.makeConnection(StringTransport())
        listening.dataReceived(b"+PONG\r\n" + LISTENS % (12, b"txsticky:3:a"))
        self.assertEqual(self.shore.take(), [])
        listening.dataReceived(LISTENS % (15, b"txsticky-lost:3"))
        self.assertEqual(self.shore.take(), [("gap", 101.0, 108.0)])

    def test_outage(self) -> None:
        """Messages that stay here are counted by topic; other machines are told when it is over."""
        self.reactor.advance(10.0)
        self.lose(self.connect()[0])
        for topic in (b"a", b"b", b"a"):
            self.backplane.publish(topic, b"x")
        self.assertEqual(self.shore.take(), [OPEN, ("outage", 10.0)])
        self.assertEqual(self.backplane.lost, 3)
        self.reactor.advance(2.0)
        out = self.reactor.unixClients[-1][1].buildProtocol(None)
        out.makeConnection(StringTransport())
        out.transport.clear()
        out.dataReceived(b"+PONG\r\n")
        notice = b'mark-own[10.0, 10.0, {"a": 2, "b": 1}, false]'
        self.assertEqual(
            out.transport.value(),
            b"*3\r\n$7\r\nPUBLISH\r\n$15\r\ntxsticky-lost:3\r\n$%d\r\n%b\r\n"
            % (len(notice), notice),
        )
        self.assertEqual(self.shore.take(), [OPEN])

    def test_notice(self) -> None:
        """The hub is told how many of which topics another machine has lost, nonsense not."""
        _, listening = self.connect()
        self.shore.take()
        frame = b"*3\r\n$7\r\nmessage\r\n$15\r\ntxsticky-lost:3\r\n$%d\r\n%b\r\n"
        told = Notice(5.0, 6.0, {b"a": 2}, others=True).to_json().encode()
        for mark, text in ((b"mark-own", told), (b"mark-oth", b"[]"), (b"mark-oth", told)):
            listening.dataReceived(frame % (len(text) + 8, mark + text))
        self.assertEqual(self.shore.take(), [("missed", b"a", 2), ("gap", 5.0, 6.0)])

    def test_not_kept_up(self) -> None:
        """A Redis that does not answer costs bounded memory; the end of that is told."""
        out, _ = self.connect()
        self.shore.take()
        large = bytes(UNANSWERED_LIMIT)
        for _ in range(3):
            self.backplane.publish(b"a", large)
        self.assertEqual((self.backplane.lost, self.shore.take()), (2, [("outage", 0.0)]))
        out.transport.clear()
        out.dataReceived(b":1\r\n")
        self.assertIn(b'{"a": 2}', out.transport.value())
        self.assertEqual(self.shore.take(), [OPEN])

    def test_lost_on_the_way(self) -> None:
        """A message that Redis has not answered counts as lost when the connection ends."""
        out, _ = self.connect()
        self.backplane.publish(b"a", b"x")
        self.lose(out)
        self.assertEqual(self.backplane.lost, 1)

    def test_upgrade(self) -> None:
        """The program that goes on knows since when it has heard nothing."""
        self.reactor.advance(7.0)
        _, listening = self.connect()
        self.reactor.advance(1.0)
        listening.dataReceived(LISTENS % (15, b"txsticky-lost:3"))
        self.assertEqual(self.backplane.snapshot(), {"heard": 8.0})
        self.shore.take()
        self.lose(listening)
        self.backplane.restore({"heard": 3.0})
        self.reactor.advance(2.0)
        listening = self.reactor.unixClients[-1][1].buildProtocol(None)
        listening.makeConnection(StringTransport())
        listening.dataReceived(b"+PONG\r\n" + LISTENS % (15, b"txsticky-lost:3"))
        self.assertEqual(self.shore.take(), [("gap", 3.0, 10.0)])

    def test_refused_command(self) -> None:
        """A publish that Redis refuses is counted, and told once."""
        out, _ = self.connect()
        with capturedLogs() as events:
            for _ in range(3):
                self.backplane.publish(b"a", b"x")
                out.dataReceived(b"-NOPERM no\r\n")
        self.assertEqual(self.backplane.lost, 3)
        self.assertEqual(["NOPERM" in formatEvent(event) for event in events], [True])

    def test_password_wanted(self) -> None:
        """A Redis that wants a password is left, told of, and tried again later."""
        with capturedLogs() as events:
            for client in self.reactor.unixClients[-2:]:
                protocol = client[1].buildProtocol(None)
                protocol.makeConnection(StringTransport())
                protocol.dataReceived(b"-NOAUTH Authentication required.\r\n")
                self.assertTrue(protocol.transport.disconnecting)
                protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(["NOAUTH" in formatEvent(event) for event in events], [True])
        self.reactor.advance(2.0)
        self.assertEqual(self.attempts(), 4)

    def test_asked(self) -> None:
        """A quiet connection is asked now and then whether it still works."""
        out, listening = self.connect()
        self.reactor.advance(link.PING_INTERVAL)
        for protocol in (out, listening):
            self.assertEqual(protocol.transport.value(), b"*1\r\n$4\r\nPING\r\n")

    def test_stop_while_waiting(self) -> None:
        """A link that is stopped between two attempts makes no further one."""
        self.refuse()
        self.successResultOf(self.backplane.stop())
        self.reactor.advance(60.0)
        self.assertEqual((self.attempts(), self.reactor.getDelayedCalls()), (2, []))

    def test_stop_while_connecting(self) -> None:
        """A link that is stopped during an attempt gives the attempt up."""
        self.successResultOf(self.backplane.stop())
        self.reactor.advance(60.0)
        self.assertEqual(self.attempts(), 2)

    def test_stop(self) -> None:
        """The stop of a connected link is over when its connections have ended."""
        protocols = self.connect()
        stopped = self.backplane.stop()
        self.assertNoResult(stopped)
        for protocol in protocols:
            self.assertTrue(protocol.transport.disconnecting)
            protocol.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(stopped)
        self.reactor.advance(60.0)
        self.assertEqual((self.attempts(), self.reactor.getDelayedCalls()), (2, []))
