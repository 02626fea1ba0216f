"""What clients are expected to send first, and how the reception waits for it."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.shells import ended, received
from txsticky.config import Config
from txsticky.core.http.head import Head
from txsticky.intake.expectations import Expectations, expectations_for

from .cases import GET, PROXY, PROXY_2, PeekCase


class ExpectationsTests(PeekCase):
    """What clients are expected to say first."""

    def test_server_speaks_first(self) -> None:
        """Where nothing is expected, a silent connection is placed at once."""
        self.reception.expectations = Expectations(waits=False, parses=False, only_http=False)
        self.arrive()
        self.assertEqual(self.placed, [self.arrival])

    def test_any_bytes(self) -> None:
        """Where bytes are expected but no head, the first bytes are enough."""
        self.reception.expectations = Expectations(waits=True, parses=False, only_http=False)
        client = self.arrive()
        self.assertEqual(self.placed, [])
        self.say(client, b"\x16\x03\x01")
        self.assertEqual([(a.data, a.head) for a in self.placed], [(b"\x16\x03\x01", None)])

    def test_no_http(self) -> None:
        """Where HTTP is not demanded, what cannot be HTTP is placed without a head, not refused."""
        self.reception.expectations = Expectations(only_http=False)
        self.arrive(b"HELO example\r\n")
        self.assertEqual([(a.data, a.head) for a in self.placed], [(b"HELO example\r\n", None)])

    def test_http_all_the_same(self) -> None:
        """Where HTTP is not demanded a head is still found, and waited for while it may come."""
        self.reception.expectations = Expectations(only_http=False)
        client = self.arrive(GET[:20])
        self.assertEqual(self.placed, [])
        self.say(client, GET[20:])
        self.assertIsInstance(self.placed[0].head, Head)

    def test_no_http_and_no_more(self) -> None:
        """Where HTTP is not demanded, a client that closes its side is placed with what it said."""
        self.reception.expectations = Expectations(only_http=False)
        client = self.arrive(b"hello")
        client.shutdown(socket.SHUT_WR)
        self.reactor.settle()
        self.assertEqual([(a.data, a.head) for a in self.placed], [(b"hello", None)])
        self.assertEqual((self.watched(), self.reception.waiting), (0, 0))

    def test_no_http_in_time(self) -> None:
        """Where HTTP is not demanded, what has not become a head in time is placed as it is."""
        self.reception.expectations = Expectations(only_http=False)
        client = self.arrive(b"hello")
        self.reactor.advance(10)
        self.assertEqual([(a.data, a.head) for a in self.placed], [(b"hello", None)])
        self.assertIsNone(received(client))

    def test_silence_where_bytes_are_expected(self) -> None:
        """A client that says nothing at all in time is closed, HTTP or not."""
        self.reception.expectations = Expectations(only_http=False)
        client = self.arrive()
        self.reactor.advance(10)
        self.assertEqual((self.placed, ended(client)), ([], True))


class ExpectationsForTests(SynchronousTestCase):
    """What clients are expected to say first, by the configuration."""

    def expectations(
        self, http: bool | None, needs_head: bool = True, **options: Any
    ) -> Expectations:
        """The expectations of a cluster."""
        return expectations_for(Config(**options), needs_head, http)

    def test_http(self) -> None:
        """Of HTTP a head is expected, and nothing else."""
        expectations = self.expectations(True)
        self.assertEqual(
            (expectations.waits, expectations.parses, expectations.only_http), (True, True, True)
        )

    def test_unknown(self) -> None:
        """While the protocol is not known a head is expected if there is one."""
        expectations = self.expectations(None)
        self.assertEqual(
            (expectations.waits, expectations.parses, expectations.only_http), (True, True, False)
        )

    def test_other(self) -> None:
        """Of another protocol nothing is expected, unless a key is asked for that a head has."""
        self.assertFalse(self.expectations(False).waits)
        self.assertTrue(self.expectations(False, sticky="cookie:a").waits)
        self.assertFalse(self.expectations(False, needs_head=False, sticky="ip").waits)

    def test_tls(self) -> None:
        """Of TLS bytes are expected, but no head in them."""
        expectations = self.expectations(True, tls_cert=["a"], tls_key=["b"])
        self.assertEqual((expectations.waits, expectations.parses), (True, False))

    def test_proxies(self) -> None:
        """PROXY headers are expected of the named proxies, or of this host; by default of none."""
        self.assertIsNone(self.expectations(True).proxies)
        for trusted, host in (("", "127.0.0.1"), ("192.0.2.0/24", "192.0.2.7")):
            proxies = self.expectations(
                True, proxy_protocol=True, forwarded_allow_ips=trusted
            ).proxies
            assert proxies is not None
            self.assertEqual((proxies(host), proxies("203.0.113.9")), (True, False))


class ProxyTests(PeekCase):
    """The PROXY protocol."""

    def setUp(self) -> None:
        super().setUp()
        self.expect(proxies=lambda host: host == "192.0.2.7")

    def test_names_the_client(self) -> None:
        """The header names the client, and is taken off the bytes; versions 1 and 2."""
        for header in (PROXY, PROXY_2):
            self.arrive(header + GET)
            self.assertEqual(self.arrival.origin.peer, ("203.0.113.9", 4711))
            self.assertEqual(self.arrival.data, GET)
        self.assertEqual(len(self.placed), 2)

    def test_unknown(self) -> None:
        """A proxy that does not name the client leaves the connection's own address."""
        self.arrive(b"PROXY UNKNOWN\r\n" + GET)
        self.assertEqual((self.arrival.origin.peer, self.arrival.data), (("192.0.2.7", 50000), GET))

    def test_drip(self) -> None:
        """Header and head may come byte by byte."""
        client = self.arrive()
        for byte in PROXY + GET:
            self.assertEqual(self.placed, [])
            self.say(client, bytes([byte]))
        self.assertEqual(
            (self.arrival.origin.peer, self.arrival.data), (("203.0.113.9", 4711), GET)
        )

    def test_missing(self) -> None:
        """A peer that has to send one and does not is refused."""
        self.assertEqual(self.status(self.arrive(GET)), 400)

    def test_malformed(self) -> None:
        """A header that is none is refused."""
        self.assertEqual(self.status(self.arrive(b"PROXY TCP4 nonsense\r\n" + GET)), 400)

    def test_others(self) -> None:
        """From a peer that is no proxy a PROXY header is not taken: it is bad HTTP."""
        self.arrive(GET, peer=("198.51.100.1", 1))
        self.assertEqual(len(self.placed), 1)
        client = self.arrive(PROXY + GET, peer=("198.51.100.1", 1))
        self.assertEqual((len(self.placed), self.status(client)), (1, 400))

    def test_second_header(self) -> None:
        """Only one header is taken: another one would be the client's own, and is bad HTTP."""
        self.assertEqual(self.status(self.arrive(PROXY + PROXY + GET)), 400)

    def test_given_back(self) -> None:
        """A connection that has moved is not asked for a PROXY header again."""
        self.arrive(GET, hops=1)
        self.assertEqual(self.placed[0].origin.peer, ("192.0.2.7", 50000))

    def test_alone(self) -> None:
        """Behind a PROXY header the head is still waited for."""
        client = self.arrive(PROXY)
        self.assertEqual(self.placed, [])
        self.say(client, GET)
        self.assertEqual(self.placed[0].data, GET)

    def test_server_speaks_first(self) -> None:
        """Where nothing is expected of the client, a PROXY header alone will do."""
        self.expect(waits=False, parses=False)
        client = self.arrive()
        self.assertEqual(self.placed, [])
        self.say(client, PROXY)
        self.assertEqual([(a.origin.peer[0], a.data) for a in self.placed], [("203.0.113.9", b"")])

    def test_half_a_header_and_no_more(self) -> None:
        """Half a header is never taken for the client's bytes, whatever the application speaks."""
        self.expect(only_http=False)
        client = self.arrive(PROXY[:9])
        client.shutdown(socket.SHUT_WR)
        self.reactor.settle()
        self.assertEqual((self.placed, ended(client)), ([], True))
        client = self.arrive(PROXY[:9])
        self.reactor.advance(10)
        self.assertEqual((self.placed, self.status(client)), ([], 408))
