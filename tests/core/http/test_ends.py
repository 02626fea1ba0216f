"""How conversations end: refusals, odd requests, last requests, surplus output."""

from __future__ import annotations

from txsticky.core.http.conversation import Conversation
from txsticky.core.http.steps import Ask, Refuse

from .talk import (
    CHUNKED,
    GET,
    LAST,
    NEXT,
    ODD,
    OK,
    OK_LAST,
    OLD,
    POST,
    SHOWN,
    SWITCHING,
    UNTIL_CLOSE,
    UPGRADE,
    OverCase,
    Talk,
)


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
        """A malformed later head is refused once the response before it is complete."""
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

    def test_bad_body_of_a_head(self) -> None:
        """The refusal of a HEAD has no body, that of every other method has."""
        for method, head_only in ((b"HEAD", True), (b"PUT", False), (b"HEADS", False)):
            conversation = Conversation()
            conversation.feed(CHUNKED.replace(b"PUT", method).replace(b"\r\nabc", b"\nabc"))
            self.assertIsInstance(conversation.next(), Ask)
            conversation.keep()
            step = conversation.next()
            assert isinstance(step, Refuse)
            self.assertIs(step.head_only, head_only)

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
        """An odd request passes as it comes, but that server and client are told to close."""
        talk = Talk()
        talk.client(ODD + b"rest")
        self.assertEqual((talk.asked, talk.delivered), ([b"/"], SHOWN + b"rest"))
        talk.client(b"more")
        self.assertEqual(talk.delivered, SHOWN + b"restmore")
        self.assertEqual(talk.server(OK), OK_LAST)
        self.assert_over(talk, SHOWN + b"restmore")

    def test_value(self) -> None:
        """A request that is odd only in a header's value passes, and is the last as well."""
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
        """A response that is not understood lasts until the inner protocol ends it."""
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
        """A CONNECT whose content has no certain end is odd, and upgraded by a 2xx."""
        data = b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\nx"
        for response, over in ((OK, False), (OK.replace(b"200", b"400"), True)):
            talk = Talk()
            talk.client(data)
            self.assertEqual(talk.delivered, data.replace(b"1.1\r\n", b"1.1\r\n" + LAST))
            talk.server(response)
            self.assertEqual((talk.conversation.over, talk.conversation.upgraded), (over, not over))

    def test_refused_connect(self) -> None:
        """If the response to a CONNECT is no 2xx, nothing that follows is served."""
        data = b"CONNECT a:1 HTTP/1.1\r\n\r\n"
        no = OK.replace(b"200 OK", b"405 No")
        talk = Talk()
        talk.client(data + NEXT)
        self.assertEqual(talk.server(no), no.replace(b"No\r\n", b"No\r\n" + LAST))
        self.assert_over(talk, data)


class LastTests(OverCase):
    """Requests that nothing follows, for whatever reason."""

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
        """A client of HTTP/1.0, which would take it for the response, gets no interim one."""
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
        """Surplus behind a last response is cut off as well, and told."""
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
        """Surplus before the next request is kept ends the connection: more might come."""
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
