"""Do no harm: the same bytes to the bare application and through the cluster give the same answers.

What the cluster does better than a bare twisted.web server on purpose is in :mod:`test_refusals`
and :mod:`test_odd`, and left out here: empty lines before a request line, heads above the limit, a
half-close. Where a folded line makes a request odd, or a target is in absolute form, the same
requests are to be answered, but the first of them ends the connection, or is shown otherwise.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterator

from attrs import frozen

from tests.integration.cluster import Bare, ClusterTestCase
from tests.integration.converse import Outcome, Script, converse
from tests.integration.rawhttp import chunk, cut, payload, request

#: Fields whose values differ from one server or moment to the next.
_DATE = re.compile(rb"(?<=\r\nDate: )[^\r]*", re.IGNORECASE)
#: A refusal: who refuses, the primary or the worker's server, is of no consequence.
_REFUSAL = re.compile(
    rb"(?:HTTP/1\.1 100 Continue\r\n\r\n)?HTTP/1\.[01] (?:4\d\d|505) .*", re.DOTALL
)
_ANSWER = re.compile(rb"HTTP/1\.[01] (\d\d\d) .*?\r\nX-Sha256: (\w+)\r\nX-N: ([^\r]*)", re.DOTALL)
_FOLDED = re.compile(rb"\r\n[ \t]")
_LAST = b"\r\nConnection: close\r\n"
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_EMPTY_LINES = re.compile(rb"(?:^|\r\n\r\n|0\r\n\r\n)(?:\r\n){2}")

#: Seconds without a byte after which an answer is taken as whole; the second is for a second look,
#: on a machine that may be very busy.
QUIET, LONG = 1.0, 30.0


@frozen
class Said:
    """What may be compared: the bytes without what must differ, and whether it stayed open."""

    data: bytes
    stays: bool

    @classmethod
    def of(cls, outcome: Outcome) -> Said:
        data = _REFUSAL.sub(rb"refused", _DATE.sub(b"then", outcome.data))
        return cls(data, outcome.end == "open")


def valid(draw: random.Random) -> bytes:
    """A plain request, with a session id or without, that may go to any worker."""
    method = draw.choice(["GET", "GET", "POST", "POST", "PUT", "HEAD", "OPTIONS"])
    target = f"/x?n={draw.randint(0, 99)}" + draw.choice(
        ["", "&chunked=1", "&size=3000", "&delay=0.003"]
    )
    target += draw.choice(["", f"&sid=session-{draw.randint(0, 9)}"])
    headers = []
    for likely, header in (
        (0.1, ("Connection", "close")),
        (0.1, ("Connection", "keep-alive")),
        (0.05, ("Connection", "Upgrade")),
        (0.05, ("Upgrade", "foo")),
        (0.1, ("Expect", "100-continue")),
    ):
        if draw.random() < likely:
            headers.append(header)
    body = payload(draw.choice([0, 1, 5, 100, 5000]))
    if method not in ("POST", "PUT"):
        data = request(method, target, headers=headers)
    elif draw.random() < 0.5:
        data = request(method, target, headers=headers, body=body)
    else:
        step = draw.randint(1 + len(body) // 5, 1 + len(body))
        chunks = [body[at : at + step] for at in range(0, len(body), step)]
        data = request(method, target, headers=headers, chunks=chunks)
    return data.replace(b"HTTP/1.1", b"HTTP/1.0", 1) if draw.random() < 0.1 else data


_INSERTED = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"0",
    b"\0",
    b":",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n\r\n",
    b"X: y\r\n z\r\n",
    b"HTTP/1.1",
    chunk(b"abc"),
]


def broken(draw: random.Random, data: bytes) -> bytes:
    """A valid request with one byte changed, a few lost, or something put in."""
    at, how = draw.randrange(len(data)), draw.random()
    if how < 0.3:
        return data[:at] + bytes([draw.choice(b"\r\n\0 :;GXx0\xff")]) + data[at + 1 :]
    if how < 0.6:
        return data[:at] + data[at + draw.randint(1, 4) :]
    return data[:at] + draw.choice(_INSERTED) + data[at:]


def streams(seed: int, count: int) -> Iterator[bytes]:
    """One to four requests each, a third of them broken."""
    draw = random.Random(seed)
    while count:
        requests = [valid(draw) for _ in range(draw.randint(1, 4))]
        requests = [broken(draw, data) if draw.random() < 0.35 else data for data in requests]
        stream = b"".join(requests)
        if draw.random() < 0.03:
            stream = draw.randbytes(200) + b"\r\n\r\n" + stream
        if not _EMPTY_LINES.search(stream):
            count -= 1
            yield stream


def fragmented(stream: bytes) -> Iterator[tuple[bytes, ...]]:
    """The stream whole, in two, in small pieces, and in pieces of any size."""
    draw = random.Random(zlib.crc32(stream))
    yield (stream,)
    yield tuple(cut(stream, draw.randint(1, len(stream) - 1)))
    pieces, at = [], 0
    sizes = draw.choice([(1, 9, 80, 3000), (1, 2, 3), (200, 10_000)])
    while at < len(stream) and len(pieces) < 60:
        size = draw.choice(sizes)
        pieces.append(stream[at : at + size])
        at += size
    yield (*pieces, stream[at:]) if at < len(stream) else tuple(pieces)


class SameAnswers(ClusterTestCase):
    """A cluster of two and a bare server, side by side."""

    app = "shy"
    probe = "/"
    PARALLEL = 80

    def differences(self, scripts: list[Script]) -> list[str]:
        """How the answers differ, after a second, more patient look at those that did."""
        with Bare(self.app) as bare:
            ports = (bare.port, self.cluster.port)
            first = [converse(port, scripts, self.PARALLEL) for port in ports]
            suspects = [
                Script(script.pieces, script.gap, quiet=LONG)
                for script, *outcomes in zip(scripts, *first, strict=True)
                if not self.same(script, *outcomes)
            ]
            bare.get("/")  # what clients have left unanswered comes first
            self.cluster.get("/")
            again = [converse(port, suspects, self.PARALLEL) for port in ports]
        return [
            f"{script.pieces}\n  bare:    {alone}\n  cluster: {clustered}"
            for script, alone, clustered in zip(suspects, *again, strict=True)
            if not self.same(script, alone, clustered)
        ]

    def same(self, script: Script, alone: Outcome, clustered: Outcome) -> bool:
        """Whether two answers are the same; a reset may have cut either short.

        A head with a bare CR or LF in it is refused where the bare server waits for ever, and one
        that is wrong already where it waits for its end.
        """
        one, two = Said.of(alone), Said.of(clustered)
        stream = b"".join(script.pieces)
        answers = [_ANSWER.findall(said.data) for said in (one, two)]
        if _FOLDED.search(stream) and not two.stays and _LAST in two.data:
            return bool(answers[1]) and answers[0][: len(answers[1])] == answers[1]
        if b" http://" in stream and answers[0]:
            return answers[0] == answers[1] and one.stays == two.stays
        early = b"\r\n\r\n" not in stream
        if one.stays and not two.stays and (early or _BARE.search(stream)):
            one = Said(one.data + b"refused", False)
        if "reset" in (alone.end, clustered.end):
            return one.data.startswith(two.data) or two.data.startswith(one.data)
        return one == two

    def assert_same(self, scripts: list[Script]) -> None:
        """Assert that there is no difference."""
        found = self.differences(scripts)
        if found:
            self.fail("\n".join([f"{len(found)} of {len(scripts)} differ:", *found[:5]]))

    def test_drawn_streams(self) -> None:
        """Valid and broken streams, whole and in pieces."""
        draw = random.Random(1)
        self.assert_same(
            [
                Script(pieces, draw.choice([0.0, 0.0005, 0.003]), quiet=QUIET)
                for stream in streams(7, 250)
                for pieces in fragmented(stream)
            ]
        )

    def test_every_offset_of_a_conversation(self) -> None:
        """Three requests for different workers, the middle one chunked, cut at every offset."""
        stream = (
            request("GET", "/?n=1&sid=session-1")
            + request("POST", "/?n=2&sid=session-2&delay=0.002", chunks=[b"abc", b"defgh"])
            + request(
                "PUT", "/?n=3&sid=session-3", body=b"hello", headers=[("Connection", "close")]
            )
        )
        cuts = [cut(stream, at) for at in range(1, len(stream))]
        self.assert_same([Script(tuple(pieces), 0.003, quiet=QUIET) for pieces in cuts])

    def test_first_lines(self) -> None:
        """
        First lines of every sort, without a head behind them and with one.

        A CONNECT that is granted ends HTTP, which the bare server does not know (`test_smuggling`).
        """
        lines = [
            b"GET / HTTP/1.1",
            b"GET / HTTP/1.0",
            b"GET /",
            b"GET",
            b"",
            b"G\xe9T / HTTP/1.1",
            b"GET /\xff\xfe HTTP/1.1",
            b"GET * HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
            b"GET x HTTP/1.1",
            b"GET http://a/?sid=1 HTTP/1.1",
            b"GET http://a?sid=1 HTTP/1.1",
            b"GET ftp://a/?sid=1 HTTP/1.1",
            b"OPTIONS http://a HTTP/1.0",
            b"GET / HTTP/1.1\r\nno colon",
            b"GET / HTTP/1.1\r\nHost : a",
            b"GET / HTTP/1.1\r\n: a",
            b"GET / HTTP/1.1\r\n A: b",
            b"GET / HTTP/1.1\r\nA: b\r\n\tc",
            b"GET / HTTP/1.1\r\nA(: b",
            b"GET / HTTP/1.1\r\nUpgrade: h3, foo",
            b"GET / HTTP/2.0",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET\t/\tHTTP/1.1",
            b"get / HTTP/1.1",
            b"GET /?a=%zz&sid=%f HTTP/1.1",
            b"GET /# HTTP/1.1",
            b"(GET) / HTTP/1.1",
            b"GET / FTP/1.1",
            b"GET / HTTP/1.1\r",
            b"GET /\x7f HTTP/1.1",
        ]
        ends = [
            b"\r\n",
            b"\r\nHost: a\r\n\r\n",
            b"\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /",
        ]
        self.assert_same(
            [
                Script(pieces, 0.001, quiet=QUIET)
                for line in lines
                for end in ends
                for pieces in fragmented(line + end)
            ]
        )
