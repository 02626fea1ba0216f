"""The environment of a WSGI application (PEP 3333, "environ Variables")."""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger

Environ = dict[str, Any]


class ErrorStream:
    """
    `wsgi.errors`: writes to the log, in whole lines.

    :ivar seen: called with each text; True keeps the text out of the log.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._pending = ""
        self.seen: Callable[[str], bool] = lambda text: False

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
        text, self._pending = self._pending.rstrip("\n"), ""
        if text and not self.seen(text):
            self._log.warn("{text}", text=text)


def environ_of(request: Any, root_path: str, multithread: bool) -> Environ:
    """
    Make the environment of a request that is complete.

    :param request: a `server.Request`.
    :param root_path: the path under which a proxy mounts the application.
    :param multithread: whether other requests may run at the same time.
    """
    client, host = request.getClientAddress(), request.getHost()
    environ: Environ = {
        f"HTTP_{_text(name).upper().replace('-', '_')}": _text(b",".join(values))
        for name, values in request.requestHeaders.getAllRawHeaders()
    }
    environ |= {
        "REQUEST_METHOD": _text(request.method),
        "SCRIPT_NAME": root_path,
        "PATH_INFO": "/" + _text(b"/".join(request.postpath)),
        "QUERY_STRING": _text(request.uri.partition(b"?")[2]),
        "CONTENT_TYPE": environ.get("HTTP_CONTENT_TYPE", ""),
        "CONTENT_LENGTH": environ.get("HTTP_CONTENT_LENGTH", ""),
        "REMOTE_ADDR": client.host,
        "REMOTE_PORT": str(client.port),
        "SERVER_NAME": _text(request.getRequestHostname()),
        "SERVER_PORT": str(host.port),
        "SERVER_PROTOCOL": _text(request.clientproto),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if request.isSecure() else "http",
        "wsgi.input": request.content,
        "wsgi.input_terminated": True,
        "wsgi.errors": ErrorStream(),
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    return environ


def _text(data: bytes) -> str:
    """Decode bytes as PEP 3333 has them in strings."""
    return data.decode("latin-1")
