"""Facts about every conversation, whatever its sides send and however it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.conversation import Conversation
from txsticky.core.http.steps import Ask, Deliver

from .talk import LAST, ODD, OK, OK_LAST, OLD, SWITCHING, UNTIL_CLOSE, UPGRADE, Talk


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
        """
        Each plain request is asked about once and delivered whole, after the response before.

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
        # That a response ends with its connection shows in no more than its being open.
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
        """
        However it is cut, an odd request is asked about once, answered once, and the last.

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
