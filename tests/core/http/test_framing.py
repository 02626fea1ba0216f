"""Where messages end, compared with h11 and with the known smuggling shapes."""

from __future__ import annotations

from collections.abc import Callable

import h11
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.framing import (
    BodyKind,
    Odd,
    RequestFraming,
    ResponseFraming,
    TooLarge,
    body,
    request,
    response,
)
from txsticky.core.http.head import Head, Malformed, parse_head


def framed(*fields: bytes, line: bytes = b"POST / HTTP/1.1") -> RequestFraming:
    """The framing of a request with these header lines."""
    raw = b"\r\n".join((line, *fields, b"", b""))
    method, target, version = line.split()
    # By hand: what the parser refuses already is to be odd as well.
    head = Head(raw, len(raw), method, target, version[5:], len(line) + 2)
    parsed = parse_head(raw, 1 << 20)
    assert parsed == head or isinstance(parsed, Malformed)
    return request(head)


def answered(
    *fields: bytes, line: bytes = b"HTTP/1.1 200 OK", to: bytes = b"GET"
) -> ResponseFraming:
    """The framing of a response with these header lines to a request with method `to`."""
    return response(b"\r\n".join((line, *fields, b"", b"")), to)


def passed_over(kind: BodyKind, length: int, data: bytes, cuts: list[int]) -> int | None:
    """The index in `data` behind the body, `data` being cut into pieces; None: incomplete."""
    decoder = body(kind, length, 1500)
    edges = sorted({cut for cut in cuts if 0 < cut < len(data)})
    for begin, end in zip([0, *edges], [*edges, len(data)], strict=True):
        at, done = decoder.feed(data[begin:end], 0)
        if done:
            return begin + at
        assert at == end - begin
    return None


class RequestTests(SynchronousTestCase):
    """Where a request ends."""

    def test_no_body(self) -> None:
        """A request without framing fields has no body."""
        self.assertEqual(framed(b"Host: a"), RequestFraming(BodyKind.NONE, 0, last=False))

    def test_length(self) -> None:
        """Content-Length is the length, whatever its case and the blanks around it."""
        self.assertEqual(
            framed(b"content-LENGTH: \t7 "), RequestFraming(BodyKind.LENGTH, 7, last=False)
        )

    def test_length_of_nothing(self) -> None:
        """Content-Length: 0 means no body."""
        self.assertIs(framed(b"Content-Length: 0").kind, BodyKind.NONE)

    def test_chunked(self) -> None:
        """Transfer-Encoding: chunked means a chunked body, in any case."""
        self.assertIs(framed(b"Transfer-Encoding: Chunked").kind, BodyKind.CHUNKED)

    def test_longest_length(self) -> None:
        """A Content-Length has 18 digits at most."""
        self.assertEqual(framed(b"Content-Length: " + b"9" * 18).length, 10**18 - 1)
        self.assertRaises(Odd, framed, b"Content-Length: " + b"9" * 19)

    def test_close(self) -> None:
        """Connection: close makes a request the last, in any list, case and line."""
        for fields in (
            [b"Connection: close"],
            [b"connection: Upgrade , CLOSE"],
            [b"Connection: keep-alive", b"Connection: close"],
        ):
            self.assertTrue(framed(*fields).last, fields)

    def test_not_close(self) -> None:
        """Other options, also such that contain the word close, make no request the last."""
        for value in (b"", b"keep-alive", b"closed", b"not close", b"close!", b"upgrade"):
            self.assertFalse(framed(b"Connection: " + value).last, value)

    def test_http10(self) -> None:
        """An HTTP/1.0 request has a plain body and is the last."""
        self.assertEqual(
            framed(b"Content-Length: 3", line=b"POST / HTTP/1.0"),
            RequestFraming(BodyKind.LENGTH, 3, last=True),
        )

    def test_long_block(self) -> None:
        """A header block too long to be remembered reads the same."""
        self.assertEqual(framed(b"X: " + b"x" * 5000, b"Content-Length: 2").length, 2)

    def test_value_of_another_field(self) -> None:
        """What looks like a framing field inside another value is not one."""
        self.assertIs(framed(b"X: content-length: 5", b"X-Content-Length: 5").kind, BodyKind.NONE)


