"""Where a connection comes from, and how far it has been dealt with."""

from __future__ import annotations

import enum

import attrs

#: (host, port); the host is empty for a UNIX socket.
Address = tuple[str, int]
NOWHERE: Address = ("", 0)


@attrs.define(unsafe_hash=True)
class Origin:
    """
    Where a connection comes from: the same in every process that has it.

    It is not frozen, nor is a hand-off, because to make one is a tenth of what a connection costs
    the primary; they are values all the same, and nothing is assigned to them.

    :param peer: the address of the client, as far as a PROXY header or the socket tells it.
    :param host: the address that the client connected to; `NOWHERE` is to ask the connection.
    :param secure: whether the client came over TLS that another worker ends: the bytes are
        decrypted, and HTTP.
    """

    peer: Address
    host: Address = NOWHERE
    secure: bool = False


class Stage(enum.Enum):
    """How far a connection has been dealt with when it changes hands."""

    #: Nothing of the connection was dealt with, not even a PROXY header: as if just accepted.
    FRESH = "fresh"
    #: The connection brings the beginning of a request, and a PROXY header is behind it.
    ROUTED = "routed"
    #: The connection is between two requests, and brings nothing.
    IDLE = "idle"
