"""
Serve a WSGI application: the HTTP/1.1 channel, and a pool of threads.

Beyond PEP 3333:

* a request gets a thread when its body is complete, or 1 MiB of it is here, so that a slow upload
  holds no thread (`body`);
* a response waits for its client in a buffer, so that a slow download holds no thread (`pending`);
* a chunked body gets a CONTENT_LENGTH, without which frameworks take it for empty;
* the error of an application at a WebSocket handshake is logged once (`tries`);
* a UNIX socket has no host or port: stand-ins are given;
* `X_Forwarded_For` and `X-Forwarded-For` become the same variable: names with `_` are dropped.
"""

from __future__ import annotations

from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred

from ...core.http.inside import Inside
from ...core.lifecycle.timing import last_call
from ...errors import AppLoadError
from .. import ServeSettings
from ..accesslog import access_log_for
from ..http1.answering import ExchangeFactory
from ..loading import describe
from ..protocol import FactoryServing
from .call import WsgiAnswering
from .calls import Calls
from .pending import Buffers
from .run import Application, Shared
from .sockets import Sockets
from .threads import Threads
from .tries import Tries


class WSGIServing(FactoryServing):
    """A WSGI application, served on a bounded pool of threads (`serve.Serving`)."""

    def __init__(self, app: Application, settings: ServeSettings, reactor: Any) -> None:
        self._threads = threads = Threads(settings.threads, "wsgi")
        self._reactor = reactor
        self._left: Deferred[None] | None = None
        log = access_log_for(settings, reactor)
        calls = Calls(reactor.callFromThread)
        # An application that may be entered by one thread at a time cannot have them.
        self._sockets = Sockets(calls, reactor) if settings.threads > 1 else None
        buffers = Buffers(settings.response_buffer)
        shared = Shared(app, threads, calls, buffers, Tries(), self._sockets)
        answering = WsgiAnswering(
            shared, settings.threads, settings.root_path, settings.trusted, log, reactor.seconds
        )
        factory = ExchangeFactory(answering, settings.keep_alive, reactor)
        inside = Inside(websocket_only=True, absolute=False)
        super().__init__("wsgi", factory, http=True, events=True, inside=inside, access_log=log)

    @property
    def busy(self) -> bool:
        """Whether a thread is in the application, even if its client has left."""
        return self._threads.busy or (self._sockets is not None and self._sockets.busy)

    def close_politely(self, protocol: object) -> bool:
        """Close a WebSocket with code 1001 (`serve.Serving`)."""
        leave = getattr(protocol, "leave", None)
        return leave is not None and leave()

    def stop(self, seconds: float) -> Deferred[None]:
        """
        Stop the factory, and wait for the application to leave the threads, for a bounded time.

        :param seconds: see `Serving.stop`.
        """
        super().stop(seconds)
        if self._left is None:
            if self._sockets is not None:
                self._sockets.stop(last_call(seconds) / 2)
            self._left = Deferred()
            late = self._reactor.callLater(last_call(seconds), self._left.callback, None)
            # Not in the reactor's thread, for which the application's threads may be waiting.
            Thread(target=self._join, args=(late,), name="wsgi-stop", daemon=True).start()
        return self._left

    def _join(self, late: Any) -> None:
        self._threads.stop()
        if self._sockets is not None:
            self._sockets.join()
        self._reactor.callFromThread(self._joined, late)

    def _joined(self, late: Any) -> None:
        if late.active():
            late.reset(0)


def serving(app: object, settings: ServeSettings, reactor: Any) -> WSGIServing:
    """
    Serve a WSGI application (PEP 3333).

    :raises AppLoadError: the application is not callable.
    """
    if not callable(app):
        raise AppLoadError(
            target=describe(app), reason="with --interface=wsgi it has to be a WSGI application"
        )
    return WSGIServing(app, settings, reactor)
