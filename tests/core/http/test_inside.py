"""What the server inside sees of a head."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.inside import Inside

ANY = Inside()
WEBSOCKET = Inside(websocket_only=True, absolute=False)
LAST = b"Connection: close\r\n"


def head(*lines: bytes) -> Head:
    """A head of these lines."""
    parsed = parse_head(b"\r\n".join((*lines, b"", b"")), 65536)
    assert isinstance(parsed, Head)
    return parsed


def shown(inside: Inside, *lines: bytes, last: bool = False) -> list[bytes]:
    """The lines that the server inside sees."""
    data = inside.head(head(*lines), last)
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n")


GET = b"GET / HTTP/1.1"
POST = b"POST / HTTP/1.1"


class UpgradeTests(SynchronousTestCase):
    """Offers to upgrade (RFC 9110, section 7.8)."""

    def test_h2c(self) -> None:
        """h2c is taken off with all that belongs to it, from any method and for any server."""
        for line in (GET, POST, b"OPTIONS * HTTP/1.1", b"GET / HTTP/1.0"):
            for inside in (ANY, WEBSOCKET):
                seen = shown(
                    inside,
                    *(line, b"Host: a", b"connection: Upgrade,HTTP2-Settings", b"UPGRADE: H2C"),
                    *(b"http2-settings: AA", b"X: y"),
                )
                self.assertEqual(seen, [line, b"Host: a", b"X: y"])

    def test_other_options_stay(self) -> None:
        """What else Connection says stays, in one line, and so does a field of that name."""
        seen = shown(
            WEBSOCKET,
            *(GET, b"Connection: X-A, Upgrade", b"X-A: 1", b"Upgrade: h2c"),
            *(b"Connection: keep-alive,, close",),
        )
        self.assertEqual(seen, [GET, b"X-A: 1", b"Connection: X-A, keep-alive, close"])

    def test_websocket(self) -> None:
        """A WebSocket's handshake is not touched."""
        lines = (GET, b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket", b"A: b")
        for inside in (ANY, WEBSOCKET):
            self.assertEqual(shown(inside, *lines), list(lines))

    def test_websocket_by_another_method(self) -> None:
        """The handshake of a WebSocket is a GET (RFC 6455, 4.1); another method's is none."""
        seen = shown(WEBSOCKET, POST, b"Upgrade: websocket", b"Connection: Upgrade", b"A: b")
        self.assertEqual(seen, [POST, b"A: b"])

    def test_unknown(self) -> None:
        """Another protocol is taken off, unless the server inside might know it."""
        lines = (GET, b"Upgrade: chat/2", b"Connection: Upgrade")
        self.assertEqual(shown(WEBSOCKET, *lines), [GET])
        self.assertEqual(shown(ANY, *lines), list(lines))

    def test_obsolete(self) -> None:
        """Of what begins HTTP/2 or TLS nothing reaches even a server of which nothing is known."""
        for protocol in (b"h2", b"h2c-14", b"HTTP/2.0", b"TLS/1.0"):
            self.assertEqual(shown(ANY, GET, b"Upgrade: " + protocol), [GET])

    def test_several(self) -> None:
        """Of several protocols the one that can be granted stays."""
        for lines in (
            (b"Upgrade: h2c, websocket", b"Connection: Upgrade, HTTP2-Settings"),
            (b"Upgrade: h2c", b"Upgrade: websocket", b"Connection: HTTP2-Settings, Upgrade"),
        ):
            seen = shown(WEBSOCKET, GET, *lines, b"HTTP2-Settings: AA")
            self.assertEqual(seen, [GET, b"Upgrade: websocket", b"Connection: Upgrade"])

    def test_several_that_can_be_granted(self) -> None:
        """Of several that can be granted the first stays, for one alone is begun."""
        seen = shown(ANY, GET, b"Upgrade: chat, h2c, websocket")
        self.assertEqual(seen, [GET, b"Upgrade: chat"])

    def test_folded(self) -> None:
        """A line that is folded goes as a whole."""
        seen = shown(
            WEBSOCKET, GET, b"Upgrade: h2c,", b" h2", b"A: b", b" c", b"Connection: Upgrade"
        )
        self.assertEqual(seen, [GET, b"A: b", b" c"])


class TargetTests(SynchronousTestCase):
    """Targets in absolute form (RFC 9112, section 3.2.2)."""

    def test_origin_form(self) -> None:
        """Path and query stay to the letter, and the authority is the Host, whatever Host said."""
        for target, path, host in (
            (b"http://b/a?x=1", b"/a?x=1", b"b"),
            (b"HTTPS://B:80/%2F/../a", b"/%2F/../a", b"B:80"),
            (b"http://b", b"/", b"b"),
            (b"http://b?x/y", b"/?x/y", b"b"),
            (b"http://u:p@[::1]:8/", b"/", b"[::1]:8"),
        ):
            seen = shown(WEBSOCKET, b"GET %b HTTP/1.1" % target, b"X: y", b"Host: c", b"hOST: d")
            self.assertEqual(seen, [b"GET %b HTTP/1.1" % path, b"Host: %b" % host, b"X: y"])

    def test_stays(self) -> None:
        """Every other form stays, and so does absolute form for a server that makes sense of it."""
        for line in (
            GET,
            b"GET /http://b/ HTTP/1.1",
            b"OPTIONS * HTTP/1.1",
            b"CONNECT b:1 HTTP/1.1",
            b"GET ftp://b/a HTTP/1.1",
            b"GET http:///a HTTP/1.1",
            b"GET http:/a HTTP/1.1",
        ):
            self.assertEqual(shown(WEBSOCKET, line, b"Host: c"), [line, b"Host: c"])
        lines = [b"GET http://b/a HTTP/1.1", b"Host: c"]
        self.assertEqual(shown(ANY, *lines), lines)


class LastTests(SynchronousTestCase):
    """The last request of a connection."""

    def test_told(self) -> None:
        """The server inside is told in the first header line, so that none can fold it."""
        seen = shown(ANY, GET, b"Connection: keep-alive", b"A: b", b" c", last=True)
        self.assertEqual(seen, [GET, LAST[:-2], b"Connection: keep-alive", b"A: b", b" c"])

    def test_says_so_itself(self) -> None:
        """Nothing is added where the client says so, which HTTP/1.0 does."""
        for lines in (
            [b"GET / HTTP/1.0", b"Connection: keep-alive"],
            [GET, b"A: b", b"connection: Close"],
        ):
            self.assertEqual(shown(ANY, *lines, last=True), lines)
        seen = shown(ANY, GET, b"Connection: keep-alive", b"Connection: close", last=True)
        self.assertEqual(seen[1], LAST[:-2])

    def test_upgrade(self) -> None:
        """A last request that may become another protocol is not told to be the last."""
        lines = [GET, b"Connection: Upgrade", b"Upgrade: websocket"]
        self.assertEqual(shown(WEBSOCKET, *lines, last=True), lines)
        lines = [GET, b"Connection: Upgrade", b"Upgrade: h2c"]
        self.assertEqual(shown(WEBSOCKET, *lines, last=True), [GET, LAST[:-2]])


LINES = st.sampled_from(
    [
        *(b"Host: a", b"A: b", b"A: \x01", b" folded", b"Content-Length: 5", b"Upgradex: y"),
        *(b"X-Connection: Upgrade", b"Transfer-Encoding: chunked", b"Cookie: a=b; c=d", b"A:"),
    ]
)


class AnyTests(SynchronousTestCase):
    """Facts about every head."""

    @given(st.lists(LINES, max_size=8))
    @settings(deadline=None, max_examples=100)
    def test_nothing_changes(self, lines: list[bytes]) -> None:
        """A head without an offer and an absolute target is shown itself."""
        lines = [GET, b"A: b", *lines]
        for inside in (ANY, WEBSOCKET):
            whole = head(*lines)
            self.assertIs(inside.head(whole), whole.raw)

    @given(st.lists(LINES, max_size=5), st.lists(LINES, max_size=5))
    @settings(deadline=None, max_examples=100)
    def test_only_the_offer_goes(self, before: list[bytes], behind: list[bytes]) -> None:
        """Of an offer's lines not one stays, and of the others not one goes."""
        before = [b"A: b", *before]
        behind = [b"A: b", *behind]
        seen = shown(WEBSOCKET, POST, *before, b"Upgrade: h2c", *behind, b"Connection: Upgrade")
        self.assertEqual(seen, [POST, *before, *behind])


class OursTests(SynchronousTestCase):
    """Fields that only this server may say."""

    def test_taken_off(self) -> None:
        """Fields of ours go in any case and spelling; a name that only begins alike stays."""
        ours = (b"Txsticky: 1", b"TXSTICKY-A: 1", b"txsticky_b: 1")
        self.assertEqual(
            shown(ANY, GET, *ours, b"Txstickyx: Txsticky-A"), [GET, b"Txstickyx: Txsticky-A"]
        )


class SameTests(SynchronousTestCase):
    """A head of which nothing changes."""

    def test_same(self) -> None:
        """A head of which nothing changes is the very bytes that came, whatever its target."""
        for inside, line in (
            (ANY, b"GET http://a/b HTTP/1.1"),
            (ANY, b"OPTIONS * HTTP/1.1"),
            (WEBSOCKET, b"GET /ab HTTP/1.1"),
        ):
            came = head(line, b"Host: a")
            self.assertIs(inside.head(came), came.raw)

    def test_last_upgrade(self) -> None:
        """The last request may become another protocol, wherever its field stands."""
        for fields in ((b"Upgrade: websocket", b"Host: a"), (b"Host: a", b"Upgrade: websocket")):
            self.assertEqual(shown(ANY, GET, *fields, last=True), [GET, *fields])
