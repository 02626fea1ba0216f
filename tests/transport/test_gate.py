"""The gate: at each request boundary keep or give away, and answer whoever is owed an answer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.shells import ShellCase, Stages, ended, received
from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.refusal import LINGER
from txsticky.core.http.steps import Known, known
from txsticky.core.routing.verdict import KEEP, Give, Verdict
from txsticky.transport.gate import HALF_CLOSE_GRACE, Gate
from txsticky.transport.gated import GatedServer, GatedUNIXServer
from txsticky.transport.movable import adopt, begin

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def to(place: int | str, number: int = 0, body: bytes = b"") -> bytes:
    """A request for a place: 1 is here, 0 is the front desk, others are other workers."""
    head = b"POST /%d HTTP/1.1\r\nHost: x\r\nPlace: %d\r\n" % (number, int(place))
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class FakeDesk:
    """
    A worker's desk: where a request belongs stands in its header Place.

    :ivar asked: the targets of the requests that it was asked about.
    :ivar added: the header lines that go with responses.
    :ivar told: the client and whether it is secure, of each request that lines were asked for.
    :ivar done: how many responses were complete.
    """

    def __init__(self) -> None:
        self.draining = False
        self.unconfirmed = 0
        self.known: dict[bytes, Known] = {}
        self.asked: list[bytes] = []
        self.added = b""
        self.told: list[tuple[str, bool]] = []
        self.done = 0
        self._after: list[Callable[[], None]] = []

    def whose(self, head: Head, host: str) -> Verdict:
        """Whose a request is, and why."""
        assert host == "192.0.2.7"
        self.asked.append(head.target)
        place = head.header(b"place")
        if place is None:
            return KEEP[How.NEW]
        return KEEP[How.TAG] if place == b"1" else Give(int(place), How.TAG)

    def extra_headers(self, head: Head, host: str, secure: bool, how: How) -> bytes:
        """What goes with the response."""
        self.told.append((host, secure))
        return self.added.replace(b"HOW", how.name.encode())

    def when_confirmed(self, action: Callable[[], None]) -> None:
        """Call when nothing is unconfirmed."""
        if self.unconfirmed:
            self._after.append(action)
        else:
            action()

    def confirm(self) -> None:
        """One binding is confirmed."""
        self.unconfirmed -= 1
        if not self.unconfirmed:
            after, self._after = self._after, []
            for action in after:
                action()

    def request_done(self) -> None:
        """A response is complete."""
        self.done += 1


class FakeHost:
    """
    A transport: the protocol in it does what the test says.

    :ivar delivered: what the protocol got, piece by piece.
    :ivar sent: what went to the client.
    :ivar departed: (place, held bytes) when the connection was given away.
    :ivar buffered: how many bytes the kernel has not taken.
    :ivar taken: how many it has.
    :ivar halved: whether the client was told that nothing follows.
    :ivar reset: whether the kernel knows that the client has gone.
    :ivar react: called with each piece that the protocol gets.
    """

    gate: Gate

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.how = How.MISS
        self.delivered: list[bytes] = []
        self.sent = b""
        self.departed: tuple[int, bytes] | None = None
        self.reading = True
        self.open = True
        self.closing = False
        self.lost = False
        self.buffered = 0
        self.taken = 0
        self.reset = False
        self.halved = False
        self.flushed: Callable[[], None] | None = None
        self.react: Callable[[bytes], object] = lambda data: None

    def _alive(self) -> None:
        assert self.open, "a call after the end"

    def deliver(self, data: bytes) -> None:
        """The protocol gets bytes."""
        self._alive()
        assert not self.closing, "the protocol has closed"
        self.delivered.append(data)
        self.react(data)

    def live(self) -> bool:
        """Whether it is open and not being closed."""
        return self.open and not self.closing

    def stop_reading(self) -> None:
        """Read no more."""
        self.reading = False

    def start_reading(self) -> None:
        """Read again."""
        self._alive()
        self.reading = True

    def send(self, data: bytes) -> None:
        """Bytes go to the client."""
        self._alive()
        self.sent += data

    def later(self, seconds: float, action: Callable[[], None]) -> IDelayedCall:
        """A call by the reactor."""

        def act() -> None:
            self._alive()
            action()

        return self.clock.callLater(seconds, act)

    def guarded(self, action: Callable[[], None]) -> None:
        """A call that may fail."""
        action()

    def unsent(self) -> int:
        """Bytes that the kernel has not taken."""
        return self.buffered

    def passed(self) -> int:
        """Bytes that the kernel has taken."""
        return self.taken

    def severed(self) -> bool:
        """Whether the kernel knows that the client has gone."""
        self._alive()
        return self.reset

    def flush(self, callback: Callable[[], None]) -> None:
        """Call back when the kernel has taken all."""
        self._alive()
        if self.buffered:
            self.flushed = callback
        else:
            callback()

    def drained(self) -> None:
        """The kernel takes all."""
        self.buffered = 0
        flushed, self.flushed = self.flushed, None
        if flushed is not None:
            flushed()
        if self.closing:
            self.end()

    def depart(self, place: int, held: bytes) -> None:
        """The connection is given away."""
        self._alive()
        assert not self.buffered, "given away with output that is not in the kernel"
        self.departed = (place, held)
        self.open = False

    def hang_up(self) -> None:
        """Closed after what is written."""
        self._alive()
        self.closing = True
        self.reading = False
        if not self.buffered:
            self.end()

    def half_close(self) -> None:
        """The client hears that nothing follows what is written."""
        self._alive()
        self.halved = True

    def gone(self) -> None:
        """The protocol hears that the client has left."""
        self._alive()
        self.end()

    dismiss = gone

    def end(self) -> None:
        """The connection is over."""
        self.lost = True
        self.open = False
        self.gate.closed()


class GateCase(SynchronousTestCase):
    """A gate between a fake transport and a fake desk."""

    def setUp(self) -> None:
        self.make()

    def make(self, hold_limit: int = 65536, secure: bool = False) -> None:
        """Make the gate."""
        self.clock = Clock()
        self.host = FakeHost(self.clock)
        self.desk = FakeDesk()
        exchange = Conversation(hold_limit=hold_limit, head_limit=min(hold_limit, 65536))
        self.gate = Gate(self.host, self.desk, exchange, "192.0.2.7", secure)
        self.host.gate = self.gate

    def arrive(self, data: bytes) -> None:
        """The client sends."""
        assert self.host.reading, "nothing is read now"
        self.gate.arrived(data)
        self.turn()

    def turn(self) -> None:
        """The reactor turns, without time passing."""
        self.clock.advance(0)

    def end(self) -> bool:
        """The client closes its sending side; whether the connection is lost now."""
        assert self.host.reading, "nothing is read now"
        if self.gate.ended():
            self.host.end()
            return True
        self.turn()
        return False

    def write(self, data: bytes) -> None:
        """The protocol inside writes, now and not in a turn of its own."""
        out = self.gate.wrote(data)
        if out:
            self.host.send(out)

    def answer(self, data: bytes = OK) -> None:
        """The protocol answers, and the reactor turns."""
        self.write(data)
        self.turn()

    def close(self) -> None:
        """The protocol inside closes."""
        if self.gate.may_close():
            self.host.hang_up()

    @property
    def got(self) -> bytes:
        """All that the protocol got."""
        return b"".join(self.host.delivered)


class EndTests(GateCase):
    """The last that a connection is sent."""

    def ends(self) -> None:
        """The client was told that nothing follows, and has time to read; then it is closed."""
        self.turn()
        self.assertEqual((self.host.halved, self.host.reading), (True, True))
        self.arrive(to(1) + b"anything")
        self.assertFalse(self.host.lost)
        self.clock.advance(LINGER)
        self.assertTrue(self.host.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def refused(self, status: int, before: bytes = b"") -> None:
        """The client got this and then a whole refusal, and nothing behind it."""
        self.assertTrue(self.host.sent.startswith(before + b"HTTP/1.1 %d " % status))
        head, _, body = self.host.sent[len(before) :].partition(b"\r\n\r\n")
        self.assertIn(b"\r\nConnection: close", head)
        self.assertIn(b"\r\nContent-Length: %d" % len(body), head)
        self.write(OK)
        self.assertEqual(self.host.sent, before + head + b"\r\n\r\n" + body)

    def test_refusal(self) -> None:
        """A head that is none is refused, and the protocol gets nothing of it."""
        for before, status in ((b"", 400), (to(1), 400)):
            self.make()
            self.arrive(before)
            if before:
                self.answer()
            self.arrive(b"GET / HTTP/1.1\r\nno colon\r\n")
            self.refused(status, OK if before else b"")
            self.assertEqual(self.got, before)
            self.ends()

    def test_refusal_of_a_large_head(self) -> None:
        """A later head beyond the limit is refused with 431 before it is complete."""
        self.make(hold_limit=100)
        self.arrive(to(1))
        self.answer()
        self.arrive(b"GET / HTTP/1.1\r\nA: " + b"b" * 100)
        self.refused(431, OK)
        self.ends()

    def test_refusal_in_a_request(self) -> None:
        """A body that is none is refused though the protocol works on the request."""
        head = b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.arrive(head)
        self.arrive(b"x\r\n")
        self.refused(400)
        self.assertEqual((self.got, self.desk.done), (head, 0))
        self.ends()

    def test_no_refusal_in_a_response(self) -> None:
        """A response that has begun is cut off."""
        self.arrive(b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.write(OK[:-1])
        self.arrive(b"x\r\n")
        self.assertEqual(self.host.sent, OK[:-1])
        self.ends()

    def test_refusal_is_withheld(self) -> None:
        """A refusal does not overtake the response before it."""
        self.arrive(to(1) + b"\0")
        self.desk.unconfirmed = 1
        self.answer()
        self.assertEqual((self.host.sent, self.host.reading), (b"", False))
        self.desk.confirm()
        self.refused(400, OK)
        self.assertTrue(self.host.lost)

    def test_head_only(self) -> None:
        """The refusal of a HEAD has no body."""
        self.arrive(b"HEAD / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
        self.assertTrue(self.host.sent.endswith(b"\r\n\r\n"))
        self.assertTrue(self.host.sent.startswith(b"HTTP/1.1 400 "))

    def test_paused(self) -> None:
        """A protocol that has paused its input does not keep the rest from being read."""
        self.arrive(b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.gate.pause()
        self.gate.arrived(b"x\r\n")  # was read in the same turn
        self.assertEqual(self.host.sent, b"")
        self.gate.resume()
        self.turn()
        self.refused(400)
        self.ends()

    def test_odd(self) -> None:
        """After the response to an odd request, which says so, the connection is closed."""
        self.arrive(b"GET /1 HTTP/1.1\r\nA: \x01\r\n\r\n")
        self.answer()
        self.assertEqual(self.host.sent, OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        self.assertEqual(self.desk.done, 1)
        self.ends()

    def test_odd_and_the_protocol_closes(self) -> None:
        """A protocol that was told to close may do it first."""
        self.arrive(b"GET /1 HTTP/1.1\r\nA: \x01\r\n\r\n")
        self.write(OK)
        self.close()
        self.assertTrue(self.host.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_client_sends_no_more(self) -> None:
        """A client that has closed its side is owed the response to an odd request, too."""
        self.arrive(b"GET /1 HTTP/1.1\r\nA: \x01\r\n\r\n")
        self.assertFalse(self.end())
        self.answer()
        self.assertIn(b"Connection: close", self.host.sent)
        self.assertTrue(self.host.lost)

    def test_client_leaves_meanwhile(self) -> None:
        """A client that has read it and closes its side need not wait."""
        self.arrive(b"\0")
        self.assertTrue(self.end())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closed_by_the_server(self) -> None:
        """A protocol that says Connection: close and does not is helped."""
        self.arrive(to(1) + to(3))
        self.answer(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        self.assertEqual((self.got, self.host.departed), (to(1), None))
        self.ends()

    def test_drain(self) -> None:
        """A worker that leaves lets it end as it would."""
        self.arrive(b"GET /1 HTTP/1.1\r\nA: \x01\r\n\r\n")
        self.desk.draining = True
        self.assertFalse(self.gate.drain())
        self.answer()
        self.ends()

    def test_surplus(self) -> None:
        """What is longer than its length is cut off and told once, with the request line."""
        for pieces in ((OK + b"more", b"yet more"), (OK, b"more", b"yet more")):
            self.make()
            seen: list[Any] = []
            globalLogPublisher.addObserver(seen.append)
            self.addCleanup(globalLogPublisher.removeObserver, seen.append)
            self.arrive(to(1, 7))
            for piece in pieces:
                self.write(piece)
            globalLogPublisher.removeObserver(seen.append)
            told = [formatEvent(event) for event in seen]
            self.assertEqual((self.host.sent, len(told)), (OK, 1))
            self.assertIn("'POST /7 HTTP/1.1'", told[0])
            self.ends()

    def test_surplus_of_a_known_request(self) -> None:
        """The sentence names the request that was taken by the short cut, too."""
        self.arrive(to(1, 7))
        self.answer()
        head = parse_head(GET, 65536)
        assert isinstance(head, Head)
        memo = known(head, How.NEW)
        assert memo is not None
        self.desk.known[GET] = memo
        self.arrive(GET)
        self.write(OK + b"more")
        self.assertEqual(self.gate.exchange.request_line, b"GET / HTTP/1.1")


class BoundaryTests(GateCase):
    """Keep or give away."""

    def test_first(self) -> None:
        """The first request was routed here: it is delivered without asking anybody."""
        self.arrive(to(2))
        self.assertEqual((self.got, self.desk.asked), (to(2), []))

    def test_ours(self) -> None:
        """A later request that belongs here is delivered."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(1, 7))
        self.assertEqual((self.host.delivered, self.desk.asked), ([to(1), to(1, 7)], [b"/7"]))

    def test_foreign(self) -> None:
        """One that does not takes the connection along; the protocol sees nothing of it."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(3, 7, b"body"))
        self.assertEqual(self.host.departed, (3, to(3, 7, b"body")))
        self.assertEqual((self.host.delivered, self.host.reading), ([to(1)], False))

    def test_front_desk(self) -> None:
        """One whose worker is not known here goes to the front desk."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(0))
        self.assertEqual(self.host.departed, (0, to(0)))

    def test_half_a_head(self) -> None:
        """A head is asked about when it is complete, and not a byte of it is delivered before."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(3)[:20])
        self.assertEqual((self.desk.asked, self.host.departed), ([], None))
        self.arrive(to(3)[20:])
        self.assertEqual(self.host.departed, (3, to(3)))

    def test_body_in_pieces(self) -> None:
        """A body is passed on as it comes; behind it is the boundary."""
        request = to(1, 1, b"x" * 50)
        for at in range(0, len(request), 30):
            self.arrive(request[at : at + 30])
        self.assertEqual(self.got, request)
        self.answer()
        self.arrive(to(3))
        self.assertEqual(self.host.departed, (3, to(3)))

    def test_pipelined(self) -> None:
        """The protocol gets request N + 1 when it has answered request N, and not before."""
        self.arrive(to(1, 1) + to(1, 2) + to(1, 3))
        for number in (1, 2, 3):
            self.assertEqual(self.got, b"".join(to(1, n) for n in range(1, number + 1)))
            self.answer()
        self.assertEqual((self.host.sent, self.desk.done), (3 * OK, 3))

    def test_pipelined_foreign(self) -> None:
        """A foreign request leaves when the one before it is answered, with all that follows."""
        self.arrive(to(1, 1) + to(3, 2) + to(1, 3))
        self.assertIsNone(self.host.departed)
        self.answer(OK[:-1])
        self.assertIsNone(self.host.departed)
        self.answer(OK[-1:])
        self.assertEqual(self.host.departed, (3, to(3, 2) + to(1, 3)))

    def test_answered_while_delivered(self) -> None:
        """A protocol that answers while it is given the request gets the next one after it."""
        self.host.react = lambda data: self.write(OK)
        self.arrive(to(1, 1) + to(1, 2) + to(3, 3))
        self.assertEqual(self.host.delivered, [to(1, 1), to(1, 2)])
        self.assertEqual((self.host.sent, self.host.departed), (2 * OK, (3, to(3, 3))))

    def test_never_inside_a_write(self) -> None:
        """Nothing is delivered or given away inside the protocol's own write."""
        self.arrive(to(1, 1) + to(1, 2))
        self.write(OK)
        self.assertEqual(self.got, to(1, 1))
        self.turn()
        self.write(OK)
        self.arrive(to(3))
        self.assertEqual((self.got, self.host.departed), (to(1, 1) + to(1, 2), (3, to(3))))

    def test_headers(self) -> None:
        """Header lines of the desk go into the response, the first one's as well."""
        self.desk.added = b"Set-Cookie: a=b\r\n"
        self.arrive(to(1))
        self.answer()
        head, _, rest = OK.partition(b"\r\n")
        self.assertEqual(self.host.sent, head + b"\r\nSet-Cookie: a=b\r\n" + rest)

    def test_who_gets_the_lines(self) -> None:
        """The lines are made for the client's address, and for how it is connected."""
        for secure in (False, True):
            self.make(secure=secure)
            self.arrive(to(1))
            self.assertEqual(self.desk.told, [("192.0.2.7", secure)])

    def test_how(self) -> None:
        """Each request has its own reason to be here, the first one that of its hand-off."""
        self.desk.added = b"How: HOW\r\n"
        hows = []
        for request in (to(1), to(1), GET):
            self.host.sent = b""
            self.arrive(request)
            self.answer()
            hows.append((self.host.how, self.host.sent.split(b"\r\n")[1]))
        self.assertEqual(
            hows, [(How.MISS, b"How: MISS"), (How.TAG, b"How: TAG"), (How.NEW, b"How: NEW")]
        )

    def test_flush(self) -> None:
        """The connection leaves when the last byte of output is in the kernel."""
        self.arrive(to(1))
        self.host.buffered = 1000
        self.answer()
        self.arrive(to(3))
        self.assertEqual((self.host.departed, self.host.reading), (None, False))
        self.host.drained()
        self.assertEqual(self.host.departed, (3, to(3)))

    def test_lost_before_it_is_flushed(self) -> None:
        """If it is lost before that, nothing more happens."""
        self.arrive(to(1))
        self.host.buffered = 1000
        self.answer()
        self.arrive(to(3))
        self.host.end()
        self.clock.advance(100)
        self.assertIsNone(self.host.departed)

    def test_written_while_it_leaves(self) -> None:
        """What the protocol writes meanwhile, unasked, is cut off, and the connection goes."""
        self.arrive(to(1))
        self.host.buffered = 1000
        self.answer()
        self.arrive(to(3))
        self.write(b"unasked")
        self.host.drained()
        self.turn()
        self.assertEqual(self.host.departed, (3, to(3)))
        self.assertEqual((self.got, self.host.sent), (to(1), OK))

    def test_speaks_first_while_it_leaves(self) -> None:
        """If it speaks first, before it was asked anything, the connection stays."""
        self.desk.draining = True
        self.host.buffered = 1000
        self.gate.drain()
        self.write(b"220 hello")
        self.host.drained()
        self.turn()
        self.assertIsNone(self.host.departed)
        self.arrive(b"EHLO")
        self.assertEqual((self.got, self.host.reading), (b"EHLO", True))

    def test_speaks_first_and_pauses_while_it_leaves(self) -> None:
        """If it has paused its input as well, it stays paused."""
        self.host.buffered = 1000
        self.gate.drain()
        self.write(b"220 hello")
        self.gate.pause()
        self.host.drained()
        self.turn()
        self.assertEqual((self.host.departed, self.host.reading), (None, False))
        self.gate.resume()
        self.arrive(b"EHLO")
        self.assertEqual((self.got, self.host.reading), (b"EHLO", True))

    def test_upgrade(self) -> None:
        """Bytes behind an upgrade request are held until the 101, and nothing is asked then."""
        self.arrive(UPGRADE + b"frame")
        self.assertEqual(self.got, UPGRADE)
        self.answer(SWITCHING)
        self.assertEqual(self.got, UPGRADE + b"frame")
        self.arrive(to(3))
        self.assertEqual((self.got, self.desk.asked), (UPGRADE + b"frame" + to(3), []))

    def test_connection_close(self) -> None:
        """Behind a request that says Connection: close nothing is asked."""
        self.arrive(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.answer()
        self.arrive(to(3))
        self.assertEqual((self.desk.asked, self.host.departed), ([], None))

    def test_protocol_fails(self) -> None:
        """A failure of the protocol is the caller's business."""
        self.host.react = lambda data: 1 / 0
        self.assertRaises(ZeroDivisionError, self.gate.arrived, to(1))

    def test_closed_while_delivered(self) -> None:
        """A protocol that closes gets nothing more of what is here."""
        self.host.buffered = 1
        self.host.react = lambda data: (self.write(OK), self.close())
        self.arrive(to(1, 1) + to(1, 2))
        self.assertEqual(self.got, to(1, 1))

    def test_requests_counted(self) -> None:
        """Each response counts once, however it is written."""
        for _ in range(3):
            self.arrive(to(1))
            for byte in OK:
                self.answer(bytes([byte]))
        self.arrive(UPGRADE)
        self.answer(SWITCHING)
        self.answer(b"frame")
        self.answer(b"frame")
        self.assertEqual(self.desk.done, 4)

    def test_served(self) -> None:
        """The gate knows whether a request was served here."""
        self.assertFalse(self.gate.served)
        self.arrive(to(1))
        self.assertTrue(self.gate.served)


class DrainTests(GateCase):
    """A worker that leaves."""

    def drain(self) -> bool:
        """The worker begins to leave; whether this connection left at once."""
        self.desk.draining = True
        return self.gate.drain()

    def test_odd_request(self) -> None:
        """What is odd is answered first; then, as it cannot move, it is closed."""
        odd = b"GET / HTTP/1.1\r\nX: a\x01b\r\n\r\n"
        self.arrive(odd)
        self.assertFalse(self.drain())
        self.answer(OK[:20])
        self.assertFalse(self.host.closing)
        self.answer(OK[20:])
        self.assertTrue(self.host.halved)
        self.assertIn(b"Connection: close", self.host.sent)
        self.assertIsNone(self.host.departed)

    def test_fresh(self) -> None:
        """A connection that has sent nothing yet is given away."""
        self.assertTrue(self.drain())
        self.assertEqual(self.host.departed, (0, b""))

    def test_idle(self) -> None:
        """One that is between two requests is given away."""
        self.arrive(to(1))
        self.answer()
        self.assertTrue(self.drain())
        self.assertEqual(self.host.departed, (0, b""))

    def test_busy(self) -> None:
        """One that is in a request is given away when that is answered."""
        self.arrive(to(1))
        self.assertFalse(self.drain())
        self.answer()
        self.assertEqual((self.host.departed, self.host.sent), ((0, b""), OK))

    def test_in_a_head(self) -> None:
        """One that is in a head stays until that is complete; then it is asked about."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(0)[:10])
        self.assertFalse(self.drain())
        self.arrive(to(0)[10:])
        self.assertEqual(self.host.departed, (0, to(0)))

    def test_pinned(self) -> None:
        """A request that is pinned to this worker is still served, and then it leaves."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(1)[:10])
        self.drain()
        self.arrive(to(1)[10:])
        self.assertEqual(self.got, 2 * to(1))
        self.answer()
        self.assertEqual(self.host.departed, (0, b""))

    def test_tunnel(self) -> None:
        """A WebSocket cannot be given away."""
        self.arrive(UPGRADE)
        self.answer(SWITCHING)
        self.assertFalse(self.drain())
        self.arrive(b"frame")
        self.assertIsNone(self.host.departed)

    def test_flush(self) -> None:
        """It leaves when its output is in the kernel."""
        self.arrive(to(1))
        self.host.buffered = 10
        self.answer()
        self.assertTrue(self.drain())
        self.assertIsNone(self.host.departed)
        self.assertFalse(self.drain())  # it is on its way
        self.host.drained()
        self.assertEqual(self.host.departed, (0, b""))

    def test_closing(self) -> None:
        """One that is being closed is left alone."""
        self.arrive(to(1))
        self.host.buffered = 10
        self.answer()
        self.close()
        self.assertFalse(self.drain())


class HalfCloseTests(GateCase):
    """A client that has closed its sending side."""

    def test_answered_first(self) -> None:
        """A request that is wholly here is answered; then the connection is closed."""
        self.arrive(to(1))
        self.assertFalse(self.end())
        self.assertFalse(self.host.lost)
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_whole_response(self) -> None:
        """It is closed behind the last byte of the response, and when that is sent."""
        self.arrive(to(1))
        self.end()
        self.host.buffered = 100
        self.answer(OK[:-1])
        self.assertFalse(self.host.closing)
        self.answer(OK[-1:])
        self.assertEqual((self.host.closing, self.host.lost), (True, False))
        self.host.drained()
        self.assertTrue(self.host.lost)

    def test_nothing_owed(self) -> None:
        """Where nothing is owed the connection is lost at once."""
        self.assertTrue(self.end())

    def test_idle(self) -> None:
        """Between two requests, too."""
        self.arrive(to(1))
        self.answer()
        self.assertTrue(self.end())

    def test_half_a_head(self) -> None:
        """Half a head is never answered."""
        self.arrive(to(1)[:10])
        self.assertTrue(self.end())

    def test_half_a_body(self) -> None:
        """The protocol that waits for the rest of a body hears that none will come."""
        self.arrive(to(1, 1, b"body")[:-1])
        self.assertTrue(self.end())

    def test_pipelined(self) -> None:
        """All requests that are wholly here are answered."""
        self.arrive(to(1, 1) + to(1, 2))
        self.assertFalse(self.end())
        self.answer()
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (2 * OK, True))

    def test_request_and_a_half(self) -> None:
        """Half a head behind the last request does not keep the connection open."""
        self.arrive(to(1, 1) + to(1, 2)[:10])
        self.assertFalse(self.end())
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_request_and_half_a_body(self) -> None:
        """Nor does half a body; what was answered before is sent."""
        self.arrive(to(1, 1) + to(1, 2, b"body")[:-1])
        self.assertFalse(self.end())
        self.host.buffered = 100
        self.answer()
        self.assertEqual((self.host.closing, self.host.lost), (True, False))
        self.host.drained()
        self.assertTrue(self.host.lost)

    def test_pipelined_foreign(self) -> None:
        """A foreign request that is wholly here takes the connection along."""
        self.arrive(to(1, 1) + to(3, 2))
        self.end()
        self.answer()
        self.assertEqual((self.host.sent, self.host.departed), (OK, (3, to(3, 2))))

    def test_draining(self) -> None:
        """While the worker leaves it is closed, not given away: nothing more will come."""
        self.arrive(to(1))
        self.end()
        self.desk.draining = True
        self.answer()
        self.assertEqual((self.host.lost, self.host.departed), (True, None))

    def pass_time(self, seconds: float) -> None:
        """Time passes, step by step."""
        self.clock.pump([0.025] * round(seconds / 0.025))

    def test_still_there(self) -> None:
        """One who waits is asked whether he is there, ever more seldom, and gets his answer."""
        self.arrive(to(1))
        self.end()
        self.pass_time(HALF_CLOSE_GRACE / 2 - 0.1)
        self.assertEqual(self.host.sent, b"")
        self.pass_time(0.2)
        self.assertEqual(self.host.sent, CONTINUE)
        self.pass_time(20 * HALF_CLOSE_GRACE)
        self.assertEqual((self.host.sent, self.host.lost), (6 * CONTINUE, False))
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (6 * CONTINUE + OK, True))

    def test_gone(self) -> None:
        """Of one who has gone the protocol hears as soon as the question is answered by a reset."""
        self.arrive(to(1))
        self.end()
        self.pass_time(HALF_CLOSE_GRACE / 2 + 0.05)
        self.assertEqual((self.host.sent, self.host.lost), (CONTINUE, False))
        self.host.reset = True
        self.pass_time(HALF_CLOSE_GRACE / 16)
        self.assertTrue(self.host.lost)

    def test_known_to_be_gone(self) -> None:
        """One whom the kernel knows to have gone is not waited for."""
        self.arrive(to(1))
        self.host.reset = True
        self.assertTrue(self.end())

    def test_not_asked(self) -> None:
        """A client of HTTP/1.0 cannot be asked: if nothing is written for a while, it has left."""
        self.arrive(GET.replace(b"1.1", b"1.0"))
        self.end()
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.assertEqual((self.host.sent, self.host.lost), (b"", False))
        self.pass_time(0.2)
        self.assertTrue(self.host.lost)

    def test_not_asked_in_a_response(self) -> None:
        """Nor is one asked whose response has begun."""
        self.arrive(to(1))
        self.end()
        self.answer(b"HTTP/1.1 200")
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.assertEqual((self.host.sent, self.host.lost), (b"HTTP/1.1 200", False))

    def test_slow_answer(self) -> None:
        """One that goes on may take its time, and so may a client that is behind with reading."""
        self.arrive(to(1))
        self.end()
        self.answer(OK[:-2])
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.answer(OK[-2:-1])
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.host.buffered = 100
        self.pass_time(5 * HALF_CLOSE_GRACE)
        self.assertFalse(self.host.lost)
        self.host.buffered = 0
        self.answer(OK[-1:])
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_silent_stream(self) -> None:
        """A stream that has begun and then is silent hears of its client as well."""
        self.arrive(to(1))
        self.end()
        self.answer(OK[:-1])
        self.pass_time(HALF_CLOSE_GRACE - 0.1)
        self.assertFalse(self.host.lost)
        self.pass_time(HALF_CLOSE_GRACE / 4 + 0.2)
        self.assertTrue(self.host.lost)

    def test_unsent(self) -> None:
        """A response that was written but is not in the kernel is sent."""
        self.arrive(to(1))
        self.host.buffered = 100
        self.answer()
        self.assertFalse(self.end())
        self.assertEqual((self.host.closing, self.host.lost), (True, False))

    def test_protocol_closes(self) -> None:
        """If the protocol closes by itself behind its response, that is that."""
        self.arrive(to(1))
        self.end()
        self.write(OK)
        self.close()
        self.clock.advance(10 * HALF_CLOSE_GRACE)
        self.assertTrue(self.host.lost)

    def test_paused(self) -> None:
        """A request that waits for a paused protocol is delivered and answered."""
        self.arrive(to(1, 1))
        self.host.react = lambda data: self.gate.pause()
        self.answer()
        self.arrive(to(1, 2) + to(1, 3))
        self.write(OK)
        self.assertEqual(self.got, to(1, 1) + to(1, 2))
        self.assertFalse(self.gate.ended())
        self.turn()
        self.gate.resume()
        self.turn()
        self.assertEqual(self.got, to(1, 1) + to(1, 2) + to(1, 3))
        self.gate.resume()
        self.answer()
        self.assertEqual((self.host.sent, self.host.lost), (3 * OK, True))

    def test_upgrade(self) -> None:
        """A client that closes its side behind an upgrade gets the 101, and then the end."""
        self.arrive(UPGRADE)
        self.end()
        self.answer(SWITCHING)
        self.assertEqual((self.host.sent, self.host.lost), (SWITCHING, True))


