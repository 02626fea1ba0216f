"""Open files of this process: how many it may have, and what arrives as a number."""

from __future__ import annotations

import errno
import functools
import os
import resource
import select
import socket
import struct
import sys
from collections.abc import Callable

#: What a system call fails with where this process, or the system, has no descriptor left.
OUT_OF_DESCRIPTORS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
#: As numbers: Python compares the members of an enumeration more slowly.
_UNIX = int(getattr(socket, "AF_UNIX", -1))
_TCP, _STREAM = int(socket.IPPROTO_TCP), int(socket.SOCK_STREAM)
#: ip(7): a transparent proxy, whose connections were made to other addresses.
_TRANSPARENT = 19
#: Seconds until the next attempt after `OUT_OF_DESCRIPTORS`.
RESPITE = 0.1
#: Of what the kernel tells of a TCP connection: the milliseconds since data was sent, and received.
_SINCE = struct.Struct("=44xI4xI")


def raise_file_limit() -> None:
    """Use all descriptors that the hard limit allows (getrlimit(2)): each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 1 << 20)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass


def descriptor_ceiling() -> int:
    """
    The number from which on descriptors are not for connections.

    What is left below the limit is for starting processes, for logs and for the application.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft - max(10, min(64, soft // 16))


def has_room(ceiling: int) -> bool:
    """Whether the next descriptor would be below the ceiling (open(2): it is the lowest one)."""
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return False
    os.close(lowest)
    return lowest < ceiling


def open_socket(descriptor: int, family: int) -> socket.socket:
    """
    Wrap a descriptor that arrived, taking ownership of it.

    The protocol is named because asyncio sets TCP_NODELAY only on a socket that says IPPROTO_TCP.
    """
    proto = 0 if family == _UNIX else _TCP
    return socket.socket(family, _STREAM, proto, descriptor)


def socket_maker(family: int, kind: type[socket.SocketType]) -> Callable[[int], socket.SocketType]:
    """
    Return what does the same with descriptors of one family.

    :param kind: of the sockets that are made.
    """
    return functools.partial(kind, family, _STREAM, 0 if family == _UNIX else _TCP)


def own(descriptor: int) -> int:
    """Keep an inherited descriptor from being inherited further; -1 is none."""
    if descriptor >= 0:
        os.set_inheritable(descriptor, False)
    return descriptor


def own_address(listener: socket.socket) -> tuple[str, int] | None:
    """
    Return the address that all connections of a listening socket are made to.

    :returns: None if they may be made to several: then each is to be asked.
    """
    if listener.family != socket.AF_INET or listener.getsockopt(socket.IPPROTO_IP, _TRANSPARENT):
        return None
    host, port = listener.getsockname()
    return None if host == "0.0.0.0" else (host, port)


class Headroom:
    """
    Whether descriptors are scarce, told from the numbers of those that come.

    A new descriptor gets the lowest free number (open(2)), so a number at the ceiling means that
    hardly any is left. From then on the owner looks for room before it takes a descriptor, because
    the last one may have filled a gap, until a number comes that is well below the ceiling.

    :param margin: how far below the ceiling a number ends the scarcity; at least as many as are
        taken at once.
    :param ceiling: the number from which on descriptors are not to be taken.
    :ivar scarce: whether room is to be looked for before the next descriptor is taken.
    """

    __slots__ = ("_margin", "ceiling", "scarce")

    def __init__(self, margin: int, ceiling: int | None = None) -> None:
        self.ceiling = descriptor_ceiling() if ceiling is None else ceiling
        self.scarce = False
        self._margin = margin

    def taken(self, descriptor: int) -> None:
        """
        Take note of the number of a descriptor that has come.

        It need not be called for numbers below the last one, as long as nothing is scarce.
        """
        last = self.ceiling - 1
        self.scarce = descriptor >= (last - self._margin if self.scarce else last)

    def has_room(self) -> bool:
        """Whether the next descriptor would be below the ceiling."""
        return has_room(self.ceiling)


def severed(descriptor: int) -> bool:
    """
    Whether the kernel knows that the other end of a connection is gone.

    Over TCP it does once that end has sent a reset; over a UNIX socket at once.
    """
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are always told
    return bool(poll.poll(0))


def quiet(connection: socket.socket) -> float:
    """
    Tell for how many seconds no data has gone either way over a TCP connection (tcp(7), TCP_INFO).

    The kernel counts on while the connection goes from process to process.

    :returns: 0 for another kind of connection, of which it does not tell.
    """
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SINCE.size)
    except OSError:
        return 0.0
    return min(_SINCE.unpack(told)) / 1000 if len(told) == _SINCE.size else 0.0
