"""
Addresses by one name: an IPv4-mapped one is the IPv4 address that it stands for.

A socket that listens on ``::`` has peers such as ``::ffff:192.0.2.1`` (RFC 4291, section 2.5.5.2),
and proxies pass such names on. Rules, keys and logs are about clients, which have one name.
"""

from __future__ import annotations

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: How the kernel, and `ipaddress`, write the beginning of a mapped address.
_MAPPED: Final = "::ffff:"
_MAPPED_BITS: Final = 96


def unmapped(address: Address) -> Address:
    """The address, or the IPv4 address that it stands for."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def unmapped_host(host: str) -> str:
    """The text of the address, or of the IPv4 address that it stands for; other texts stay."""
    if not host.startswith(_MAPPED):
        return host
    try:
        return str(unmapped(ipaddress.IPv6Address(host)))
    except ValueError:
        return host


def unmapped_network(text: str) -> Network:
    """
    The network that a text names; one of mapped addresses as the IPv4 network.

    :raises ValueError: it names none.
    """
    network = ipaddress.ip_network(text)
    first = unmapped(network.network_address)
    if first is network.network_address or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.ip_network((first, network.prefixlen - _MAPPED_BITS))
