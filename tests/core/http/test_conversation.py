"""The conversation of one connection: what is released when, and where it can move."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.conversation import Conversation
from txsticky.core.http.inside import Inside
from txsticky.core.http.steps import Ask, Deliver, Refuse

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
NEXT = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
OLD = b"GET /old HTTP/1.0\r\n\r\n"
ODD = b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nsome"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
COOKIE = b"Set-Cookie: a=b\r\n"
LAST = b"Connection: close\r\n"
#: What the inner protocol gets of `ODD`, and what the client gets of `OK` then.
SHOWN = ODD.replace(b"1.1\r\n", b"1.1\r\n" + LAST)
OK_LAST = OK.replace(b"OK\r\n", b"OK\r\n" + LAST)


class Talk:
    """A conversation between a client and a server that the test plays, keeping every request.

    Attributes:
        asked: the targets that were asked about.
        delivered: what the inner protocol got.
        refused: the status that the client is refused with; 0 for none, -1 for an end without one.
    """

    def __init__(self, inject: bytes = b"", **arguments: Any) -> None:
        self.conversation = Conversation(**arguments)
        self.inject = inject
        self.asked: list[bytes] = []
        self.delivered = b""
        self.refused = 0

    def client(self, data: bytes) -> None:
        """The client sends."""
        self.conversation.feed(data)
        self.pull()

    def server(self, data: bytes) -> bytes:
        """The inner protocol writes, and the client gets what is returned."""
        sent = self.conversation.wrote(data)
        self.pull()
        return sent

    def pull(self) -> None:
        """Do what the conversation says, until it waits."""
        while (step := self.conversation.next()) is not None:
            if isinstance(step, Ask):
                self.asked.append(step.head.target)
                self.conversation.keep(self.inject)
            elif isinstance(step, Refuse):
                assert not self.refused
                self.refused = step.fault.status if step.fault else -1
            else:
                self.delivered += step.data


class BoundaryTests(SynchronousTestCase):
    """Between two requests."""

    def test_request_is_asked_about_before_it_is_delivered(self) -> None:
        """A complete head is asked about, and nothing is delivered before the answer."""
        conversation = Conversation()
        conversation.feed(GET)
        ask = conversation.next()
        assert isinstance(ask, Ask)
        self.assertEqual(ask.head.raw, GET)
        self.assertIsNone(conversation.next())
        conversation.keep()
        self.assertEqual(conversation.next(), Deliver(GET))
        self.assertIsNone(conversation.next())

    def test_first(self) -> None:
        """Only the first request of a routed connection is known to be ours."""
        for conversation, ours in (
            (Conversation(), True),
            (Conversation(first_is_ours=False), False),
        ):
            conversation.feed(GET + NEXT)
            first = conversation.next()
            conversation.keep()
            conversation.next()
            conversation.wrote(OK)
            second = conversation.next()
            assert isinstance(first, Ask)
            assert isinstance(second, Ask)
            self.assertEqual((first.first, second.first), (ours, False))

    def test_next_request_waits_for_the_response(self) -> None:
        """A pipelined request is neither asked about nor delivered before the response's end."""
        talk = Talk()
        talk.client(POST + NEXT)
        talk.server(OK[:-1])
        self.assertEqual((talk.asked, talk.delivered), ([b"/p"], POST))
        talk.server(OK[-1:])
        self.assertEqual((talk.asked, talk.delivered), ([b"/p", b"/b"], POST + NEXT))

    def test_next_request_waits_for_the_end_of_the_request(self) -> None:
        """A response that comes early makes no boundary within its request."""
        talk = Talk()
        talk.client(POST[:-1])
        talk.server(OK)
        self.assertFalse(talk.conversation.idle)
        talk.client(POST[-1:] + NEXT)
        self.assertEqual((talk.asked, talk.delivered), ([b"/p", b"/b"], POST + NEXT))

    def test_interim_response_is_no_response(self) -> None:
        """A 100 (Continue) lets the body in and ends nothing."""
        talk = Talk()
        talk.client(POST[:-5])
        talk.server(b"HTTP/1.1 100 Continue\r\n\r\n")
        talk.client(POST[-5:] + NEXT)
        self.assertEqual(talk.asked, [b"/p"])
        talk.server(OK)
        self.assertEqual(talk.asked, [b"/p", b"/b"])

    def test_body_piece_is_not_copied(self) -> None:
        """A piece that lies within one request is delivered as the object that came."""
        talk = Talk()
        talk.client(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        piece = bytes(65536)
        talk.conversation.feed(piece)
        step = talk.conversation.next()
        assert isinstance(step, Deliver)
        self.assertIs(step.data, piece)

    def test_empty_lines(self) -> None:
        """Empty lines before a request line are dropped, wherever they are cut."""
        talk = Talk()
        talk.client(b"\r\n\r\n" * 20 + b"\r")
        talk.client(b"\n" + POST + b"\r")
        talk.server(OK)
        talk.client(b"\n")
        self.assertTrue(talk.conversation.idle)
        talk.client(b"\r\n" + NEXT)
        self.assertEqual(talk.delivered, POST + NEXT)

    def test_idle(self) -> None:
        """A connection is idle from its first moment, and again once a response is complete."""
        talk = Talk()
        self.assertTrue(talk.conversation.idle)
        talk.client(GET)
        self.assertFalse(talk.conversation.idle)
        talk.server(OK)
        self.assertTrue(talk.conversation.idle)
        talk.client(NEXT[:5])
        self.assertFalse(talk.conversation.idle)

    def test_nothing_is_asked(self) -> None:
        """Keeping what was not asked about is a mistake that is told."""
        self.assertRaises(RuntimeError, Conversation().keep)

    def test_empty_feed(self) -> None:
        """No bytes change nothing."""
        conversation = Conversation()
        conversation.feed(b"")
        self.assertIsNone(conversation.next())


class RemainderTests(SynchronousTestCase):
    """Handing a connection off."""

    def test_asked(self) -> None:
        """The request asked about leaves with everything that came behind it."""
        conversation = Conversation()
        conversation.feed(POST + NEXT[:3])
        conversation.next()
        self.assertEqual(conversation.remainder(), POST + NEXT[:3])
        self.assertEqual((conversation.held, conversation.next()), (0, None))

    def test_later_request(self) -> None:
        """What was delivered and answered does not leave with a later request."""
        talk = Talk()
        talk.client(GET)
        talk.conversation.wrote(OK)
        talk.conversation.feed(b"\r\n" + POST)
        self.assertIsInstance(talk.conversation.next(), Ask)
        self.assertEqual(talk.conversation.remainder(), POST)

    def test_half_a_head(self) -> None:
        """A connection in the middle of its next head can leave with the beginning of it."""
        talk = Talk()
        talk.client(GET)
        talk.server(OK)
        talk.client(NEXT[:9])
        self.assertEqual(talk.conversation.remainder(), NEXT[:9])

    def test_idle(self) -> None:
        """An idle connection leaves with nothing."""
        self.assertEqual(Conversation().remainder(), b"")

    def test_not_within_a_request(self) -> None:
        """A connection with an open request cannot leave, nor can one that is over."""
        for data in (POST[:-1], POST, ODD, b"garbage\r\n"):
            talk = Talk()
            talk.client(data)
            self.assertRaises(RuntimeError, talk.conversation.remainder)

    def test_bytes_read_afterwards(self) -> None:
        """Bytes read after a hand-off would be lost, so they are refused."""
        conversation = Conversation()
        conversation.remainder()
        self.assertRaises(RuntimeError, conversation.feed, b"x")

    def test_output_afterwards(self) -> None:
        """What the inner protocol writes after the hand-off is returned as it is."""
        conversation = Conversation()
        conversation.remainder()
        self.assertEqual(conversation.wrote(OK), OK)
        self.assertFalse(conversation.tunnel)


class OverCase(SynchronousTestCase):
    """What the tests of a connection's end share."""

    def assert_over(self, talk: Talk, delivered: bytes) -> None:
        """This was delivered and nothing more will be, the connection is to be closed."""
        for _ in range(2):
            conversation = talk.conversation
            self.assertEqual(talk.delivered, delivered)
            self.assertTrue(conversation.over)
            self.assertEqual(
                (conversation.tunnel, conversation.idle, conversation.held), (False, False, 0)
            )
            self.assertFalse(conversation.request_open or conversation.unfinished)
            self.assertRaises(RuntimeError, conversation.remainder)
            asked = len(talk.asked)
            talk.client(GET)
            self.assertEqual(talk.server(OK), b"")
            self.assertEqual(len(talk.asked), asked)


class RefusalTests(OverCase):
    """What can be no request is refused, and nothing follows it."""

    def test_malformed_head(self) -> None:
        """A malformed head is refused at once, complete or not."""
        for data in (b"GET /\r\n", b"\x16\x03\x01", b"GET / HTTP/1.1\nHost: x\n\n", b"PRI \x01"):
            talk = Talk()
            talk.client(data)
            self.assertEqual(talk.refused, 400)
            self.assert_over(talk, b"")

    def test_malformed_next_head(self) -> None:
        """So is a later one, but not before the response before it is complete."""
        for data in (b"\0", b"GET / HTTP/1.1\r\nno colon\r", b"GET / HTTP/1.1\r\nA : b"):
            talk = Talk()
            talk.client(GET + data)
            self.assertEqual((talk.delivered, talk.refused), (GET, 0))
            talk.server(OK)
            self.assertEqual(talk.refused, 400)
            self.assert_over(talk, GET)

    def test_version(self) -> None:
        """Another version than 1.0 and 1.1 is refused with 505."""
        talk = Talk()
        talk.client(b"PRI * HTTP/2.0\r\n")
        self.assertEqual(talk.refused, 505)

    def test_oversize_head(self) -> None:
        """A head beyond the limit is refused with 431, the first and every later one."""
        for before in (b"", GET, POST + GET):
            talk = Talk(head_limit=100)
            talk.client(before)
            for _ in range(before.count(b"HTTP")):
                talk.server(OK)
            talk.client(b"GET /" + b"a" * 95)
            self.assertEqual((talk.delivered, talk.refused), (before, 0))
            talk.client(b"a")
            self.assertEqual(talk.refused, 431)
            self.assert_over(talk, before)

    def test_bad_body(self) -> None:
        """A chunked body that turns out to be none is refused; nothing of what is wrong passes."""
        data = CHUNKED.replace(b"\r\nabc", b"\nabc")
        talk = Talk()
        talk.client(data + GET)
        self.assertEqual(talk.refused, 400)
        self.assert_over(talk, b"")

    def test_bad_body_later(self) -> None:
        """What was delivered before the fault came stays delivered."""
        talk = Talk()
        talk.client(CHUNKED[:-5])
        talk.client(b"x" + GET)
        self.assertEqual(talk.refused, 400)
        self.assert_over(talk, CHUNKED[:-5])

    def test_oversize_trailers(self) -> None:
        """Trailers and the line of a chunk beyond the limit are refused with 431."""
        for data in (b"A: b\r\n" * 30, b"A" * 200, b"A: b\r\n" * 16 + b"A" * 10 + b": b\r\n"):
            talk = Talk(head_limit=100)
            talk.client(CHUNKED[:-2])
            talk.client(data)
            self.assertEqual(talk.refused, 431)
            self.assert_over(talk, CHUNKED[:-2])
        talk = Talk(head_limit=100)
        talk.client(CHUNKED[:-5] + b"1;" + b"a" * 200)
        self.assertEqual(talk.refused, 431)

    def test_response_has_begun(self) -> None:
        """A response that has begun cannot become a refusal: the connection ends with it."""
        talk = Talk()
        talk.client(CHUNKED[:-5])
        talk.server(OK[:-1])
        talk.client(b"x\r\n")
        self.assertEqual(talk.refused, -1)
        self.assert_over(talk, CHUNKED[:-5])

    def test_interim_response_has_been_sent(self) -> None:
        """An interim response does not keep the final one from being a refusal."""
        talk = Talk()
        talk.client(CHUNKED[:-5])
        talk.server(b"HTTP/1.1 100 Continue\r\n\r\n")
        talk.client(b"x\r\n")
        self.assertEqual(talk.refused, 400)

    def test_no_surplus(self) -> None:
        """What the inner protocol answers to a request that was refused is not too much."""
        talk = Talk()
        talk.client(CHUNKED[:-5] + b"x\r\n")
        self.assertEqual(talk.server(OK), b"")
        self.assertFalse(talk.conversation.surplus)


class OddTests(OverCase):
    """A request whose end is not certain is the last of its connection."""

    def test_framing(self) -> None:
        """It passes as it comes, but that the inner protocol is told to close, as is the client."""
        talk = Talk()
        talk.client(ODD + b"rest")
        self.assertEqual((talk.asked, talk.delivered), ([b"/"], SHOWN + b"rest"))
        talk.client(b"more")
        self.assertEqual(talk.delivered, SHOWN + b"restmore")
        self.assertEqual(talk.server(OK), OK_LAST)
        self.assert_over(talk, SHOWN + b"restmore")

    def test_value(self) -> None:
        """So it is with one that is odd in no more than a header's value."""
        for line in (b"A: \x01", b"A: b\r\n c", b"A: \x7f"):
            odd = b"GET /a HTTP/1.1\r\n" + line + b"\r\n\r\n"
            talk = Talk()
            talk.client(GET)
            talk.server(OK)
            talk.client(odd)
            self.assertEqual(talk.server(OK), OK_LAST)
            self.assert_over(talk, GET + odd.replace(b"1.1\r\n", b"1.1\r\n" + LAST))

    def test_response_until_close(self) -> None:
        """A response without an end lasts until the inner protocol ends it."""
        talk = Talk()
        talk.client(ODD)
        self.assertEqual(talk.server(UNTIL_CLOSE), UNTIL_CLOSE)
        self.assertEqual(talk.server(b"more"), b"more")
        conversation = talk.conversation
        self.assertEqual(
            (conversation.over, conversation.tunnel, conversation.request_open),
            (False, False, True),
        )

    def test_odd_response(self) -> None:
        """So does one that is not understood."""
        talk = Talk()
        talk.client(ODD)
        self.assertEqual(talk.server(b"hello\r\n\r\n"), b"hello\r\n\r\n")
        self.assertEqual(talk.server(OK), OK)
        self.assertFalse(talk.conversation.over or talk.conversation.tunnel)

    def test_owed(self) -> None:
        """A client that sends no more is owed its response, and gets no interim one."""
        talk = Talk()
        talk.client(ODD)
        conversation = talk.conversation
        self.assertTrue(conversation.request_open and conversation.finished_request)
        self.assertFalse(conversation.interim)

    def test_upgrade(self) -> None:
        """An offer that may be taken is not spoilt, and if it is the connection is a tunnel."""
        odd = UPGRADE.replace(b"1.1\r\n", b"1.1\r\nA: \x01\r\n")
        for response, over in ((SWITCHING, False), (OK, True)):
            talk = Talk()
            talk.client(odd)
            self.assertEqual(talk.delivered, odd)
            sent = talk.server(response)
            self.assertEqual(sent, OK_LAST if over else SWITCHING)
            conversation = talk.conversation
            self.assertEqual((conversation.over, conversation.tunnel), (over, not over))
            self.assertEqual(conversation.upgraded, not over)

    def test_connect(self) -> None:
        """What follows a CONNECT waits for the response, and passes if that is a 2xx."""
        data = b"CONNECT a:1 HTTP/1.1\r\n\r\n"
        talk = Talk()
        talk.client(data + b"\x16\x03")
        self.assertEqual((talk.asked, talk.delivered), ([b"a:1"], data))
        self.assertEqual(talk.server(OK), OK)
        self.assertTrue(talk.conversation.upgraded)
        self.assertEqual(talk.delivered, data + b"\x16\x03")

    def test_connect_with_content(self) -> None:
        """A CONNECT that has content, which it should not have, gets that delivered."""
        for content in (b"Content-Length: 3\r\n\r\nabc", CHUNKED.partition(b"1.1\r\n")[2]):
            data = b"CONNECT a:1 HTTP/1.1\r\n" + content
            talk = Talk()
            talk.client(data + NEXT)
            self.assertEqual(talk.delivered, data)
            talk.server(OK)
            self.assertEqual(talk.delivered, data + NEXT)

    def test_odd_connect(self) -> None:
        """One whose content has no certain end is odd, and upgraded by a 2xx like any other."""
        data = b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nx"
        for response, over in ((OK, False), (OK.replace(b"200", b"400"), True)):
            talk = Talk()
            talk.client(data)
            self.assertEqual(talk.delivered, data.replace(b"1.1\r\n", b"1.1\r\n" + LAST))
            talk.server(response)
            self.assertEqual((talk.conversation.over, talk.conversation.upgraded), (over, not over))

    def test_refused_connect(self) -> None:
        """If it is none, nothing that follows is served."""
        data = b"CONNECT a:1 HTTP/1.1\r\n\r\n"
        no = OK.replace(b"200 OK", b"405 No")
        talk = Talk()
        talk.client(data + NEXT)
        self.assertEqual(talk.server(no), no.replace(b"No\r\n", b"No\r\n" + LAST))
        self.assert_over(talk, data)


class LastTests(OverCase):
    """What is followed by nothing, for whatever reason."""

    def test_http10(self) -> None:
        """An HTTP/1.0 request is asked about, answered, and followed by nothing."""
        talk = Talk()
        talk.client(OLD + NEXT)
        self.assertEqual((talk.asked, talk.delivered), ([b"/old"], OLD))
        talk.server(OK)
        self.assertEqual(talk.asked, [b"/old"])
        self.assert_over(talk, OLD)

    def test_http10_at_a_later_boundary(self) -> None:
        """An HTTP/1.0 head behind an HTTP/1.1 request is asked about as well."""
        talk = Talk()
        talk.client(GET + OLD)
        talk.server(OK)
        self.assertEqual(talk.asked, [b"/a", b"/old"])

    def test_close_by_the_client(self) -> None:
        """What follows a request with Connection: close is not served."""
        last = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
        talk = Talk()
        talk.client(last + NEXT)
        self.assertTrue(talk.conversation.last)
        self.assertEqual(talk.delivered, last)
        talk.server(OK)
        self.assert_over(talk, last)

    def test_close_by_the_server(self) -> None:
        """What follows a response with Connection: close is not served."""
        talk = Talk()
        talk.client(GET + NEXT)
        talk.server(OK_LAST)
        self.assert_over(talk, GET)

    def test_interim(self) -> None:
        """A client may be sent an interim response while it waits for the beginning of its own."""
        talk = Talk()
        told = [talk.conversation.interim]
        for data in (POST[:-1], POST[-1:]):
            talk.client(data)
            told.append(talk.conversation.interim)
        for data in (b"HTTP/1.1 102 Processing\r\n\r\n", OK[:5], OK[5:]):
            talk.server(data)
            told.append(talk.conversation.interim)
        self.assertEqual(told, [False, False, True, True, False, False])

    def test_interim_to_the_old(self) -> None:
        """But not one of HTTP/1.0, which would take it for the response."""
        talk = Talk()
        talk.client(OLD)
        self.assertFalse(talk.conversation.interim)

    def test_until_close(self) -> None:
        """Behind a response that lasts until the connection closes nothing is served."""
        talk = Talk()
        talk.client(GET + NEXT)
        self.assertEqual(talk.server(UNTIL_CLOSE), UNTIL_CLOSE)
        talk.client(NEXT)
        conversation = talk.conversation
        self.assertEqual((talk.asked, talk.delivered), ([b"/a"], GET))
        self.assertEqual(
            (conversation.tunnel, conversation.over, conversation.held), (False, False, 0)
        )
        self.assertTrue(conversation.request_open)
        self.assertFalse(conversation.unfinished)
        self.assertEqual(talk.server(b"more"), b"more")

    def test_until_close_before_the_request_is_whole(self) -> None:
        """The rest of the request is delivered nevertheless, and nothing behind it."""
        talk = Talk()
        talk.client(POST[:-3])
        talk.server(UNTIL_CLOSE)
        talk.client(POST[-3:] + NEXT)
        talk.client(NEXT)
        self.assertEqual((talk.asked, talk.delivered), ([b"/p"], POST))

    def test_body_of_a_head_response(self) -> None:
        """A body behind the response to HEAD is cut off, and nothing follows."""
        head = GET.replace(b"GET", b"HEAD")
        talk = Talk()
        talk.client(head)
        talk.server(OK[:-2])
        self.assertTrue(talk.conversation.idle)
        self.assertEqual(talk.server(OK[-2:]), b"")
        self.assertTrue(talk.conversation.surplus)
        self.assert_over(talk, head)

    def test_surplus(self) -> None:
        """What is longer than its length is cut off, at once or later, and nothing follows."""
        for pieces in ((OK + b"x",), (OK, b"x"), (OK[:-1], OK[-1:] + OK)):
            talk = Talk()
            talk.client(GET)
            sent = b"".join(talk.server(piece) for piece in pieces)
            self.assertEqual((sent, talk.conversation.surplus), (OK, True))
            self.assertEqual(talk.conversation.request_line, b"GET /a HTTP/1.1")
            self.assert_over(talk, GET)

    def test_surplus_behind_the_last(self) -> None:
        """It is cut off behind a last response as well, and told."""
        talk = Talk()
        talk.client(OLD)
        talk.server(OK)
        self.assertFalse(talk.conversation.surplus)
        self.assertEqual(talk.server(b"x"), b"")
        self.assertTrue(talk.conversation.surplus)

    def test_surplus_while_asking(self) -> None:
        """Surplus while the next request is on its way elsewhere is cut off; the request goes."""
        conversation = self.asking()
        self.assertEqual(conversation.wrote(b"HTTP/1.1 408 Request Timeout\r\n\r\n"), b"")
        self.assertEqual(conversation.remainder(), NEXT)

    def test_surplus_before_it_is_kept(self) -> None:
        """If that is to stay instead, the connection is over: more might come."""
        conversation = self.asking()
        conversation.wrote(b"x")
        conversation.keep()
        self.assertIsNone(conversation.next())
        self.assertTrue(conversation.over)

    def asking(self) -> Conversation:
        """A conversation that asks about its second request."""
        talk = Talk()
        talk.client(GET)
        talk.conversation.feed(NEXT)
        talk.conversation.wrote(OK)
        self.assertIsInstance(talk.conversation.next(), Ask)
        return talk.conversation


class InsideTests(SynchronousTestCase):
    """What the inner protocol sees of a head."""

    H2C = (
        b"POST /p HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AA\r\nContent-Length: 5\r\n\r\nhello"
    )
    PLAIN = b"POST /p HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"

    def test_any_split(self) -> None:
        """An offer is taken off however it is cut, and every byte of the body is delivered."""
        for at in range(len(self.H2C)):
            talk = Talk()
            talk.client(GET)
            talk.server(OK)
            talk.client(self.H2C[:at])
            talk.client(self.H2C[at:] + NEXT)
            self.assertEqual(talk.delivered, GET + self.PLAIN)
            self.assertEqual(talk.server(OK), OK)
            self.assertEqual(talk.delivered, GET + self.PLAIN + NEXT)

    def test_leaves_as_it_came(self) -> None:
        """A request that goes elsewhere goes as it came."""
        conversation = Conversation()
        conversation.feed(b"\r\n" + self.H2C)
        conversation.next()
        self.assertEqual(conversation.remainder(), self.H2C)

    def test_absolute_target(self) -> None:
        """A target in absolute form is shown in origin form, and asked about as it came."""
        talk = Talk(inside=Inside(absolute=False))
        talk.client(b"GET http://b/a?x HTTP/1.1\r\nHost: c\r\n\r\n")
        self.assertEqual(talk.asked, [b"http://b/a?x"])
        self.assertEqual(talk.delivered, b"GET /a?x HTTP/1.1\r\nHost: b\r\n\r\n")


class TunnelTests(SynchronousTestCase):
    """Where HTTP has ended, or has not begun, everything passes as it came."""

    def assert_tunnel(self, talk: Talk, data: bytes) -> None:
        """Everything was delivered, and so is everything to come."""
        self.assertTrue(talk.conversation.tunnel)
        self.assertEqual(talk.delivered, data)
        asked = len(talk.asked)
        talk.client(GET)
        self.assertEqual(talk.server(b"anything"), b"anything")
        talk.client(NEXT)
        self.assertEqual(talk.delivered, data + GET + NEXT)
        self.assertEqual(len(talk.asked), asked)
        self.assertFalse(talk.conversation.idle)
        self.assertFalse(talk.conversation.request_open)

    def test_server_speaks_first(self) -> None:
        """A server that speaks first is passed through; nothing was upgraded."""
        talk = Talk()
        self.assertEqual(talk.server(b"220 hello\r\n"), b"220 hello\r\n")
        self.assertFalse(talk.conversation.upgraded)
        self.assert_tunnel(talk, b"")

    def test_server_speaks_while_asking(self) -> None:
        """So is one that speaks while its first request is being decided about."""
        conversation = Conversation(first_is_ours=False)
        conversation.feed(GET)
        self.assertIsInstance(conversation.next(), Ask)
        conversation.wrote(b"220 hello\r\n")
        self.assertRaises(RuntimeError, conversation.remainder)
        conversation.keep()
        self.assertEqual(conversation.next(), Deliver(GET))

    def test_upgrade(self) -> None:
        """Bytes glued to an upgrade request are held until the 101 is written, then delivered."""
        talk = Talk()
        talk.client(UPGRADE + b"\x81\x02hi")
        self.assertEqual(talk.delivered, UPGRADE)
        talk.server(SWITCHING[:-1])
        self.assertEqual(talk.delivered, UPGRADE)
        talk.server(SWITCHING[-1:])
        self.assert_tunnel(talk, UPGRADE + b"\x81\x02hi")

    def test_refused_upgrade(self) -> None:
        """A server that answers an upgrade request in HTTP goes on in HTTP."""
        talk = Talk()
        talk.client(UPGRADE + NEXT)
        talk.server(OK)
        self.assertEqual(talk.asked, [b"/ws", b"/b"])


class InjectTests(SynchronousTestCase):
    """Header lines added to the response of a kept request."""

    def test_only_its_own_response(self) -> None:
        """The lines are added to the response of the request that they were given for."""
        talk = Talk(COOKIE)
        talk.client(GET + NEXT)
        talk.inject = b""
        self.assertEqual(talk.server(OK), OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE))
        self.assertEqual(talk.server(OK), OK)

    def test_last(self) -> None:
        """The response to a request that nothing follows gets them as well."""
        for data, last in ((ODD, LAST), (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b""), (OLD, b"")):
            talk = Talk(COOKIE)
            talk.client(data)
            self.assertEqual(talk.server(OK), OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE + last))

    def test_status_line_in_pieces(self) -> None:
        """A status line that comes in pieces gets them, and the conversation goes on."""
        talk = Talk(COOKIE)
        talk.client(GET + NEXT)
        sent = b"".join(talk.server(OK[at : at + 1]) for at in range(len(OK)))
        self.assertEqual(sent, OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE))
        self.assertEqual(talk.asked, [b"/a", b"/b"])


