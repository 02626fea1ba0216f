"""
Serve a WSGI application: twisted.web around a pool of threads.

Beyond PEP 3333:

* a request gets a thread when its body is complete, so that a slow upload holds no thread;
* a response waits for its client in a buffer, so that a slow download holds no thread (`pending`);
* a chunked body gets a CONTENT_LENGTH, without which frameworks take it for empty;
* the error of an application at a WebSocket handshake is logged once (`tries`);
* a UNIX socket has no host or port, which twisted.web asks for: stand-ins are given;
* `X_Forwarded_For` and `X-Forwarded-For` become the same variable: names with `_` are dropped.
"""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
from threading import Thread
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from zope.interface import implementer

from ...core.http.inside import Inside
from ...core.lifecycle.timing import last_call
from ...errors import AppLoadError
from .. import ServeSettings
from ..accesslog import access_log_for
from ..loading import describe
from ..protocol import FactoryServing
from .environ import environ_of
from .pending import Buffers
from .site import StickySite
from .threads import Threads
from .tries import Tries
from .wsgi_call import Application, Call


class WSGIRequest(server.Request):
    """A request with what WSGI needs of it."""

    gone = False
    call: Call | None = None

    def process(self) -> None:
        if isinstance(self.client, UNIXAddress):
            self.client = IPv4Address("TCP", "", 0)
            self.host = IPv4Address("TCP", "localhost", 443 if self.isSecure() else 80)
        headers: Headers = self.requestHeaders
        for name in [name for name, _ in headers.getAllRawHeaders() if b"_" in name]:
            headers.removeHeader(name)
        if headers.hasHeader(b"Transfer-Encoding"):
            headers.removeHeader(b"Transfer-Encoding")
            body: Any = self.content
            length = body.seek(0, os.SEEK_END)
            body.seek(0)
            headers.setRawHeaders(b"Content-Length", [b"%d" % length])
        super().process()

    def connectionLost(self, reason: Failure) -> None:
        self.gone = True
        if self.call is not None:
            self.call.lost()
            self.call = None
        super().connectionLost(reason)

    def finish(self) -> None:
        self.call = None
        if self.gone:
            return
        if self.producer:
            self.unregisterProducer()
        super().finish()


@implementer(IResource)
class WSGIRoot:
    """
    The resource that hands every request of its Site to a WSGI application.

    :param reactor: an `IReactorFromThreads`.
    :param threads: the threads that the application runs in.
    :param app: the application.
    :param settings: the operator's settings.
    """

    isLeaf = True

    def __init__(
        self, reactor: Any, threads: Threads, app: Application, settings: ServeSettings
    ) -> None:
        self._reactor = reactor
        self._threads = threads
        self._app = app
        self._settings = settings
        self._buffers = Buffers()
        self._tries = Tries()

    def render(self, request: WSGIRequest) -> int:
        """Start the application on a request (`IResource`)."""
        request.defaultContentType = None  # the application says what it sends
        environ = environ_of(request, self._settings.root_path, self._settings.threads > 1)
        call = request.call = Call(
            self._app,
            request,
            environ,
            self._threads,
            self._buffers,
            self._tries,
            self._reactor.callFromThread,
        )
        call.start()
        return server.NOT_DONE_YET

    def getChildWithDefault(self, name: bytes, request: http.Request) -> IResource:
        """Never called: it is a leaf."""
        raise NotImplementedError

    def putChild(self, path: bytes, child: IResource) -> None:
        """Never called: it is a leaf."""
        raise NotImplementedError


class WSGIServing(FactoryServing):
    """A WSGI application, served on a bounded pool of threads (`serve.Serving`)."""

    def __init__(self, app: Application, settings: ServeSettings, reactor: Any) -> None:
        self._threads = Threads(settings.threads, "wsgi")
        self._reactor = reactor
        self._left: Deferred[None] | None = None
        log = access_log_for(settings, reactor)
        root = WSGIRoot(reactor, self._threads, app, settings)
        # A form is the application's to read: twisted.web would take the whole of it into memory.
        site = StickySite(root, settings, log, reactor, request=WSGIRequest, parse_forms=False)
        inside = Inside(websocket_only=True, absolute=False)
        super().__init__("wsgi", site, http=True, events=True, inside=inside, access_log=log)

    @property
    def busy(self) -> bool:
        """Whether a thread is in the application, even if its client has left."""
        return self._threads.busy

    def stop(self, seconds: float) -> Deferred[None]:
        """
        Stop the factory, and wait for the application to leave the threads, for a bounded time.

        :param seconds: see `Serving.stop`.
        """
        super().stop(seconds)
        if self._left is None:
            self._left = Deferred()
            late = self._reactor.callLater(last_call(seconds), self._left.callback, None)
            # Not in the reactor's thread, for which the application's threads may be waiting.
            Thread(target=self._join, args=(late,), name="wsgi-stop", daemon=True).start()
        return self._left

    def _join(self, late: Any) -> None:
        self._threads.stop()
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
