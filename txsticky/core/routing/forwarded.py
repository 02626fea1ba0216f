"""The client behind proxies, as X-Forwarded-For and X-Forwarded-Proto name it."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import Final, Protocol

import attrs

from ..addresses import Address, Network, unmapped, unmapped_network
from ..memo import entries

#: An address with a port, as some proxies write it: 192.0.2.1:80, [2001:db8::1]:80, [2001:db8::1].
_WITH_PORT: Final = re.compile(r"([0-9.]+):[0-9]+|\[([^\]]*)\](?::[0-9]+)?")

_MOST_PROXIES: Final = 32
#: No text that is longer names an address: 45 characters at most (RFC 4291, section 2.2, with an
#: IPv4 tail), a zone (RFC 4007, an interface's name), brackets and a port.
_LONGEST: Final = 80


def _address(text: str) -> Address | None:
    """The address that a text names, an IPv4-mapped one as the IPv4 address it stands for."""
    return _read_address(text) if len(text) <= _LONGEST else None


# A text of `_LONGEST` characters has at most four bytes for each.
@functools.lru_cache(entries(4096, 4 * _LONGEST))
def _read_address(text: str) -> Address | None:
    found = _WITH_PORT.fullmatch(text)
    if found is not None:
        text = found[1] or found[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return unmapped(address)


class HasHeaders(Protocol):
    """The headers of a request, whatever has read them."""

    def headers(self, name: bytes) -> tuple[bytes, ...]:
        """Return the values of a header in the order sent; `name` is in lower case."""


@attrs.frozen
class Trusted:
    """
    The peers that may name the client's address.

    :param networks: the peers with these addresses.
    :param unix: whether peers are trusted that come through a UNIX socket, and have no address.
    :param every_peer: whether all peers are trusted.
    """

    networks: tuple[Network, ...] = ()
    unix: bool = False
    every_peer: bool = False

    @classmethod
    def parse(cls, text: str) -> Trusted:
        """
        Read what ``--forwarded-allow-ips`` takes.

        :param text: addresses and networks with commas between them, e.g. ``127.0.0.1,10.0.0.0/8``;
            ``unix`` for UNIX sockets; ``*`` for all peers.
        :raises ValueError: an element is none of these.
        """
        networks: list[Network] = []
        words = [word.strip() for word in text.split(",") if word.strip()]
        for word in words:
            if word in ("*", "unix"):
                continue
            try:
                networks.append(unmapped_network(word))
            except ValueError as error:
                raise ValueError(
                    f"{word!r} is no address, network, 'unix' or '*' ({error})."
                ) from None
        return cls(tuple(networks), "unix" in words, "*" in words)

    def __bool__(self) -> bool:
        return self.every_peer or self.unix or bool(self.networks)

    def __contains__(self, host: str) -> bool:
        """Whether a peer is trusted; the host of a UNIX socket's peer is empty."""
        if self.every_peer:
            return True
        if not host:
            return self.unix
        address = _address(host) if self.networks else None
        return address is not None and any(address in network for network in self.networks)


def forwarded_for(values: Iterable[bytes], peer_host: str, trusted: Trusted) -> str:
    """
    Follow the chain of proxies back as far as it can be trusted.

    Each proxy appends the address of its own peer, so the list is read from its end; what stands
    left of the first address that is not trusted may be a client's invention.

    :param values: the X-Forwarded-For headers in the order sent.
    :param peer_host: the address of the connection's other end; empty for a UNIX socket.
    :returns: the right-most address that is not trusted, or the left-most if all are.
    """
    host = peer_host
    # No deployment has more proxies; the rest stays one piece, which is not an address, so that the
    # walk ends there.
    for entry in reversed(b",".join(values).rsplit(b",", _MOST_PROXIES)):
        address = _address(entry.strip().decode("latin-1")) if host in trusted else None
        if address is None:
            break
        host = str(address)
    return host


def client_address(head: HasHeaders | None, peer_host: str, trusted: Trusted) -> str:
    """
    The client's address, as far as the peer is trusted to name it.

    :param peer_host: the address of the connection's other end; empty for a UNIX socket.
    """
    if head is None or peer_host not in trusted:
        return peer_host
    return forwarded_for(head.headers(b"x-forwarded-for"), peer_host, trusted)


def client_secure(head: HasHeaders, peer_host: str, secure: bool, trusted: Trusted) -> bool:
    """
    Whether the client speaks TLS, either on this connection or to a trusted proxy.

    The proxy says so in X-Forwarded-Proto.

    :param secure: whether the connection itself does.
    """
    if peer_host not in trusted:
        return secure
    values = head.headers(b"x-forwarded-proto")
    if not values:
        return secure
    # The last word is that of the proxy which is our peer.
    return values[-1].rpartition(b",")[2].strip().lower() in (b"https", b"wss")
