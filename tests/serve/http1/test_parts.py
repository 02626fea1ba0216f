"""The small parts of the channel: waiting for requests, asking for pieces, header lines."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from tests.core.http.heads import head_of
from txsticky.serve.http1.fields import ParsedHeaders, fields_of, lines_of
from txsticky.serve.http1.idle import Idle, idles
from txsticky.serve.http1.pulling import Pulling


class Waiting:
    """A connection that notes when it is closed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.closed: list[float] = []

    def idled(self) -> None:
        """Note that the connection has waited for too long."""
        self.closed.append(self.clock.seconds())


class IdleTests(SynchronousTestCase):
    """Connections that wait for a request."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.idle = Idle(self.clock, 5.0)

    def test_each_in_its_time(self) -> None:
        """Each connection is closed after its own time, once, with one delayed call for all."""
        connections = [Waiting(self.clock) for _ in range(3)]
        for connection in connections:
            self.idle.add(connection)
            self.clock.advance(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([0.5] * 40)
        self.assertEqual([c.closed for c in connections], [[5.0], [6.0], [7.0]])
        self.assertEqual((len(self.idle), self.clock.getDelayedCalls()), (0, []))

    def test_discarded(self) -> None:
        """A connection with a request is let be, and waits anew from when it is added again."""
        first, second = Waiting(self.clock), Waiting(self.clock)
        self.idle.add(first)
        self.idle.add(second)
        self.clock.advance(3)
        self.idle.discard(first)
        self.idle.discard(Waiting(self.clock))
        self.clock.advance(1)
        self.idle.add(first)
        self.clock.pump([0.5] * 20)
        self.assertEqual((first.closed, second.closed), ([9.0], [5.0]))

    def test_ended_by_another(self) -> None:
        """A connection that another one's end has ended is not closed again."""
        first, second = Waiting(self.clock), Waiting(self.clock)
        first.idled = lambda: self.idle.discard(second)  # type: ignore[method-assign]
        self.idle.add(first)
        self.idle.add(second)
        self.clock.advance(5)
        self.assertEqual(second.closed, [])

    def test_one_that_fails(self) -> None:
        """A connection that cannot be closed does not keep the others for ever."""
        first, second = Waiting(self.clock), Waiting(self.clock)
        first.idled = lambda: 1 // 0  # type: ignore[method-assign, assignment, return-value]
        self.idle.add(first)
        self.idle.add(second)
        self.assertRaises(ZeroDivisionError, self.clock.advance, 5)
        self.clock.advance(0)
        self.assertEqual(second.closed, [5.0])

    def test_without_end(self) -> None:
        """A time of None is no limit."""
        Idle(self.clock, None).add(Waiting(self.clock))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """Stopped, connections are not closed any more, and no call is left."""
        self.idle.add(Waiting(self.clock))
        self.idle.stop()
        self.idle.stop()
        self.assertEqual((len(self.idle), self.clock.getDelayedCalls()), (0, []))

    def test_first(self) -> None:
        """For its first request a connection may wait for a minute at least."""
        for keep_alive, first in ((0.0, 60.0), (5.0, 60.0), (600.0, 600.0)):
            found = idles(self.clock, keep_alive)
            self.assertEqual([idle.seconds for idle in found], [first, keep_alive])


class Pieces:
    """A producer that is asked for each piece."""

    def __init__(self) -> None:
        self.asked = 0
        self.stopped = False

    def resumeProducing(self) -> None:
        """Note that a piece is asked for."""
        self.asked += 1

    def stopProducing(self) -> None:
        """Note that the connection is lost."""
        self.stopped = True


