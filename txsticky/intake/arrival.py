"""A connection that was accepted, and that no worker serves yet."""

from __future__ import annotations

import socket
from typing import Final

import attrs

from ..core.http.head import Head
from ..core.messages.origin import Origin
from ..core.replay import Replay

#: Bytes that are read at once from a connection whose first request is awaited: more than most
#: heads have. Of an upload the rest waits in the kernel for the worker: what is read here is copied
#: some six times on its way.
READ_SIZE: Final = 16384


@attrs.define(eq=False, slots=True)
class Arrival:
    """
    A connection that was accepted, and that no worker serves yet.

    :param sock: the connection.
    :param origin: where the connection comes from.
    :param data: the bytes read so far.
    :param head: the head in these bytes, once it is complete; None for what is not HTTP.
    :param hops: how often the connection has moved.
    :param idle: whether it was given back between two requests.
    :param replay: of a WebSocket that moves; it has no first request.
    :param proxied: whether the PROXY protocol header, where one is due, has been read.
    """

    sock: socket.SocketType
    origin: Origin
    data: bytes = b""
    head: Head | None = None
    hops: int = 0
    idle: bool = False
    proxied: bool = False
    replay: Replay | None = None
