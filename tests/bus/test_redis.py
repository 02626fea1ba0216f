"""The link to Redis: how often it is tried, and how it ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsticky.bus import redis as backplane
from txsticky.bus.redis import RedisBackplane
from txsticky.core.redis_url import RedisAddress


class BackplaneTests(SynchronousTestCase):
    """A backplane whose Redis is played here, command by command."""

    def setUp(self) -> None:
        # txredisapi measures the time for an answer by the global reactor's clock.
        self.patch(backplane, "REPLY_TIMEOUT", None)
        self.reactor = MemoryReactorClock()
        self.heard: list[tuple[bytes, bytes]] = []
        self.backplane = RedisBackplane(
            RedisAddress(path="/redis", db=3),
            self.reactor,
            b"mark-own",
            lambda *message: self.heard.append(message),
        )
        self.backplane.start()

    def attempts(self) -> int:
        return len(self.reactor.unixClients)

    def refuse(self) -> None:
        """The latest attempt of each link fails."""
        refusal = Failure(ConnectionRefusedError())
        for client, connector in zip(
            self.reactor.unixClients[-2:], self.reactor.connectors[-2:], strict=True
        ):
            client[1].clientConnectionFailed(connector, refusal)

    def connect(self) -> tuple[Any, Any]:
        """The latest attempts succeed: returns the protocols that publish and that listen."""
        protocols = []
        for client in self.reactor.unixClients[-2:]:
            protocol = client[1].buildProtocol(None)
            protocol.makeConnection(StringTransport())
            protocol.dataReceived(b"+PONG\r\n")
            protocol.transport.clear()
            protocols.append(protocol)
        return protocols[0], protocols[1]

    def test_backoff(self) -> None:
        """After each failure the next attempt comes twice as late, up to a bound."""
        waits = []
        for _ in range(8):
            self.refuse()
            before, waited = self.attempts(), 0.0
            while self.attempts() == before:
                self.reactor.advance(0.5)
                waited += 0.5
            waits.append(waited)
        self.assertEqual(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0])

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
        self.reactor.advance(0.5)
        out, listening = self.connect()
        before = self.attempts()
        for protocol in (out, listening):
            protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(0.5)
        self.assertEqual(self.attempts(), before + 2)
        listening = self.reactor.unixClients[-1][1].buildProtocol(None)
        listening.makeConnection(StringTransport())
        listening.transport.clear()
        listening.dataReceived(b"+PONG\r\n")
        command = b"*2\r\n$9\r\nSUBSCRIBE\r\n$12\r\ntxsticky:3:a\r\n"
        self.assertEqual(listening.transport.value(), command)

    def test_commands(self) -> None:
        """What is said to Redis: channels named by database and topic, marked messages."""
        out, listening = self.connect()
        self.backplane.subscribe(b"a")
        listening.dataReceived(b"*3\r\n$9\r\nsubscribe\r\n$12\r\ntxsticky:3:a\r\n:1\r\n")
        self.backplane.unsubscribe(b"a")
        self.backplane.publish(b"a", b"12")
        self.assertEqual(
            listening.transport.value(),
            b"*2\r\n$9\r\nSUBSCRIBE\r\n$12\r\ntxsticky:3:a\r\n"
            b"*2\r\n$11\r\nUNSUBSCRIBE\r\n$12\r\ntxsticky:3:a\r\n",
        )
        self.assertEqual(
            out.transport.value(),
            b"*3\r\n$7\r\nPUBLISH\r\n$12\r\ntxsticky:3:a\r\n$10\r\nmark-own12\r\n",
        )

    def test_heard(self) -> None:
        """What others publish is passed on as it is; one's own is not."""
        _, listening = self.connect()
        frame = b"*3\r\n$7\r\nmessage\r\n$12\r\ntxsticky:3:a\r\n$10\r\n%s\r\n"
        listening.dataReceived(frame % b"mark-own12" + frame % b"mark-oth12")
        self.assertEqual(self.heard, [(b"a", b"12")])

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
        self.reactor.advance(0.5)
        self.assertEqual(self.attempts(), 4)

    def test_asked(self) -> None:
        """A quiet connection is asked now and then whether it is still one."""
        out, listening = self.connect()
        self.reactor.advance(backplane.PING_INTERVAL)
        for protocol in (out, listening):
            self.assertEqual(protocol.transport.value(), b"*1\r\n$4\r\nPING\r\n")

    def test_stop_while_waiting(self) -> None:
        """Stopped between two attempts, there is no further one."""
        self.refuse()
        self.successResultOf(self.backplane.stop())
        self.reactor.advance(60.0)
        self.assertEqual((self.attempts(), self.reactor.getDelayedCalls()), (2, []))

    def test_stop_while_connecting(self) -> None:
        """Stopped during an attempt, it is given up."""
        self.successResultOf(self.backplane.stop())
        self.reactor.advance(60.0)
        self.assertEqual(self.attempts(), 2)

    def test_stop(self) -> None:
        """Stopped while connected, it is over when the connections have ended."""
        protocols = self.connect()
        stopped = self.backplane.stop()
        self.assertNoResult(stopped)
        for protocol in protocols:
            self.assertTrue(protocol.transport.disconnecting)
            protocol.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(stopped)
        self.reactor.advance(60.0)
        self.assertEqual((self.attempts(), self.reactor.getDelayedCalls()), (2, []))
