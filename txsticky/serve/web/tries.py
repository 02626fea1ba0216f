"""WebSockets that clients try with a WSGI application, which has none to give (PEP 3333)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

#: How a traceback begins that an application writes to `wsgi.errors`, as Flask does.
_TRACEBACK = "Traceback (most recent call last)"


class Tries:
    """
    The errors of an application that looks for the socket of a WebSocket and finds none.

    Each client that tries one would have the same traceback logged.  The first is told in a
    sentence, the others are for debugging.  Its methods may be called in any thread.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = False

    def caught(self, environ: Mapping[str, Any], error: BaseException) -> bool:
        """Whether this is what an application raised at a WebSocket, and has been seen to."""
        return self._take(environ, f"{type(error).__name__}: {error}")

    def written(self, environ: Mapping[str, Any], text: str) -> bool:
        """Whether this is what it wrote of one to `wsgi.errors`, and has been seen to."""
        return _TRACEBACK in text and self._take(environ, text.splitlines()[-1])

    def _take(self, environ: Mapping[str, Any], what: str) -> bool:
        if environ.get("HTTP_UPGRADE", "").lower() != "websocket":
            return False
        with self._lock:
            first, self._told = not self._told, True
        if first:
            self._log.warn(
                "A client tried a WebSocket, which WSGI has none of, and the application raised"
                " {what}; the next ones are not told. Let clients poll (for Socket.IO,"
                " transports=['polling']), or serve the application as ASGI.",
                what=what.rstrip("."),
            )
        else:
            self._log.debug("A client tried a WebSocket: {what}", what=what)
        return True