class ConfirmTests(GateCase):
    """Responses wait until what was bound before them is known everywhere."""

    def bind(self, data: bytes = b"") -> None:
        """The application binds a key."""
        self.desk.unconfirmed += 1

    def test_withheld(self) -> None:
        """A response that is written behind a binding leaves when that is confirmed, whole."""
        self.arrive(to(1))
        self.bind()
        self.answer(OK[:10])
        self.answer(OK[10:])
        self.assertEqual(self.host.sent, b"")
        self.desk.confirm()
        self.assertEqual(self.host.sent, OK)

    def test_written_before(self) -> None:
        """What was written before the binding has left."""
        self.arrive(to(1))
        self.answer(OK[:10])
        self.bind()
        self.answer(OK[10:])
        self.assertEqual(self.host.sent, OK[:10])
        self.desk.confirm()
        self.assertEqual(self.host.sent, OK)

    def test_several(self) -> None:
        """It waits for all bindings."""
        self.arrive(to(1))
        self.bind()
        self.answer(OK[:10])
        self.bind()
        self.desk.confirm()
        self.answer(OK[10:])
        self.assertEqual(self.host.sent, b"")
        self.desk.confirm()
        self.assertEqual(self.host.sent, OK)

    def test_afterwards(self) -> None:
        """Afterwards output passes as it comes."""
        self.arrive(to(1))
        self.bind()
        self.answer(OK[:10])
        self.desk.confirm()
        self.answer(OK[10:20])
        self.assertEqual(self.host.sent, OK[:20])

    def test_of_another_connection(self) -> None:
        """A binding made on another connection holds this one back as well."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.assertEqual(self.host.sent, b"")

    def test_tunnel(self) -> None:
        """So do those of a WebSocket."""
        self.arrive(UPGRADE)
        self.answer(SWITCHING)
        self.bind()
        self.answer(b"frame")
        self.assertEqual(self.host.sent, SWITCHING)
        self.desk.confirm()
        self.assertEqual(self.host.sent, SWITCHING + b"frame")

    def test_close(self) -> None:
        """A protocol that closes behind it is closed when it is sent; nothing is read any more."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.close()
        self.assertEqual((self.host.closing, self.host.reading), (False, False))
        self.desk.confirm()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_close_with_more_held(self) -> None:
        """Such a protocol gets no further request."""
        self.arrive(to(1, 1) + to(1, 2))
        self.bind()
        self.answer()
        self.host.delivered = []
        self.make()
        self.host.react = lambda data: (self.bind(), self.write(OK), self.close())
        self.arrive(to(1, 1) + to(1, 2))
        self.assertEqual(self.got, to(1, 1))
        self.desk.confirm()
        self.clock.advance(10)
        self.assertEqual((self.got, self.host.sent), (to(1, 1), OK))

    def test_half_close(self) -> None:
        """A client that has closed its side still gets it."""
        self.arrive(to(1))
        self.end()
        self.bind()
        self.answer()
        self.assertFalse(self.host.lost)
        self.desk.confirm()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_half_close_afterwards(self) -> None:
        """One that closes its side while it is withheld, too."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.assertFalse(self.end())
        self.desk.confirm()
        self.assertEqual((self.host.sent, self.host.lost), (OK, True))

    def test_lost(self) -> None:
        """If the connection is lost meanwhile, nothing more happens."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.host.end()
        self.desk.confirm()
        self.assertEqual(self.host.sent, b"")

    def test_leaves_afterwards(self) -> None:
        """A connection whose next request is foreign leaves when it is sent."""
        self.arrive(to(1, 1) + to(3, 2))
        self.bind()
        self.answer()
        self.assertIsNone(self.host.departed)
        self.desk.confirm()
        self.assertEqual((self.host.sent, self.host.departed), (OK, (3, to(3, 2))))

    def test_drained_afterwards(self) -> None:
        """So does one of a worker that leaves."""
        self.arrive(to(1))
        self.bind()
        self.answer()
        self.desk.draining = True
        self.assertTrue(self.gate.drain())
        self.assertIsNone(self.host.departed)
        self.desk.confirm()
        self.assertEqual((self.host.sent, self.host.departed), (OK, (0, b"")))

    def test_nothing_is_read_until_it_leaves(self) -> None:
        """While that is waited for nothing is read, so that no request can begin meanwhile."""
        self.arrive(to(1))
        self.bind()
        self.desk.draining = True
        self.answer()
        self.assertFalse(self.host.reading)
        self.gate.resume()
        self.assertFalse(self.host.reading)
        self.desk.confirm()
        self.assertEqual(self.host.departed, (0, b""))

    def test_lost_before_it_leaves(self) -> None:
        """If the connection is lost meanwhile, it does not leave."""
        self.arrive(to(1, 1) + to(3, 2))
        self.bind()
        self.answer()
        self.host.end()
        self.desk.confirm()
        self.assertEqual((self.host.sent, self.host.departed), (b"", None))


