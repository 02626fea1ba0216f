"""The routing view of a request head."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.head import NEED_DATA, Head, Malformed, parse_head

LIMIT = 65536
GET = b"GET /chat?sid=1&x=2 HTTP/1.1\r\nHost: a.example\r\nCookie:  a=b \r\n\r\n"


def parsed(data: bytes, limit: int = LIMIT) -> Head:
    """The head of `data`, which must have one."""
    head = parse_head(data, limit)
    assert isinstance(head, Head), head
    return head


def status(data: bytes, limit: int = LIMIT, seen: int = 0) -> int:
    """The status `data` is refused with; 0 if it is not refused."""
    verdict = parse_head(data, limit, seen)
    return verdict.status if isinstance(verdict, Malformed) else 0


def dripped(data: bytes, limit: int, hinted: bool) -> object:
    """The verdict when `data` comes a byte at a time."""
    verdict: object = NEED_DATA
    for size in range(1, len(data) + 1):
        verdict = parse_head(data[:size], limit, size - 1 if hinted else 0)
        if verdict is not NEED_DATA:
            break
    return verdict


class HeadTests(SynchronousTestCase):
    """What a complete head says."""

    def test_prefix(self) -> None:
        """A head tells whether a header's name begins so, also when nothing else was asked."""
        data = b"GET /x-b HTTP/1.1\r\nX-A-Long: x-c\r\n\r\n"
        self.assertTrue(parsed(data).has_prefix(b"x-a"))
        for prefix in (b"x-b", b"x-c"):
            self.assertFalse(parsed(data).has_prefix(prefix))

    def test_request_line(self) -> None:
        """Method, target and version are the parts of the request line."""
        head = parsed(GET)
        self.assertEqual(
            (head.method, head.target, head.version), (b"GET", b"/chat?sid=1&x=2", b"1.1")
        )

    def test_raw_stops_at_the_empty_line(self) -> None:
        """What follows the head belongs neither to raw nor to size."""
        head = parsed(GET + b"body\r\n\r\n")
        self.assertEqual((head.raw, head.size), (GET, len(GET)))

    def test_fields_at(self) -> None:
        """fields_at is where the header lines begin in raw, also behind skipped lines."""
        head = parsed(b"\r\n" + GET)
        self.assertTrue(head.raw[head.fields_at :].startswith(b"Host:"))

    def test_looked_at_again(self) -> None:
        """The bytes parsed last are not read again; with another limit they are."""
        data = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"
        head = parsed(data)
        self.assertIs(parsed(data), head)
        self.assertEqual(parse_head(data, 20), parse_head(bytes(bytearray(data)), 20))
        parsed(b"GET /other HTTP/1.1\r\n\r\n")
        self.assertIsNot(parsed(data), head)
        self.assertEqual(parsed(data), head)

    def test_no_header_lines(self) -> None:
        """A head may consist of its request line."""
        head = parsed(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(head.raw[head.fields_at :], b"\r\n")

    def test_leading_empty_lines(self) -> None:
        """Empty lines before the request line count in size and are not in raw."""
        head = parsed(b"\r\n\r\n" + GET)
        self.assertEqual((head.raw, head.size), (GET, len(GET) + 4))

    def test_path_and_query(self) -> None:
        """An origin-form target is split at its first question mark."""
        head = parsed(b"GET /a/b?c=d?e HTTP/1.1\r\n\r\n")
        self.assertEqual((head.path, head.query), (b"/a/b", b"c=d?e"))

    def test_no_query(self) -> None:
        """Without a question mark the query is empty."""
        self.assertEqual(parsed(b"GET /a HTTP/1.1\r\n\r\n").query, b"")

    def test_absolute_form(self) -> None:
        """The path and query of an absolute-form target are those of its URL."""
        head = parsed(b"GET http://a.example:80/p?sid=1 HTTP/1.1\r\n\r\n")
        self.assertEqual((head.path, head.query), (b"/p", b"sid=1"))

    def test_absolute_form_without_path(self) -> None:
        """An empty path in an absolute-form target means the root."""
        head = parsed(b"GET http://a.example?sid=1 HTTP/1.1\r\n\r\n")
        self.assertEqual((head.path, head.query), (b"/", b"sid=1"))

    def test_url_inside_a_query(self) -> None:
        """A URL inside the query does not make the target absolute."""
        head = parsed(b"GET /p?u=http://x/?y HTTP/1.1\r\n\r\n")
        self.assertEqual((head.path, head.query), (b"/p", b"u=http://x/?y"))

    def test_other_target_forms(self) -> None:
        """Authority-form and asterisk-form targets are their own path."""
        self.assertEqual(parsed(b"CONNECT a:443 HTTP/1.1\r\n\r\n").path, b"a:443")
        self.assertEqual(parsed(b"OPTIONS * HTTP/1.1\r\n\r\n").path, b"*")

    def test_header(self) -> None:
        """A header is found whatever its case, and its value is stripped of blanks."""
        head = parsed(b"GET / HTTP/1.1\r\ncOOkie: \t A=B \t\r\n\r\n")
        self.assertEqual(head.header(b"cookie"), b"A=B")

    def test_absent_header(self) -> None:
        """An absent header is None and has no values."""
        head = parsed(GET)
        self.assertIsNone(head.header(b"ookie"))
        self.assertEqual(head.headers(b"range"), ())

    def test_header_is_not_sought_in_the_request_line(self) -> None:
        """A target or a value that looks like a header line is none."""
        head = parsed(b"GET /host: HTTP/1.1\r\nX: host: y\r\n\r\n")
        self.assertIsNone(head.header(b"host"))

    def test_repeated_header(self) -> None:
        """header() gives the first value, headers() all of them in order."""
        head = parsed(b"GET / HTTP/1.1\r\nX: 1\r\nY: 2\r\nx:\r\nX: 3\r\n\r\n")
        self.assertEqual(head.header(b"x"), b"1")
        self.assertEqual(head.headers(b"x"), (b"1", b"", b"3"))

    def test_header_of_an_unparsed_head(self) -> None:
        """A head that was made without the parser finds its headers as well."""
        head = Head(GET, len(GET), b"GET", b"/chat", b"1.1", GET.index(b"Host"))
        self.assertEqual((head.header(b"host"), head.header(b"cookie")), (b"a.example", b"a=b"))

    def test_prefix_of_an_unparsed_head(self) -> None:
        """A head that was made without the parser tells whether a header's name begins so."""
        head = Head(GET, len(GET), b"GET", b"/chat", b"1.1", GET.index(b"Host"))
        self.assertEqual([head.has_prefix(name) for name in (b"coo", b"x-")], [True, False])

    def test_lenient(self) -> None:
        """What does not matter for routing is left to the worker's server."""
        for fields in (
            b"A: b\r\n folded",
            b"A: b\r\n\t",
            b"A: \x01\xff",
            b"A:",
            b"A: b: c",
            b"Content-Length: 5, 5 ,6",
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length:\r\n 5",
            b"Content-Length: x\r\n 5",
            b"X-Content-Length: x",
            b"!#$%&'*+-.^_`|~09aZ: x",
        ):
            self.assertEqual(status(b"GET / HTTP/1.1\r\n" + fields + b"\r\n\r\n"), 0, fields)

    def test_no_field(self) -> None:
        """A header line that is not 'Name: value' is refused, wherever it stands."""
        for line in (b"no colon", b"Host : x", b"Host\t: x", b": x", b":", b"A(b): x", b"\xe9: x"):
            for before in (b"", b"A: b\r\n", b"A: b\r\n c\r\n"):
                head = b"GET / HTTP/1.1\r\n" + before + line + b"\r\nC: d\r\n\r\n"
                self.assertEqual(status(head), 400, head)

    def test_no_length(self) -> None:
        """A length that is none is refused as soon as it is known that its line is not folded."""
        for value in (
            b"x",
            b"",
            b"+5",
            b"-5",
            b"0x5",
            b"4 5",
            b"4_5",
            b"5,",
            b",5",
            b"5.0",
            b"\x0b5",
        ):
            begin = b"GET / HTTP/1.1\r\nA: b\r\ncontent-LENGTH:" + value + b"\r\n"
            self.assertIs(parse_head(begin, LIMIT), NEED_DATA)
            for more in (b"B", b"\r", b"\r\n", b"B: c\r\n", b"B: c\r\n\r\n"):
                self.assertEqual(status(begin + more), 400, begin)
                for seen in range(len(begin) + 1):
                    self.assertEqual(status(begin + more, seen=seen), 400, begin)

    def test_blank_behind_the_request_line(self) -> None:
        """The first header line continues none (RFC 9112, section 2.2)."""
        for line in (b" A: b", b"\tA: b", b" "):
            self.assertEqual(status(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n"), 400, line)

    def test_versions(self) -> None:
        """HTTP/1.0 and 1.1 are served; any other version is refused by its request line alone."""
        for version in (b"1.0", b"1.1"):
            self.assertEqual(parsed(b"GET / HTTP/%b\r\n\r\n" % version).version, version)
        for version in (b"0.9", b"1.2", b"2.0", b"3.0"):
            self.assertEqual(status(b"GET / HTTP/%b\r\n" % version), 505)

    def test_raw_utf8_target(self) -> None:
        """Bytes beyond ASCII in a target are refused at once, as the servers behind refuse them."""
        self.assertEqual(status("GET /é".encode()[:-1]), 400)


class MalformedTests(SynchronousTestCase):
    """What can never be routed, and how early that is known."""

    def test_beginnings_are_awaited(self) -> None:
        """Every proper beginning of a good head needs more data."""
        data = b"\r\n" + GET
        for size in range(len(data)):
            self.assertIs(parse_head(data[:size], LIMIT), NEED_DATA, data[:size])

    def test_refused_before_the_head_is_complete(self) -> None:
        """A beginning that can no longer become a request is refused at once."""
        for data in (
            b"GET /\r",  # HTTP/0.9
            b"GET\r",
            b"\rG",
            b"\n",
            b" ",
            b"GET  ",
            b"G\x01",
            b"G\x80",
            b"G:",
            b"GET /a b",
            b"GET / h",
            b"GET / HTTP/1.x",
            b"GET / HTTP/1.1 ",
            b"GET / HTTP/1.11",
            b"GET / HTTP/1.1\n",
            b"GET / HTTP/1.1\rX",
            b"\0",
            b"GET /\0",
            b"GET / HTTP/1.1\r\nA: b\0",
            b"GET / HTTP/1.1\r\nA: b\n",
            b"GET / HTTP/1.1\r\nA: b\rc",
            b"GET / HTTP/1.1\r\n\n",
            b"PROXY TCP4 1",
            b"GET / HTTP/1.1\r\n ",
            b"GET / HTTP/1.1\r\n:",
            b"GET / HTTP/1.1\r\nHost ",
            b"GET / HTTP/1.1\r\nHost\r",
            b"GET / HTTP/1.1\r\n!(",
            b"GET / HTTP/1.1\r\nA: b\r\n c\r\nHost(",
            b"GET / HTTP/1.1\r\nA: b\r\n:",
            b"GET / HTTP/1.1\r\nA: b\r\nnocolon\r",
        ):
            self.assertEqual(status(data), 400, data)
            self.assertIs(parse_head(data[:-1], LIMIT), NEED_DATA, data)

    def test_stray_bytes_in_a_complete_head(self) -> None:
        """NUL, a bare CR and a bare LF in a field are refused."""
        for stray in (b"\0", b"\r", b"\n", b"\r\r\n", b"\n\r"):
            self.assertEqual(status(b"GET / HTTP/1.1\r\nA: b%bc\r\n\r\n" % stray), 400, stray)

    def test_tls(self) -> None:
        """The refusal of a TLS ClientHello says that this port speaks plain HTTP."""
        for hello in (b"\x16", b"\x16\x03\x01", b"\x16\x03\x01\x02\0\n\0\r\n\r\n"):
            verdict = parse_head(hello, LIMIT)
            assert isinstance(verdict, Malformed)
            self.assertEqual(verdict.status, 400)
            self.assertIn("plain HTTP", verdict.reason)

    def test_http2_preface(self) -> None:
        """The HTTP/2 preface is refused with 505 as soon as its first line is complete."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self.assertEqual(status(preface), 505)
        self.assertEqual(status(preface[:16]), 505)
        self.assertEqual(status(preface[:15]), 0)

    def test_limit(self) -> None:
        """A head of exactly the limit passes, one byte more does not."""
        self.assertEqual(parsed(GET, len(GET)).raw, GET)
        self.assertEqual(status(GET, len(GET) - 1), 431)

    def test_limit_of_an_incomplete_head(self) -> None:
        """A head that is still incomplete beyond the limit is refused."""
        data = b"GET /" + b"a" * 95
        self.assertIs(parse_head(data, 100), NEED_DATA)
        self.assertEqual(status(data + b"a", 100), 431)

    def test_body_does_not_count(self) -> None:
        """The limit is one of the head, not of what follows it."""
        self.assertEqual(parsed(GET + b"x" * 1000, len(GET)).raw, GET)

    def test_fault_beyond_the_limit(self) -> None:
        """What stands beyond the limit does not change the verdict."""
        self.assertEqual(status(b"GET /" + b"a" * 100 + b"\0", 100), 431)

    def test_only_empty_lines(self) -> None:
        """A client that sends nothing but empty lines is refused, not read for ever."""
        self.assertEqual(parsed(b"\r\n" * 8 + GET).raw, GET)
        self.assertEqual(status(b"\r\n" * 9), 400)
        self.assertEqual(status(b"\r\n" * 9 + GET), 400)


PIECES = st.sampled_from(
    [
        *(b"GET ", b"/", b"/a?b ", b" ", b"HTTP/1.1", b"HTTP/1.0\r\n", b"HTTP/1.1\r\n"),
        *(b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"\0", b"A: b\r\n", b"Host: x", b"PRI * HTTP/2.0"),
        *(b"\x16\x03", b"\xff", b"G", b"aaaaaaaaaaaaaaaa"),
        *(b"\r\nContent-Length:", b"\r\ncontent-length: 5", b"5, 5", b"x"),
        *(b":", b"\r\n ", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nA: b\r\n", b"Host :", b"(:"),
    ]
)


class SplitTests(SynchronousTestCase):
    """The verdict does not depend on how the bytes arrive."""

    @given(st.lists(PIECES, max_size=12).map(b"".join), st.integers(8, 60), st.booleans())
    @example(b"\r\n" * 9, 8, False)
    @example(b"\rGET / HTTP/1.1\r\n\r\n", 60, True)
    @example(b"GET / HTTP/1.1\r\nA: b\r", 20, True)
    @settings(deadline=None, max_examples=300)
    def test_any_split(self, data: bytes, limit: int, hinted: bool) -> None:
        """A byte at a time, with the hint or without, gives the verdict of the whole."""
        self.assertEqual(dripped(data, limit, hinted), parse_head(data, limit))

    def test_hint_of_any_size(self) -> None:
        """The hint may be any length that was answered with NEED_DATA."""
        for data in (GET, b"\r\n" + GET + b"tail", GET[:-4] + b"\rx", GET[:-4] + b"\0\r\n\r\n"):
            for seen in range(len(GET) - 4):
                self.assertEqual(parse_head(data, LIMIT, seen), parse_head(data, LIMIT), data)
        for seen in range(len(GET)):
            self.assertEqual(parse_head(GET, LIMIT, seen), parse_head(GET, LIMIT))

    def test_hint_behind_a_carriage_return(self) -> None:
        """A carriage return at the end of the known bytes still needs its line feed."""
        data = GET[:-4] + b"\r"
        self.assertIs(parse_head(data, LIMIT), NEED_DATA)
        verdict = parse_head(data + b"x", LIMIT, len(data))
        assert isinstance(verdict, Malformed)
        self.assertEqual(verdict.status, 400)
