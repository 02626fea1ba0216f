"""The environment of a WSGI application (PEP 3333, "environ Variables")."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper

from twisted.logger import Logger

from ...core.http.head import Head
from ...core.memo import entries

Environ = dict[str, Any]

#: What a head says is remembered by its letters: a client repeats its requests.
_LONGEST: Final = 2048
#: So many times the size of a head is what is kept of it: its parts, and their names.
_PARTS: Final = 4
_HOST: Final = re.compile(r"\[?(.*?)\]?(?::\d+)?")


class ErrorStream:
    """
    `wsgi.errors`: writes to the log, in whole lines.

    :param seen: called with each text; True keeps the text out of the log.
    """

    __slots__ = ("_pending", "_seen")

    _log = Logger()

    def __init__(self, seen: Callable[[str], bool] | None = None) -> None:
        self._pending = ""
        self._seen = seen

    def write(self, text: str) -> None:
        """Take text, and log what there is if it ends a line."""
        self._pending += text
        if text.endswith("\n"):
            self.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        """Take several pieces of text."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log what has been written."""
        if not self._pending:
            return
        text, self._pending = self._pending.rstrip("\n"), ""
        if text and not (self._seen is not None and self._seen(text)):
            self._log.warn("{text}", text=text)


@functools.lru_cache(entries(1024, _PARTS * _LONGEST))
def _of_head(raw: bytes, fields_at: int) -> Environ:
    """
    What a head says, with the name in its Host as SERVER_NAME.

    Header lines whose names have an underscore are dropped: ``X_Forwarded_For`` and
    ``X-Forwarded-For`` would become the same variable, and a proxy guards one of them only.
    """
    method, target, version = raw[: fields_at - 2].decode("latin-1").split(" ")
    environ: Environ = {}
    for line in raw[fields_at:-4].decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if not name or "_" in name:
            continue
        key = f"HTTP_{name.upper().replace('-', '_')}"
        value = value.strip(" \t")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ.pop("HTTP_TRANSFER_ENCODING", None)  # it is undone
    path, _, query = target.partition("?")
    host = environ.get("HTTP_HOST")
    named = _HOST.fullmatch(host) if host else None
    environ |= {
        "REQUEST_METHOD": method,
        "PATH_INFO": _path_info(path),
        "QUERY_STRING": query,
        "CONTENT_TYPE": environ.pop("HTTP_CONTENT_TYPE", ""),
        "SERVER_NAME": named[1] if named is not None else "",
        "SERVER_PROTOCOL": version,
    }
    length = environ.pop("HTTP_CONTENT_LENGTH", None)
    if length is not None:  # many take an empty one for a number
        environ["CONTENT_LENGTH"] = length
    return environ


def _path_info(path: str) -> str:
    """
    Tell PATH_INFO, which begins with a slash also where the path does not.

    The target of ``OPTIONS *`` is the server itself; that of a CONNECT has no path.
    """
    return "/" + unquote_to_bytes("" if path == "*" else path.removeprefix("/")).decode("latin-1")


def environ_of_head(head: Head) -> Environ:
    """
    Make the part of an environment that the head of a request tells.

    SERVER_NAME is empty if there is no Host.

    :param head: the head, without folded lines, its target in origin form.
    """
    read = _of_head if len(head.raw) <= _LONGEST else _of_head.__wrapped__
    return read(head.raw, head.fields_at).copy()


def environ_of_server(root_path: str, multithread: bool) -> Environ:
    """
    Make the part of an environment that is the same for all requests.

    :param root_path: the path under which a proxy mounts the application.
    :param multithread: whether other requests may run at the same time.
    """
    return {
        "SCRIPT_NAME": root_path,
        "wsgi.version": (1, 0),
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
