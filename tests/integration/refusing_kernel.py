"""
A kernel that knows no programs for shared ports, played by one that does (seccomp(2)).

`python refusing_kernel.py ARGUMENT...` executes `python ARGUMENT...`, in which, and in all that it
starts, setsockopt(2) with SO_ATTACH_REUSEPORT_CBPF fails as a kernel before Linux 4.6 has it fail.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import sys

#: The number of setsockopt(2), by machine.
SETSOCKOPT = {"x86_64": 54, "aarch64": 208}
_ATTACH = 51
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


class _Instruction(ctypes.Structure):
    """struct sock_filter (linux/filter.h)."""

    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint),
    )


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def refuse() -> None:
    """
    Have the option fail from now on.

    :raises OSError: the kernel lets no process filter its system calls.
    """
    # struct seccomp_data: the system call's number, and from 16 on its arguments, 8 bytes each.
    program = [
        (_LOAD, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 5, SETSOCKOPT[platform.machine()]),
        (_LOAD, 0, 0, 16 + 8),
        (_JUMP_IF_EQUAL, 0, 3, socket.SOL_SOCKET),
        (_LOAD, 0, 0, 16 + 16),
        (_JUMP_IF_EQUAL, 0, 1, _ATTACH),
        (_RETURN, 0, 0, _FAIL | errno.ENOPROTOOPT),
        (_RETURN, 0, 0, _ALLOW),
    ]
    instructions = (_Instruction * len(program))(*(_Instruction(*each) for each in program))
    library = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_SECCOMP, _FILTER, ctypes.byref(_Program(len(program), instructions)), 0, 0),
    ):
        if library.prctl(*arguments):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    refuse()
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
