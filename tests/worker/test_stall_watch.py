"""Clients that stall: when a pause is too long, and what becomes of the connection."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from tests.transport.cases import FakeHost, FakePolicy, GateCase
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.stall import Pauses
from txsticky.transport.gate import Gate
from txsticky.worker.stall_watch import StallWatch, awaited

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PART = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
LATE = b"HTTP/1.1 408 Request Timeout\r\n\r\n"


class PausesTests(SynchronousTestCase):
    """Which of many have stalled."""

    def setUp(self) -> None:
        self.pauses: Pauses[str] = Pauses(10.0, 1.0)

    def look(self, now: float, **waiting: int) -> list[str]:
        """Look at this time."""
        return self.pauses.look(waiting, now)

    def test_pause(self) -> None:
        """A client that has not moved for the limit has stalled, not before; it is told once."""
        told = [self.look(float(now), a=1) for now in range(12)]
        self.assertEqual(told, [[]] * 10 + [["a"], []])

    def test_moves(self) -> None:
        """Each move begins the time anew, also one to a smaller mark."""
        for now, mark in enumerate([1] * 9 + [2] * 9 + [1] * 9):
            self.assertEqual(self.look(float(now), a=mark), [])

    def test_not_waiting_for_a_while(self) -> None:
        """A look at which nothing was owed begins the time anew."""
        for now in range(9):
            self.assertEqual(self.look(float(now), a=1), [])
        self.look(9.0)
        self.assertEqual([self.look(10.0 + now, a=1) for now in range(10)], [[]] * 10)
        self.assertEqual(self.look(20.0, a=1), ["a"])

    def test_nobody_looked(self) -> None:
        """A time in which the worker could not look is not held against any client."""
        for now in range(5):
            self.look(float(now), a=1)
        self.assertEqual(self.look(500.0, a=1), [])
        self.assertEqual([self.look(500.0 + now, a=1) for now in range(1, 5)], [[]] * 4)
        self.assertEqual(self.look(505.0, a=1), ["a"])

    @given(
        st.lists(st.tuples(st.booleans(), st.sampled_from([0.5, 1.0, 1.0, 1.0, 30.0])), max_size=60)
    )
    def test_any_story(self, story: list[tuple[bool, float]]) -> None:
        """No client that moved within the limit, by the time that was looked at, has stalled."""
        pauses: Pauses[str] = Pauses(5.0, 1.0)
        now, mark, still = 0.0, 0, 0.0
        pauses.look({"a": mark}, now)
        for moved, seconds in story:
            now += seconds
            still += min(seconds, 1.0)
            if moved:
                mark, still = mark + 1, 0.0
            stalled = pauses.look({"a": mark}, now)
            if stalled:
                self.assertGreaterEqual(still, 5.0)
                pauses.look({"a": mark}, now)
                still = 0.0
            else:
                self.assertLess(still, 5.0)


class AwaitedTests(GateCase):
    """When the client is to move, and what shows that it does."""

    def mark(self, upgrades: bool = True) -> int | None:
        """The mark of the connection."""
        return awaited(self.gate, upgrades)

    def test_idle(self) -> None:
        """Between two requests nothing is owed, nor with half a head: other times bound those."""
        self.assertIsNone(self.mark())
        self.arrive(GET)
        self.answer()
        self.assertIsNone(self.mark())
        self.arrive(GET[:10])
        self.assertIsNone(self.mark())

    def test_handler(self) -> None:
        """An application that takes long to answer is not the client's pause."""
        self.arrive(GET)
        self.assertIsNone(self.mark())

    def test_upload(self) -> None:
        """The rest of a body is owed, and each piece of it is a move."""
        self.arrive(POST)
        first = self.mark()
        self.arrive(b"12345")
        second = self.mark()
        self.assertNotEqual(first, second)
        self.assertEqual(second, self.mark())
        self.arrive(b"12345")
        self.assertIsNone(self.mark())

    def test_upload_after_its_answer(self) -> None:
        """The rest of a body is owed also when the answer is there already."""
        self.arrive(POST)
        self.answer()
        self.assertIsNotNone(self.mark())

    def test_upload_that_is_not_read(self) -> None:
        """While the application does not read, the client cannot be blamed."""
        self.arrive(POST)
        self.gate.pause()
        self.assertIsNone(self.mark())
        self.gate.resume()
        self.assertIsNotNone(self.mark())

    def test_download(self) -> None:
        """A response is to be taken for as long as the kernel does not have it all."""
        self.arrive(GET)
        self.answer(PART)
        self.assertIsNone(self.mark())
        self.host.buffered, self.host.taken = 50, 10
        first = self.mark()
        self.host.taken = 20
        self.assertNotEqual(self.mark(), first)
        self.host.buffered = 0
        self.assertIsNone(self.mark())

    def test_download_and_close(self) -> None:
        """The last response is to be taken while the connection is being closed."""
        self.arrive(b"GET / HTTP/1.0\r\n\r\n")
        self.host.buffered = 5
        self.answer(b"HTTP/1.0 200 OK\r\n\r\nok")
        self.assertIsNotNone(self.mark())
        self.close()
        self.assertIsNotNone(self.mark())

    def test_upgraded(self) -> None:
        """A WebSocket's pauses are its own, if there may be one."""
        self.arrive(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        self.answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
        self.host.buffered = 5
        self.assertIsNone(self.mark())
        self.assertIsNotNone(self.mark(upgrades=False))

    def test_not_plain(self) -> None:
        """Where nothing can be upgraded, a response to an odd request is to be taken."""
        self.arrive(b"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n")
        self.host.buffered = 5
        self.assertIsNotNone(self.mark())


class StalledTests(GateCase):
    """What becomes of a connection."""

    def test_upload(self) -> None:
        """A request that was not answered is answered, and a moment later the client has left."""
        self.arrive(POST)
        self.gate.stalled(LATE)
        self.assertEqual((self.host.sent, self.host.lost), (LATE, False))
        self.assertFalse(self.host.reading)
        self.assertIsNone(awaited(self.gate, True))
        self.clock.advance(2)
        self.assertTrue(self.host.lost)

    def test_upload_in_its_answer(self) -> None:
        """A request that is being answered is cut off."""
        self.arrive(POST)
        self.answer(PART)
        self.gate.stalled(LATE)
        self.assertEqual((self.host.sent, self.host.lost), (PART, True))

    def test_download(self) -> None:
        """A response that is not taken is cut off."""
        self.arrive(GET)
        self.answer(PART)
        self.host.buffered = 50
        self.gate.stalled(LATE)
        self.assertEqual((self.host.sent, self.host.lost), (PART, True))

    def test_while_closing(self) -> None:
        """A last response is cut off, though the connection is being closed already."""
        self.arrive(b"GET / HTTP/1.0\r\n\r\n")
        self.host.buffered = 5
        self.answer(b"HTTP/1.0 200 OK\r\n\r\nok")
        self.close()
        self.gate.stalled(LATE)
        self.assertTrue(self.host.lost)
        self.assertNotIn(b"408", self.host.sent)


class WatchTests(SynchronousTestCase):
    """The watch over all connections of a worker."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.live: list[Any] = []

    def watch(self, seconds: float = 40.0, upgrades: bool = True) -> None:
        """Begin to watch."""
        system = FakeSystem(reactor=self.clock)  # type: ignore[arg-type]
        StallWatch(system, seconds, self.live, upgrades).start()

    def connect(self, data: bytes = POST) -> FakeHost:
        """A connection over which so much has come."""
        host = FakeHost(self.clock)
        host.gate = Gate(host, FakePolicy(), Conversation(), "192.0.2.7", False)
        self.live.append(SimpleConnection(host.gate))
        host.gate.arrived(data)
        return host

    def pass_by(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def test_stalled(self) -> None:
        """A client that pauses is ended after the time; a client that moves or idles stays."""
        self.watch()
        long = POST.replace(b"10", b"100")
        paused, moving, idle = self.connect(), self.connect(long), self.connect(GET)
        for _ in range(39):
            moving.gate.arrived(b"x")
            self.clock.advance(1)
        self.assertFalse(paused.lost)
        for _ in range(13):
            moving.gate.arrived(b"x")
            self.clock.advance(1)
        self.assertTrue(paused.lost)
        self.assertIn(b"408", paused.sent)
        self.assertIn(b"\r\n\r\nThe request did not come in time.", paused.sent)
        self.assertEqual((moving.lost, idle.lost), (False, False))

    def test_never(self) -> None:
        """With a time of 0 no client is watched."""
        self.watch(0.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_period(self) -> None:
        """A watch looks eight times within the pause that is too long, and every 15 s at least."""
        for seconds, period in ((40.0, 5.0), (86400.0, 15.0)):
            self.watch(seconds)
            (call,) = self.clock.getDelayedCalls()
            call.cancel()
            self.assertEqual(call.getTime(), period)

    def test_one_fails(self) -> None:
        """A connection that cannot be ended keeps no other from its end, nor the next look."""
        self.watch()
        first, second = self.connect(), self.connect()
        first.send = lambda data: 1 / 0  # type: ignore[assignment]
        self.pass_by(55)
        self.assertTrue(second.lost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertNotEqual(self.clock.getDelayedCalls(), [])

    def test_ended_by_another(self) -> None:
        """Where the end of one connection is that of another, those behind it are ended, too."""
        self.watch()
        first, _, third = (self.connect() for _ in range(3))

        def end(data: bytes) -> None:
            self.live[1].gate = None

        first.send = end  # type: ignore[assignment]
        self.pass_by(55)
        self.assertIsNone(self.live[1].gate)
        self.assertTrue(third.lost)

    def test_without_a_gate(self) -> None:
        """Connections without a gate, or not set up yet, are left alone."""
        self.watch()
        self.live.append(SimpleConnection(None))
        self.pass_by(60)


class SimpleConnection:
    """What the worker keeps of a connection."""

    def __init__(self, gate: Gate | None) -> None:
        self.gate = gate