# What request smuggling is made of; each has one server that reads it differently from another.
SHAPES: dict[str, tuple[bytes, ...]] = {
    "length_and_chunked": (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunked_and_length": (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "chunked_and_length_of_nothing": (b"Content-Length: 0", b"Transfer-Encoding: chunked"),
    "two_lengths": (b"Content-Length: 5", b"Content-Length: 6"),
    "two_equal_lengths": (b"Content-Length: 5", b"Content-Length: 5"),
    "list_of_lengths": (b"Content-Length: 5, 5",),
    "length_with_plus": (b"Content-Length: +5",),
    "length_with_minus": (b"Content-Length: -5",),
    "length_in_hex": (b"Content-Length: 0x5",),
    "length_with_underscore": (b"Content-Length: 1_0",),
    "length_with_blank_inside": (b"Content-Length: 1 0",),
    "length_with_point": (b"Content-Length: 5.0",),
    "length_in_other_digits": ("Content-Length: ٥".encode(),),
    "empty_length": (b"Content-Length:",),
    "overflowing_length": (b"Content-Length: 18446744073709551621",),
    "length_with_vertical_tab": (b"Content-Length: \x0b5",),
    "blank_before_colon": (b"Content-Length : 5",),
    "tab_before_colon": (b"Transfer-Encoding\t: chunked",),
    "folded_line": (b"X: a", b" Content-Length: 5"),
    "folded_first_line": (b" Content-Length: 5",),
    "folded_value": (b"Transfer-Encoding:", b" chunked"),
    "no_colon": (b"Content-Length 5",),
    "no_name": (b": 5",),
    "name_with_control": (b"Content-Length\x01: 5",),
    "name_beyond_ascii": (b"Content-L\xe9ngth: 5",),
    "name_with_parenthesis": (b"Content(Length: 5",),
    "value_with_control": (b"X: a\x01b",),
    "value_with_delete": (b"X: a\x7fb",),
    "xchunked": (b"Transfer-Encoding: xchunked",),
    "chunked_then_identity": (b"Transfer-Encoding: chunked, identity",),
    "identity": (b"Transfer-Encoding: identity",),
    "gzip_then_chunked": (b"Transfer-Encoding: gzip, chunked",),
    "two_chunked": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "quoted_chunked": (b'Transfer-Encoding: "chunked"',),
    "chunked_with_parameter": (b"Transfer-Encoding: chunked;q=1",),
    "chunked_behind_vertical_tab": (b"Transfer-Encoding: \x0bchunked",),
    "empty_transfer_encoding": (b"Transfer-Encoding:",),
}
BAD_BODIES: dict[str, bytes] = {
    "no_size": b"\r\n",
    "size_ended_by_lf": b"5\nhello\r\n0\r\n\r\n",
    "size_ended_by_cr": b"5\rhello\r\n0\r\n\r\n",
    "size_with_prefix": b"0x5\r\nhello\r\n",
    "size_with_plus": b"+5\r\nhello\r\n",
    "size_with_minus": b"-5\r\nhello\r\n",
    "size_with_underscore": b"1_0\r\nhello\r\n",
    "size_with_blank_before": b" 5\r\nhello\r\n",
    "size_with_blank_behind": b"5 \r\nhello\r\n",
    "size_not_hexadecimal": b"g\r\nhello\r\n",
    "overflowing_size": b"10000000000000005\r\nhello\r\n",
    "size_with_blank_before_no_extension": b"5 \t\r\nhello\r\n0\r\n\r\n",
    "extension_with_lf": b"5;a=b\nc\r\nhello\r\n0\r\n\r\n",
    "extension_with_cr": b"5;a=b\rc\r\nhello\r\n0\r\n\r\n",
    "extension_with_nul": b"5;\0\r\nhello\r\n0\r\n\r\n",
    "endless_extension": b"5;" + b"a" * 2000,
    "data_too_long": b"5\r\nhello!\r\n0\r\n\r\n",
    "data_too_short": b"5\r\nhell\r\n0\r\n\r\n",
    "data_ended_by_other_and_lf": b"5\r\nhello!\n0\r\n\r\n",
    "data_ended_by_lf": b"5\r\nhello\n0\r\n\r\n",
    "data_ended_by_two_cr": b"5\r\nhello\r\r\n0\r\n\r\n",
    "end_by_lf": b"0\r\n\n",
    "trailer_ended_by_lf": b"0\r\nA: b\n\r\n",
    "chunk_behind_the_last": b"0\r\n3\r\nabc\r\n\r\n",
    "trailer_without_colon": b"0\r\nGET / HTTP/1.1\r\n\r\n",
    "folded_trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "endless_trailers": b"0\r\n" + b"A: b\r\n" * 4000,
}
BAD_RESPONSES: dict[str, bytes] = {
    "line_ended_by_lf": b"HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\n",
    "field_ended_by_lf": b"HTTP/1.1 200 OK\r\nContent-Length: 1\nA: b\r\n\r\n",
    "field_with_cr": b"HTTP/1.1 200 OK\r\nA: b\rContent-Length: 1\r\n\r\n",
    "http2": b"HTTP/2 200\r\n\r\n",
    "no_http": b"ICY 200 OK\r\n\r\n",
    "short_status": b"HTTP/1.1 20 OK\r\n\r\n",
    "long_status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status_of_no_class": b"HTTP/1.1 600 OK\r\n\r\n",
    "reason_with_control": b"HTTP/1.1 200 \x01\r\n\r\n",
    "chunked_http10": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "no_length_or_one": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 2\r\n\r\n",
    "chunked_and_no_length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 1, 1\r\n\r\n",
}


class OddTests(SynchronousTestCase):
    """Whatever has more than one reading is odd."""

    def test_connect(self) -> None:
        """CONNECT is odd: what follows it is not HTTP."""
        self.assertRaises(Odd, framed, line=b"CONNECT a:1 HTTP/1.1")

    def test_chunked_http10(self) -> None:
        """A chunked HTTP/1.0 request is odd (RFC 9112, section 6.1)."""
        self.assertRaises(Odd, framed, b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")

    def test_remembered(self) -> None:
        """What is odd stays odd when it is asked about again."""
        for _ in range(3):
            self.assertRaises(Odd, framed, b"Content-Length: 5, 5")


def _fact(doc: str, refused: Callable[[], object]) -> Callable[[OddTests], None]:
    def test(self: OddTests) -> None:
        self.assertRaises(Odd, refused)

    test.__doc__ = doc
    return test


for _name, _fields in SHAPES.items():
    setattr(
        OddTests,
        f"test_request_{_name}",
        _fact(f"A request with {_fields!r} is odd.", lambda fields=_fields: framed(*fields)),
    )
for _name, _data in BAD_BODIES.items():
    setattr(
        OddTests,
        f"test_body_{_name}",
        _fact(
            f"The chunked body {_data[:30]!r} is odd.",
            lambda data=_data: passed_over(BodyKind.CHUNKED, 0, data, []),
        ),
    )
    setattr(
        OddTests,
        f"test_body_in_bytes_{_name}",
        _fact(
            f"The chunked body {_data[:30]!r} is odd a byte at a time as well.",
            lambda data=_data: passed_over(BodyKind.CHUNKED, 0, data, list(range(len(data)))),
        ),
    )
for _name, _data in BAD_RESPONSES.items():
    setattr(
        OddTests,
        f"test_response_{_name}",
        _fact(f"The response {_data!r} is odd.", lambda data=_data: response(data, b"GET")),
    )


class ResponseTests(SynchronousTestCase):
    """Where a response ends."""

    def test_length(self) -> None:
        """Content-Length is the length."""
        self.assertEqual(
            answered(b"Content-Length: 7"),
            ResponseFraming(200, BodyKind.LENGTH, 7, closes=False),
        )

    def test_chunked(self) -> None:
        """Transfer-Encoding: chunked means a chunked body."""
        self.assertIs(answered(b"Transfer-Encoding: chunked").kind, BodyKind.CHUNKED)

    def test_said_twice(self) -> None:
        """The chunked coding beats a length, and the same twice is the same (RFC 9112, 6.3)."""
        length, chunked = b"Content-Length: 7", b"Transfer-Encoding: chunked"
        for fields in ((length, chunked), (chunked, length), (chunked, chunked)):
            self.assertIs(answered(*fields).kind, BodyKind.CHUNKED)
        self.assertEqual(answered(length, length), answered(length))

    def test_until_close(self) -> None:
        """Without framing fields the body lasts until the connection closes."""
        self.assertEqual(answered(), ResponseFraming(200, BodyKind.UNTIL_CLOSE, 0, closes=True))

    def test_no_body(self) -> None:
        """1xx, 204, 304 and the answer to HEAD have no body, whatever they say."""
        for line, to in (
            (b"HTTP/1.1 100 Continue", b"GET"),
            (b"HTTP/1.1 101 Switching", b"GET"),
            (b"HTTP/1.1 204 No Content", b"GET"),
            (b"HTTP/1.1 304 Not Modified", b"GET"),
            (b"HTTP/1.1 200 OK", b"HEAD"),
        ):
            for field in (b"Content-Length: 9", b"Transfer-Encoding: chunked", b"X: y"):
                framing = answered(field, line=line, to=to)
                self.assertEqual((framing.kind, framing.closes), (BodyKind.NONE, False), line)

    def test_get_and_head_are_not_confused(self) -> None:
        """The same head remembered for HEAD has its body for GET."""
        self.assertIs(answered(b"Content-Length: 9", to=b"HEAD").kind, BodyKind.NONE)
        self.assertIs(answered(b"Content-Length: 9", to=b"GET").kind, BodyKind.LENGTH)

    def test_close(self) -> None:
        """Connection: close closes, and so does an HTTP/1.0 response."""
        self.assertTrue(answered(b"Content-Length: 1", b"Connection: close").closes)
        self.assertTrue(answered(b"Content-Length: 1", line=b"HTTP/1.0 200 OK").closes)

    def test_no_reason(self) -> None:
        """The reason phrase may be empty, or missing with its blank."""
        self.assertEqual(answered(line=b"HTTP/1.1 200 ").status, 200)
        self.assertEqual(answered(line=b"HTTP/1.1 404").status, 404)


#: Chunks that look like the framing around them, when they are cut in the wrong place: their sizes
#: end in 0 or have two digits, and they hold line ends, last chunks and whole chunks.
CHUNKS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.builds(
        lambda pieces, size: b"".join(pieces).ljust(size, b"0")[:size],
        st.lists(
            st.sampled_from([b"\r\n", b"0\r\n\r\n", b"\n", b"1\r\nx\r\n", b"10\r\n", b"A: b\r\n"]),
            max_size=6,
        ),
        st.sampled_from([1, 2, 9, 15, 16, 17, 32, 48]),
    ),
)


def chunked(chunks: list[bytes]) -> bytes:
    """A body in the chunked coding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


class BodyTests(SynchronousTestCase):
    """Following a body."""

    def test_stops_behind_the_body(self) -> None:
        """The index returned is the one behind the last byte of the body."""
        self.assertEqual(body(BodyKind.LENGTH, 3).feed(b"xxabcGET", 2), (5, True))
        self.assertEqual(body(BodyKind.CHUNKED, 0).feed(b"xx0\r\n\r\nGET", 2), (7, True))

    def test_incomplete(self) -> None:
        """An incomplete body takes every byte."""
        self.assertEqual(body(BodyKind.LENGTH, 9).feed(b"abc", 0), (3, False))
        self.assertEqual(body(BodyKind.CHUNKED, 0).feed(b"9\r\nabc", 0), (6, False))

    def test_extension_and_trailers(self) -> None:
        """Chunk extensions and trailers belong to the body."""
        data = b'3;a="b c";d\r\nabc\r\n0;e\r\nA: b\r\nC:\r\n\r\n'
        self.assertEqual(passed_over(BodyKind.CHUNKED, 0, data + b"GET", []), len(data))

    def test_blanks_before_an_extension(self) -> None:
        """A recipient puts up with blanks before an extension (RFC 9112, section 7.1.1)."""
        data = b"3 ;a=b\r\nabc\r\n2\t ; c\r\nde\r\n0 ;d\r\n\r\n"
        for cuts in ([], list(range(len(data)))):
            self.assertEqual(passed_over(BodyKind.CHUNKED, 0, data + b"GET", cuts), len(data))

    def test_size_with_zeros(self) -> None:
        """Zeros before a size mean nothing, however many they are."""
        data = b"0" * 100 + b"5\r\nhello\r\n" + b"0" * 100 + b"\r\n\r\n"
        for cuts in ([], list(range(len(data)))):
            self.assertEqual(passed_over(BodyKind.CHUNKED, 0, data + b"GET", cuts), len(data))

    def test_longest_lines(self) -> None:
        """A chunk's line and the trailers have as many bytes as the limit, and not one more."""
        for line in (b"1;" + b"a" * 96 + b"\r\n", b"0\r\n" + b"A:123456\r\n" * 10):
            self.assertEqual(body(BodyKind.CHUNKED, 0, 100).feed(line, 0), (len(line), False))
            self.assertRaises(TooLarge, body(BodyKind.CHUNKED, 0, 99).feed, line, 0)

    def test_too_large_without_end(self) -> None:
        """What has no end is too large as soon as it is beyond the limit, in any pieces."""
        for line in (b"1;" + b"a" * 99, b"0\r\n" + b"A:123456\r\n" * 9 + b"a" * 11 + b"\r\n"):
            follower = body(BodyKind.CHUNKED, 0, 100)
            for byte in line[:-1]:
                follower.feed(bytes([byte]), 0)
            self.assertRaises(TooLarge, follower.feed, line[-1:], 0)

    def test_longest_size(self) -> None:
        """A chunk's size has 15 digits at most, zeros before them aside."""
        data = b"0" * 20 + b"1\r\nx\r\n0\r\n\r\n"
        self.assertEqual(passed_over(BodyKind.CHUNKED, 0, data, []), len(data))
        self.assertIsNone(passed_over(BodyKind.CHUNKED, 0, b"1" * 15 + b"\r\n", []))
        self.assertRaises(Odd, passed_over, BodyKind.CHUNKED, 0, b"1" * 16 + b"\r\n", [])

    def test_longest_trailers(self) -> None:
        """Trailer lines have the limit at most, together with their line ends."""
        line = b"A: " + b"b" * 95 + b"\r\n"
        data = b"0\r\n" + line * 15 + b"\r\n"
        self.assertEqual(passed_over(BodyKind.CHUNKED, 0, data, []), len(data))
        longer = b"0\r\n" + line * 14 + line[:-2] + b"b\r\n\r\n"
        self.assertEqual(len(longer), len(data) + 1)
        self.assertRaises(TooLarge, passed_over, BodyKind.CHUNKED, 0, longer, [])

    def test_size_cut_in_two(self) -> None:
        """What follows the first digit of a size belongs to it, even if it looks like an end."""
        data = b"10\r\n\r\n" + b"x" * 14 + b"\r\n0\r\n\r\n"
        for cut in range(len(data)):
            self.assertEqual(passed_over(BodyKind.CHUNKED, 0, data + b"GET /", [cut]), len(data))

    @given(st.lists(CHUNKS, max_size=6), st.lists(st.integers(0, 300), max_size=12))
    @settings(deadline=None, max_examples=200)
    def test_any_split(self, chunks: list[bytes], cuts: list[int]) -> None:
        """A chunked body ends at the same byte however it is cut."""
        data = chunked(chunks)
        self.assertEqual(passed_over(BodyKind.CHUNKED, 0, data + b"0\r\n\r\n", cuts), len(data))

    @given(st.lists(CHUNKS, max_size=3))
    @settings(deadline=None, max_examples=50)
    def test_every_cut(self, chunks: list[bytes]) -> None:
        """A chunked body that is cut in two ends at the same byte wherever that is."""
        data = chunked(chunks)
        for cut in range(1, len(data)):
            self.assertEqual(
                passed_over(BodyKind.CHUNKED, 0, data + b"0\r\n\r\n", [cut]), len(data)
            )


NAMES = st.text("abcdefghijklmnopqrstuvwxyzABC-_0123456789", min_size=1, max_size=9)
VALUES = st.text('abc XYZ,;="/:\t09é', max_size=12)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4).map(
    lambda pairs: [f"x{name}: {value}".encode("latin-1") for name, value in pairs]
)
CONNECTION = st.sampled_from(
    [[], [], [b"Connection: keep-alive"], [b"Connection: close"], [b"connection: TE, Close"]]
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Framing fields and a body that fits them."""
    coding = draw(st.sampled_from(["none", "length", "chunked"]))
    if coding == "none":
        return [], b""
    content = draw(st.binary(max_size=50))
    if coding == "length":
        return [b"Content-Length: %d" % len(content)], content
    pieces = []
    while content:
        size = draw(st.integers(1, len(content)))
        extension = draw(st.sampled_from([b"", b";a", b';a="b"']))
        pieces.append(b"%X%b\r\n%b\r\n" % (size, extension, content[:size]))
        content = content[size:]
    trailer = draw(st.sampled_from([b"", b"Trailing: yes\r\n"]))
    return [b"transfer-encoding: Chunked"], b"".join([*pieces, b"0\r\n", trailer, b"\r\n"])


@st.composite
def messages(draw: st.DrawFn, lines: list[bytes]) -> bytes:
    """A well-formed message that begins with one of `lines`."""
    line = draw(st.sampled_from(lines))
    framing, content = draw(bodies())
    assume(not (b"HTTP/1.0" in line and framing and framing[0].startswith(b"t")))
    fields = draw(st.permutations([*draw(FIELDS), *draw(CONNECTION), *framing]))
    return b"\r\n".join([line, b"Host: a", *fields, b"", b""]) + content


PATCHES = [
    *(b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b",", b";", b"\0", b"0", b"5", b"close"),
    *(
        b"\r\nContent-Length: 3",
        b"\r\nTransfer-Encoding: chunked",
        b"\r\nConnection: close",
        b"\r\n ",
    ),
]


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A message with a few bytes of it changed."""
    data = draw(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        dropped = draw(st.integers(0, 3))
        patch = draw(st.sampled_from(PATCHES))
        data = data[:at] + patch + data[at + dropped :]
    return data


REQUESTS = messages([b"GET /a?b HTTP/1.1", b"POST * HTTP/1.1", b"PUT / HTTP/1.0"])
RESPONSES = messages(
    [
        *(b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 204 ", b"HTTP/1.1 304 x"),
        b"HTTP/1.0 200 OK",
    ]
)
TAIL = b"GET /next HTTP/1.1\r\n\r\n"


def our_request(data: bytes) -> tuple[int | None, bool]:
    """Where the request in `data` ends (None: not in sight), and whether it is the last."""
    head = parse_head(data, 1 << 20)
    if not isinstance(head, Head):
        raise Odd(str(head))
    framing = request(head)
    if framing.kind is BodyKind.NONE:
        return head.size, framing.last
    at, done = body(framing.kind, framing.length).feed(data, head.size)
    return at if done else None, framing.last


def our_response(data: bytes, method: bytes) -> tuple[int | None, bool]:
    """Where the response in `data` ends (None: not in sight), and whether it is the last."""
    size = data.find(b"\r\n\r\n") + 4
    if size < 4:
        raise Odd("no head")
    framing = response(data[:size], method)
    if framing.kind is BodyKind.NONE:
        return size, framing.closes
    if framing.kind is BodyKind.UNTIL_CLOSE:
        return None, True
    at, done = body(framing.kind, framing.length).feed(data, size)
    return at if done else None, framing.closes


def their_end(connection: h11.Connection, data: bytes) -> tuple[int | None, bool]:
    """
    Where h11 sees the end of the message in `data`, and whether it is the last.

    :raises h11.RemoteProtocolError: h11 refuses it.
    """
    connection.receive_data(data)
    while True:
        event = connection.next_event()
        if isinstance(event, h11.EndOfMessage):
            last = connection.their_state is h11.MUST_CLOSE
            return len(data) - len(connection.trailing_data[0]), last
        if event is h11.NEED_DATA:
            return None, connection.their_state is h11.MUST_CLOSE


def client(method: bytes) -> h11.Connection:
    """The h11 of a client that has sent a request and awaits the response."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    return connection


class DifferentialTests(SynchronousTestCase):
    """h11 is the second opinion."""

    @given(REQUESTS)
    @settings(deadline=None, max_examples=100)
    def test_request(self, data: bytes) -> None:
        """A well-formed request ends where h11 sees its end, and closes when h11 says so."""
        ours = our_request(data + TAIL)
        self.assertEqual(ours[0], len(data))
        self.assertEqual(ours, their_end(h11.Connection(h11.SERVER), data + TAIL))

    @given(RESPONSES, st.sampled_from([b"GET", b"HEAD"]))
    @settings(deadline=None, max_examples=100)
    def test_response(self, data: bytes, method: bytes) -> None:
        """A well-formed response ends where h11 sees its end, and closes when h11 says so."""
        ours = our_response(data + TAIL, method)
        theirs = their_end(client(method), data + TAIL)
        self.assertEqual(ours[0], theirs[0])
        if ours[0] is not None:
            self.assertEqual(ours[1], theirs[1])

    @given(broken(REQUESTS))
    @settings(deadline=None, max_examples=150)
    def test_broken_request(self, data: bytes) -> None:
        """A damaged request is odd, or h11 refuses it, or both see the same end."""
        try:
            ours = our_request(data + TAIL)
            theirs = their_end(h11.Connection(h11.SERVER), data + TAIL)
        except (Odd, h11.RemoteProtocolError):
            return
        self.assertEqual(ours[0], theirs[0])
        if ours[0] is not None:  # h11 tells the last request at its end
            self.assertEqual(ours[1], theirs[1])

    @given(broken(RESPONSES), st.sampled_from([b"GET", b"HEAD"]))
    @settings(deadline=None, max_examples=150)
    def test_broken_response(self, data: bytes, method: bytes) -> None:
        """A damaged response is odd, or h11 refuses it, or both see the same end."""
        try:
            ours = our_response(data + TAIL, method)
            theirs = their_end(client(method), data + TAIL)
        except (Odd, h11.RemoteProtocolError):
            return
        self.assertEqual(ours[0], theirs[0])
