"""The cookie that is inserted: its name and its lines."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.routing.insertion import MINUTE, InsertedCookie, PlaceName, may_be_shared


class PlaceNameTests(SynchronousTestCase):
    """The name that says where the cluster listens."""

    def test_port(self) -> None:
        """The name has the port, however the port is written."""
        for listen in (
            "8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "tcp:8080",
            "tcp:8080:interface=127.0.0.1",
            r"tcp6:8080:interface=\:\:1",
            "tcp:port=8080:backlog=50",
            "tcp4:interface=127.0.0.1:port=8080",
        ):
            self.assertEqual(PlaceName.of([listen]).name, "txsticky_8080", listen)

    def test_several(self) -> None:
        """Of several places the first that has a port names the cookie, for all of them."""
        name = PlaceName.of(["unix:/run/a.sock", "8080", "8081"])
        self.assertEqual((name.name, name.ports), ("txsticky_8080", {b"8080", b"8081"}))

    def test_no_port(self) -> None:
        """Without a port the path stands in the name, another name for each path."""
        names = {PlaceName.of([f"unix:/run/{name}.sock:mode=660"]).name for name in ("a", "b", "b")}
        names.add(PlaceName.of(["systemd:domain=INET:index=0"]).name)
        self.assertEqual(len(names), 3)
        for name in names:
            self.assertRegex(name, "^txsticky_[0-9a-f]{8}$")

    def test_suffix(self) -> None:
        """A port that the client names and on which nothing listens here stands behind the name."""
        name = PlaceName.of(["8080", "8081"])
        for host, suffix in (
            (b"example:9001", b"_9001"),
            (b"[::1]:9001", b"_9001"),
            (b"example:65535", b"_65535"),
            (b"example:8081", b""),
            (b"9001", b""),
            (b"example", b""),
            (None, b""),
            (b"example:", b""),
            (b"example:http", b""),
            (b"example:1234567", b""),
        ):
            self.assertEqual(name.suffix(host), suffix, host)


class InsertedCookieTests(SynchronousTestCase):
    """Lines as ready bytes."""

    def setUp(self) -> None:
        self.now = 0.0
        self.minted = 0
        self.cookie = InsertedCookie("W", ("Path=/",), self.mint, lambda: self.now)

    def mint(self) -> str:
        """Make another value each time."""
        self.minted += 1
        return f"v{self.minted}"

    def test_line(self) -> None:
        """The line has name, value and attributes, and Secure over TLS."""
        self.assertEqual(self.cookie.line((b"", False)), b"Set-Cookie: W=v1; Path=/\r\n")
        self.assertEqual(
            self.cookie.line((b"_90", True)), b"Set-Cookie: W_90=v1; Path=/; Secure\r\n"
        )

    def test_ready(self) -> None:
        """Within a minute the very same bytes serve; then a new value is minted."""
        line = self.cookie.line((b"", False))
        self.assertEqual(self.cookie.until, MINUTE)
        self.now = MINUTE - 0.1
        self.assertIs(self.cookie.line((b"", False)), line)
        self.now = MINUTE
        self.assertEqual(self.cookie.line((b"", False)), b"Set-Cookie: W=v2; Path=/\r\n")

    def test_bound(self) -> None:
        """Clients that name many ports do not fill the memory."""
        for port in range(1000):
            self.cookie.line((b"_%d" % port, False))
        self.assertLessEqual(len(self.cookie._lines), 64)


class SharedTests(SynchronousTestCase):
    """Whether a shared cache may store a response."""

    def test_directives(self) -> None:
        """A response may be shared where public or s-maxage is said, in any case and place."""
        for value, shared in (
            ("public", True),
            ("Public, max-age=60", True),
            ("max-age=60,public", True),
            ("max-age=60 ,  PUBLIC", True),
            ("s-maxage=60", True),
            ("no-cache, S-MaxAge = 1", True),
            ("private", False),
            ("no-store", False),
            ("max-age=60", False),
            ("publicity", False),
            ("x-public", False),
            ("", False),
        ):
            for name in ("Cache-Control", "cache-control"):
                fields = f"\r\nA: b\r\n{name}: {value}\r\nC: d\r\n".encode()
                self.assertEqual(may_be_shared(fields), shared, value)

    def test_several(self) -> None:
        """Each Cache-Control line counts, and only lines of this name."""
        both = b"\r\nCache-Control: max-age=1\r\nCache-Control: public\r\n"
        self.assertTrue(may_be_shared(both))
        self.assertFalse(may_be_shared(b"\r\nX-Cache-Control: public\r\nA: , public\r\n"))
        self.assertTrue(may_be_shared(b"\r\nCache-Control: public"))