class HalfCloseTests(SynchronousTestCase):
    """What a client that sends no more is still owed."""

    def owed(self, conversation: Conversation) -> tuple[bool, bool, bool]:
        """The properties that say it."""
        return (
            conversation.request_open,
            conversation.finished_request,
            conversation.response_started,
        )

    def test_course_of_a_request(self) -> None:
        """Open with its head, finished with its last byte, over with the response's."""
        talk = Talk()
        self.assertEqual(self.owed(talk.conversation), (False, False, False))
        talk.client(POST[:-1])
        self.assertEqual(self.owed(talk.conversation), (True, False, False))
        talk.client(POST[-1:])
        self.assertEqual(self.owed(talk.conversation), (True, True, False))
        talk.server(b"HTTP/1.1 102 Processing\r\n\r\n")
        self.assertEqual(self.owed(talk.conversation), (True, True, False))
        talk.server(OK[:-1])
        self.assertEqual(self.owed(talk.conversation), (True, True, True))
        talk.server(OK[-1:])
        self.assertEqual(self.owed(talk.conversation), (False, False, False))

    def test_last_request(self) -> None:
        """An HTTP/1.0 request is owed its response like any other."""
        talk = Talk()
        talk.client(OLD)
        self.assertEqual(self.owed(talk.conversation), (True, True, False))

    def test_until_close(self) -> None:
        """A response that lasts until the connection closes is owed until then."""
        talk = Talk()
        talk.client(GET)
        talk.server(UNTIL_CLOSE)
        self.assertEqual(self.owed(talk.conversation), (True, True, True))

    def test_switching(self) -> None:
        """After a 101 no response is owed."""
        talk = Talk()
        talk.client(UPGRADE)
        talk.server(SWITCHING)
        self.assertFalse(talk.conversation.request_open)


