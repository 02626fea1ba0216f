"""
Groups of sockets that share an address: a program chooses the socket (socket(7), SO_REUSEPORT).

The group's numbers count from 0, in the order in which its sockets began to listen.  The kernel
closes a gap that a closed socket leaves with the last socket of the group, so an owner that counts
closes none.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Sequence
from typing import Final

from .bpf_program import compiled

#: Linux 4.6 for TCP; the number on every platform that CPython supports (asm-generic/socket.h).
SO_ATTACH_REUSEPORT_CBPF: Final = 51
#: Linux 5.3.
SO_DETACH_REUSEPORT_BPF: Final = 68

#: What the kernel means by an error; the others tell it themselves.
_REASONS: Final = {
    errno.ENOPROTOOPT: "this kernel knows no programs for shared ports (Linux 4.6 does)",
    errno.EINVAL: "this kernel does not accept the program",
    errno.ENOMEM: "the program is larger than net.core.optmem_max lets it be",
    errno.EPERM: "this process may not attach the program",
}


def attach(sock: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> str | None:
    """
    Have a program of classic BPF choose among the sockets of a group.

    It holds for the whole group, from the next connection on, and takes the place of another one at
    once.  A number that is none of the group has the kernel choose by itself.

    :param sock: any socket of the group, which has two sockets or has had.
    :param program: code, jump if true, jump if false and operand of each instruction; what it
        returns is the number of a socket.
    :returns: None if it is attached, else why it is not, as the end of a sentence.
    """
    if sys.platform != "linux":
        return "only Linux has programs for shared ports"
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, compiled(program))
    except OSError as error:
        number = error.errno or 0
        return _REASONS.get(number, os.strerror(number))
    return None


def detach(sock: socket.socket) -> None:
    """
    Have the kernel choose by itself again among the sockets of a group.

    :param sock: any socket of the group; one that is in none, or has no program, is no error.
    """
    if sys.platform == "linux":
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
        except OSError:
            return  # there was none, or the kernel is so old that it cannot part with it