class PauseTests(GateCase):
    """Flow control."""

    def test_inner(self) -> None:
        """A protocol that pauses its input gets nothing, and nothing is read."""
        self.host.react = lambda data: (self.write(OK), self.gate.pause())
        self.arrive(to(1, 1) + to(1, 2))
        self.assertEqual((self.got, self.host.reading), (to(1, 1), False))

    def test_inner_resumes(self) -> None:
        """When it resumes, it gets what is here, but not inside its own call."""
        self.host.react = lambda data: (self.write(OK), self.gate.pause())
        self.arrive(to(1, 1) + to(1, 2))
        self.host.react = lambda data: None
        self.gate.resume()
        self.assertEqual((self.got, self.host.reading), (to(1, 1), True))
        self.turn()
        self.assertEqual(self.got, to(1, 1) + to(1, 2))

    def test_resumed_while_delivered(self) -> None:
        """One that pauses and resumes while it is given a request goes on with the next."""
        self.host.react = lambda data: (self.gate.pause(), self.write(OK), self.gate.resume())
        self.arrive(to(1, 1) + to(1, 2))
        self.assertEqual((self.got, self.host.reading), (to(1, 1) + to(1, 2), True))

    def test_too_much_held(self) -> None:
        """When too much is held back nothing is read, until some of it is released."""
        self.make(hold_limit=1000)
        self.arrive(to(1, 1) + 20 * to(1, 2))
        self.assertFalse(self.host.reading)
        for _ in range(20):
            self.answer()
        self.assertTrue(self.host.reading)
        self.answer()
        self.assertEqual(self.got, to(1, 1) + 20 * to(1, 2))

    def test_too_much_held_and_paused(self) -> None:
        """If the protocol has paused by then, nothing is read until it resumes."""
        self.make(hold_limit=1000)
        self.arrive(to(1, 1) + 30 * to(1, 2))
        self.gate.pause()
        for _ in range(3):
            self.gate.resume()
            self.answer()
            self.gate.pause()
        self.assertFalse(self.host.reading)
        self.gate.resume()
        self.assertFalse(self.host.reading)  # still too much
        for _ in range(28):
            self.answer()
        self.assertTrue(self.host.reading)

    def test_while_leaving(self) -> None:
        """A protocol that resumes while the connection leaves does not make it read."""
        self.arrive(to(1))
        self.host.buffered = 10
        self.answer()
        self.gate.pause()
        self.gate.resume()
        self.arrive(to(3))
        self.gate.resume()
        self.turn()
        self.assertFalse(self.host.reading)
        self.host.drained()
        self.assertEqual(self.host.departed, (3, to(3)))


