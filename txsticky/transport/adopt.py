"""A connection that was accepted elsewhere becomes a transport and a protocol here."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import address
from twisted.internet.interfaces import IProtocolFactory

from ..core.addresses import unmapped_host
from ..core.memo import entries

Address = address.IPv4Address | address.IPv6Address | address.UNIXAddress


def peer_address(host: str, port: int) -> address.IPv4Address | address.IPv6Address:
    """The address object of a TCP client."""
    if ":" in host:
        return address.IPv6Address("TCP", host, port)
    # Without the constructor, which looks whether TCP is what there is: half of what it costs.
    named = address.IPv4Address.__new__(address.IPv4Address)
    named.type, named.host, named.port = "TCP", host, port
    return named


@functools.lru_cache(entries(256, 64))
def host_address(name: tuple[Any, ...]) -> address.IPv4Address | address.IPv6Address:
    """
    The address object of a TCP connection's own end.

    :param name: as getsockname(2) returns it. A client that was named by a proxy may be of another
        family.
    """
    host = unmapped_host(name[0])
    mapped = host != name[0]
    kind = address.IPv6Address if ":" in host else address.IPv4Address
    return kind("TCP", host, *(name[1:2] if mapped else name[1:]))


def adopt(
    reactor: Any,
    sock: socket.socket,
    peer: tuple[str, int],
    factory: IProtocolFactory,
    make: Callable[..., Any],
    number: int,
) -> Any:
    """
    Make a transport and a protocol for a connection that was accepted elsewhere.

    Unlike `IReactorSocket.adoptStreamConnection` this takes the socket itself instead of a
    duplicate, takes the peer from the sender, and does not fail when the client has already reset
    the connection.  The protocol is not connected yet: set the transport up, then call `begin`.

    :param peer: the client's (host, port); an empty host means a client over a UNIX socket.
    :param make: `MovableServer` or `MovableUNIXServer`, or a subclass, by the socket's family.
    :param number: a number for the log.
    :returns: the transport, or None if the factory refused the connection; the socket is closed
        then.
    """
    host, port = peer
    try:
        if host:
            named: Address = peer_address(host, port)
            client: Any = (host, port, 0, 0) if ":" in host else peer
        else:
            client = ""
            named = address.UNIXAddress(None)
        protocol = factory.buildProtocol(named)
    except BaseException:
        sock.close()
        raise
    if protocol is None:
        sock.close()
        return None
    transport = make(sock, protocol, client, None, number, reactor)
    if host:
        transport.named_peer = named
    return transport


def begin(transport: Any, prefix: bytes) -> None:
    """
    Connect the protocol, and give it the bytes that were read elsewhere.

    They come before any that the socket has.
    """
    transport.unread = prefix
    transport.guarded(transport.protocol.makeConnection, transport)
    if prefix and transport.connected and transport._reading:
        transport.guarded(transport.doRead)
    else:
        transport.uncork()
        if not prefix:
            transport.caught_up()
