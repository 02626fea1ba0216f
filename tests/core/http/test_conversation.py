"""The conversation of one connection: what is released when, and where it can move."""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http import incoming
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.head import parse_head
from txsticky.core.http.inside import Inside
from txsticky.core.http.steps import Ask, Deliver, Refuse

from .talk import COOKIE, GET, LAST, NEXT, ODD, OK, OLD, POST, SWITCHING, UNTIL_CLOSE, UPGRADE, Talk


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

    def test_refused_with_a_body(self) -> None:
        """The answer to what is no request has a body: it is none to HEAD."""
        conversation = Conversation()
        conversation.feed(b"nonsense\r\n\r\n")
        refuse = conversation.next()
        assert isinstance(refuse, Refuse)
        self.assertFalse(refuse.head_only)

    def test_first(self) -> None:
        """Only the first request of a connection that was routed is known to belong here."""
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

    def test_due(self) -> None:
        """What is certain to come of a request is known within it, and not what follows it."""
        begin, rest = b"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nab", b"cdef\r\n"
        for pieces, due in (
            ((), 0),
            ((POST[:-6],), 0),  # within the head
            ((POST[:-3],), 3),
            ((POST, NEXT), 0),
            ((begin,), 6),
            ((begin, rest), 0),
            ((begin, b"cdefx"), 0),  # it is refused
            ((UPGRADE,), 0),
        ):
            talk = Talk()
            for piece in pieces:
                talk.client(piece)
            self.assertEqual(talk.conversation.due, due, pieces)

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

    def test_added(self) -> None:
        """Lines that are added stand behind all others of the head; the body stays as it is."""
        conversation = Conversation()
        conversation.feed(self.PLAIN)
        conversation.next()
        conversation.keep(added=b"X-A: 1\r\n")
        shown = self.PLAIN.replace(b"5\r\n", b"5\r\nX-A: 1\r\n")
        step = conversation.next()
        assert isinstance(step, Deliver)
        rest = conversation.next()
        data = step.data + (rest.data if isinstance(rest, Deliver) else b"")
        self.assertEqual(data, shown)

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
        """A server that speaks while its first request is being decided about is passed through."""
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

    def test_let_go(self) -> None:
        """A tunnel leaves with what is held, and nothing of it is left or delivered here."""
        talk = Talk()
        talk.client(UPGRADE)
        talk.server(SWITCHING)
        talk.conversation.feed(b"frame")
        self.assertEqual(talk.conversation.let_go(), b"frame")
        self.assertEqual((talk.conversation.held, talk.conversation.next()), (0, None))

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
        """The last response of a connection gets the lines as well."""
        for data, last in ((ODD, LAST), (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b""), (OLD, b"")):
            talk = Talk(COOKIE)
            talk.client(data)
            self.assertEqual(talk.server(OK), OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE + last))

    def test_status_line_in_pieces(self) -> None:
        """A status line in pieces gets the lines, and the conversation goes on."""
        talk = Talk(COOKIE)
        talk.client(GET + NEXT)
        sent = b"".join(talk.server(OK[at : at + 1]) for at in range(len(OK)))
        self.assertEqual(sent, OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE))
        self.assertEqual(talk.asked, [b"/a", b"/b"])


class HalfCloseTests(SynchronousTestCase):
    """What a client that sends no more is still owed."""

    def owed(self, conversation: Conversation) -> tuple[bool, bool, bool]:
        """The properties that say what a client is owed."""
        return (
            conversation.request_open,
            conversation.finished_request,
            conversation.response_started,
        )

    def test_course_of_a_request(self) -> None:
        """A request is open from its head on, finished with its last byte, over when answered."""
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

    def test_default(self) -> None:
        """64 KiB are held where no limit is given, however small a head has to be."""
        conversation = Conversation(head_limit=100)
        conversation.feed(b"x" * 65536)
        self.assertFalse(conversation.over_hold)
        conversation.feed(b"x")
        self.assertTrue(conversation.over_hold)


class SeenTests(SynchronousTestCase):
    """What was parsed in vain is not parsed again."""

    def starts(self, *pieces: bytes) -> list[int]:
        """How many bytes each look at a head took as known."""
        conversation = Conversation()
        with mock.patch.object(incoming, "parse_head", side_effect=parse_head) as parser:
            for piece in pieces:
                conversation.feed(piece)
                conversation.next()
        return [call.args[2] for call in parser.call_args_list]

    def test_in_pieces(self) -> None:
        """A head in pieces is looked at from where the piece before has ended."""
        self.assertEqual(self.starts(b"GET / HT", b"TP/1.1\r\nA", b": b\r\n\r\n"), [0, 8, 17])

    def test_empty_lines(self) -> None:
        """Nothing is known of what stands behind empty lines, which are dropped."""
        self.assertEqual(self.starts(b"\r\n\r", b"\nGET /"), [0, 0])
