"""Refusals, and the end of what a gate serves."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any
from unittest import mock

from twisted.logger import formatEvent, globalLogPublisher

from tests.transport.cases import GET, OK, GateCase, to
from txsticky.core.how import How
from txsticky.core.http.head import Head, Malformed, parse_head
from txsticky.core.http.refusal import LINGER
from txsticky.core.http.steps import Refuse, known
from txsticky.transport.ending import Ending, refused


class EndTests(GateCase):
    """The last that a connection is sent."""

    def ends(self) -> None:
        """Assert that the client is told that nothing follows, may read, and is closed then."""
        self.turn()
        self.assertEqual((self.host.halved, self.host.reading), (True, True))
        self.arrive(to(1) + b"anything")
        self.assertFalse(self.host.lost)
        self.clock.advance(LINGER)
        self.assertTrue(self.host.lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def refused(self, status: int, before: bytes = b"") -> None:
        """Assert that the client got this and then a whole refusal, and nothing behind it."""
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
        self.assertEqual((self.got, self.policy.done), (head, 0))
        self.ends()

    def test_no_refusal_in_a_response(self) -> None:
        """A response that has begun is cut off."""
        self.arrive(b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.write(OK[:-1])
        self.arrive(b"x\r\n")
        self.assertEqual(self.host.sent, OK[:-1])
        self.ends()

    def test_no_refusal_in_a_response_that_is_withheld(self) -> None:
        """A response that has begun is cut off when it is sent, if it is withheld."""
        self.arrive(b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.policy.unconfirmed = 1
        self.write(OK[:-1])
        self.arrive(b"x\r\n")
        self.assertEqual(self.host.sent, b"")
        self.policy.confirm()
        self.assertEqual((self.host.sent, self.host.lost), (OK[:-1], True))

    def test_reason(self) -> None:
        """A refusal has its time in the head and its reason in the body."""
        answer = refused(Refuse(Malformed(400, "This is no head.")))
        head, _, body = answer.partition(b"\r\n\r\n")
        date = head.partition(b"\r\nDate: ")[2].partition(b"\r\n")[0]
        self.assertEqual(body, b"This is no head.\n")
        self.assertEqual(parsedate_to_datetime(date.decode()).tzname(), "UTC")

    def test_refusal_is_withheld(self) -> None:
        """A refusal does not overtake the response before it."""
        self.arrive(to(1) + b"\0")
        self.policy.unconfirmed = 1
        self.answer()
        self.assertEqual((self.host.sent, self.host.reading), (b"", False))
        self.policy.confirm()
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
        self.assertEqual(self.policy.done, 1)
        self.ends()

    def test_odd_and_the_protocol_closes(self) -> None:
        """A protocol that was told to close may close first."""
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
        """A client that has read its refusal and closes its side is closed at once."""
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
        """A worker that leaves lets such a connection end as it would."""
        self.arrive(b"GET /1 HTTP/1.1\r\nA: \x01\r\n\r\n")
        self.policy.draining = True
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

    def test_read_on(self) -> None:
        """The end is awaited though nothing was read, and though the protocol has paused."""
        self.make(hold_limit=1000)
        self.arrive(to(1, 1) + 20 * to(1, 2))
        self.assertFalse(self.host.reading)
        self.answer(OK + b"more")
        self.gate.pause()
        self.gate.resume()
        self.ends()

    def test_read_while_paused(self) -> None:
        """What the client sends is read to the end, though the protocol has paused."""
        self.arrive(to(1))
        self.gate.pause()
        self.answer(OK + b"more")
        self.ends()

    def test_called_off(self) -> None:
        """An end that is called off does not come, and may be called off again."""
        close = mock.Mock()
        ending = Ending(self.host, 1.0, close)
        ending.cancel()
        ending.cancel()
        self.clock.advance(2)
        self.assertEqual(close.mock_calls, [])

    def test_surplus_of_a_known_request(self) -> None:
        """The sentence names the request that was taken by the short cut, too."""
        self.arrive(to(1, 7))
        self.answer()
        head = parse_head(GET, 65536)
        assert isinstance(head, Head)
        memo = known(head, How.NEW)
        assert memo is not None
        self.policy.known[GET] = memo
        self.arrive(GET)
        self.write(OK + b"more")
        self.assertEqual(self.gate.exchange.request_line, b"GET / HTTP/1.1")
