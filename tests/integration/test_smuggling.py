"""Smuggling shapes: bytes of one request are never taken, or routed, as another.

Each shape is sent to worker 1; what it hides, or does not hide, is a request for worker 2. What the
worker's own server makes of a shape stands; the cluster adds no second opinion that could differ.
"""

from __future__ import annotations

from typing import ClassVar

from tests.integration.cluster import ClusterTestCase
from tests.integration.converse import Outcome, Script, converse
from tests.integration.rawhttp import Fault, Reader, Response

#: One answer, a refusal, and the connection closed.
REFUSED = "refused"
#: One answer to one request; the hidden request is its body.
BODY = "body"
#: Two requests, plainly framed; each is answered by its own worker.
TWO = "two"
#: One answer to a request that is not plain RFC 9112: it says that the connection closes, and that
#: does, whatever else the server takes for a request.
LAST = "last"
#: The same, and the hidden request is its body.
LAST_BODY = "last body"
#: Two requests, of which the first asks for another protocol: worker 1 may keep the connection.
EITHER = "either"
#: One answer, behind which HTTP ends (RFC 9110, section 9.3.6): what follows is no request.
END = "end"

#: Seconds without a byte after which no more is expected.
QUIET = 5.0

_HIDDEN = "GET /?n=2&sid={other} HTTP/1.1\r\nHost: a\r\n\r\n"
_CHUNKED = "Transfer-Encoding: chunked\r\n"

