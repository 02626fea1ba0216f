"""WebSocket handshakes that reach a WSGI application, which cannot serve them (PEP 3333)."""

from __future__ import annotations

import threading

from twisted.logger import Logger

#: How a traceback begins that an application writes to `wsgi.errors`, as Flask does.
_TRACEBACK = "Traceback (most recent call last)"


class Tries:
    """
    The errors of a WSGI application at WebSocket handshakes.

    Each handshake would have the same traceback logged. The first error is logged as a sentence,
    later ones at debug level. The methods may be called in any thread.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = False

    def caught(self, error: BaseException) -> None:
        """Log an error that the application has raised at a WebSocket handshake."""
        self._tell(f"{type(error).__name__}: {error}")

    def written(self, text: str) -> bool:
        """Whether `text` of `wsgi.errors` tells of such an error, and is logged by this call."""
        if _TRACEBACK not in text:
            return False
        self._tell(text.splitlines()[-1])
        return True

    def _tell(self, what: str) -> None:
        with self._lock:
            first, self._told = not self._told, True
        if first:
            self._log.warn(
                "A client tried to open a WebSocket, which WSGI does not have, and the application"
                " raised {what}; further attempts are logged at debug level. Let clients poll"
                " (for Socket.IO, transports=['polling']), or serve the application as ASGI.",
                what=what.rstrip("."),
            )
        else:
            self._log.debug("A client tried to open a WebSocket: {what}", what=what)
