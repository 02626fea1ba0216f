"""`wsgi.file_wrapper`: a file of which the kernel can send the bytes (PEP 3333, "Optional ...")."""

from __future__ import annotations

import io
import os
import stat
from typing import Any, Final
from wsgiref.util import FileWrapper

from .pending import FilePart

#: A shorter file is read, and leaves with its head in one send. In bytes.
_SHORT: Final = 1 << 16


def regular_file(wrapper: FileWrapper) -> tuple[Any, int, int] | None:
    """
    Tell what a wrapped file has, if its bytes are those that the kernel would send.

    Classes are asked for by name: a `gzip.GzipFile` has a descriptor as well, but other bytes.

    :returns: the file, where it stands, and how many bytes follow; None if it is to be read.
    """
    file: Any = wrapper.filelike
    if type(file).__module__ == "tempfile":
        file = getattr(file, "file", getattr(file, "_file", file))
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    if type(raw) is not io.FileIO:
        return None
    try:
        if raw is not file and file.writable():
            file.flush()
        at = file.tell()
        about = os.fstat(raw.fileno())
    except (OSError, ValueError):
        return None  # to read it tells the application what is wrong
    if not stat.S_ISREG(about.st_mode):
        return None
    return raw, at, max(0, about.st_size - at)


def part_of(raw: Any, at: int, count: int) -> bytes | FilePart | None:
    """
    Make a piece of a response from a part of a regular file.

    :returns: the piece; None if there is no descriptor for it, or the file has become shorter.
    """
    try:
        if count <= _SHORT:
            data = os.pread(raw.fileno(), count, at)
            return data if len(data) == count else None
        return FilePart(os.dup(raw.fileno()), at, count)
    except OSError:
        return None
