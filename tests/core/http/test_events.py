"""The conversation of a server that takes events."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.core.http.heads import head_of, known_of
from tests.core.http.talk import CHUNKED, GET, NEXT, OK, OK_LAST, POST, SWITCHING, UPGRADE
from tests.core.http.test_any_conversation import CUTS, ODDITIES, pieces
from txsticky.core.http.events import EventConversation
from txsticky.core.http.framing import Odd
from txsticky.core.http.inside import Inside
from txsticky.core.http.reading import reading, unfolded
from txsticky.core.http.steps import Ask, Begin, Content, Deliver, Refuse

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Told:
    """
    A request as a server is told of it.

    :ivar begin: the first that is told.
    :ivar content: all that has come.
    :ivar whole: whether that is all.
    """

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.content = begin.content
        self.whole = begin.whole


class EventTalk:
    """A conversation that a test plays: every request is kept."""

    def __init__(self, **arguments: object) -> None:
        self.conversation = EventConversation(**arguments)  # type: ignore[arg-type]
        self.told: list[Told] = []
        self.refused: list[int | None] = []
        self.raw = b""

    def client(self, data: bytes) -> None:
        """Have the client send."""
        self.conversation.feed(data)
        self.pull()

    def server(self, data: bytes) -> bytes:
        """Have the server write."""
        sent = self.conversation.wrote(data)
        self.pull()
        return sent

    def pull(self) -> None:
        """Do what the conversation says, until it waits."""
        while (step := self.conversation.next()) is not None:
            match step:
                case Ask():
                    self.conversation.keep()
                case Begin():
                    self.told.append(Told(step))
                case Content(content, whole):
                    told = self.told[-1]
                    assert not told.whole
                    told.content += content
                    told.whole = whole
                case Deliver(data):
                    self.raw += data
                case Refuse(fault):
                    self.refused.append(fault.status if fault else None)


class EventTests(SynchronousTestCase):
    """What a server is told."""

    def test_request(self) -> None:
        """A request that came whole is told at once."""
        talk = EventTalk()
        talk.client(GET)
        [told] = talk.told
        self.assertEqual(told.begin, Begin(head_of(GET), 0, False, b"", True))

    def test_first(self) -> None:
        """The first request is taken as decided about, unless something else is said."""
        for conversation, ours in (
            (EventConversation(), True),
            (EventConversation(first_is_ours=False), False),
        ):
            conversation.feed(GET)
            step = conversation.next()
            assert isinstance(step, Ask)
            self.assertIs(step.first, ours)

    def test_nonsense_behind(self) -> None:
        """Behind a request nonsense is refused at its first byte."""
        talk = EventTalk()
        talk.client(GET)
        talk.server(OK)
        talk.client(b"(")
        self.assertEqual(talk.refused, [400])

    def test_known(self) -> None:
        """The short cut tells the server the same as the long way."""
        for data in (GET, POST):
            talk = EventTalk()
            talk.client(GET)
            talk.server(OK)
            step = talk.conversation.begin(known_of(data), data)
            other = EventTalk()
            other.client(data)
            self.assertEqual(step, other.told[0].begin)

    def test_lengths(self) -> None:
        """The length of the content is told, and is None in chunks."""
        for data, length, content in ((GET, 0, b""), (POST, 5, b"hello"), (CHUNKED, None, b"abc")):
            talk = EventTalk()
            talk.client(data)
            [told] = talk.told
            self.assertEqual((told.begin.length, told.content), (length, content))
            self.assertTrue(told.whole)

    def test_next_waits(self) -> None:
        """The next request is told of behind the response to the first."""
        talk = EventTalk()
        talk.client(POST + NEXT)
        self.assertEqual(len(talk.told), 1)
        talk.server(OK)
        self.assertEqual(talk.told[1].begin.head.target, b"/b")

    def test_last(self) -> None:
        """A server is told that nothing follows."""
        for line in (b"Connection: close\r\n", b"Connection: a, Close\r\n"):
            talk = EventTalk()
            talk.client(GET.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n"))
            self.assertTrue(talk.told[0].begin.last)
        talk = EventTalk()
        talk.client(GET.replace(b"1.1", b"1.0"))
        self.assertTrue(talk.told[0].begin.last)

    def test_answered_early(self) -> None:
        """What comes of a request that was answered is told, and the next one behind it."""
        talk = EventTalk()
        talk.client(POST[:-2])
        talk.server(OK)
        talk.client(POST[-2:] + NEXT)
        self.assertEqual(talk.told[0].content, b"hello")
        self.assertEqual(talk.told[1].begin.head.target, b"/b")

    def test_upgrade(self) -> None:
        """Behind a 101 the bytes come as they are, and none is lost."""
        talk = EventTalk()
        talk.client(UPGRADE + b"frames")
        self.assertEqual(talk.raw, b"")
        talk.server(SWITCHING)
        talk.client(b" more")
        self.assertEqual(talk.raw, b"frames more")

    def test_expect(self) -> None:
        """A head is told of before its content has come."""
        talk = EventTalk()
        talk.client(POST[:-5])
        self.assertEqual(len(talk.told), 1)
        self.assertEqual(talk.server(CONTINUE), CONTINUE)
        talk.client(b"hello")
        self.assertTrue(talk.told[0].whole)

    def test_absolute(self) -> None:
        """A target in absolute form is told in origin form, its authority as the Host."""
        talk = EventTalk(inside=Inside(absolute=False))
        talk.client(b"POST http://a/b?c HTTP/1.1\r\nHost: z\r\nContent-Length: 2\r\n\r\nhi")
        [told] = talk.told
        self.assertEqual(told.begin.head.target, b"/b?c")
        self.assertEqual(told.begin.head.headers(b"host"), (b"a",))
        self.assertEqual((told.content, told.whole), (b"hi", True))

    def test_connect(self) -> None:
        """A CONNECT is told of; granted, it ends HTTP; refused, it is the last."""
        data = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"
        granted, refused = EventTalk(), EventTalk()
        for talk in (granted, refused):
            talk.client(data + b"tunnel")
            self.assertTrue(talk.told[0].begin.last)
        granted.server(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual(granted.raw, b"tunnel")
        refused.server(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual((refused.raw, refused.conversation.over), (b"", True))

    def test_bad_body(self) -> None:
        """A chunked body that is none is refused, and what is wrong is not told of."""
        for data, told in ((CHUNKED.replace(b"abc\r\n", b"abcd\r"), 0), (CHUNKED[:-5] + b"x\n", 1)):
            talk = EventTalk()
            for piece in (data[:-1], data[-1:]) if told else (data,):
                talk.client(piece)
            self.assertEqual((len(talk.told), talk.refused), (told, [400]))
            self.assertTrue(talk.conversation.over)

    def test_bad_body_of_a_head(self) -> None:
        """The refusal of a HEAD has no body, that of every other method has."""
        two = CHUNKED.replace(b"/c HTTP/1.1\r\n", b"/c HTTP/1.1\r\nContent-Length: 5\r\n")
        for data in (CHUNKED.replace(b"\r\nabc", b"\nabc"), two):
            for method, head_only in ((b"HEAD", True), (b"PUT", False), (b"HEADS", False)):
                conversation = EventConversation()
                conversation.feed(data.replace(b"PUT", method))
                self.assertIsInstance(conversation.next(), Ask)
                conversation.keep()
                step = conversation.next()
                assert isinstance(step, Refuse)
                self.assertIs(step.head_only, head_only)

    @given(
        st.lists(st.tuples(st.sampled_from("nlc"), st.binary(max_size=40), CUTS), max_size=5),
        CUTS,
    )
    @settings(deadline=None, max_examples=150)
    def test_whatever_the_pieces(
        self, requests: list[tuple[str, bytes, list[int]]], cuts: list[int]
    ) -> None:
        """However requests are cut, and into whatever chunks, a server is told the same."""
        stream, contents = b"", []
        for kind, content, chunks in requests:
            contents.append(b"" if kind == "n" else content)
            if kind == "n":
                stream += GET
            elif kind == "l":
                stream += b"PUT / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(content) + content
            else:
                coded = [b"%x\r\n%b\r\n" % (len(p), p) for p in pieces(content, chunks) if p]
                head = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                stream += b"".join([head, *coded, b"0\r\nA: trailer\r\n\r\n"])
        talk = EventTalk()
        for piece in pieces(stream, cuts):
            talk.client(piece)
            if talk.told and talk.told[-1].whole and talk.conversation.request_open:
                talk.server(OK)
        while talk.conversation.request_open:
            talk.server(OK)
        self.assertEqual([told.content for told in talk.told], contents)
        self.assertTrue(all(told.whole for told in talk.told))
        self.assertTrue(talk.conversation.idle)


class OddTests(SynchronousTestCase):
    """Requests whose end is not certain."""

    @given(st.sampled_from(ODDITIES), st.lists(st.sampled_from([GET, POST]), min_size=1), CUTS)
    @settings(deadline=None, max_examples=150)
    def test_last(self, odd: bytes, behind: list[bytes], cuts: list[int]) -> None:
        """An odd request is told once, or refused; it is the last in either case, however cut."""
        talk = EventTalk()
        for piece in pieces(odd + b"".join(behind), cuts):
            talk.client(piece)
        if talk.refused:
            self.assertEqual((talk.refused, talk.told), ([400], []))
        else:
            [told] = talk.told
            self.assertTrue(told.begin.last)
            self.assertEqual(talk.server(OK), OK_LAST)
        self.assertTrue(talk.conversation.over)
        talk.client(GET)
        self.assertLessEqual(len(talk.told), 1)

    def test_read(self) -> None:
        """An odd request of which one reading is left is read so."""
        for lines, length, shown in (
            (b"A: \x01\r\n", 0, b"A: \x01\r\n"),
            (b"A: b\r\n c\r\n\td\r\n", 0, b"A: b c d\r\n"),
            (b"A: b\r\n \r\n", 0, b"A: b \r\n"),
            (b"A: b\r\n Content-Length: 5\r\n", 0, b"A: b Content-Length: 5\r\n"),
            (b"Content-Length:\r\n 5\r\n", 5, b"Content-Length: 5\r\n"),
            (b"Transfer-Encoding: identity\r\n", 0, None),
            (b"Transfer-Encoding: Identity\r\nContent-Length: 3\r\n", 3, None),
            (b"Transfer-Encoding:\r\n chunked\r\n", -1, b"Transfer-Encoding: chunked\r\n"),
        ):
            head, framing = reading(head_of(b"POST / HTTP/1.1\r\n" + lines + b"\r\n"))
            found = -1 if framing.kind.value == "chunked" else framing.length
            self.assertEqual(found, length, lines)
            self.assertTrue(framing.last)
            self.assertEqual(head.raw[head.fields_at : -2], shown or lines)

    def test_refused(self) -> None:
        """An odd request of which no reading is left is refused."""
        for lines in (
            b"Content-Length: 5\r\nContent-Length: 5\r\n",
            b"Content-Length: 5, 5\r\n",
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked, identity\r\n",
            b"Transfer-Encoding: gzip\r\n",
            b"Transfer-Encoding: \x0bchunked\r\n",
            b"Transfer-Encoding:\r\n",
            b"Content-Length: " + b"1" * 19 + b"\r\n",
            b"Content-Length:\r\n x\r\n",
        ):
            head = head_of(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")
            self.assertRaises(Odd, reading, head)

    def test_unfolded(self) -> None:
        """A head without folded lines stays what it is, and a size what it took of the input."""
        head = head_of(GET)
        self.assertIs(unfolded(head), head)
        folded = head_of(b"GET / HTTP/1.1\r\nA: b\r\n   c\r\n\r\n")
        self.assertEqual(unfolded(folded).size, folded.size)
