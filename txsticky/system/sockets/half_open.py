"""Connections that accept(2) does not return yet, because they are in no backlog."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

#: Connections over IPv4 and IPv6, one a line (proc_net_tcp in the kernel's documentation).
TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
#: TCP_SYN_RECV (include/net/tcp_states.h).
_HALF_OPEN: Final = [b"03"]


def half_open(ports: Container[int], tables: Iterable[str] = TABLES) -> bool:
    """
    Look whether the kernel has connections that it has not put into a backlog.

    That is in the handshake; or behind it, while no byte has come, with TCP_DEFER_ACCEPT (tcp(7)).
    Closing the listening socket resets them.

    :param ports: those that are listened on.
    :param tables: files with the kernel's connections; one that cannot be read has none.
    """
    for path in tables:
        try:
            with open(path, "rb") as table:
                if any(_port(line) in ports for line in table if line.split()[3:4] == _HALF_OPEN):
                    return True
        except OSError:
            continue
    return False


def _port(line: bytes) -> int:
    """Read the local port of a connection: ``sl: ADDRESS:PORT ADDRESS:PORT STATE …``, in hex."""
    return int(line.split()[1].rpartition(b":")[2], 16)