class Turns:
    """The turns of a reactor: what is called later is called in the next one."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def later(self, seconds: float, action: Callable[[], None]) -> Call:
        """Call in the next turn."""
        call = Call(action)
        self._calls.append(call)
        return call

    def turn(self) -> None:
        """Do the next turn."""
        calls, self._calls = self._calls, []
        for call in calls:
            call.action()

    def waiting(self) -> list[Call]:
        """What is still to be called."""
        return [call for call in self._calls if not call.cancelled]


class Call:
    """A delayed call."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        """Do not call."""
        self.cancelled = True
        self.action = lambda: None


class PullingTests(SynchronousTestCase):
    """A producer that is asked for each piece."""

    def setUp(self) -> None:
        self.turns = Turns()
        self.pieces = Pieces()
        self.failures = 0
        self.pulling = Pulling(self.pieces, self.turns.later, self.failed)

    def failed(self) -> None:
        """Note that the producer has failed."""
        self.failures += 1

    def test_asks(self) -> None:
        """A producer is asked from the reactor, a few times in each turn, and never at once."""
        self.assertEqual(self.pieces.asked, 0)
        self.turns.turn()
        first = self.pieces.asked
        self.assertGreater(first, 1)
        self.turns.turn()
        self.assertEqual(self.pieces.asked, 2 * first)

    def test_pause(self) -> None:
        """A producer is not asked while the transport is full, from the piece on that filled it."""
        asks = self.pieces.resumeProducing

        def full() -> None:
            asks()
            self.pulling.pauseProducing()

        self.pieces.resumeProducing = full  # type: ignore[method-assign]
        self.turns.turn()
        self.turns.turn()
        self.assertEqual(self.pieces.asked, 1)
        self.pulling.resumeProducing()
        self.pulling.resumeProducing()
        self.turns.turn()
        self.assertEqual(self.pieces.asked, 2)

    def test_end(self) -> None:
        """A producer that is unregistered is asked no more, whatever the transport says."""
        self.pulling.end()
        self.pulling.resumeProducing()
        self.turns.turn()
        self.assertEqual((self.pieces.asked, self.turns.waiting()), (0, []))

    def test_lost(self) -> None:
        """A producer is told that the connection is lost."""
        self.pulling.stopProducing()
        self.turns.turn()
        self.assertEqual((self.pieces.asked, self.pieces.stopped), (0, True))

    def test_fails(self) -> None:
        """A producer that raises is asked no more, logged, and told of."""
        self.pieces.resumeProducing = lambda: 1 // 0  # type: ignore[method-assign, assignment, return-value]
        self.turns.turn()
        self.turns.turn()
        self.assertEqual(self.failures, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


LINES = (
    b"host: a:1\r\nETAG:  x\t\r\naccept: b\r\nAccept: c \r\nX-Empty:\r\nwww-authenticate: d:e\r\n"
)


class FieldsTests(SynchronousTestCase):
    """Header lines."""

    def theirs(self, lines: bytes) -> Headers:
        """The headers as twisted.web reads them."""
        headers = Headers()
        for line in lines.split(b"\r\n")[:-1]:
            name, value = line.split(b":", 1)
            headers.addRawHeader(name, value.strip(b" \t"))
        return headers

    def test_same(self) -> None:
        """The headers are those that twisted.web reads, long blocks as well as short ones."""
        for lines in (LINES, b"", LINES * 200, b"A: \xff\xfe\r\n"):
            for _ in range(2):
                head = head_of(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
                headers = ParsedHeaders(fields_of(head))
                self.assertEqual(headers, self.theirs(lines))
                self.assertEqual(
                    list(headers.getAllRawHeaders()), list(self.theirs(lines).getAllRawHeaders())
                )

    def test_own(self) -> None:
        """Each request has headers of its own: what is changed in one is not in the next."""
        head = head_of(b"GET / HTTP/1.1\r\n" + LINES + b"\r\n")
        headers = ParsedHeaders(fields_of(head))
        headers.addRawHeader(b"accept", b"z")
        headers.removeHeader(b"host")
        copy = headers.copy()
        copy.removeHeader(b"etag")
        self.assertTrue(headers.hasHeader(b"etag"))
        self.assertEqual(ParsedHeaders(fields_of(head)), self.theirs(LINES))

    def test_lines(self) -> None:
        """The lines themselves are in their order, names as sent."""
        head = head_of(b"GET / HTTP/1.1\r\n" + LINES + b"\r\n")
        self.assertEqual(
            list(lines_of(head)),
            [
                (b"host", b"a:1"),
                (b"ETAG", b"x"),
                (b"accept", b"b"),
                (b"Accept", b"c"),
                (b"X-Empty", b""),
                (b"www-authenticate", b"d:e"),
            ],
        )
        self.assertEqual(list(lines_of(head_of(b"GET / HTTP/1.1\r\n\r\n"))), [])
