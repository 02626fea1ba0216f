"""What is not plain HTTP, on every interface, over TLS and in the clear, in both accept modes.

Whatever a client or an application gets wrong, the others on a shared connection get none of it: a
connection that is not followed for certain ends behind the response.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from typing import Any, ClassVar

from attrs import frozen

from tests.integration.cluster import Cluster, ServerTestCase
from tests.integration.rawhttp import Connection, Reader, Response, cut, request
from tests.integration.secure import SecureCluster

APPS = "tests.integration.odd_apps"
LIMIT = 65536
CLOSE = ("Connection", "close")
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
#: Requests that have more than one end, or one that not every server finds; {sid} is worker 1's,
#: and behind each comes a request for worker 2.
ODD: dict[str, str] = {
    "control in a value": "GET /?sid={sid} HTTP/1.1\r\nHost: a\r\nX-A: a\x01b\r\n\r\n",
    "delete in a value": "GET /?sid={sid} HTTP/1.1\r\nHost: a\r\nX-A: a\x7fb\r\n\r\n",
    "folded line": "GET /?sid={sid} HTTP/1.1\r\nHost: a\r\nX-A: a\r\n b\r\n\r\n",
    "folded line, keep-alive": (
        "GET /?sid={sid} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nX-A: a\r\n b\r\n\r\n"
    ),
    "two lengths": (
        "POST /?sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        "Content-Length: 5\r\n\r\nhello"
    ),
    "list of lengths": "POST /?sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    "length and chunked": (
        "POST /?sid={sid} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "gzip, chunked": (
        "POST /?sid={sid} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    ),
    "identity": (
        "POST /?sid={sid} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n"
        "Content-Length: 5\r\n\r\nhello"
    ),
    "chunked HTTP/1.0": (
        "POST /?sid={sid} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "bad chunk": (
        "POST /?sid={sid} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\nhello\r\n0\r\n\r\n"
    ),
    "bad trailer": (
        "POST /?sid={sid} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\nno colon\r\n\r\n"
    ),
}


@frozen
class Got:
    """All that came, and whether the server closed; a reset counts as closed."""

    data: bytes
    closed: bool

    def responses(self, *methods: str) -> list[Response]:
        """The responses, to as many requests of these methods as there are."""
        reader, found = Reader.over(self.data), []
        while self.data and (reader.buffered or not found):
            found.append(reader.response(methods[len(found)] if methods else "GET"))
        return found


def play(connection: Connection, *pieces: bytes) -> Got:
    """Send the pieces and read until the server closes, or nothing comes any more."""
    data = b""
    with connection:
        with contextlib.suppress(OSError):  # it has refused and closed, and what it said is there
            connection.send(*pieces, gap=0.05)
        try:
            while piece := connection.socket.recv(1 << 16):
                data += piece
        except TimeoutError:
            return Got(data, closed=False)
        except (ConnectionError, ssl.SSLEOFError):
            pass
    return Got(data, closed=True)


class Facts:
    """What holds for every interface and transport. Mixed into a case that has a cluster.

    :cvar app: the application's name in `odd_apps`.
    :cvar tls: whether clients speak TLS.
    :cvar environment: of the cluster.
    """

    app: ClassVar[str]
    tls: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ()
    environment: ClassVar[dict[str, str]] = {}
    _shared: Any

    def server(self) -> Cluster:
        target = f"{APPS}:{self.app}"
        options = ("--interface", self.app, *self.options)
        make = SecureCluster if self.tls else Cluster
        cluster = make(target, *options, probe="/")
        cluster._environment.update(self.environment)
        return cluster

    def connect(self) -> Connection:
        """A new connection of a client."""
        connection: Connection = self._shared.connect()
        return connection

    def sids(self) -> dict[str, str]:
        """A session of each worker."""
        known = getattr(self._shared, "sids", None)
        if known is None:
            known = self._shared.sids = {}
        for _ in range(200):
            if len(known) == 2:
                break
            seen = json.loads(self._shared.get("/").body)
            known[seen["worker"]] = seen["sid"]
        return dict(known)

    def seen(self, response: Response) -> dict[str, Any]:
        """What the application saw."""
        self.assertEqual(response.status, 200, response)  # type: ignore[attr-defined]
        seen: dict[str, Any] = json.loads(response.body)
        return seen

    # ------------------------------------------------------------------ heads

    def test_large_heads(self) -> None:
        """Heads of any form up to the limit are served, the first and later ones."""
        room = LIMIT - 2000
        sid = self.sids()["2"]
        with self.connect() as connection:
            for target, headers in (
                ("/", [("Cookie", "a=" + "x" * (room - 2))]),
                ("/?" + "q" * room, []),
                ("/", [(f"X-{number}", "x" * 6000) for number in range(10)]),
                ("/", [("X", "y")] * 5000),
                (f"/?sid={sid}&" + "q" * room, []),
                ("/", [("Cookie", "a=" + "x" * (room - 2))]),
            ):
                seen = self.seen(connection.ask(request("GET", target, headers=headers)))
                self.assertEqual(seen["query"], target.partition("?")[2])  # type: ignore[attr-defined]
                if headers and headers[0][0] == "Cookie":
                    self.assertEqual(seen["cookie"], room)  # type: ignore[attr-defined]

    def test_larger_heads(self) -> None:
        """Larger heads are refused with 431, first or later, complete or not."""
        for before in (0, 2):
            for head in (
                b"GET / HTTP/1.1\r\nCookie: " + b"x" * LIMIT + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nCookie: " + b"x" * LIMIT,
                b"GET /" + b"x" * LIMIT + b" HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (LIMIT // 6),
                b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200_000,
            ):
                connection = self.connect()
                for _ in range(before):
                    self.seen(connection.ask(request("GET", "/")))
                self.refused(play(connection, head), 431)

    def refused(self, got: Got, *status: int) -> None:
        """Assert that there was one refusal, and that the connection is closed."""
        test: Any = self
        (response,) = got.responses()
        test.assertIn(response.status, status)
        test.assertTrue(got.closed)

    def test_large_bodies_of_chunks(self) -> None:
        """Trailers and a chunk's line beyond the limit are refused, and the connection closed."""
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for tail in (
            b"0\r\n" + b"A: b\r\n" * (LIMIT // 6 + 1),
            b"0\r\n" + b"A: b\r\n" * 200_000,
            b"0\r\nA: " + b"b" * LIMIT,
        ):
            self.refused(play(self.connect(), head, tail), 431)
        for extension in (b";a=" + b"b" * LIMIT, b";a=" + b"b" * LIMIT + b"\r\nhello\r\n0\r\n\r\n"):
            # twisted.web has a limit of its own for these, of 1024 bytes.
            self.refused(play(self.connect(), head, b"5" + extension), 431, 400)

    def test_wrong_at_once(self) -> None:
        """A head that is wrong already is refused before it is complete."""
        for before in (0, 1):
            for beginning in (
                b"GET / HTTP/1.1\r\nno colon\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nA : b",
                b"GET / HTTP/1.1\r\n A: b\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\n: b",
                b"GET / HTTP/1.1\r\nHost: a\r\n(A): b",
                b"GET / HTTP/1.1\r\nHost: a\0",
                b"GET /\x01",
            ):
                connection = self.connect()
                for _ in range(before):
                    self.seen(connection.ask(request("GET", "/")))
                self.refused(play(connection, beginning), 400)

    # --------------------------------------------------------------- odd requests

    def test_odd_requests(self) -> None:
        """One response, from the right worker or a refusal; the connection closes; nothing more.

        Whole and in two pieces, as the first request and as a later one of the connection.
        """
        test: Any = self
        sids = self.sids()
        hidden = request("GET", f"/a?hidden&sid={sids['2']}")
        for name, text in ODD.items():
            odd = text.format(sid=sids["1"]).encode("latin-1")
            stream = odd + hidden
            for before in (0, 1):
                for pieces in ([stream], [odd, hidden], cut(stream, len(odd) // 2)):
                    connection = self.connect()
                    for _ in range(before):
                        self.seen(connection.ask(request("GET", f"/?sid={sids['1']}")))
                    got = play(connection, *pieces)
                    what = f"{name}, {before} before, in {len(pieces)}: {got}"
                    (response,) = got.responses()
                    test.assertTrue(got.closed, what)
                    if response.status == 200:
                        test.assertEqual(self.seen(response)["worker"], "1", what)
                        if not got.data.startswith(b"HTTP/1.0"):  # which says as much
                            test.assertEqual(response.header("connection"), "close", what)
                    else:
                        test.assertEqual(response.status // 100, 4, what)

    def test_half_close(self) -> None:
        """A client that sends an odd request and closes its side gets the response."""
        if self.tls:
            return  # TLS knows no half-close
        test: Any = self
        connection = self.connect()
        connection.send(ODD["folded line"].format(sid=self.sids()["1"]).encode())
        connection.half_close()
        got = play(connection)
        test.assertEqual(len(got.responses()), 1)
        test.assertTrue(got.closed)

    # ------------------------------------------------------------------- upgrades

    def test_h2c(self) -> None:
        """An offer of h2c is ignored, its body arrives, and the connection goes on."""
        test: Any = self
        sids = self.sids()
        for line in ("POST /a?sid={} HTTP/1.1", "GET /?sid={} HTTP/1.1", "PUT /?sid={} HTTP/1.1"):
            for framing, body in (
                (b"Content-Length: 5\r\n\r\n", b"hello"),
                (b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
            ):
                head = line.format(sids["1"]).encode() + b"\r\nHost: a\r\n" + H2C + framing
                for at in (0, 30, len(head) - 1, len(head), len(head) + 2):
                    with self.connect() as connection:
                        for sid in (sids["1"], sids["2"]):
                            data = head.replace(sids["1"].encode(), sid.encode()) + body
                            connection.send(*cut(data, at), gap=0.02)
                            seen = self.seen(connection.response())
                            test.assertEqual((seen["length"], seen["upgrade"]), (5, None))
                            test.assertEqual(sids[seen["worker"]], sid)

    # --------------------------------------------------------------------- targets

    def test_absolute_form(self) -> None:
        """The path is the path, the authority the host, and the query is routed by."""
        test: Any = self
        for worker, sid in self.sids().items():
            with self.connect() as connection:
                for target, path in (
                    (f"http://example.com:8/a?x=1&sid={sid}", "/a"),
                    (f"https://example.com:8?x=1&sid={sid}", "/"),
                ):
                    seen = self.seen(connection.ask(request("GET", target)))
                    test.assertEqual((seen["path"], seen["host"]), (path, "example.com:8"))
                    test.assertEqual(seen["query"], f"x=1&sid={sid}")
                    test.assertEqual(seen["worker"], worker)

    # -------------------------------------------------------------------- responses

    def test_longer(self) -> None:
        """What is longer than its length never reaches the client, whichever side closes."""
        test: Any = self
        for path, body in ((b"/long", b"01234"), (b"/nothing", b"")):
            longer = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path
            got = play(self.connect(), longer + request("GET", "/", headers=[CLOSE]))
            if self.app == "asgi":
                # uvicorn raises, and closes: what came of it is the beginning of the response.
                sent = got.data.partition(b"\r\n\r\n")[2]
                test.assertTrue(got.closed and body.startswith(sent), got)
                continue
            first, second = got.responses()
            test.assertEqual(first.body, body)
            self.seen(second)

    def test_longer_of_head(self) -> None:
        """What is longer than its length never reaches a client that sent HEAD."""
        longer = b"HEAD /long HTTP/1.1\r\nHost: a\r\n\r\n"
        got = play(self.connect(), longer + request("GET", "/", headers=[CLOSE]))
        first, *rest = got.responses("HEAD", "GET")
        test: Any = self
        test.assertEqual((first.status, first.body), (200, b""))
        for response in rest:
            self.seen(response)
        test.assertTrue(got.closed)

    def test_shorter(self) -> None:
        """A response that is shorter than its length ends with the connection, at once."""
        test: Any = self
        for path, body in ((b"/short", b"0123456789"), (b"/empty", b"")):
            got = play(self.connect(), b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            test.assertTrue(got.closed)
            test.assertEqual(got.data.partition(b"\r\n\r\n")[2], body)

    def test_copied(self) -> None:
        """What is copied from another response does not hide the end of its own."""
        copied = request("GET", "/copied") + request("GET", "/", headers=[CLOSE])
        data = play(self.connect(), copied).data
        test: Any = self
        test.assertEqual(re.findall(rb'"path": "(.*?)"', data), [b"/copied", b"/"])


def _case(title: str, app: str, http: str = "", *, tls: bool = False, accept: str = "") -> None:
    """Make a test case of the facts.

    :param http: uvicorn's engine.
    """
    fields = {
        "app": app,
        "tls": tls,
        "options": ("--accept", accept) if accept else (),
        "environment": {"UVICORN_HTTP": http} if http else {},
        "__module__": __name__,
    }
    globals()[title] = type(title, (Facts, ServerTestCase), fields)


_case("Web", "web")
_case("WebTLS", "web", tls=True)
_case("WebWorkers", "web", accept="workers")
_case("WSGI", "wsgi")
_case("WSGITLS", "wsgi", tls=True)
_case("Httptools", "asgi", "httptools")
_case("HttptoolsTLS", "asgi", "httptools", tls=True)
_case("HttptoolsWorkers", "asgi", "httptools", accept="workers")
_case("H11", "asgi", "h11")
_case("H11TLS", "asgi", "h11", tls=True)