#: Name -> what happens, the first request's header fields, what follows its head. {size} is the
#: length of {hidden}, {hex} the same in hexadecimal.
POSTS: dict[str, tuple[str, str, str]] = {
    "length and chunked": (REFUSED, "Content-Length: {size}\r\n" + _CHUNKED, "0\r\n\r\n{hidden}"),
    "chunked and length": (
        REFUSED,
        _CHUNKED + "Content-Length: 4\r\n",
        "{hex}\r\n{hidden}\r\n0\r\n\r\n",
    ),
    "two lengths": (REFUSED, "Content-Length: 0\r\nContent-Length: {size}\r\n", "{hidden}"),
    "one length twice": (
        REFUSED,
        "Content-Length: {size}\r\nContent-Length: {size}\r\n",
        "{hidden}",
    ),
    "a list of lengths": (REFUSED, "Content-Length: {size}, {size}\r\n", "{hidden}"),
    "+length": (REFUSED, "Content-Length: +{size}\r\n", "{hidden}"),
    "-length": (REFUSED, "Content-Length: -{size}\r\n", "{hidden}"),
    "hexadecimal length": (REFUSED, "Content-Length: 0x{hex}\r\n", "{hidden}"),
    "length with a space": (REFUSED, "Content-Length: 4 5\r\n", "{hidden}"),
    "length with an underscore": (REFUSED, "Content-Length: 4_5\r\n", "{hidden}"),
    "length of other digits": (REFUSED, "Content-Length: \u0663\r\n", "{hidden}"),
    "empty length": (REFUSED, "Content-Length: \r\n", "{hidden}"),
    "length with zeros": (BODY, "Content-Length: 000{size}\r\n", "{hidden}"),
    "length between tabs": (BODY, "Content-Length:\t{size}\t\r\n", "{hidden}"),
    "length behind a vertical tab": (REFUSED, "Content-Length:\v{size}\r\n", "{hidden}"),
    "length and NUL": (REFUSED, "Content-Length: {size}\0\r\n", "{hidden}"),
    "space before the colon": (REFUSED, "Content-Length : {size}\r\n", "{hidden}"),
    "tab before the colon": (REFUSED, "Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n{hidden}"),
    "field behind a space": (LAST, " Content-Length: {size}\r\n", "{hidden}"),
    "folded length": (LAST_BODY, "Content-Length:\r\n {size}\r\n", "{hidden}"),
    "length in a folded field": (LAST, "X: y\r\n Content-Length: {size}\r\n", "{hidden}"),
    "folded coding": (LAST, "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n{hidden}"),
    "unknown coding": (REFUSED, "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n{hidden}"),
    "control in a value": (LAST, "X: a\x01b\r\n", "{hidden}"),
    "delete in a value": (LAST, "X: a\x7fb\r\n", "{hidden}"),
    "control in a value, kept alive": (
        LAST,
        "Connection: keep-alive\r\nX: a\x01b\r\n",
        "{hidden}",
    ),
    "control in a value, with a length": (
        LAST_BODY,
        "X: a\x01b\r\nContent-Length: {size}\r\n",
        "{hidden}{hidden}",
    ),
    "control in a value, chunked": (
        LAST_BODY,
        "X: a\x01b\r\n" + _CHUNKED,
        "{hex}\r\n{hidden}\r\n0\r\n\r\n{hidden}",
    ),
    "identity": (
        LAST_BODY,
        "Transfer-Encoding: identity\r\nContent-Length: {size}\r\n",
        "{hidden}",
    ),
    "chunked, identity": (REFUSED, "Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n{hidden}"),
    "gzip, chunked": (REFUSED, "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n{hidden}"),
    "chunked twice": (REFUSED, _CHUNKED + _CHUNKED, "0\r\n\r\n{hidden}"),
    "CHUNKED": (TWO, "TRANSFER-ENCODING: CHUNKED\r\n", "0\r\n\r\n{hidden}"),
    "quoted coding": (REFUSED, 'Transfer-Encoding: "chunked"\r\n', "0\r\n\r\n{hidden}"),
    "coding behind a vertical tab": (
        REFUSED,
        "Transfer-Encoding: \vchunked\r\n",
        "0\r\n\r\n{hidden}",
    ),
    "bare LF behind a field": (REFUSED, "X: y\nContent-Length: {size}\r\n", "{hidden}"),
    "bare LF ends the head": (REFUSED, "Content-Length: {size}\r\n\n", "{hidden}"),
    "bare CR": (REFUSED, "X: y\rContent-Length: {size}\r\n", "{hidden}"),
    "NUL": (REFUSED, "X: \0\r\nContent-Length: {size}\r\n", "{hidden}"),
    "no name": (REFUSED, ": x\r\n", "{hidden}"),
    "no colon": (REFUSED, "hello\r\n", "{hidden}"),
    "chunk extension": (BODY, _CHUNKED, "{hex};a=b\r\n{hidden}\r\n0\r\n\r\n"),
    "chunk extension ends with LF": (REFUSED, _CHUNKED, "{hex};a\n{hidden}\r\n0\r\n\r\n"),
    "chunk extension with LF": (REFUSED, _CHUNKED, "{hex};a\nb\r\n{hidden}\r\n0\r\n\r\n"),
    "chunk size ends with LF": (REFUSED, _CHUNKED, "{hex}\n{hidden}\r\n0\r\n\r\n"),
    "+chunk size": (REFUSED, _CHUNKED, "+{hex}\r\n{hidden}\r\n0\r\n\r\n"),
    "-chunk size": (REFUSED, _CHUNKED, "-1\r\n{hidden}\r\n0\r\n\r\n"),
    "0x chunk size": (REFUSED, _CHUNKED, "0x{hex}\r\n{hidden}\r\n0\r\n\r\n"),
    "chunk size and space": (REFUSED, _CHUNKED, "{hex} \r\n{hidden}\r\n0\r\n\r\n"),
    "no chunk size": (REFUSED, _CHUNKED, "\r\n{hidden}\r\n0\r\n\r\n"),
    "chunk size with an underscore": (REFUSED, _CHUNKED, "2_d\r\n{hidden}\r\n0\r\n\r\n"),
    "chunk size with zeros": (BODY, _CHUNKED, "000{hex}\r\n{hidden}\r\n0\r\n\r\n"),
    "huge chunk size": (REFUSED, _CHUNKED, "ffffffffffffffffffff\r\n{hidden}\r\n0\r\n\r\n"),
    "chunk longer than its size": (REFUSED, _CHUNKED, "3\r\nabcde\r\n0\r\n\r\n{hidden}"),
    "chunk data ends with LF": (REFUSED, _CHUNKED, "3\r\nabc\n0\r\n\r\n{hidden}"),
    "last chunk ends with LF": (REFUSED, _CHUNKED, "3\r\nabc\r\n0\n\n{hidden}"),
    "trailer without a colon": (REFUSED, _CHUNKED, "0\r\nhello\r\n\r\n{hidden}"),
    "trailer with a space before the colon": (REFUSED, _CHUNKED, "0\r\nA : b\r\n\r\n{hidden}"),
    "folded trailer": (REFUSED, _CHUNKED, "0\r\nA: b\r\n c\r\n\r\n{hidden}"),
    "name of other characters": (REFUSED, "Content(Length: {size}\r\n", "{hidden}"),
    "trailer": (TWO, _CHUNKED, "0\r\nContent-Length: {size}\r\n\r\n{hidden}"),
    "huge length": (REFUSED, "Content-Length: 99999999999999999999\r\n", "{hidden}"),
    "length as a connection option": (
        BODY,
        "Connection: close, Content-Length\r\nContent-Length: {size}\r\n",
        "{hidden}",
    ),
    "no body": (TWO, "", "{hidden}"),
    "empty line behind a body": (TWO, "Content-Length: 0\r\n", "\r\n{hidden}"),
    "unknown expectation": (BODY, "Expect: tea\r\nContent-Length: {size}\r\n", "{hidden}"),
}