class ClosedTests(GateCase):
    """When the connection is over."""

    def test_no_call(self) -> None:
        """No call that was to come later comes any more."""
        self.arrive(to(1, 1) + to(1, 2))
        self.gate.pump_soon()
        self.write(OK)
        self.host.end()
        self.clock.advance(100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_grace(self) -> None:
        """Nor the one for a client that has closed its side."""
        self.arrive(to(1))
        self.end()
        self.host.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_departed(self) -> None:
        """Nor for a connection that was given away."""
        self.arrive(to(1, 1) + to(3, 2))
        self.end()
        self.answer()
        self.assertIsNotNone(self.host.departed)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class KnownTests(GateCase):
    """The short cut for a request that was seen before."""

    def remember(self, *requests: bytes) -> None:
        """Have the desk know these."""
        for data in requests:
            head = parse_head(data, 65536)
            assert isinstance(head, Head)
            memo = known(head, How.TAG if head.header(b"place") else How.NEW)
            assert memo is not None
            self.desk.known[head.raw] = memo

    def test_not_asked(self) -> None:
        """It is delivered without asking."""
        self.remember(GET)
        self.arrive(to(1))
        self.answer()
        self.arrive(GET)
        self.assertEqual((self.host.delivered, self.desk.asked), ([to(1), GET], []))
        self.answer()
        self.assertEqual((self.host.sent, self.desk.done), (2 * OK, 2))

    def test_with_a_body(self) -> None:
        """So is one with a body, if that comes with it: whatever the body is."""
        self.remember(to(1, 1, b"body"))
        self.arrive(to(1))
        self.answer()
        self.arrive(to(1, 1, b"BODY"))
        self.assertEqual((self.got, self.desk.asked), (to(1) + to(1, 1, b"BODY"), []))
        self.answer()
        self.assertEqual((self.host.sent, self.desk.done), (2 * OK, 2))

    def test_with_a_part_of_a_body(self) -> None:
        """If only a part of the body comes with it, or more than the body, the desk is asked."""
        for data in (to(1, 1, b"body")[:-1], to(1, 1, b"body") + GET):
            self.make()
            self.remember(to(1, 1, b"body"))
            self.arrive(to(1))
            self.answer()
            self.arrive(data)
            self.assertEqual(self.desk.asked, [b"/1"])

    def test_while_another_is_open(self) -> None:
        """It waits its turn like any other."""
        self.remember(GET)
        self.arrive(to(1))
        self.arrive(GET)
        self.assertEqual(self.got, to(1))
        self.answer()
        self.assertEqual(self.got, to(1) + GET)

    def test_behind_half_a_head(self) -> None:
        """Behind half a head the same bytes are not that request."""
        self.remember(GET)
        self.arrive(to(1))
        self.answer()
        half = b"POST /7 HTTP/1.1\r\nContent-Length: %d\r\nX: " % len(GET)
        self.arrive(half)
        self.arrive(GET)
        self.assertEqual(self.desk.asked, [b"/7"])
        self.assertEqual(self.got, to(1) + half + GET)

    @settings(deadline=None, max_examples=150)
    @given(
        steps=st.lists(
            st.sampled_from(
                [
                    *("get", "post", "half", "rest", "head", "body"),
                    *("both", "foreign", "answer", "part", "drain"),
                ]
            ),
            max_size=25,
        ),
        at_once=st.booleans(),
    )
    def test_the_same(self, steps: list[str], at_once: bool) -> None:
        """Whatever happens, with and without the short cut it comes to the same."""
        results = []
        for short in (False, True):
            self.make()
            if short:
                self.remember(GET, to(1, 1, b"body"))
            if at_once:
                self.host.react = lambda data: self.write(OK)
            for step in steps:
                self.step(step)
            results.append(
                (
                    self.got,
                    self.host.sent,
                    self.host.departed,
                    self.host.how,
                    self.desk.done,
                    self.host.reading,
                    self.gate.served,
                )
            )
        self.assertEqual(results[0], results[1])

    def step(self, step: str) -> None:
        """Something happens, if it can."""
        data = {
            "get": GET,
            "post": to(1, 1, b"body"),
            "half": GET[:10],
            "rest": GET[10:],
            "head": to(1, 1, b"body")[:-4],
            "body": b"body",
            "both": to(1, 1, b"body") + GET,
            "foreign": to(3),
        }.get(step)
        if data is not None:
            if self.host.reading and self.host.live():
                self.arrive(data)
        elif step == "drain":
            self.desk.draining = True
            self.desk.known.clear()
            self.gate.drain()
        elif self.host.live() and self.gate.exchange.request_open:
            self.answer(OK if step == "answer" else OK.replace(b"200", b"404"))


class Page(Resource):
    """Answers what a function says."""

    isLeaf = True

    def __init__(self, answer: Callable[[Request], bytes | int]) -> None:
        super().__init__()
        self._answer = answer

    def render(self, request: Request) -> bytes | int:
        """Answer."""
        return self._answer(request)


class Kept(Stages):
    """What a worker keeps of a connection."""

    def __init__(self) -> None:
        self.closings = 0
        self.moves: list[tuple[socket.socket, int, bytes]] = []

    def closed(self) -> None:
        """It is over."""
        self.closings += 1

    def departed(self, sock: socket.socket, place: int, held: bytes) -> None:
        """It was given away."""
        self.moves.append((sock, place, held))


class TransportCase(ShellCase):
    """A real connection under a gate."""

    make: Any = GatedServer

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(lambda: [s.connectionLost(Failure(OSError())) for s in self.served])
        self.served: list[Any] = []

    def pair_of_sockets(self) -> tuple[socket.socket, socket.socket]:
        """Server's end and client's end."""
        return self.connected()

    def serve(
        self,
        answer: Callable[[Request], bytes | int] | Factory,
        prefix: bytes = b"",
        server: socket.socket | None = None,
    ) -> Any:
        """Serve a connection; sets client, transport, desk, kept."""
        if server is None:
            server, self.client = self.pair_of_sockets()
        factory: Any = answer
        if not isinstance(answer, Factory):
            factory = Site(Page(answer), reactor=self.reactor)
            factory.log = lambda request: None
        self.desk = FakeDesk()
        self.kept = Kept()
        transport = adopt(self.reactor, server, ("192.0.2.7", 1), factory, self.make, 1)
        transport.connection = self.kept
        transport.how = How.NEW
        transport.gate = Gate(transport, self.desk, Conversation(), "192.0.2.7", False)
        self.served.append(transport)
        begin(transport, prefix)
        return transport

    def get(self, end: bytes = b"") -> bytes:
        """Read until something has come, or to the end."""
        got = bytearray()

        def more() -> bool:
            got.extend(received(self.client) or b"")
            return got.endswith(end) if end else ended(self.client)

        self.until(more)
        return bytes(got)


class TransportTests(TransportCase):
    """A real connection under a gate, with twisted.web in it."""

    def test_request_by_request(self) -> None:
        """Requests are answered one after the other, until a foreign one takes the socket along."""
        transport = self.serve(lambda request: request.uri, GET)
        for number in range(3):
            self.client.sendall(to(1, number))
        self.until(lambda: self.desk.done == 4)
        self.client.sendall(to(3, 7) + b"more")
        self.until(lambda: self.kept.moves)
        ((sock, place, held),) = self.kept.moves
        self.owned(sock)
        self.assertEqual((place, held), (3, to(3, 7) + b"more"))
        got = received(self.client) or b""
        self.assertEqual(got.count(b"HTTP/1.1 200 OK"), 4)
        self.assertEqual((self.kept.closings, self.reactor.getReaders()), (0, []))
        self.assertFalse(transport.connected)

    def test_and_goes_on_there(self) -> None:
        """There it is adopted and goes on, as if nothing had happened."""
        self.serve(lambda request: b"one", GET)
        self.client.sendall(to(3, 7, b"body"))
        self.until(lambda: self.kept.moves)
        ((sock, _, held),) = self.kept.moves
        self.serve(lambda request: b"two " + request.content.read(), held, sock)
        self.get(b"two body")

    def test_big_response_first(self) -> None:
        """A big response reaches the client whole before the connection leaves."""
        self.serve(lambda request: b"#" * 5_000_000 + b"end", GET + to(3))
        self.assertEqual(self.get(b"end").count(b"#"), 5_000_000)
        self.until(lambda: self.kept.moves)
        self.owned(self.kept.moves[0][0])

    def test_protocol_hears_of_an_idle_client_that_left(self) -> None:
        """To the protocol the client has closed; whatever it does then harms nobody."""
        lost = []

        class Inner(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(OK)

            def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
                lost.append(reason.type.__name__)
                self.transport.write(b"lost")
                self.transport.loseConnection()
                self.transport.abortConnection()

        self.serve(Factory.forProtocol(Inner), GET)
        self.client.sendall(to(3))
        self.until(lambda: self.kept.moves)
        ((sock, _, _),) = self.kept.moves
        self.owned(sock)
        self.reactor.settle()
        self.assertEqual((lost, received(self.client)), (["ConnectionDone"], OK))
        sock.send(b"alive")
        self.until(lambda: received(self.client) == b"alive")

    def test_aborted_with_a_foreign_request_behind(self) -> None:
        """A connection that the protocol aborts does not move, whatever is held."""

        class Inner(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(OK)
                self.transport.abortConnection()

        self.serve(Factory.forProtocol(Inner), GET + to(3))
        self.reactor.settle()
        self.assertEqual((self.kept.moves, self.kept.closings), ([], 1))

    def test_half_closed(self) -> None:
        """A client that closes its side behind its request gets its answer, and then the end."""
        self.serve(lambda request: b"answer", GET)
        self.client.shutdown(socket.SHUT_WR)
        self.assertTrue(self.get().endswith(b"answer"))
        self.until(lambda: self.kept.closings)

    def test_gone(self) -> None:
        """A client that has left while it waited is noticed, though nothing is written to it."""
        requests: list[Request] = []
        self.serve(lambda request: requests.append(request) or NOT_DONE_YET, GET)
        left = []
        requests[0].notifyFinish().addErrback(left.append)
        self.client.close()
        for _ in range(3):
            self.reactor.settle()
            self.reactor.advance(HALF_CLOSE_GRACE / 4)
        self.until(lambda: self.kept.closings)
        self.assertEqual(len(left), 1)

    def test_half_closed_before_a_big_response(self) -> None:
        """A big answer is whole, too, and the connection is closed behind it."""
        requests = []
        self.serve(lambda request: requests.append(request) or NOT_DONE_YET, GET)
        self.client.shutdown(socket.SHUT_WR)
        self.until(lambda: self.reactor.getReaders() == [])
        requests[0].write(b"#" * 5_000_000)
        requests[0].finish()
        self.assertEqual(self.get().count(b"#"), 5_000_000)
        self.until(lambda: self.kept.closings)

    def test_half_closed_behind_a_big_response(self) -> None:
        """So it is if the client closes its side while the response is under way."""
        self.serve(lambda request: b"#" * 5_000_000, GET)
        self.client.shutdown(socket.SHUT_WR)
        self.assertEqual(self.get().count(b"#"), 5_000_000)
        self.until(lambda: self.kept.closings)

    def test_left_registered(self) -> None:
        """A WebSocket's connection is closed, though the HTTP channel was paused as a producer."""

        class Upgraded(Protocol):
            def connectionMade(self) -> None:
                self.calls: list[str] = []
                self.transport.registerProducer(self, True)

            def dataReceived(self, data: bytes) -> None:
                self.transport.write(SWITCHING + b"#" * 5_000_000)
                self.transport.loseConnection()

            def pauseProducing(self) -> None:
                self.calls.append("pause")

            def resumeProducing(self) -> None:
                self.calls.append("resume")

        transport = self.serve(Factory.forProtocol(Upgraded), UPGRADE)
        inner = transport.protocol
        self.assertEqual(self.get().count(b"#"), 5_000_000)
        self.until(lambda: self.kept.closings)
        self.assertEqual(inner.calls, ["pause", "resume"])

    def test_client_closes(self) -> None:
        """A client that closes between two requests ends the connection."""
        self.serve(lambda request: b"answer", GET)
        self.get(b"answer")
        self.client.close()
        self.until(lambda: self.kept.closings)
        self.assertEqual((self.kept.moves, self.kept.closings), ([], 1))

    def test_drain(self) -> None:
        """An idle connection is given away, empty."""
        transport = self.serve(lambda request: b"answer", GET)
        self.until(lambda: self.desk.done)
        self.assertTrue(transport.gate.drain())
        ((sock, place, held),) = self.kept.moves
        self.owned(sock)
        self.assertEqual((place, held), (0, b""))
        self.get(b"answer")

    def test_confirmed(self) -> None:
        """A response waits for what was bound before it."""
        self.serve(lambda request: b"answer")
        self.desk.unconfirmed = 1
        self.client.sendall(GET)
        self.until(lambda: self.desk.done)
        self.reactor.settle()
        self.assertIsNone(received(self.client))
        self.desk.confirm()
        self.get(b"answer")

    def test_protocol_fails(self) -> None:
        """A protocol that fails over a request that waited ends its connection alone."""

        class Inner(Protocol):
            def dataReceived(self, data: bytes) -> None:
                if b"bad" in data:
                    raise ZeroDivisionError
                self.transport.write(OK)

        self.serve(Factory.forProtocol(Inner), GET + to(1, 1, b"bad"))
        self.reactor.settle()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.kept.closings, 1)


class UNIXTransportTests(TransportTests):
    """The same over a UNIX socket."""

    make = GatedUNIXServer

    def pair_of_sockets(self) -> tuple[socket.socket, socket.socket]:
        return self.pair()
