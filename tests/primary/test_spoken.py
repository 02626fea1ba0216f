"""What clients are expected to say first, by what the application speaks."""

from __future__ import annotations

from unittest import mock

from tests.primary.cases import PEER, PrimaryCase, get
from tests.shells import (
    received,
)


class ExpectationsTests(PrimaryCase):
    """What clients are expected to say, by what the application speaks."""

    def test_http(self) -> None:
        """Of HTTP a head is waited for, anything else is refused, and silence can be deferred."""
        self.primary.listeners.defer = mock.Mock()  # type: ignore[method-assign]
        self.start()
        self.assertEqual(self.primary.listeners.defer.call_args_list, [mock.call(True)])
        self.assertTrue((received(self.arrive(b"x\r\n")) or b"").startswith(b"HTTP/1.1 400 "))

    def test_other(self) -> None:
        """Of another protocol nothing is waited for: the server may speak first."""
        self.primary.listeners.defer = mock.Mock()  # type: ignore[method-assign]
        client = self.arrive(b"")
        self.start(http=False)
        self.assertEqual(self.primary.listeners.defer.call_args_list, [mock.call(False)])
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [])
        self.assertEqual(sum(len(worker.hands) for worker in self.workers), 1)
        self.arrive(b"hello")
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [b"hello"])
        self.assertIsNone(received(client))


class OtherKeyTests(PrimaryCase):
    """An application that is not recognized as HTTP, with a key that stands in the head."""

    options = {"sticky": "query:room"}

    def test_head(self) -> None:
        """The head is waited for, because the operator named a key that stands in it."""
        self.start(http=False)
        client = self.arrive(get(f"/?room={self.tag(2)}")[:9])
        self.assertEqual(self.taken(), [])
        client.send(get(f"/?room={self.tag(2)}")[9:])
        self.reactor.settle()
        self.assertEqual([worker for worker, _ in self.taken()], [2])


class TLSTests(PrimaryCase):
    """TLS, which ends in the worker."""

    options = {"tls_cert": ("cert.pem",), "tls_key": ("key.pem",)}

    def test_first_bytes(self) -> None:
        """The first bytes are waited for, and not looked at."""
        self.start(http=False)
        client = self.arrive(b"")
        self.assertEqual(self.taken(), [])
        client.send(b"\x16\x03\x01")
        self.reactor.settle()
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [b"\x16\x03\x01"])


class ProxyTests(PrimaryCase):
    """The PROXY protocol."""

    options = {"proxy_protocol": True}
    header = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n"

    def peer(self, data: bytes, peer: tuple[str, int]) -> tuple[str, int]:
        """What the worker hears of the client."""
        self.arrive(data, peer)
        ((_, handoff),) = self.taken()
        self.assertEqual(handoff.prefix, get())
        return handoff.origin.peer

    def test_this_host(self) -> None:
        """A PROXY header is expected of this host and UNIX sockets, and of no other peer."""
        self.start()
        for host in ("127.0.0.1", "::1", ""):
            self.assertEqual(self.peer(self.header + get(), (host, 1)), ("203.0.113.9", 4711))
        self.assertEqual(self.peer(get(), PEER), PEER)

    def test_server_speaks_first(self) -> None:
        """Behind the header, a server that is not HTTP may speak first."""
        self.start(http=False)
        self.arrive(self.header, ("127.0.0.1", 1))
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [b""])


class TrustedProxyTests(PrimaryCase):
    """The PROXY protocol from proxies that the operator names."""

    options = {"proxy_protocol": True, "forwarded_allow_ips": "192.0.2.0/24"}

    def test_named(self) -> None:
        """A PROXY header is expected of the proxies that are named, and no longer of this host."""
        self.start()
        self.arrive(ProxyTests.header + get(), PEER)
        self.arrive(get(), ("127.0.0.1", 1))
        self.assertEqual(
            sorted(handoff.origin.peer[0] for _, handoff in self.taken()),
            ["127.0.0.1", "203.0.113.9"],
        )
