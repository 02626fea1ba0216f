"""A connection that was accepted, and that no worker serves yet."""

from __future__ import annotations

import socket
from typing import Final

import attrs

from ..core.http.head import Head

#: Bytes that are read at once from a connection whose first request is awaited.
READ_SIZE: Final = 65536


@attrs.define(eq=False, slots=True)
class Arrival:
    """
    A connection that was accepted, and that no worker serves yet.

    :param sock: the connection.
    :param peer: the client's (host, port); the host is empty for a UNIX socket.
    :param host: the (host, port) that the client connected to; empty for a UNIX socket.
    :param listener: the number of the ``--listen`` that it came by.
    :param data: the bytes read so far.
    :param head: the head in these bytes, once it is complete; None for what is not HTTP.
    :param hops: how often the connection has moved.
    :param secure: whether the client came over TLS that a worker ends: the bytes are decrypted, and
        HTTP.
    :param idle: whether it was given back between two requests.
    :param server_name: the name that a TLS client asked for (SNI, RFC 6066 section 3).
    :param proxied: whether the PROXY protocol header, where one is due, has been read.
    """

    sock: socket.SocketType
    peer: tuple[str, int]
    host: tuple[str, int] = ("", 0)
    listener: int = 0
    data: bytes = b""
    head: Head | None = None
    hops: int = 0
    secure: bool = False
    idle: bool = False
    server_name: str = ""
    proxied: bool = False
