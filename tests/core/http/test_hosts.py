"""Which host a request is for."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from txsticky.core.http.hosts import Hosts, is_name, is_of

OURS = Hosts(["Status.Example", "app_1"])


class HostTests(TestCase):
    """The Host of a request."""

    def test_ours(self) -> None:
        """Addresses, localhost and the names that were given are ours, with a port or without."""
        for host in (
            "127.0.0.1", "10.2.3.4:9090", "[::1]", "[::1]:9090", "[2001:db8::1]:1",
            "[::ffff:127.0.0.1]", "localhost", "LocalHost:9090", "localhost.", "localhost.:80",
            "status.example", "STATUS.example.:443", "app_1:9090", "localhost:", " localhost ",
        ):  # fmt: skip
            self.assertTrue(OURS.answers(host), host)

    def test_others(self) -> None:
        """No other name is ours, whatever it looks like."""
        for host in (
            "evil.example", "evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example",
            "evil.example@localhost", "localhost@evil.example", "localhost/evil", "",
            "x.status.example", "status.example.evil", "localhost:80:80", "localhost..", "127.1",
            "2130706433", "0x7f.0.0.1", "127.0.0.01", "[127.0.0.1]", "::1", "[::1", "[::1%eth0]",
            "[evil.example]", "[1:2]", "localhost\x00", "localhost, evil.example", "l\u00f6calhost",
            "\u017ftatus.example",
        ):  # fmt: skip
            self.assertIs(OURS.answers(host), False, host)
        self.assertFalse(Hosts().answers("status.example"))

    @given(st.ip_addresses(), st.integers(0, 65535))
    def test_addresses(self, address: ipaddress.IPv4Address, port: int) -> None:
        """Every address of either kind is ours."""
        host = f"[{address}]" if address.version == 6 else str(address)
        self.assertTrue(OURS.answers(host))
        self.assertTrue(OURS.answers(f"{host}:{port}"))

    @given(st.text(st.characters(codec="latin-1")))
    def test_any_text(self, host: str) -> None:
        """Any text is judged, as a host and as an origin."""
        self.assertIn(OURS.answers(host), (True, False))
        self.assertIn(is_of("http://" + host, host), (True, False))


class OriginTests(TestCase):
    """The Origin of a page."""

    def test_same(self) -> None:
        """An origin of the same host and port is that of the request."""
        for origin, host in (
            ("http://localhost:9090", "localhost:9090"),
            ("HTTP://LOCALHOST:9090", "localhost:9090"),
            ("http://[::1]:9090", "[::1]:9090"),
            ("https://status.example", "status.example"),
        ):
            self.assertTrue(is_of(origin, host), origin)

    def test_another(self) -> None:
        """No other origin is: not by another port, by an address, or by no name at all."""
        for origin, host in (
            ("http://evil.example", "localhost:9090"),
            ("http://localhost:8080", "localhost:9090"),
            ("http://localhost", "localhost:9090"),
            ("http://10.6.6.6", "10.6.6.7"),
            ("null", "localhost"),
            ("null", ""),
            ("", ""),
            ("file://", ""),
            ("http://[", "localhost"),
            ("http://evil.example@localhost", "localhost"),
            ("http://status.example.evil.example", "status.example"),
        ):
            self.assertFalse(is_of(origin, host), origin)


class NameTests(TestCase):
    """What may be given for a name."""

    def test_names(self) -> None:
        """Names of hosts are names; anything around them makes them none."""
        for name in ("a", "a.example", "a-b.example.", "app_1", "xn--nxasmq6b"):
            self.assertTrue(is_name(name), name)
        for name in ("", "a:80", "http://a", "a/b", "*", "*.a", "a..b", ".a", "-a", "ü", "a" * 64,
                     "a." * 200, "a b"):  # fmt: skip
            self.assertFalse(is_name(name), name)

    def test_longest(self) -> None:
        """A name has 255 characters at most (RFC 1123, 2.1)."""
        name = ".".join(["a" * 63] * 3 + ["b" * 63])
        self.assertEqual(len(name), 255)
        self.assertTrue(is_name(name))
        self.assertFalse(is_name(name + "."))
