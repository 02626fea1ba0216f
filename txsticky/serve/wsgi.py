"""
A WSGI application as a worker serves it: twisted.web's WSGIResource on a thread pool of its own.

What WSGIResource leaves to be desired, and what is done about it here:

* a response is written without regard to the client's pace, so that a large download to a slow
  client ends up in memory: the application's thread waits while the transport is full;
* a status or header that cannot be sent, or no status at all, raises in the reactor's thread and
  the request never ends: they are checked in the application's thread, where it is a 500;
* `close()` of the application's iterable is not called after an error (PEP 3333 wants it);
* text on `wsgi.errors` is taken for a format string;
* an error after the client has gone leads to a second one;
* a chunked body has no CONTENT_LENGTH, and frameworks take it for empty: its length is known;
* a WebSocket that a client tries has an application raise, which is logged with a traceback;
* UNIX sockets have no host or port, and the request fails;
* `X_Forwarded_For` and `X-Forwarded-For` become the same variable: names with `_` are dropped.
"""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from threading import Event, Thread
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.web import http, server
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.wsgi import WSGIResource
from zope.interface import implementer

from ..errors import AppLoadError
from . import ServeSettings
from .accesslog import access_log_for
from .loading import describe
from .protocol import FactoryServing
from .site import StickySite
from .tries import Tries

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Callable[[bytes], object]]], Iterable[bytes]]

#: Seconds that a client may hold a thread by not reading its response.
_STALL_TIMEOUT = 60.0
_STATUS = re.compile(r"[1-9]\d\d( [^\r\n]*)?")


class ErrorStream:
    """
    `wsgi.errors`: what is written goes to the log, a whole line or more at a time.

    :param seen: whether a text has been seen to already.
    """

    _log = Logger()

    def __init__(self, seen: Callable[[str], bool] = lambda text: False) -> None:
        self._pending = ""
        self._seen = seen

    def write(self, text: str) -> None:
        """Take text; it is logged when it ends a line."""
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
        if text and not self._seen(text):
            self._log.warn("{text}", text=text)


class WSGIRequest(server.Request):
    """A request made fit for WSGIResource."""

    gone = False

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
        super().connectionLost(reason)

    def finish(self) -> None:
        if self.gone:
            return
        if self.producer:
            self.unregisterProducer()
        super().finish()


@implementer(IPushProducer)
class _Call:
    """
    One request on its way through the application.

    Its methods run in the application's thread, except those of IPushProducer, which hold that
    thread back while the transport is full.
    """

    _log = Logger()

    def __init__(
        self, app: Application, request: WSGIRequest, reactor: Any, root_path: str, tries: Tries
    ) -> None:
        self._app = app
        self._tries = tries
        self._root_path = root_path
        self._request = request
        self._reactor = reactor
        self._flowing = Event()
        self._flowing.set()
        self._begun = False
        request.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self._flowing.clear()

    def resumeProducing(self) -> None:
        self._flowing.set()

    stopProducing = resumeProducing

    def __call__(
        self, environ: Environ, start_response: Callable[..., Callable[[bytes], object]]
    ) -> Iterator[bytes]:
        environ["SCRIPT_NAME"] = self._root_path
        environ["wsgi.multiprocess"] = True
        environ["wsgi.input_terminated"] = True
        errors = environ["wsgi.errors"] = ErrorStream(partial(self._tries.written, environ))

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            write = start_response(_sendable(status, headers), headers, exc_info)
            self._begun = True

            def paced(data: bytes) -> None:
                self._wait()
                write(data)

            return paced

        try:
            yield from self._pieces(environ, start)
        except Exception as error:
            if self._begun or not self._tries.caught(environ, error):
                raise
            start_response("500 Internal Server Error", [])
        finally:
            errors.flush()

    def _pieces(self, environ: Environ, start: Callable[..., Any]) -> Iterator[bytes]:
        """Call the application, and take its response piece by piece."""
        result = self._app(environ, start)
        try:
            for piece in result:
                if not isinstance(piece, bytes):
                    raise TypeError(f"the application yielded {describe(piece)}, not bytes")
                self._wait()
                yield piece
            if not self._begun:
                raise RuntimeError("the application did not call start_response")
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _wait(self) -> None:
        if not self._flowing.wait(_STALL_TIMEOUT):
            self._flowing.set()
            self._reactor.callFromThread(self._abandon)

    def _abandon(self) -> None:
        self._log.info("Closing {request}: its client has stopped reading", request=self._request)
        transport: Any = self._request.transport
        transport.abortConnection()


