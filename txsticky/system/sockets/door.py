"""
The door of a listening socket: shut, it lets in connections that have begun, and no new one.

A socket resets what waits at it when it closes, and between the last accept(2) and close(2) a
connection can come.  Behind a door that was shut before, none does.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Final

from .bpf_program import compiled

#: The number on every platform that CPython supports (asm-generic/socket.h).
SO_ATTACH_FILTER: Final = 26

#: Where the flags are in the header of a segment (RFC 9293, section 3.1), and two of them.
_FLAGS: Final = 13
_SYN, _ACK = 0x02, 0x10
#: Drops the segment that begins a connection, and no other. linux/bpf_common.h has the codes.
_NO_MORE: Final = (
    (0x30, 0, 0, _FLAGS),  # BPF_LD | BPF_B | BPF_ABS [A = the flags]
    (0x54, 0, 0, _SYN | _ACK),  # BPF_ALU | BPF_AND | BPF_K [A &= k]
    (0x15, 0, 1, _SYN),  # BPF_JMP | BPF_JEQ | BPF_K [if A != k, skip one]
    (0x06, 0, 0, 0),  # BPF_RET | BPF_K [nothing of it is taken]
    (0x06, 0, 0, 0xFFFFFFFF),  # BPF_RET | BPF_K [all of it is]
)


def shut(sock: socket.socket) -> None:
    """
    Have no connection begin at a listening socket any more, in whichever process it is open.

    A client that begins one is not answered, begins again after a second (RFC 6298, section 2), and
    is refused if the socket is closed by then.  Connections that have begun come in, and are not
    changed.  A socket that is not TCP's, or a system that cannot, goes on as before.
    """
    if sys.platform != "linux" or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, compiled(_NO_MORE))
    except OSError:
        return  # no kernel that can be told so: what comes in the last moment is reset


def close_everywhere(sock: socket.socket) -> None:
    """
    Close a listening socket; connections are refused though it is open in other processes.

    There accept(2) fails with EINVAL from now on.
    """
    with contextlib.suppress(OSError):  # it listens no more
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
