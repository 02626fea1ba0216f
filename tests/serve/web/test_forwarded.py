"""Requests behind proxies."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, ISSLTransport
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.server import Request, Site
from zope.interface import directlyProvides

from txsticky.core.routing.forwarded import Trusted
from txsticky.serve import ServeSettings, serving_for

from ...serving import CLIENT, Connection, Page

PROXY = IPv4Address("TCP", "10.0.0.1", 40000)


class ForwardedTests(TestCase):
    """X-Forwarded-For and X-Forwarded-Proto."""

    def seen(
        self,
        *headers: str,
        trusted: str = "10.0.0.0/8",
        peer: IAddress = PROXY,
        site: bool = False,
        tls: bool = False,
    ) -> Request:
        """Send a request and return it as the application saw it."""
        seen: list[tuple[IAddress, str, bool]] = []

        def look(request: Request) -> bytes:
            seen.append((request.getClientAddress(), request.getClientIP(), request.isSecure()))
            return b""

        clock = Clock()
        app = Site(Page(look), reactor=clock) if site else Page(look)
        serving = serving_for(app, "auto", ServeSettings(trusted=Trusted.parse(trusted)), clock)
        connection = Connection(serving.factory, peer)
        if tls:
            directlyProvides(connection.transport, ISSLTransport)
        connection.ask("/", *headers)
        return seen[0]

    def test_client_of_a_trusted_proxy(self) -> None:
        """Behind a trusted proxy the client is the one it names; its port is not known."""
        client, ip, _ = self.seen("X-Forwarded-For: 198.51.100.9")
        self.assertEqual(client, IPv4Address("TCP", "198.51.100.9", 0))
        self.assertEqual(ip, "198.51.100.9")

    def test_client_with_an_ipv6_address(self) -> None:
        """The client may have an IPv6 address."""
        client, _, _ = self.seen("X-Forwarded-For: 2001:db8::9")
        self.assertEqual(client, IPv6Address("TCP", "2001:db8::9", 0))

    def test_what_the_client_wrote_itself(self) -> None:
        """What stands left of the last untrusted address may be the client's invention."""
        client, _, _ = self.seen("X-Forwarded-For: 127.0.0.1, 198.51.100.9, 10.0.0.7")
        self.assertEqual(client.host, "198.51.100.9")

    def test_stranger_names_nobody(self) -> None:
        """A peer that is not trusted is the client, whatever it says."""
        client, _, secure = self.seen(
            "X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https", peer=CLIENT
        )
        self.assertEqual(client, CLIENT)
        self.assertFalse(secure)

    def test_nobody_is_trusted_by_default(self) -> None:
        """Without --forwarded-allow-ips the headers mean nothing."""
        client, _, secure = self.seen(
            "X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https", trusted=""
        )
        self.assertEqual((client, secure), (PROXY, False))

    def test_proxy_without_headers(self) -> None:
        """A trusted proxy's own request (a health check) keeps its address and port."""
        client, _, secure = self.seen()
        self.assertEqual((client, secure), (PROXY, False))

    def test_https_outside(self) -> None:
        """A request that was https at the proxy is secure."""
        self.assertTrue(self.seen("X-Forwarded-Proto: https")[2])

    def test_http_outside(self) -> None:
        """A request that was http at the proxy is not secure, even from a proxy over TLS."""
        self.assertTrue(self.seen(tls=True)[2])
        self.assertFalse(self.seen("X-Forwarded-Proto: http", tls=True)[2])

    def test_the_nearest_proxy_has_the_last_word(self) -> None:
        """An https that the client wrote itself counts for nothing."""
        self.assertFalse(self.seen("X-Forwarded-Proto: https, http")[2])

    def test_proxy_on_a_unix_socket(self) -> None:
        """With `unix` trusted, a proxy on a UNIX socket names the client."""
        client, _, _ = self.seen(
            "X-Forwarded-For: 198.51.100.9", peer=UNIXAddress(None), trusted="unix"
        )
        self.assertEqual(client, IPv4Address("TCP", "198.51.100.9", 0))

    def test_unix_socket_without_proxy(self) -> None:
        """A peer on a UNIX socket that names no client stays one."""
        client, ip, _ = self.seen(peer=UNIXAddress(None), trusted="unix")
        self.assertEqual((client, ip), (UNIXAddress(None), None))

    def test_applications_own_site(self) -> None:
        """A Site that the application made believes proxies as well."""
        client, _, secure = self.seen(
            "X-Forwarded-For: 198.51.100.9", "X-Forwarded-Proto: https", site=True
        )
        self.assertEqual((client.host, secure), ("198.51.100.9", True))