def _sendable(status: str, headers: list[tuple[str, str]]) -> str:
    """
    Check what the reactor's thread will have to send, and add a reason that is missing.

    :raises ValueError: it is no HTTP status, or not ISO-8859-1.
    """
    if not _STATUS.fullmatch(status):
        raise ValueError(f"{status!r} is no HTTP status such as '200 OK'")
    for text in (status, *(text for header in headers for text in header)):
        text.encode("latin-1")
    code, _, reason = status.partition(" ")
    return f"{code} {reason.strip() or http.RESPONSES.get(int(code), b'Status').decode()}"


@implementer(IResource)
class WSGIRoot:
    """The resource that hands every request of its Site to a WSGI application."""

    isLeaf = True

    def __init__(
        self, reactor: Any, pool: ThreadPool, app: Application, root_path: str = ""
    ) -> None:
        self._reactor = reactor
        self._pool = pool
        self._app = app
        self._root_path = root_path
        self._tries = Tries()

    def render(self, request: WSGIRequest) -> int:
        """Start the application on a request."""
        call = _Call(self._app, request, self._reactor, self._root_path, self._tries)
        answer: int = WSGIResource(self._reactor, self._pool, call).render(request)
        return answer

    def getChildWithDefault(self, name: bytes, request: http.Request) -> IResource:
        """Never called: it is a leaf."""
        raise NotImplementedError

    def putChild(self, path: bytes, child: IResource) -> None:
        """Never called: it is a leaf."""
        raise NotImplementedError


class _DaemonPool(ThreadPool):
    """A pool whose threads do not keep a worker alive that wants to leave."""

    @staticmethod
    def threadFactory(*args: Any, **kwargs: Any) -> Thread:  # type: ignore[override]
        return Thread(*args, daemon=True, **kwargs)


class WSGIServing(FactoryServing):
    """Serving on a bounded pool of threads."""

    def __init__(self, app: Application, settings: ServeSettings, reactor: Any) -> None:
        self._pool = _DaemonPool(1, settings.threads, name="wsgi")
        self._reactor = reactor
        self._left: Deferred[None] | None = None
        log = access_log_for(settings, reactor)
        root = WSGIRoot(reactor, self._pool, app, settings.root_path)
        # A form is the application's to read: twisted.web would take the whole of it into memory.
        site = StickySite(root, settings, log, reactor, request=WSGIRequest, parse_forms=False)
        super().__init__("wsgi", site, http=True, access_log=log)

    @property
    def busy(self) -> bool:
        """Whether a thread is in the application, perhaps though its client has left."""
        return bool(self._pool.working)

    def start(self) -> None:
        """Start the threads and the factory."""
        self._pool.start()
        super().start()

    def stop(self) -> Deferred[None]:
        """Stop the factory, and the threads once the application has left them."""
        super().stop()
        if self._left is None:
            self._left = Deferred()
            # Not in the reactor's thread, for which the application's threads may be waiting.
            Thread(target=self._join, args=(self._left,), name="wsgi-stop", daemon=True).start()
        return self._left

    def _join(self, left: Deferred[None]) -> None:
        self._pool.stop()
        self._reactor.callFromThread(left.callback, None)


def serving(app: object, settings: ServeSettings, reactor: Any) -> WSGIServing:
    """
    Serve a WSGI application (PEP 3333).

    :raises AppLoadError: it is not callable.
    """
    if not callable(app):
        raise AppLoadError(
            target=describe(app), reason="with --interface=wsgi it has to be a WSGI application"
        )
    return WSGIServing(app, settings, reactor)
