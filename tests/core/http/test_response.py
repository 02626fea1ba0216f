"""Following responses, and adding header lines to them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.core.http.talk import adding
from txsticky.core.http.response import BODY, HEAD, PASSING, SILENT, Response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
COOKIE = b"Set-Cookie: a=b\r\n"


LAST = b"Connection: close\r\n"


def due(
    method: bytes = b"GET", lines: bytes = b"", limit: int = 65536, last: bool = False
) -> Response:
    """A follower for which a response is due."""
    response = Response(limit)
    response.expect(method, adding(lines), last)
    return response


class FollowTests(SynchronousTestCase):
    """Where a response stands."""

    def test_whole_responses(self) -> None:
        """A response of known length is complete with its last byte, and not before."""
        for data in (
            OK,
            CHUNKED,
            CONTINUE + OK,
            b"HTTP/1.1 199 Whatever\r\n\r\n" + OK,
            CONTINUE + b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED,
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        ):
            response = due()
            self.assertEqual(response.follow(data[:-1]), data[:-1])
            self.assertIn(response.phase, (HEAD, BODY), data)
            response.follow(data[-1:])
            self.assertIs(response.phase, SILENT, data)

    def test_head(self) -> None:
        """The response to HEAD ends with its head, whatever length it names."""
        response = due(b"HEAD")
        response.follow(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        self.assertIs(response.phase, SILENT)

    def test_body_of_a_head_response(self) -> None:
        """The body of a server that answers HEAD with one is cut off."""
        response = due(b"HEAD")
        self.assertEqual(response.follow(OK), OK[:-5])
        self.assertEqual((response.phase, response.surplus), (SILENT, True))

    def test_late_body_of_a_head_response(self) -> None:
        """The body of a response to HEAD is cut off in a later write, too."""
        response = due(b"HEAD")
        response.follow(OK[:-5])
        self.assertFalse(response.surplus)
        self.assertEqual(response.follow(OK[-5:]), b"")
        self.assertEqual((response.phase, response.surplus), (SILENT, True))

    def test_surplus(self) -> None:
        """What is written beyond a response's end is cut off, whatever tells the end."""
        for data in (
            OK,
            CHUNKED,
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        ):
            for surplus in (b"x", b"0\r\n\r\n", b"\r\n", OK):
                for edge in (0, len(data) - 1, len(data), len(data) + 1):
                    response = due()
                    whole = data + surplus
                    sent = response.follow(whole[:edge]) + response.follow(whole[edge:])
                    self.assertEqual((sent, response.surplus), (data, True), whole)

    def test_nothing_yet(self) -> None:
        """Before any request nothing has started, nor said that it closes."""
        response = Response(65536)
        found = (response.phase, response.started, response.closes, response.upgraded)
        self.assertEqual(found, (SILENT, False, False, False))

    def test_until_close(self) -> None:
        """A response without a length lasts until the connection closes."""
        response = due()
        response.follow(b"HTTP/1.1 200 OK\r\n\r\nbody")
        self.assertEqual((response.phase, response.closes), (PASSING, True))

    def test_switching(self) -> None:
        """Behind a 101 nothing is followed any more."""
        response = due()
        self.assertEqual(response.follow(SWITCHING + b"\x81\x02hi"), SWITCHING + b"\x81\x02hi")
        self.assertIs(response.phase, PASSING)
        response = due()
        response.follow(SWITCHING)
        self.assertIs(response.phase, PASSING)

    def test_close(self) -> None:
        """Connection: close is seen, and the response is followed to its end none the less."""
        response = due()
        response.follow(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n")
        self.assertEqual((response.closes, response.phase), (True, BODY))

    def test_close_of_an_interim_response(self) -> None:
        """Only the final response says whether the connection closes."""
        response = due()
        response.follow(b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n" + OK)
        self.assertFalse(response.closes)

    def test_started(self) -> None:
        """The final response has started with its first byte; an interim one does not count."""
        response = due()
        for piece in (CONTINUE, CONTINUE[:5], CONTINUE[5:]):
            response.follow(piece)
        self.assertFalse(response.started)
        response.follow(b"H")
        self.assertTrue(response.started)

    def test_started_anew(self) -> None:
        """The response to the next request has not started because the last one had."""
        response = due()
        response.follow(OK)
        response.expect(b"GET", None)
        self.assertFalse(response.started)

    def test_output_that_is_not_due(self) -> None:
        """What a server says first is passed on, and nothing is followed any more."""
        response = Response(65536)
        self.assertEqual(response.follow(b"220 mail.example\r\n"), b"220 mail.example\r\n")
        self.assertIs(response.phase, PASSING)

    def test_upgraded(self) -> None:
        """HTTP ends with a 101, and with a 2xx to CONNECT; with nothing else."""
        for method, data, ends in (
            (b"GET", SWITCHING, True),
            (b"CONNECT", OK, True),
            (b"CONNECT", b"HTTP/1.1 204 No Content\r\n\r\n", True),
            (b"CONNECT", b"HTTP/1.1 299 Yes\r\n\r\n", True),
            (b"CONNECT", b"HTTP/1.1 300 Choose\r\nContent-Length: 0\r\n\r\n", False),
            (b"CONNECT", b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", False),
            (b"GET", OK, False),
            (b"GET", b"HTTP/1.1 200 OK\r\n\r\n", False),
        ):
            response = due(method)
            response.follow(data)
            self.assertEqual(response.upgraded, ends, data)
            if ends:
                self.assertIs(response.phase, PASSING)

    def test_output_behind_a_body_in_pieces(self) -> None:
        """Output behind a body that came in pieces is cut off, too."""
        response = due()
        for piece in (OK[:-2], OK[-2:]):
            self.assertEqual(response.follow(piece), piece)
        self.assertEqual((response.follow(b"more"), response.surplus), (b"", True))

    def test_head_in_two_pieces(self) -> None:
        """A head is complete with its last byte, wherever it was cut."""
        for data in (OK, b"\r\n\r\n"):
            for cut in range(len(data)):
                response = due()
                response.follow(data[:cut])
                response.follow(data[cut:])
                self.assertIs(response.phase, SILENT if data is OK else PASSING, cut)

    def test_odd_responses(self) -> None:
        """Odd output passes unchanged, and nothing is followed any more."""
        for data in (
            b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx\r\n\r\n",
            b"hello\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello\r\n",
        ):
            response = due()
            self.assertEqual(response.follow(data), data)
            self.assertIs(response.phase, PASSING, data)

    def test_head_without_end(self) -> None:
        """A response head beyond the limit is followed no further."""
        response = due(limit=100)
        data = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 80
        self.assertEqual(response.follow(data), data)
        self.assertIs(response.phase, HEAD)
        self.assertEqual(response.follow(b"x"), b"x")
        self.assertIs(response.phase, PASSING)


class LinesTests(SynchronousTestCase):
    """Adding header lines."""

    def test_behind_the_status_line(self) -> None:
        """The lines stand right behind the status line, whatever follows."""
        self.assertEqual(due(lines=COOKIE).follow(OK), OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE))

    def test_switching(self) -> None:
        """A 101 gets the lines, too."""
        sent = due(lines=COOKIE).follow(SWITCHING + b"\x81\0")
        self.assertEqual(
            sent, SWITCHING.replace(b"Protocols\r\n", b"Protocols\r\n" + COOKIE) + b"\x81\0"
        )

    def test_not_to_an_interim_response(self) -> None:
        """An interim response does not get the lines; the final one behind it does."""
        self.assertEqual(
            due(lines=COOKIE).follow(CONTINUE + OK),
            CONTINUE + OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE),
        )

    def test_http10(self) -> None:
        """An HTTP/1.0 response gets the lines."""
        self.assertEqual(
            due(lines=COOKIE).follow(b"HTTP/1.0 200 OK\r\n\r\n"),
            b"HTTP/1.0 200 OK\r\n" + COOKIE + b"\r\n",
        )

    def test_once(self) -> None:
        """The next response on the connection does not get the lines again."""
        response = due(lines=COOKIE)
        response.follow(OK)
        response.expect(b"GET", None)
        self.assertEqual(response.follow(OK), OK)

    def test_odd_response(self) -> None:
        """A response whose head is odd gets the lines: its status line is plain."""
        odd = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"
        self.assertIn(b"OK\r\n" + COOKIE, due(lines=COOKIE).follow(odd))

    def test_no_status_line(self) -> None:
        """Output that does not begin with a status line stays as it is."""
        for data in (b"hello\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"\r\n\r\n"):
            self.assertEqual(due(lines=COOKIE).follow(data), data)

    def test_nothing_is_kept_back_beyond_the_limit(self) -> None:
        """An endless head is sent on unchanged when it is longer than a head may be."""
        for before in (b"", CONTINUE):
            response = due(lines=COOKIE, limit=20)
            self.assertEqual(response.follow(before + OK[:20]), before)
            self.assertEqual(response.follow(OK[20:30]), OK[:30])

    def test_withheld_for_the_head_only(self) -> None:
        """An incomplete head waits for its end, and nothing waits longer."""
        response = due(lines=COOKIE)
        self.assertEqual(response.follow(b"HTTP/1.1 200"), b"")
        self.assertTrue(response.started)
        self.assertEqual(response.follow(b" OK\r\nX: y\r\n"), b"")
        sent = b"HTTP/1.1 200 OK\r\n" + COOKIE + b"X: y\r\n\r\nbo"
        self.assertEqual(response.follow(b"\r\nbo"), sent)
        self.assertEqual(response.follow(b"dy"), b"dy")

    def test_what_decides(self) -> None:
        """The status and the header lines of the final response say what is added."""
        seen = []

        def additions(status: int, fields: bytes) -> bytes:
            seen.append((status, fields))
            return COOKIE

        for data in (CONTINUE + OK, SWITCHING, b"HTTP/1.0 404 \r\n\r\n"):
            response = Response(65536)
            response.expect(b"GET", additions)
            response.follow(data)
        self.assertEqual(
            seen,
            [
                (200, b"\r\nContent-Length: 5\r\n"),
                (101, b"\r\nUpgrade: websocket\r\n"),
                (404, b"\r\n"),
            ],
        )

    def test_nothing_to_add(self) -> None:
        """What finds nothing to add leaves the response as it is."""
        response = Response(65536)
        response.expect(b"GET", lambda status, fields: b"")
        self.assertEqual(response.follow(OK), OK)
        self.assertIs(response.phase, SILENT)

    def test_bare_line_feeds(self) -> None:
        """A head whose lines end otherwise is not waited for, and passes as it is."""
        response = due(lines=COOKIE)
        self.assertEqual(
            response.follow(b"HTTP/1.1 200 OK\nA: b\n\nx"), b"HTTP/1.1 200 OK\nA: b\n\nx"
        )
        self.assertIs(response.phase, PASSING)

    def test_last(self) -> None:
        """The last response of a connection says that it is, behind the other lines."""
        added = OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE + LAST)
        self.assertEqual(due(lines=COOKIE, last=True).follow(OK), added)
        self.assertEqual(
            due(last=True).follow(CONTINUE + OK), CONTINUE + added.replace(COOKIE, b"")
        )

    def test_last_says_so_itself(self) -> None:
        """Nothing is added where the connection ends, or HTTP does."""
        for method, data in (
            (b"GET", OK.replace(b"OK\r\n", b"OK\r\nconnection: keep-alive, Close\r\n")),
            (b"GET", OK.replace(b"1.1", b"1.0")),
            (b"GET", b"HTTP/1.1 200 OK\r\n\r\nbody"),
            (b"GET", SWITCHING),
            (b"CONNECT", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ):
            self.assertEqual(due(method, last=True).follow(data), data)

    def test_last_is_withheld_for_its_head(self) -> None:
        """The head waits until it is whole, and nothing longer; the response has begun with it."""
        response = due(last=True)
        self.assertEqual(response.follow(OK[:30]), b"")
        self.assertTrue(response.started)
        self.assertEqual(response.follow(OK[30:-2]), OK[:-2].replace(b"OK\r\n", b"OK\r\n" + LAST))
        self.assertEqual(response.follow(OK[-2:]), OK[-2:])

    def test_last_is_odd(self) -> None:
        """An odd response passes as it is, and so does a head without end."""
        odd = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"
        self.assertEqual(due(last=True).follow(odd), odd)
        response = due(last=True, limit=50)
        head = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 80
        self.assertEqual(response.follow(head), head)

    def test_interim_head_in_pieces(self) -> None:
        """An interim response gets no lines, in however many pieces its head comes."""
        response = due(lines=COOKIE)
        pieces = (b"HTTP/1.1 103 Early Hints\r\nLin", b"k: x", b"\r\n\r\n")
        self.assertEqual(b"".join(map(response.follow, pieces)), b"".join(pieces))
        self.assertFalse(response.started)
        self.assertEqual(response.follow(OK), OK.replace(b"OK\r\n", b"OK\r\n" + COOKIE))

    @given(
        st.sampled_from(
            [
                OK,
                CHUNKED,
                CONTINUE + OK,
                CONTINUE + SWITCHING + b"\x81\0",
                b"odd\n",
                OK + b"surplus",
                CHUNKED + OK,
            ]
        ),
        st.lists(st.integers(1, 120), max_size=12),
        st.booleans(),
        st.booleans(),
    )
    @settings(deadline=None, max_examples=250)
    def test_any_pieces(self, data: bytes, cuts: list[int], added: bool, last: bool) -> None:
        """However the server cuts its output, the same is sent and the same is seen."""
        lines = COOKIE if added else b""
        whole, cut = due(lines=lines, last=last), due(lines=lines, last=last)
        edges = sorted({0, len(data), *(at for at in cuts if at < len(data))})
        sent = b"".join(cut.follow(data[begin:end]) for begin, end in pairwise(edges))
        self.assertEqual(sent, whole.follow(data))
        self.assertIs(cut.phase, whole.phase)