class HoldTests(SynchronousTestCase):
    """How much is held back."""

    def test_over_hold(self) -> None:
        """More than the limit held behind an open request asks for a pause, until released."""
        talk = Talk(head_limit=100, hold_limit=200)
        talk.client(GET + b"x" * 200)
        self.assertEqual((talk.conversation.held, talk.conversation.over_hold), (200, False))
        talk.client(b"x\r\n")
        self.assertTrue(talk.conversation.over_hold)
        talk.server(UNTIL_CLOSE)
        self.assertFalse(talk.conversation.over_hold)

    def test_dropped(self) -> None:
        """What comes when nothing is served any more is not held."""
        talk = Talk(head_limit=100, hold_limit=200)
        talk.client(OLD)
        talk.server(OK)
        for _ in range(3):
            talk.client(b"x" * 200)
        self.assertEqual((talk.conversation.held, talk.conversation.over_hold), (0, False))

    def test_a_head_fits(self) -> None:
        """A client is never paused in the middle of a head that may still be completed."""
        talk = Talk(head_limit=100, hold_limit=10)
        talk.client(b"GET /" + b"a" * 95)
        self.assertFalse(talk.conversation.over_hold)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A plain request."""
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    line = b"\r\n" * draw(st.integers(0, 2)) + draw(
        st.sampled_from([b"GET / HTTP/1.1\r\n", b"POST /x?y HTTP/1.1\r\nHost: x\r\n"])
    )
    if kind == "none":
        return line + b"\r\n"
    content = draw(st.binary(min_size=1, max_size=30))
    if kind == "length":
        return line + b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
    coded = b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    return line + b"Transfer-Encoding: chunked\r\n\r\n" + coded


RESPONSES = st.sampled_from(
    [
        OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ]
)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """`data`, cut at the places of `cuts` that lie within it."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for begin, end in pairwise(edges):
        yield data[begin:end]


