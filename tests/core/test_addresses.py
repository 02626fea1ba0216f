"""Mapped addresses."""

from __future__ import annotations

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.addresses import unmapped, unmapped_host, unmapped_network


class UnmappedTests(SynchronousTestCase):
    """An IPv4-mapped address is the IPv4 address that it stands for."""

    def test_host(self) -> None:
        """The text that the kernel gives is unmapped; other texts stay."""
        self.assertEqual(unmapped_host("::ffff:192.0.2.1"), "192.0.2.1")
        for host in ("192.0.2.1", "::1", "2001:db8::ffff:1", "fe80::1%lo", "", "::ffff:x", "a"):
            self.assertEqual(unmapped_host(host), host)

    def test_network(self) -> None:
        """A network of mapped addresses is unmapped, others stay, and nonsense is refused."""
        for text, network in (
            ("::ffff:127.0.0.1", "127.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ):
            self.assertEqual(unmapped_network(text), ipaddress.ip_network(network))
        for text in ("", "::ffff:10.0.0.1/104", "10.0.0.1/8", "a"):
            self.assertRaises(ValueError, unmapped_network, text)

    @given(st.ip_addresses())
    @settings(deadline=None, max_examples=100)
    def test_any(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        """Any address of IPv4, mapped, is itself again; what is mapped nowhere stays."""
        if address.version == 4:
            mapped = ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
            self.assertEqual(unmapped(mapped), address)
            self.assertEqual(unmapped_host(f"::ffff:{address}"), str(address))
        elif address.ipv4_mapped is None:
            self.assertIs(unmapped(address), address)

    def test_long_prefix(self) -> None:
        """A network that is not of mapped addresses stays, however long its prefix is."""
        for text in ("2001:db8::/97", "2001:db8::1/128", "192.0.2.1/32"):
            self.assertEqual(str(unmapped_network(text)), text)
