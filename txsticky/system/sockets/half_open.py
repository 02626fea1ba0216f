"""Connections that accept(2) does not return yet, because they are in no backlog."""

from __future__ import annotations

import socket
import struct
from collections.abc import Container, Iterable, Iterator
from typing import Final

#: Connections over IPv4 and IPv6, one a line (proc_net_tcp in the kernel's documentation).
TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
#: TCP_SYN_RECV (include/net/tcp_states.h), and how the tables write it.
_SYN_RECV: Final = 3
_HALF_OPEN: Final = b"03"

#: NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP (sock_diag(7), netlink(7)).
_SOCK_DIAG, _BY_FAMILY, _DUMP = 4, 20, 0x301
#: NLMSG_ERROR, NLMSG_DONE.
_ERROR, _DONE = 2, 3
#: struct nlmsghdr: length, type, flags, sequence, port.
_MESSAGE: Final = struct.Struct("=IHHII")
#: struct inet_diag_req_v2: family, protocol, states; the rest says any socket.
_REQUEST: Final = struct.Struct("=BB2xI48x")
#: struct inet_diag_msg: among others, the local port.
_ANSWER: Final = struct.Struct("!4xH")
_ERRNO: Final = struct.Struct("=i")
#: A part of a dump is not larger (NLMSG_GOODSIZE and what the kernel makes of it).
_PART: Final = 1 << 16


def half_open(ports: Container[int]) -> bool:
    """
    Look whether the kernel has connections that it has not put into a backlog.

    That is in the handshake; or behind it, while no byte has come, with TCP_DEFER_ACCEPT (tcp(7)).
    Closing the listening socket resets them.

    :param ports: those that are listened on.
    """
    try:
        begun = (port for family in (socket.AF_INET, socket.AF_INET6) for port in _begun(family))
        return any(port in ports for port in begun)
    except OSError:
        return in_tables(ports)


def _begun(family: int) -> Iterator[int]:
    """
    List the local port of each connection of a family that is in no backlog.

    The kernel lists these alone: its tables have all connections, and take a second to read where
    there are a hundred thousand.

    :raises OSError: this kernel, or what confines the process, does not let it ask.
    """
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << _SYN_RECV)
    header = _MESSAGE.pack(_MESSAGE.size + len(request), _BY_FAMILY, _DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(header + request)
        while True:
            part, at = kernel.recv(_PART), 0
            while at < len(part):
                length, kind, *_ = _MESSAGE.unpack_from(part, at)
                body = at + _MESSAGE.size
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError(-_ERRNO.unpack_from(part, body)[0], "sock_diag")
                yield _ANSWER.unpack_from(part, body)[0]
                at += (length + 3) & ~3


def in_tables(ports: Container[int], tables: Iterable[str] = TABLES) -> bool:
    """
    Look for the same in the tables of all connections.

    :param ports: those that are listened on.
    :param tables: files with the kernel's connections; one that cannot be read has none.
    """
    for path in tables:
        try:
            with open(path, "rb") as table:
                if any(_port(line) in ports for line in table if _HALF_OPEN in line.split()[3:4]):
                    return True
        except OSError:
            continue
    return False


def _port(line: bytes) -> int:
    """Read the local port of a connection: ``sl: ADDRESS:PORT ADDRESS:PORT STATE …``, in hex."""
    return int(line.split()[1].rpartition(b":")[2], 16)