#: Requests that end somewhere, but not for certain where.
ODDITIES = [
    ODD,
    b"GET / HTTP/1.1\r\nA: \x01\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nA: b\r\n Content-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nx",
]
CUTS = st.lists(st.integers(1, 400), max_size=20)


class AnyConversationTests(SynchronousTestCase):
    """Facts about every conversation."""

    @given(st.lists(st.tuples(requests(), RESPONSES, CUTS), max_size=5), CUTS, st.booleans())
    @settings(deadline=None, max_examples=150)
    def test_plain_requests(
        self, turns: list[tuple[bytes, bytes, list[int]]], cuts: list[int], prompt: bool
    ) -> None:
        """Each plain request is asked about once and delivered whole, after the response before.

        The server answers as soon as it has a whole request, within its delivery (`prompt`) or
        when all input has come, in pieces.
        """
        conversation = Conversation()
        got: list[bytes] = []
        unanswered: list[int] = []

        def answer() -> None:
            turn = unanswered.pop()
            for piece in pieces(turns[turn][1], turns[turn][2]):
                self.assertFalse(conversation.idle)
                self.assertEqual(conversation.wrote(piece), piece)

        def pull() -> None:
            while (step := conversation.next()) is not None:
                if isinstance(step, Ask):
                    self.assertEqual(unanswered, [])
                    got.append(b"")
                    conversation.keep()
                    continue
                got[-1] += step.data
                if got[-1] == turns[len(got) - 1][0].lstrip(b"\r\n"):
                    unanswered.append(len(got) - 1)
                    if prompt:
                        answer()

        for piece in pieces(b"".join(turn[0] for turn in turns), cuts):
            conversation.feed(piece)
            pull()
        while unanswered:
            answer()
            pull()
        self.assertEqual(got, [turn[0].lstrip(b"\r\n") for turn in turns])
        self.assertTrue(conversation.idle)

    @given(
        st.lists(
            st.one_of(
                requests(),
                st.sampled_from(
                    [ODD, OLD, UPGRADE, b"\r\n", b"\r", b"\n", b"0", b"\0", b" ", b"G"]
                ),
            ),
            max_size=8,
        ).map(b"".join),
        CUTS,
        st.lists(st.sampled_from([OK, UNTIL_CLOSE, SWITCHING, b"x", b"", OK[:20]]), max_size=4),
    )
    @settings(deadline=None, max_examples=200)
    def test_nothing_is_lost(self, data: bytes, cuts: list[int], output: list[bytes]) -> None:
        """Whatever comes is delivered or held in order, until nothing more is to be served."""
        talk = Talk()
        written = b""  # a head to which a line is to be added is sent when the rest of it has come
        for piece in pieces(data, cuts):
            talk.client(piece)
            if output:
                written += output[-1]
                sent = talk.server(output.pop())
                self.assertIn(sent.replace(LAST, b""), written)
        held = talk.conversation._held
        got = (talk.delivered.replace(LAST, b"") + held).replace(b"\r\n", b"")
        came = data.replace(LAST, b"").replace(b"\r\n", b"")
        # Of a response that ends with the connection nobody knows but by its being open.
        ending = talk.conversation.over or talk.conversation.request_open
        self.assertTrue(came.startswith(got) if ending else got == came, (got, came))
        self.assertFalse(talk.conversation.tunnel and held)

    @given(
        st.lists(requests(), max_size=2),
        st.sampled_from(ODDITIES),
        st.lists(requests(), min_size=1, max_size=2),
        CUTS,
        CUTS,
        st.booleans(),
    )
    @settings(deadline=None, max_examples=250)
    def test_odd_requests(
        self,
        before: list[bytes],
        odd: bytes,
        behind: list[bytes],
        cuts: list[int],
        output: list[int],
        late: bool,
    ) -> None:
        """However it is cut, an odd request is asked about once, answered once, and the last.

        The server has all of it that came until its answer; what comes `late` it never sees.
        """
        talk = Talk()
        plain = b"".join(before)
        for request in before:
            talk.client(request)
            talk.server(OK)
        self.assertEqual(len(talk.asked), len(before))
        for piece in pieces(odd + (b"" if late else b"".join(behind)), cuts):
            talk.client(piece)
        sent = b"".join(talk.server(piece) for piece in pieces(OK, output))
        talk.client(b"".join(behind))
        self.assertEqual((sent, len(talk.asked)), (OK_LAST, len(before) + 1))
        self.assertTrue(talk.conversation.over)
        shown = odd
        if b"HTTP/1.0" not in odd:
            shown = odd.replace(b"1.1\r\n", b"1.1\r\n" + LAST, 1)
        came = plain + shown + (b"" if late else b"".join(behind))
        self.assertEqual(talk.delivered.replace(b"\r\n", b""), came.replace(b"\r\n", b""))

    @given(st.lists(requests(), min_size=2, max_size=4), st.data())
    @settings(deadline=None, max_examples=100)
    def test_remainder(self, turns: list[bytes], data: st.DataObject) -> None:
        """At any boundary the remainder is exactly what the inner protocol has not got."""
        leave_at = data.draw(st.integers(1, len(turns)))
        conversation = Conversation()
        delivered = b""
        conversation.feed(b"".join(turns))
        for _ in range(leave_at - 1):
            self.assertIsInstance(conversation.next(), Ask)
            conversation.keep()
            step = conversation.next()
            assert isinstance(step, Deliver)
            delivered += step.data
            conversation.wrote(OK)
        self.assertIsInstance(conversation.next(), Ask)
        rest = turns[leave_at - 1].lstrip(b"\r\n") + b"".join(turns[leave_at:])
        self.assertEqual(conversation.remainder(), rest)
        self.assertEqual(
            delivered, b"".join(turn.lstrip(b"\r\n") for turn in turns[: leave_at - 1])
        )
