"""A program of classic BPF, as the kernel takes it from a process."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Final

#: struct sock_filter (linux/filter.h): code, jt, jf, k.
_INSTRUCTION: Final = struct.Struct("HBBI")


class SockFprog(ctypes.Structure):
    """struct sock_fprog (linux/filter.h): how many instructions, and where they are."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def compiled(program: Sequence[tuple[int, int, int, int]]) -> SockFprog:
    """
    Lay a program out in memory, for setsockopt(2).

    :param program: code, jump if true, jump if false and operand of each instruction.
    """
    text = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(text, len(text))
    fields = SockFprog(len(program), ctypes.addressof(buffer))
    fields.buffer = buffer  # lives as long as what points to it
    return fields
