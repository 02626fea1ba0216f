"""One request in a WSGI application: what happens in the reactor's thread."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ...core.routing.forwarded import Trusted, client_address, client_secure
from ...system.system import http_date
from ..accesslog import AccessLog, LogLine
from ..http1.exchange import Exchange
from .body import Body
from .environ import Environ, ErrorStream, environ_of_head, environ_of_server
from .pending import FilePart
from .run import Run, Shared
from .sockets import NAMES, Offer
from .start import ResponseHead

log = Logger()

_FAILED: Final = b"Internal Server Error\n"
_FAILED_HEAD: Final = ResponseHead(
    500,
    b"Internal Server Error",
    ((b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(_FAILED))),
    len(_FAILED),
    frozenset(),
)
_SERVER: Final = (b"Server", b"txsticky")


class WsgiAnswering:
    """
    Answers requests with a WSGI application (`http1.exchange.Answering`).

    :param shared: the application and what its requests share.
    :param threads: how many requests run at a time.
    :param root_path: the path under which a proxy mounts the application.
    :param trusted: the peers whose X-Forwarded-For and X-Forwarded-Proto are believed.
    :param access_log: is told of each request that was answered.
    :param seconds: the clock, in seconds since the epoch.
    :ivar shared: as given.
    :ivar whole: whether a request begins with its whole body only: if it would else keep all others
        waiting.
    """

    def __init__(
        self,
        shared: Shared,
        threads: int,
        root_path: str,
        trusted: Trusted,
        access_log: AccessLog | None,
        seconds: Callable[[], float],
    ) -> None:
        self.shared = shared
        self.whole = threads == 1
        self.access_log = access_log
        self._trusted = trusted
        self._trusts = bool(trusted)
        self._shared = environ_of_server(root_path, threads > 1)
        self._seconds = seconds
        self._second = -1
        self._date = (b"Date", b"")

    def __call__(self, exchange: Exchange) -> Call:
        """Begin to answer a request (`Answering`)."""
        # Nothing is decided before the body is here: that would take a thread.
        if exchange.expects:
            exchange.proceed()
        return Call(self, exchange)

    def date(self) -> tuple[bytes, bytes]:
        """Return the Date header line of a response that begins now."""
        second = int(self._seconds())
        if second != self._second:
            self._second = second
            self._date = (b"Date", http_date().encode())
        return self._date

    def client_of(self, exchange: Exchange) -> tuple[str, int]:
        """
        Return the address and the port of a client, as far as its peer is trusted to name it.

        A client over a UNIX socket has no address, and port 0; one that a proxy names has port 0.
        """
        peer = exchange.peer
        host, port = getattr(peer, "host", ""), getattr(peer, "port", 0)
        if not self._trusts or host not in self._trusted:
            return host, port
        client = client_address(exchange.head, host, self._trusted)
        return client, port if client == host else 0

    def environ_of(self, exchange: Exchange) -> Environ:
        """Make the environment of a request, but for its input and its errors."""
        head = exchange.head
        environ = environ_of_head(head)
        environ.update(self._shared)
        address, port = self.client_of(exchange)
        secure = exchange.secure
        if self._trusts:
            peer = getattr(exchange.peer, "host", "")
            secure = client_secure(head, peer, secure, self._trusted)
        host = exchange.host
        if hasattr(host, "port"):
            name, own = host.host, host.port
        else:  # a UNIX socket
            name, own = "localhost", 443 if secure else 80
        environ["REMOTE_ADDR"] = address
        environ["REMOTE_PORT"] = str(port)
        environ["SERVER_NAME"] = environ["SERVER_NAME"] or name
        environ["SERVER_PORT"] = str(own)
        environ["wsgi.url_scheme"] = "https" if secure else "http"
        return environ


@implementer(IPushProducer)
class Call:
    """
    One request in a WSGI application (`http1.exchange.Respondent`); the producer of its response.

    :param answering: what all requests share.
    :param exchange: the request and its response.
    """

    def __init__(self, answering: WsgiAnswering, exchange: Exchange) -> None:
        self._answering = answering
        self._exchange = exchange
        self._called = False  # a thread runs the application, or has run it
        self._run: Run | None = None
        self._offer: Offer | None = None
        self._body: Body | None = None
        self._started = False  # the head of the response is with the channel
        self._file: FilePart | None = None  # what is being sent
        self._sent = 0
        self._status = 0
        if exchange.length != 0:
            shared = answering.shared
            self._body = Body(
                exchange.pause,
                exchange.resume,
                shared.calls.add,
                shared.threads.aside,
                # Frameworks take a body without a CONTENT_LENGTH for empty.
                whole=answering.whole or exchange.length is None,
            )

    # ---------------------------------------------------------------- the request

    def body(self, data: bytes) -> None:
        """Take a piece of the request's content (`Respondent`)."""
        if self._offer is not None and self._offer.relay is not None:
            self._offer.relay.came(data)
            return
        body = self._body
        if body is not None and body.add(data):
            self._start()

    def complete(self) -> None:
        """Have a thread run the application, if none does (`Respondent`)."""
        if self._body is not None:
            self._body.end()
        if not self._called:
            self._start()

    def lost(self, reason: Failure) -> None:
        """Drop what waits for the client, which has gone; end the application (`Respondent`)."""
        if self._run is not None:
            self._run.pending.drop()
        if self._offer is not None:
            self._offer.lost()
        self._over()

    def leave(self) -> bool:
        """Close a WebSocket (`Respondent`)."""
        if self._offer is None or not self._offer.taken:
            return False
        self._offer.close()
        return True

    def _start(self) -> None:
        self._called = True
        answering, exchange, body = self._answering, self._exchange, self._body
        environ = answering.environ_of(exchange)
        if body is None:
            environ["wsgi.input"] = io.BytesIO()
        else:
            environ["wsgi.input"] = body.stream()
            if exchange.length is None:
                environ["CONTENT_LENGTH"] = str(body.size)
        shared = answering.shared
        offers = environ.get("HTTP_UPGRADE", "").lower() == "websocket"
        environ["wsgi.errors"] = ErrorStream(shared.tries.written if offers else None)
        head = exchange.head
        sockets = shared.sockets
        if offers and sockets is not None:
            self._offer = Offer(sockets, exchange)
            environ.update(dict.fromkeys(NAMES, self._offer.socket))
        self._run = run = Run(shared, environ, head, offers, self.drain, self._offer)
        if self._offer is None or sockets is None or not sockets.run(run):
            shared.threads.run(run)

    # ---------------------------------------------------------------- the response

    def pauseProducing(self) -> None:
        """Send no more until `resumeProducing`: the transport is full (`IPushProducer`)."""
        if self._run is not None:
            self._run.pending.pause()

    def resumeProducing(self) -> None:
        """Send again: the transport takes more (`IPushProducer`)."""
        if self._run is not None:
            self._run.pending.resume()
            self.drain()

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost, and `lost` is called as well (`IPushProducer`)."""

    def drain(self) -> None:
        """Send what waits, as far as the transport takes it."""
        if self._run is not None:
            self._exchange.transport.together(self._try_to_drain)

    def _try_to_drain(self) -> None:
        try:
            self._drain()
        except Exception:
            log.failure("A response could not be sent.")
            if self._run is not None:
                self._run.pending.drop()
                exchange = self._exchange
                self._over()
                exchange.abort()

    def _drain(self) -> None:
        run = self._run
        while run is not None and self._file is None:
            piece, last = run.pending.take()
            if piece is None:
                if last:
                    self._finish(run)
                return
            self._begin(run, last)
            if isinstance(piece, FilePart):
                self._file = piece
                self._exchange.send_file(
                    piece.file, piece.offset, piece.count, partial(self._file_sent, piece)
                )
            else:
                self._sent += len(piece)
                self._exchange.write(piece)
                if last:
                    self._finish(run)
                    return

    def _file_sent(self, part: FilePart) -> None:
        self._sent += part.count
        self._file = None
        part.close()
        self.drain()

    def _begin(self, run: Run, last: bool) -> None:
        if self._started:
            return
        head = run.head
        assert head is not None
        self._respond(head)
        if not last:
            self._exchange.register_producer(self, True)

    def _respond(self, head: ResponseHead) -> None:
        self._started = True
        self._status = head.status
        lines = head.headers
        if "date" not in head.has:
            lines = (self._answering.date(), *lines)
        if "server" not in head.has:
            lines = (_SERVER, *lines)
        self._exchange.respond(head.status, head.reason, lines)

    def _finish(self, run: Run) -> None:
        exchange = self._exchange
        if not run.pending.failed:
            self._begin(run, last=True)
        elif not self._started:
            self._respond(_FAILED_HEAD)
            exchange.write(_FAILED)
        else:
            exchange.transport.loseConnection()  # so that the client notices
            return
        self._log()
        run.pending.drop()
        self._over()
        exchange.finish()

    def _over(self) -> None:
        """Let go of what is held for the request, which may be read no more."""
        part, self._file = self._file, None
        if part is not None:
            part.close()
        body, self._body = self._body, None
        if body is not None:
            body.drop()
        self._run = None

    def _log(self) -> None:
        access_log = self._answering.access_log
        if access_log is None:
            return
        exchange = self._exchange
        head = exchange.head
        access_log.write(
            LogLine(
                client=self._answering.client_of(exchange)[0] or "-",
                method=head.method,
                target=head.target,
                version=b"HTTP/" + head.version,
                status=self._status,
                length=self._sent,
                referer=head.header(b"referer"),
                agent=head.header(b"user-agent"),
                route=exchange.how.name,
            )
        )
