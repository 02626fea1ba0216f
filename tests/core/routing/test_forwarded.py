"""The client's address behind proxies."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.head import Head, parse_head
from txsticky.core.routing.forwarded import Trusted, client_address, client_secure, forwarded_for

LOCAL = Trusted.parse("127.0.0.1,10.0.0.0/8,::1")


def head(*lines: bytes) -> Head:
    """The head of a GET."""
    fields = b"".join(line + b"\r\n" for line in lines)
    parsed = parse_head(b"GET / HTTP/1.1\r\n%b\r\n" % fields, 1 << 20)
    assert isinstance(parsed, Head), parsed
    return parsed


def client(header: bytes, peer: str = "127.0.0.1", trusted: Trusted = LOCAL) -> str:
    """The client behind a request with this X-Forwarded-For."""
    return client_address(head(b"X-Forwarded-For: " + header), peer, trusted)


class TrustedTests(SynchronousTestCase):
    """Who may name the client's address."""

    def test_addresses_and_networks(self) -> None:
        """Addresses, networks and blanks are understood."""
        trusted = Trusted.parse(" 127.0.0.1 , 10.0.0.0/8,2001:db8::/32,")
        for host in ("127.0.0.1", "10.200.0.1", "2001:db8::5"):
            self.assertIn(host, trusted)
        for host in ("127.0.0.2", "11.0.0.1", "::1", "", "localhost"):
            self.assertNotIn(host, trusted)

    def test_none(self) -> None:
        """An empty text trusts no peer."""
        none = Trusted.parse("")
        self.assertFalse(none)
        self.assertNotIn("127.0.0.1", none)
        self.assertNotIn("", none)

    def test_every_peer(self) -> None:
        """A star trusts every peer, one of a UNIX socket included."""
        for host in ("192.0.2.1", "::1", "", "fe80::1%eth0"):
            self.assertIn(host, Trusted.parse("10.0.0.1,*"))

    def test_true(self) -> None:
        """What trusts any peer at all is true."""
        for text in ("*", "unix", "10.0.0.1"):
            self.assertTrue(Trusted.parse(text))
        self.assertFalse(Trusted())

    def test_unix(self) -> None:
        """unix trusts the peers that come through a UNIX socket, and no others."""
        trusted = Trusted.parse("unix")
        self.assertTrue(trusted)
        self.assertIn("", trusted)
        self.assertNotIn("127.0.0.1", trusted)

    def test_together(self) -> None:
        """Addresses may stand behind unix, and behind *."""
        trusted = Trusted.parse("unix,10.0.0.1")
        self.assertEqual(("" in trusted, "10.0.0.1" in trusted), (True, True))
        self.assertRaises(ValueError, Trusted.parse, "*,nonsense")

    def test_mapped_rules(self) -> None:
        """A rule of mapped addresses is one of the IPv4 addresses that they stand for."""
        trusted = Trusted.parse("::ffff:127.0.0.1, ::ffff:10.0.0.0/104,::FFFF:c000:201/128")
        self.assertEqual(trusted, Trusted.parse("127.0.0.1,10.0.0.0/8,192.0.2.1"))
        for host in ("127.0.0.1", "::ffff:127.0.0.1", "10.9.9.9", "::ffff:10.9.9.9", "192.0.2.1"):
            self.assertIn(host, trusted)
        for host in ("127.0.0.2", "11.0.0.1", "::1", "::ffff:11.0.0.1"):
            self.assertNotIn(host, trusted)
        self.assertIn("192.0.2.9", Trusted.parse("::ffff:0:0/96"))
        self.assertNotIn("192.0.2.9", Trusted.parse("::/0"))

    def test_mapped_names(self) -> None:
        """The client that a proxy names so has its IPv4 name, too."""
        for name in (b"::ffff:192.0.2.7", b"[::FFFF:192.0.2.7]:80", b"::ffff:c000:207"):
            self.assertEqual(client(name), "192.0.2.7")
            self.assertEqual(client(name + b", ::ffff:127.0.0.1"), "192.0.2.7")

    def test_mapped(self) -> None:
        """An IPv4 client of an IPv6 socket is trusted by its IPv4 address."""
        self.assertIn("::ffff:127.0.0.1", LOCAL)
        self.assertNotIn("::ffff:192.0.2.1", LOCAL)

    def test_refused(self) -> None:
        """What is no address is refused with a sentence that names it."""
        for text in ("localhost", "10.0.0.1/8", "10.0.0.0/33", "1.2.3", "**"):
            error = str(self.assertRaises(ValueError, Trusted.parse, "127.0.0.1," + text))
            self.assertIn(repr(text), error)