#: Name -> what happens, all of it. {sid} is worker 1's.
WHOLE: dict[str, tuple[str, str]] = {
    "GET with a body": (
        BODY,
        "GET /?n=1&sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{hidden}",
    ),
    "GET in chunks": (
        BODY,
        "GET /?n=1&sid={sid} HTTP/1.1\r\nHost: a\r\n"
        + _CHUNKED
        + "\r\n{hex}\r\n{hidden}\r\n0\r\n\r\n",
    ),
    "upgrade to h2c": (
        EITHER,
        "GET /?n=1&sid={sid} HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n"
        "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n{hidden}",
    ),
    "upgrade that is not granted": (
        EITHER,
        "GET /?n=1&sid={sid} HTTP/1.1\r\nHost: a\r\n"
        "Upgrade: x\r\nConnection: Upgrade\r\n\r\n{hidden}",
    ),
    "CONNECT": (END, "CONNECT a:1?n=1&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n{hidden}"),
    "upgrade of an odd request": (
        LAST,
        "GET /?n=1&sid={sid} HTTP/1.1\r\nHost: a\r\nX: \x01\r\n"
        "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n{hidden}",
    ),
    "absolute form": (TWO, "GET http://a/?n=1&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n{hidden}"),
    "space behind the request line": (
        REFUSED,
        "GET /?n=1&sid={sid} HTTP/1.1\r\n Host: a\r\n\r\n{hidden}",
    ),
    "space in the target": (REFUSED, "GET /?n=1&sid={sid} x HTTP/1.1\r\nHost: a\r\n\r\n{hidden}"),
    "two spaces": (REFUSED, "GET  /?n=1&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n{hidden}"),
    "HTTP/0.9": (REFUSED, "GET /?n=1&sid={sid}\r\n{hidden}"),
    "http/1.1": (REFUSED, "GET /?n=1&sid={sid} http/1.1\r\nHost: a\r\n\r\n{hidden}"),
    "HTTP/1.2": (REFUSED, "GET /?n=1&sid={sid} HTTP/1.2\r\nHost: a\r\n\r\n{hidden}"),
    "bare LF throughout": (
        REFUSED,
        "POST /?n=1&sid={sid} HTTP/1.1\nHost: a\nContent-Length: {size}\n\n{hidden}",
    ),
    "HTTP/1.0 does not stay": (
        REFUSED,
        "POST /?n=1&sid={sid} HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\n"
        + _CHUNKED
        + "\r\n{hidden}",
    ),
}


