"""The conversation of one connection: what is released when, and where it can move."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.exchange import Ask, Deliver, Exchange

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


class Conversation:
    """An exchange between a client and a server that the test plays, keeping every request.

    Attributes:
        asked: the targets that were asked about.
        delivered: what the inner protocol got.
    """

    def __init__(self, inject: bytes = b"", **arguments: int) -> None:
        self.exchange = Exchange(**arguments)
        self.inject = inject
        self.asked: list[bytes] = []
        self.delivered = b""

    def client(self, data: bytes) -> None:
        """The client sends."""
        self.exchange.feed(data)
        self.pull()

    def server(self, data: bytes) -> bytes:
        """The inner protocol writes, and the client gets what is returned."""
        sent = self.exchange.wrote(data)
        self.pull()
        return sent

    def pull(self) -> None:
        """Do what the exchange says, until it waits."""
        while (step := self.exchange.next()) is not None:
            if isinstance(step, Ask):
                self.asked.append(step.head.target)
                self.exchange.keep(self.inject)
            else:
                self.delivered += step.data


class BoundaryTests(SynchronousTestCase):
    """Between two requests."""

    def test_request_is_asked_about_before_it_is_delivered(self) -> None:
        """A complete head is asked about, and nothing is delivered before the answer."""
        exchange = Exchange()
        exchange.feed(GET)
        ask = exchange.next()
        assert isinstance(ask, Ask)
        self.assertEqual(ask.head.raw, GET)
        self.assertIsNone(exchange.next())
        exchange.keep()
        self.assertEqual(exchange.next(), Deliver(GET))
        self.assertIsNone(exchange.next())

    def test_first(self) -> None:
        """Only the first request of a routed connection is known to be ours."""
        for exchange, ours in ((Exchange(), True), (Exchange(first_is_ours=False), False)):
            exchange.feed(GET + NEXT)
            first = exchange.next()
            exchange.keep()
            exchange.next()
            exchange.wrote(OK)
            second = exchange.next()
            assert isinstance(first, Ask)
            assert isinstance(second, Ask)
            self.assertEqual((first.first, second.first), (ours, False))

    def test_next_request_waits_for_the_response(self) -> None:
        """A pipelined request is neither asked about nor delivered before the response's end."""
        talk = Conversation()
        talk.client(POST + NEXT)
        talk.server(OK[:-1])
        self.assertEqual((talk.asked, talk.delivered), ([b"/p"], POST))
        talk.server(OK[-1:])
        self.assertEqual((talk.asked, talk.delivered), ([b"/p", b"/b"], POST + NEXT))

    def test_next_request_waits_for_the_end_of_the_request(self) -> None:
        """A response that comes early makes no boundary within its request."""
        talk = Conversation()
        talk.client(POST[:-1])
        talk.server(OK)
        self.assertFalse(talk.exchange.idle)
        talk.client(POST[-1:] + NEXT)
        self.assertEqual((talk.asked, talk.delivered), ([b"/p", b"/b"], POST + NEXT))

    def test_interim_response_is_no_response(self) -> None:
        """A 100 (Continue) lets the body in and ends nothing."""
        talk = Conversation()
        talk.client(POST[:-5])
        talk.server(b"HTTP/1.1 100 Continue\r\n\r\n")
        talk.client(POST[-5:] + NEXT)
        self.assertEqual(talk.asked, [b"/p"])
        talk.server(OK)
        self.assertEqual(talk.asked, [b"/p", b"/b"])

    def test_body_piece_is_not_copied(self) -> None:
        """A piece that lies within one request is delivered as the object that came."""
        talk = Conversation()
        talk.client(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        piece = bytes(65536)
        talk.exchange.feed(piece)
        step = talk.exchange.next()
        assert isinstance(step, Deliver)
        self.assertIs(step.data, piece)

    def test_empty_lines(self) -> None:
        """Empty lines before a request line are dropped, wherever they are cut."""
        talk = Conversation()
        talk.client(b"\r\n\r\n" * 20 + b"\r")
        talk.client(b"\n" + POST + b"\r")
        talk.server(OK)
        talk.client(b"\n")
        self.assertTrue(talk.exchange.idle)
        talk.client(b"\r\n" + NEXT)
        self.assertEqual(talk.delivered, POST + NEXT)

    def test_idle(self) -> None:
        """A connection is idle from its first moment, and again once a response is complete."""
        talk = Conversation()
        self.assertTrue(talk.exchange.idle)
        talk.client(GET)
        self.assertFalse(talk.exchange.idle)
        talk.server(OK)
        self.assertTrue(talk.exchange.idle)
        talk.client(NEXT[:5])
        self.assertFalse(talk.exchange.idle)

    def test_nothing_is_asked(self) -> None:
        """Keeping what was not asked about is a mistake that is told."""
        self.assertRaises(RuntimeError, Exchange().keep)

    def test_empty_feed(self) -> None:
        """No bytes change nothing."""
        exchange = Exchange()
        exchange.feed(b"")
        self.assertIsNone(exchange.next())


class RemainderTests(SynchronousTestCase):
    """Handing a connection off."""

    def test_asked(self) -> None:
        """The request asked about leaves with everything that came behind it."""
        exchange = Exchange()
        exchange.feed(POST + NEXT[:3])
        exchange.next()
        self.assertEqual(exchange.remainder(), POST + NEXT[:3])
        self.assertEqual((exchange.held, exchange.next()), (0, None))

    def test_later_request(self) -> None:
        """What was delivered and answered does not leave with a later request."""
        talk = Conversation()
        talk.client(GET)
        talk.exchange.wrote(OK)
        talk.exchange.feed(b"\r\n" + POST)
        self.assertIsInstance(talk.exchange.next(), Ask)
        self.assertEqual(talk.exchange.remainder(), POST)

    def test_half_a_head(self) -> None:
        """A connection in the middle of its next head can leave with the beginning of it."""
        talk = Conversation()
        talk.client(GET)
        talk.server(OK)
        talk.client(NEXT[:9])
        self.assertEqual(talk.exchange.remainder(), NEXT[:9])

    def test_idle(self) -> None:
        """An idle connection leaves with nothing."""
        self.assertEqual(Exchange().remainder(), b"")

    def test_not_within_a_request(self) -> None:
        """A connection with an open request cannot leave, nor can a tunnel."""
        for data in (POST[:-1], POST, b"garbage\r\n"):
            talk = Conversation()
            talk.client(data)
            self.assertRaises(RuntimeError, talk.exchange.remainder)

    def test_bytes_read_afterwards(self) -> None:
        """Bytes read after a hand-off would be lost, so they are refused."""
        exchange = Exchange()
        exchange.remainder()
        self.assertRaises(RuntimeError, exchange.feed, b"x")

    def test_output_afterwards(self) -> None:
        """What the inner protocol writes after the hand-off is returned as it is."""
        exchange = Exchange()
        exchange.remainder()
        self.assertEqual(exchange.wrote(OK), OK)
        self.assertFalse(exchange.tunnel)


class TunnelTests(SynchronousTestCase):
    """What is not plain HTTP/1.1 passes as it came, and the connection stays."""

    def assert_tunnel(self, talk: Conversation, data: bytes) -> None:
        """Everything was delivered, and so is everything to come."""
        self.assertTrue(talk.exchange.tunnel)
        self.assertEqual(talk.delivered, data)
        asked = len(talk.asked)
        talk.client(GET)
        self.assertEqual(talk.server(b"anything"), b"anything")
        talk.client(NEXT)
        self.assertEqual(talk.delivered, data + GET + NEXT)
        self.assertEqual(len(talk.asked), asked)
        self.assertFalse(talk.exchange.idle)
        self.assertFalse(talk.exchange.request_open)

    def test_malformed_head(self) -> None:
        """A malformed head is delivered at once, complete or not: the inner server answers it."""
        for data in (b"GET /\r\n", b"\x16\x03\x01", b"GET / HTTP/1.1\nHost: x\n\n", b"PRI \x01"):
            talk = Conversation()
            talk.client(data)
            self.assert_tunnel(talk, data)

    def test_malformed_next_head(self) -> None:
        """The same holds for a later head, but not before the response before it is complete."""
        talk = Conversation()
        talk.client(GET + b"\0")
        self.assertEqual(talk.delivered, GET)
        talk.server(OK)
        self.assert_tunnel(talk, GET + b"\0")

    def test_oversize_head(self) -> None:
        """A head beyond the limit is delivered."""
        talk = Conversation(head_limit=100)
        talk.client(b"GET /" + b"a" * 95)
        self.assertEqual(talk.delivered, b"")
        talk.client(b"a")
        self.assert_tunnel(talk, b"GET /" + b"a" * 96)

    def test_odd_framing(self) -> None:
        """A request with odd framing is asked about, since its head is plain, and then passes."""
        talk = Conversation()
        talk.client(ODD + b"rest")
        self.assertEqual(talk.asked, [b"/"])
        self.assert_tunnel(talk, ODD + b"rest")

    def test_connect(self) -> None:
        """CONNECT is asked about, and what follows passes without a response being awaited."""
        talk = Conversation()
        talk.client(b"CONNECT a:1 HTTP/1.1\r\n\r\n\x16\x03")
        self.assertEqual(talk.asked, [b"a:1"])
        self.assert_tunnel(talk, b"CONNECT a:1 HTTP/1.1\r\n\r\n\x16\x03")

    def test_odd_body(self) -> None:
        """A chunked body that turns odd passes with what came behind it."""
        data = CHUNKED.replace(b"\r\nabc", b"\nabc")
        talk = Conversation()
        talk.client(data + GET)
        self.assert_tunnel(talk, data + GET)

    def of_tunnel(self, data: bytes) -> Conversation:
        """A conversation that this makes a tunnel."""
        talk = Conversation()
        talk.client(data)
        self.assertTrue(talk.exchange.tunnel)
        return talk

    def told(self, talk: Conversation) -> tuple[bool, bool, bool]:
        """Whether a response is due, whether the tunnel may last, whether it is spent."""
        exchange = talk.exchange
        return exchange.due, exchange.lasting, exchange.spent

    def test_due(self) -> None:
        """Until the response to an odd request has come to its end, it is due, however it comes."""
        odd = (ODD, b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/1.1\r\nX: a\x01b\r\n\r\n")
        for data in (*odd, CHUNKED.replace(b"\r\nabc", b"\nabc")):
            for cut in range(1, len(OK)):
                talk = self.of_tunnel(data)
                self.assertEqual(self.told(talk), (True, False, False))
                self.assertEqual(talk.server(OK[:cut]), OK[:cut])
                self.assertEqual(self.told(talk), (True, False, False))
                talk.server(OK[cut:])
                self.assertEqual(self.told(talk), (False, True, True))

    def test_due_again(self) -> None:
        """What the client sends then makes another response due."""
        talk = self.of_tunnel(ODD)
        talk.server(OK)
        talk.exchange.went_on(GET)
        self.assertEqual(self.told(talk), (True, False, False))
        talk.server(OK)
        self.assertEqual(self.told(talk), (False, True, True))

    def test_due_head(self) -> None:
        """The response to an odd HEAD ends with its head."""
        talk = self.of_tunnel(ODD.replace(b"POST", b"HEAD").replace(b"GET", b"HEAD"))
        talk.server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        self.assertEqual(self.told(talk), (False, True, True))

    def test_due_to_the_end(self) -> None:
        """A response whose end cannot be known is due until the connection closes."""
        for head in (b"HTTP/1.1 200 OK\r\n\r\n", b"nonsense\r\n\r\n"):
            talk = self.of_tunnel(ODD)
            talk.server(head)
            talk.server(b"and so on")
            self.assertEqual(self.told(talk), (True, False, False))
        talk = Conversation()
        talk.client(GET)
        talk.server(b"HTTP/1.0 200 OK\r\n\r\nand so on")
        self.assertEqual(self.told(talk), (True, False, False))

    def test_another_protocol(self) -> None:
        """After a 101 or a CONNECT that succeeds no response is due: both may last."""
        upgraded = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: any\r\n\r\n"
        talk = self.of_tunnel(ODD.replace(b"\r\n\r\n", b"\r\nUpgrade: any\r\n\r\n", 1))
        talk.server(upgraded)
        self.assertEqual(self.told(talk), (False, True, False))
        talk = Conversation()
        talk.client(GET)
        talk.server(upgraded)
        self.assertEqual(self.told(talk), (False, True, False))
        talk = self.of_tunnel(b"CONNECT a:1 HTTP/1.1\r\n\r\n")
        self.assertEqual(self.told(talk), (True, False, False))
        talk.server(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual(self.told(talk), (False, True, False))

    def test_connect_is_refused(self) -> None:
        """A CONNECT that is refused has its response like any other."""
        talk = self.of_tunnel(b"CONNECT a:1 HTTP/1.1\r\n\r\n")
        talk.server(OK.replace(b"200 OK", b"405 No"))
        self.assertEqual(self.told(talk), (False, True, True))

    def test_http10(self) -> None:
        """An HTTP/1.0 request is asked about, answered, and followed by nothing."""
        talk = Conversation()
        talk.client(OLD + NEXT)
        self.assertEqual((talk.asked, talk.delivered), ([b"/old"], OLD))
        talk.server(OK)
        self.assertEqual(talk.asked, [b"/old"])
        self.assert_tunnel(talk, OLD + NEXT)

    def test_http10_at_a_later_boundary(self) -> None:
        """An HTTP/1.0 head behind an HTTP/1.1 request is asked about as well."""
        talk = Conversation()
        talk.client(GET + OLD)
        talk.server(OK)
        self.assertEqual(talk.asked, [b"/a", b"/old"])

    def test_close_by_the_client(self) -> None:
        """What follows a request with Connection: close is not asked about."""
        last = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
        talk = Conversation()
        talk.client(last + NEXT)
        self.assertTrue(talk.exchange.last)
        self.assertEqual(talk.delivered, last)
        talk.server(OK)
        self.assert_tunnel(talk, last + NEXT)

    def test_close_by_the_server(self) -> None:
        """What follows a response with Connection: close is not asked about."""
        talk = Conversation()
        talk.client(GET + NEXT)
        talk.server(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        self.assert_tunnel(talk, GET + NEXT)

    def test_interim(self) -> None:
        """A client may be sent an interim response while it waits for the beginning of its own."""
        talk = Conversation()
        told = [talk.exchange.interim]
        for data in (POST[:-1], POST[-1:]):
            talk.client(data)
            told.append(talk.exchange.interim)
        for data in (b"HTTP/1.1 102 Processing\r\n\r\n", OK[:5], OK[5:]):
            talk.server(data)
            told.append(talk.exchange.interim)
        self.assertEqual(told, [False, False, True, True, False, False])

    def test_interim_to_the_old(self) -> None:
        """But not one of HTTP/1.0, which would take it for the response."""
        talk = Conversation()
        talk.client(OLD)
        self.assertFalse(talk.exchange.interim)

    def test_until_close(self) -> None:
        """A response that lasts until the connection closes makes a tunnel with its head."""
        talk = Conversation()
        talk.client(GET + NEXT)
        talk.server(UNTIL_CLOSE)
        self.assertTrue(talk.exchange.tunnel)
        self.assertEqual(talk.delivered, GET + NEXT)

    def test_output_without_a_request(self) -> None:
        """A server that speaks first, or on after its response, is passed through."""
        talk = Conversation()
        self.assertEqual(talk.server(b"220 hello\r\n"), b"220 hello\r\n")
        self.assert_tunnel(talk, b"")

    def test_body_of_a_head_response(self) -> None:
        """A body behind the response to HEAD makes a tunnel."""
        head = GET.replace(b"GET", b"HEAD")
        talk = Conversation()
        talk.client(head)
        talk.server(OK[:-2])
        self.assertTrue(talk.exchange.idle)
        talk.server(OK[-2:])
        self.assert_tunnel(talk, head)

    def test_output_while_asking(self) -> None:
        """Output without a request while a request is being decided about makes it stay."""
        talk = Conversation()
        talk.client(GET)
        talk.exchange.feed(NEXT)
        talk.exchange.wrote(OK)
        self.assertIsInstance(talk.exchange.next(), Ask)
        talk.exchange.wrote(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        self.assertRaises(RuntimeError, talk.exchange.remainder)
        talk.exchange.keep()
        talk.pull()
        self.assert_tunnel(talk, GET + NEXT)

    def test_upgrade(self) -> None:
        """Bytes glued to an upgrade request are held until the 101 is written, then delivered."""
        talk = Conversation()
        talk.client(UPGRADE + b"\x81\x02hi")
        self.assertEqual(talk.delivered, UPGRADE)
        talk.server(SWITCHING[:-1])
        self.assertEqual(talk.delivered, UPGRADE)
        talk.server(SWITCHING[-1:])
        self.assert_tunnel(talk, UPGRADE + b"\x81\x02hi")

    def test_refused_upgrade(self) -> None:
        """A server that answers an upgrade request in HTTP goes on in HTTP."""
        talk = Conversation()
        talk.client(UPGRADE + NEXT)
        talk.server(OK)
        self.assertEqual(talk.asked, [b"/ws", b"/b"])


class InjectTests(SynchronousTestCase):
    """Header lines added to the response of a kept request."""

    def test_only_its_own_response(self) -> None:
        """The lines are added to the response of the request that they were given for."""
        talk = Conversation(COOKIE)
        talk.client(GET + NEXT)
        talk.inject = b""
        self.assertEqual(talk.server(OK), OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE))
        self.assertEqual(talk.server(OK), OK)

    def test_tunnel(self) -> None:
        """The response to a request that makes a tunnel gets them, and is a tunnel then."""
        for data in (ODD, b"CONNECT a:1 HTTP/1.1\r\n\r\n", CHUNKED[:-2] + b"x\n", OLD):
            talk = Conversation(COOKIE)
            talk.client(data)
            self.assertEqual(talk.delivered, data)
            self.assertFalse(talk.exchange.tunnel)
            self.assertEqual(talk.server(OK), OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE))
            self.assertTrue(talk.exchange.tunnel)
            self.assertEqual(talk.server(OK), OK)

    def test_status_line_in_pieces(self) -> None:
        """A status line that comes in pieces gets them, and the exchange goes on."""
        talk = Conversation(COOKIE)
        talk.client(GET + NEXT)
        sent = b"".join(talk.server(OK[at : at + 1]) for at in range(len(OK)))
        self.assertEqual(sent, OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE))
        self.assertEqual(talk.asked, [b"/a", b"/b"])


class HalfCloseTests(SynchronousTestCase):
    """What a client that sends no more is still owed."""

    def owed(self, exchange: Exchange) -> tuple[bool, bool, bool]:
        """The properties that say it."""
        return exchange.request_open, exchange.finished_request, exchange.response_started

    def test_course_of_a_request(self) -> None:
        """Open with its head, finished with its last byte, over with the response's."""
        talk = Conversation()
        self.assertEqual(self.owed(talk.exchange), (False, False, False))
        talk.client(POST[:-1])
        self.assertEqual(self.owed(talk.exchange), (True, False, False))
        talk.client(POST[-1:])
        self.assertEqual(self.owed(talk.exchange), (True, True, False))
        talk.server(b"HTTP/1.1 102 Processing\r\n\r\n")
        self.assertEqual(self.owed(talk.exchange), (True, True, False))
        talk.server(OK[:-1])
        self.assertEqual(self.owed(talk.exchange), (True, True, True))
        talk.server(OK[-1:])
        self.assertEqual(self.owed(talk.exchange), (False, False, False))

    def test_last_request(self) -> None:
        """An HTTP/1.0 request is owed its response like any other."""
        talk = Conversation()
        talk.client(OLD)
        self.assertEqual(self.owed(talk.exchange), (True, True, False))

    def test_until_close(self) -> None:
        """A response that lasts until the connection closes is owed until then."""
        talk = Conversation()
        talk.client(GET)
        talk.server(UNTIL_CLOSE)
        self.assertEqual(self.owed(talk.exchange), (True, True, True))

    def test_switching(self) -> None:
        """After a 101 no response is owed."""
        talk = Conversation()
        talk.client(UPGRADE)
        talk.server(SWITCHING)
        self.assertFalse(talk.exchange.request_open)


class HoldTests(SynchronousTestCase):
    """How much is held back."""

    def test_over_hold(self) -> None:
        """More than the limit held behind an open request asks for a pause, until released."""
        talk = Conversation(head_limit=100, hold_limit=200)
        talk.client(GET + b"x" * 200)
        self.assertEqual((talk.exchange.held, talk.exchange.over_hold), (200, False))
        talk.client(b"x")
        self.assertTrue(talk.exchange.over_hold)
        talk.server(UNTIL_CLOSE)
        self.assertFalse(talk.exchange.over_hold)

    def test_a_head_fits(self) -> None:
        """A client is never paused in the middle of a head that may still be completed."""
        talk = Conversation(head_limit=100, hold_limit=10)
        talk.client(b"GET /" + b"a" * 95)
        self.assertFalse(talk.exchange.over_hold)


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
        exchange = Exchange()
        got: list[bytes] = []
        unanswered: list[int] = []

        def answer() -> None:
            turn = unanswered.pop()
            for piece in pieces(turns[turn][1], turns[turn][2]):
                self.assertFalse(exchange.idle)
                self.assertEqual(exchange.wrote(piece), piece)

        def pull() -> None:
            while (step := exchange.next()) is not None:
                if isinstance(step, Ask):
                    self.assertEqual(unanswered, [])
                    got.append(b"")
                    exchange.keep()
                    continue
                got[-1] += step.data
                if got[-1] == turns[len(got) - 1][0].lstrip(b"\r\n"):
                    unanswered.append(len(got) - 1)
                    if prompt:
                        answer()

        for piece in pieces(b"".join(turn[0] for turn in turns), cuts):
            exchange.feed(piece)
            pull()
        while unanswered:
            answer()
            pull()
        self.assertEqual(got, [turn[0].lstrip(b"\r\n") for turn in turns])
        self.assertTrue(exchange.idle)

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
        """Whatever comes, from either side, is delivered or held in order, but for empty lines."""
        talk = Conversation()
        for piece in pieces(data, cuts):
            talk.client(piece)
            if output:
                written = output.pop()
                self.assertEqual(talk.server(written), written)
        held = talk.exchange._held
        self.assertEqual((talk.delivered + held).replace(b"\r\n", b""), data.replace(b"\r\n", b""))
        self.assertFalse(talk.exchange.tunnel and held)

    @given(st.lists(requests(), min_size=2, max_size=4), st.data())
    @settings(deadline=None, max_examples=100)
    def test_remainder(self, turns: list[bytes], data: st.DataObject) -> None:
        """At any boundary the remainder is exactly what the inner protocol has not got."""
        leave_at = data.draw(st.integers(1, len(turns)))
        exchange = Exchange()
        delivered = b""
        exchange.feed(b"".join(turns))
        for _ in range(leave_at - 1):
            self.assertIsInstance(exchange.next(), Ask)
            exchange.keep()
            step = exchange.next()
            assert isinstance(step, Deliver)
            delivered += step.data
            exchange.wrote(OK)
        self.assertIsInstance(exchange.next(), Ask)
        rest = turns[leave_at - 1].lstrip(b"\r\n") + b"".join(turns[leave_at:])
        self.assertEqual(exchange.remainder(), rest)
        self.assertEqual(
            delivered, b"".join(turn.lstrip(b"\r\n") for turn in turns[: leave_at - 1])
        )