class ClientTests(SynchronousTestCase):
    """X-Forwarded-For."""

    def test_from_a_trusted_peer(self) -> None:
        """A trusted peer names the client."""
        self.assertEqual(client(b"192.0.2.1"), "192.0.2.1")

    def test_from_another_peer(self) -> None:
        """Another peer's words are not heard."""
        self.assertEqual(client(b"10.0.0.1", peer="192.0.2.9"), "192.0.2.9")
        self.assertEqual(client(b"192.0.2.1", trusted=Trusted()), "127.0.0.1")

    def test_right_most_untrusted(self) -> None:
        """What stands left of the first untrusted address is not believed."""
        self.assertEqual(client(b"1.1.1.1, 192.0.2.1, 10.0.0.7"), "192.0.2.1")

    def test_all_trusted(self) -> None:
        """If all are trusted the left-most is the client."""
        self.assertEqual(client(b"10.0.0.1, 10.0.0.2"), "10.0.0.1")
        self.assertEqual(client(b"1.1.1.1,2.2.2.2", trusted=Trusted.parse("*")), "1.1.1.1")

    def test_several_headers(self) -> None:
        """Several headers are one list."""
        got = client_address(
            head(b"X-Forwarded-For: 1.1.1.1", b"x-forwarded-for: 192.0.2.1, 10.0.0.1"),
            "127.0.0.1",
            LOCAL,
        )
        self.assertEqual(got, "192.0.2.1")

    def test_ports_and_brackets(self) -> None:
        """Ports and brackets, which some proxies write, are taken off."""
        for entry, host in (
            (b"192.0.2.1:4711", "192.0.2.1"),
            (b"[2001:db8::1]:4711", "2001:db8::1"),
            (b"[2001:db8::1]", "2001:db8::1"),
            (b"2001:DB8:0::1", "2001:db8::1"),
            (b"::ffff:192.0.2.1", "192.0.2.1"),
        ):
            self.assertEqual(client(entry), host)

    def test_what_is_no_address(self) -> None:
        """Behind what is no address nothing is believed."""
        for header in (b"1.1.1.1, unknown, 10.0.0.3", b"1.1.1.1,,10.0.0.3", b"_x, 10.0.0.3"):
            self.assertEqual(client(header), "10.0.0.3")
        self.assertEqual(client(b""), "127.0.0.1")
        self.assertEqual(client_address(head(), "127.0.0.1", LOCAL), "127.0.0.1")

    def test_unix_peer(self) -> None:
        """A proxy on a UNIX socket names the client if it is trusted."""
        self.assertEqual(client(b"192.0.2.1", "", Trusted.parse("unix")), "192.0.2.1")
        self.assertEqual(client(b"192.0.2.1", "", LOCAL), "")

    def test_without_head(self) -> None:
        """Without a head the peer is the client."""
        self.assertEqual(client_address(None, "127.0.0.1", LOCAL), "127.0.0.1")

    def test_endless_list(self) -> None:
        """Of an endless list only the right end is looked at."""
        header = b"192.0.2.1" + b", 10.0.0.1" * 5000 + b", 10.0.0.2"
        self.assertEqual(client(header), "10.0.0.1")

    @given(st.lists(st.binary(max_size=30), max_size=4), st.booleans())
    @settings(deadline=None)
    def test_anything(self, values: list[bytes], every_peer: bool) -> None:
        """No header is an error."""
        trusted = Trusted.parse("*") if every_peer else LOCAL
        self.assertTrue(forwarded_for(values, "127.0.0.1", trusted))


class SecureTests(SynchronousTestCase):
    """X-Forwarded-Proto."""

    def secure(self, *lines: bytes, peer: str = "127.0.0.1", own: bool = False) -> bool:
        """Whether the client of such a request speaks TLS."""
        return client_secure(head(*lines), peer, own, LOCAL)

    def test_trusted(self) -> None:
        """A trusted proxy says how the client came to it, either way."""
        self.assertTrue(self.secure(b"X-Forwarded-Proto: https"))
        self.assertTrue(self.secure(b"X-Forwarded-Proto: WSS"))
        self.assertFalse(self.secure(b"X-Forwarded-Proto: http", own=True))

    def test_last_word(self) -> None:
        """The last word is that of the proxy we know."""
        self.assertFalse(self.secure(b"X-Forwarded-Proto: https, http"))
        self.assertTrue(self.secure(b"X-Forwarded-Proto: http, https"))
        self.assertTrue(self.secure(b"X-Forwarded-Proto: http", b"X-Forwarded-Proto: https"))

    def test_untrusted(self) -> None:
        """Another peer's words are not heard."""
        self.assertFalse(self.secure(b"X-Forwarded-Proto: https", peer="192.0.2.1"))
        self.assertTrue(self.secure(b"X-Forwarded-Proto: http", peer="192.0.2.1", own=True))

    def test_silent(self) -> None:
        """Where nothing is said the connection itself counts."""
        self.assertEqual([self.secure(own=own) for own in (False, True)], [False, True])