class Shapes(ClusterTestCase):
    """Every shape, in one segment and in two."""

    cuts: ClassVar[tuple[float, ...]] = (0.0, 0.3, 0.6, 0.9)

    def stream(self, text: str) -> bytes:
        """The shape's bytes."""
        hidden = _HIDDEN.format(other=self.cluster.tag(2))
        filled = text.format(
            sid=self.cluster.tag(1), hidden=hidden, size=len(hidden), hex=f"{len(hidden):x}"
        )
        return filled.encode()

    def streams(self) -> dict[str, tuple[str, bytes]]:
        """Name -> what happens, the bytes."""
        posts = {
            name: (what, "POST /?n=1&sid={sid} HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + rest)
            for name, (what, fields, rest) in POSTS.items()
        }
        return {
            name: (what, self.stream(text)) for name, (what, text) in {**posts, **WHOLE}.items()
        }

    def answers(self, outcome: Outcome) -> list[Response]:
        """All answers of one connection."""
        reader, found = Reader.over(outcome.data), []
        while outcome.data and (reader.buffered or not found):
            found.append(reader.response())
        return found

    def test_every_shape(self) -> None:
        """Each shape has the outcome that its row names, wherever it is cut."""
        rows = [
            (name, what, stream, round(part * len(stream)))
            for name, (what, stream) in self.streams().items()
            for part in self.cuts
        ]
        scripts = [
            Script(tuple(p for p in (stream[:at], stream[at:]) if p), 0.005, quiet=QUIET)
            for _, _, stream, at in rows
        ]
        outcomes = converse(self.cluster.port, scripts, parallel=len(scripts))
        wrong = []
        for (name, what, stream, at), outcome in zip(rows, outcomes, strict=True):
            try:
                self.judge(what, outcome, stream)
            except AssertionError as fault:
                wrong.append(f"{name}, cut at {at}: {fault}")
        if wrong:
            self.fail("\n".join(wrong))

    def judge(self, what: str, outcome: Outcome, stream: bytes) -> None:
        """Raises AssertionError unless this is what was to happen."""
        try:
            found = self.answers(outcome)
        except Fault as fault:
            raise AssertionError(f"{fault} in {outcome}") from None
        seen = [(a.status, a.header("x-n"), a.header("x-worker")) for a in found]
        if what == REFUSED:
            self.assertEqual(
                [a.status // 100 for a in found], [4 if seen[:1] and seen[0][0] < 500 else 5], seen
            )
            self.assertIn(outcome.end, ("closed", "reset"), seen)
        elif what == END:
            self.assertEqual(seen, [(200, "1", "1")])
            self.assertIn(outcome.end, ("closed", "reset"), seen)
        elif what in (BODY, LAST, LAST_BODY):
            self.assertEqual(seen, [(200, "1", "1")])
            hidden = len(_HIDDEN.format(other=self.cluster.tag(2)))
            self.assertEqual(found[0].header("x-length"), str(0 if what == LAST else hidden))
            if what != BODY:
                self.assertEqual(found[0].header("connection"), "close")
                self.assertIn(outcome.end, ("closed", "reset"), seen)
        else:
            second = {TWO: ("2",), EITHER: ("1", "2")}[what]
            self.assertEqual([(s, n) for s, n, _ in seen], [(200, "1"), (200, "2")], seen)
            self.assertEqual(seen[0][2], "1")
            self.assertIn(seen[1][2], second)

    def test_shapes_behind_a_request(self) -> None:
        """Nothing is smuggled behind a plain request to the same worker."""
        first = self.stream("GET /?n=0&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n")
        shapes = self.streams()
        scripts = [Script((first + stream,), quiet=QUIET) for _, stream in shapes.values()]
        outcomes = converse(self.cluster.port, scripts, parallel=len(scripts))
        wrong = []
        for (name, (what, stream)), outcome in zip(shapes.items(), outcomes, strict=True):
            try:
                opening, *_ = self.answers(outcome) or [None]
                self.assertIsNotNone(opening)
                self.assertEqual(opening.header("x-n"), "0")
                rest = outcome.data[self.length_of(opening, outcome.data) :]
                self.judge(what, Outcome(rest, outcome.end), stream)
            except AssertionError as fault:
                wrong.append(f"{name}: {fault}")
        if wrong:
            self.fail("\n".join(wrong))

    def length_of(self, response: Response, data: bytes) -> int:
        """How many bytes of the data the first response takes."""
        return data.index(b"\r\n\r\n") + 4 + response.length
