"""
A request in a WSGI application, and its response to the client.

The application's thread puts its output into a buffer (`pending`); the reactor's thread takes it
out at the client's pace. So a thread is free as soon as the application has returned its last
piece, whether the client has read it or not. If the buffer is full, the thread waits; if the client
has gone, the application is ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

from ..loading import describe
from .environ import Environ
from .pending import Buffers, Pending
from .threads import Threads
from .tries import Tries

log = Logger()

Start = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, Start], Iterable[bytes]]
Headers = list[tuple[str, str]]

_STATUS = re.compile(r"[1-9]\d\d( [^\r\n]*)?")
#: Headers that twisted.web sets itself.
_OURS = ("server", "date")


@implementer(IPushProducer)
class Call:
    """
    One request in a WSGI application.

    `run` is called in a thread of `threads`, all other methods without an underscore in the
    reactor's.

    :param app: the application.
    :param request: the request; the call is its producer.
    :param environ: the WSGI environment of the request.
    :param threads: the threads that the application runs in.
    :param buffers: counts the bytes that wait for all clients.
    :param tries: logs errors at WebSocket handshakes.
    :param in_reactor: calls a function in the reactor's thread, from any thread.
    """

    def __init__(
        self,
        app: Application,
        request: Any,
        environ: Environ,
        threads: Threads,
        buffers: Buffers,
        tries: Tries,
        in_reactor: Callable[[Callable[[], object]], object],
    ) -> None:
        self._app = app
        self._request = request
        self._environ = environ
        self._errors = environ["wsgi.errors"]
        self._errors.seen = partial(tries.written, environ)
        self._tries = tries
        self._threads = threads
        self._in_reactor = in_reactor
        self._pending = Pending(buffers)
        # Set by the application's thread alone, until the reactor is told to begin.
        self._head: tuple[int, bytes, Headers] | None = None
        self._begun = False
        # Set by the reactor's thread alone.
        self._started = False

    def start(self) -> None:
        """Have a thread run the application."""
        self._request.registerProducer(self, True)
        self._threads.run(self.run)

    # ------------------------------------------------- the application's thread

    def run(self) -> None:
        """Run the application to its end, in this thread."""
        failed = False
        try:
            self._iterate()
        except BaseException as error:
            failed = True
            # Logged here, because nothing is sent any more if the client has gone.
            if self._begun or not self._tries.caught(self._environ, error):
                self._in_reactor(partial(log.failure, "The application failed.", Failure()))
        finally:
            self._errors.flush()
        if self._pending.end(failed):
            self._in_reactor(self.drain)

    def _iterate(self) -> None:
        result = self._app(self._environ, self._start_response)
        try:
            if type(result) in (list, tuple):
                # All of it is in memory already: to wait for room would save nothing.
                for piece in result:
                    self._put(piece, False)
            else:
                for piece in result:
                    self._put(piece, True)
                    if self._pending.gone:
                        return
            if self._head is None:
                raise RuntimeError("the application did not call start_response")
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _start_response(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        try:
            if exc_info is None and self._head is not None:
                raise RuntimeError("start_response was called again, without exc_info")
            if exc_info is not None and self._begun:
                raise exc_info[1].with_traceback(exc_info[2])
        finally:
            exc_info = None  # it holds this frame
        self._head = sendable(status, headers)
        return lambda data: self._put(data, True)

    def _put(self, piece: object, now: bool) -> None:
        """
        Add a piece to the response.

        :param now: send it before the next piece comes, and wait if there is no room.
        """
        if not isinstance(piece, bytes):
            raise TypeError(f"the application yielded {describe(piece)}, not bytes")
        if not piece:
            return
        if self._head is None:
            raise RuntimeError("the application did not call start_response")
        self._begun = True
        call, full = self._pending.put(piece, now)
        if call:
            self._in_reactor(self.drain)
        if full:
            self._threads.aside(self._pending.wait)

    # ------------------------------------------------------ the reactor's thread

    def pauseProducing(self) -> None:
        """Send no more until `resumeProducing`: the transport is full (`IPushProducer`)."""
        self._pending.pause()

    def resumeProducing(self) -> None:
        """Send again: the transport takes more (`IPushProducer`)."""
        self._pending.resume()
        self.drain()

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost, and `lost` is called as well (`IPushProducer`)."""

    def lost(self) -> None:
        """Drop what waits for the client, which has gone, and end the application."""
        self._pending.drop()

    def drain(self) -> None:
        """Send what waits, as far as the transport takes it."""
        try:
            while (piece := self._pending.take()) is not None:
                self._send(piece)
            if self._pending.complete():
                self._finish()
        except Exception:
            log.failure("A response could not be sent.")
            self.lost()
            channel = getattr(self._request, "channel", None)
            if channel is not None:  # else it is finished
                channel.loseConnection()

    def _send(self, data: bytes) -> None:
        request = self._request
        if not self._started:
            self._started = True
            assert self._head is not None
            code, reason, headers = self._head
            request.setResponseCode(code, reason)
            for name, value in headers:
                if name.lower() not in _OURS:
                    request.responseHeaders.addRawHeader(
                        name.encode("latin-1"), value.encode("latin-1")
                    )
        if data:
            request.write(data)

    def _finish(self) -> None:
        request = self._request
        self._pending.close()
        if self._pending.failed:
            if self._started:
                request.loseConnection()  # so that the client notices
                return
            request.setResponseCode(http.INTERNAL_SERVER_ERROR)
        else:
            self._send(b"")
        request.finish()


def sendable(status: str, headers: Headers) -> tuple[int, bytes, Headers]:
    """
    Check the head of a response, before the reactor's thread sends it.

    :param status: as the application gave it, for example `200 OK`.
    :param headers: as the application gave them.
    :returns: the status code, the reason (the usual one if it is missing), and a copy of the
        headers.
    :raises ValueError: the status is no HTTP status, or a text is not ISO-8859-1.
    :raises TypeError: the status or a header is not a `str`.
    """
    for text in (status, *(text for header in headers for text in header)):
        if not isinstance(text, str):
            raise TypeError(f"status and headers have to be str, and there is {describe(text)}")
        text.encode("latin-1")
    if not _STATUS.fullmatch(status):
        raise ValueError(f"{status!r} is no HTTP status such as '200 OK'")
    copied = [(name, value) for name, value in headers]
    code, _, reason = status.partition(" ")
    reason = reason.strip()
    return int(code), reason.encode("latin-1") or http.RESPONSES.get(int(code), b"Status"), copied
