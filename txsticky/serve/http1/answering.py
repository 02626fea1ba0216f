"""The channel of what answers requests one by one through `exchange.Exchange`."""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from ...core.how import How
from ...core.http.head import TCHAR
from ...core.http.steps import Begin
from ...core.memo import entries
from ...transport.gated import SentFile
from .channel import HttpChannel
from .detached import detach
from .exchange import Answering, Respondent, SocketOwner
from .fields import lines_of
from .file_reading import FileReading
from .idle import idles

log = Logger()

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_END = b"0\r\n\r\n"
#: Header lines that are longer together are read each time.
_REMEMBERED = 1024
_NAME = re.compile(rb"[%s]+" % re.escape(TCHAR))
_CONTROLS = re.compile(rb"[\r\n\0]")
#: Header lines that are the channel's to write.
_OURS = frozenset({b"connection", b"transfer-encoding", b"keep-alive"})


class ExchangeFactory(Factory):
    """
    Makes the channels of one application (`IProtocolFactory`).

    :param answering: the application.
    :param keep_alive: how long a connection may be without a request, in seconds; 0 to close it
        behind each response.
    :param reactor: the reactor that serves.
    """

    noisy = False

    def __init__(self, answering: Answering, keep_alive: float, reactor: Any) -> None:
        self.answering = answering
        self.keeps = keep_alive > 0
        self.first, self.idle = idles(reactor, keep_alive)

    def buildProtocol(self, addr: object) -> ExchangeChannel:  # type: ignore[override]
        return ExchangeChannel(self)

    def stopFactory(self) -> None:
        self.first.stop()
        self.idle.stop()


class ExchangeChannel(HttpChannel):
    """
    One connection whose requests are answered through exchanges.

    :param factory: what all channels of the application share.
    """

    _exchange: OpenExchange
    _answer: Respondent | None = None

    def __init__(self, factory: ExchangeFactory) -> None:
        HttpChannel.__init__(self, factory.first, factory.idle)
        self._factory = factory

    def begin(self, step: Begin) -> None:
        """Have the application begin to answer a request."""
        if not self._factory.keeps:
            self.persistent = False
        self._exchange = exchange = OpenExchange(self, step)
        self._guarded(lambda: self._begin_answer(exchange))

    def _begin_answer(self, exchange: OpenExchange) -> None:
        answer = self._factory.answering(exchange)
        self._answer = answer if exchange.open else None

    def content(self, data: bytes) -> None:
        """Give what answers the request its content."""
        answer = self._answer
        if answer is not None:
            self._guarded(lambda: answer.body(data))

    #: What comes when HTTP has ended (`IProtocol`).
    dataReceived = content

    def complete(self) -> None:
        """Tell what answers the request that it is here whole."""
        if self._answer is not None:
            self._guarded(self._answer.complete)

    def lost(self, reason: Failure) -> None:
        """Tell what answers the request that its client has left."""
        answer, self._answer = self._answer, None
        self._exchange.open = False
        if answer is not None:
            answer.lost(reason)

    def leave(self) -> bool:
        """
        Have what answers the request end soon, if it lasts: the worker is leaving.

        :returns: whether it will.
        """
        return self._answer is not None and self._answer.leave()

    def done(self) -> None:
        """End the response: all of it is written."""
        self._answer = None
        self.unregisterProducer()
        self._end_response()

    def dropped(self) -> None:
        """Take note that the exchange is over without an end of its response."""
        self._open = False
        self._answer = None
        self._head = b""
        self.unregisterProducer()

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:
            log.failure("The application failed.")
            self._exchange.fail()


class OpenExchange:
    """
    One request and its response (`exchange.Exchange`).

    :param channel: the connection.
    :param step: tells of the request.
    """

    __slots__ = (
        *("_bodiless", "_channel", "_chunked", "_recent", "_responded", "_switched"),
        *("expects", "head", "length", "open", "transport"),
    )

    def __init__(self, channel: ExchangeChannel, step: Begin) -> None:
        self.head = head = step.head
        self.length = step.length
        self.transport = channel.transport
        self.open = True
        self._channel = channel
        self._recent = head.version == b"1.1"
        self._bodiless = head.method == b"HEAD"
        self._responded = self._chunked = self._switched = False
        self.expects = False
        if self._recent and step.length != 0 and not step.whole:
            self.expects = (head.header(b"expect") or b"").lower() == b"100-continue"

    # ------------------------------------------------------------------ the request

    @property
    def peer(self) -> Any:
        """The address of the client, as the peer of its connection."""
        return self.transport.getPeer()

    @property
    def host(self) -> Any:
        """The address that the client connected to."""
        return self.transport.getHost()

    @property
    def secure(self) -> bool:
        """Whether the client came over TLS."""
        return bool(self.transport.gate.secure)

    @property
    def how(self) -> How:
        """How the request was routed."""
        how: How = self.transport.how
        return how

    def headers(self) -> Iterator[tuple[bytes, bytes]]:
        """Return the request's header lines in the order sent."""
        return lines_of(self.head)

    def proceed(self) -> None:
        """Send ``100 Continue`` if the client waits for it."""
        if self.open and self.expects and not self._responded:
            self.expects = False
            self.transport.write(_CONTINUE)

    def pause(self) -> None:
        """Take no more of the request's content."""
        if self.open:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Take the content again."""
        if self.open:
            self.transport.resumeProducing()

    # ----------------------------------------------------------------- the response

    def respond(self, status: int, reason: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """
        Begin the response.

        :raises ValueError: a header line is not well formed, or there are two lengths.
        :raises RuntimeError: it has begun already.
        """
        if not self.open:
            return
        if self._responded:
            raise RuntimeError("A response has begun already.")
        channel = self._channel
        switches = status == 101
        bodiless = self._bodiless or status < 200 or status in (204, 304)
        lines = [b"HTTP/%b %d %b\r\n" % (self.head.version, status, reason)]
        headers = tuple(headers)
        read = _read if sum(map(_size, headers)) <= _REMEMBERED else _read.__wrapped__
        block, length, closes = read(headers, switches, status == 204)
        lines.append(block)
        self._responded = True
        self._bodiless, self._switched = bodiless, switches
        # The client may send the content all the same, or not (RFC 9110, section 10.1.1).
        closes = closes or self.expects
        if length is None and not bodiless:
            self._chunked = self._recent
            closes = closes or not self._recent
            if self._recent:
                lines.append(b"Transfer-Encoding: chunked\r\n")
        if closes or switches:
            channel.persistent = False
        if not (channel.persistent or switches) and self._recent:
            lines.append(b"Connection: close\r\n")
        lines.append(b"\r\n")
        channel.begin_response(b"".join(lines), None if bodiless else length)
        if switches:
            channel.flush(now=True)

    def write(self, data: bytes) -> None:
        """Send a piece of the response's content."""
        if not (self.open and data) or (self._bodiless and not self._switched):
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._channel.write(data)

    def finish(self) -> None:
        """
        End the response.

        :raises RuntimeError: `respond` has not been called.
        """
        if not self.open:
            return
        if not self._responded:
            raise RuntimeError("There is no response to be ended.")
        if self._chunked:
            self._channel.write(_END)
        self.open = False
        self._channel.done()

    def send_file(self, file: int, offset: int, count: int, sent: Callable[[], None]) -> None:
        """Send a part of a file as content."""
        if not self.open:
            return
        if self._bodiless or not count:
            sent()
            return
        channel, transport = self._channel, self.transport
        channel.unregisterProducer()
        if hasattr(transport, "send_file") and channel.counts(count):
            channel.flush()
            if not transport.gate.withholds:
                channel.counted(count)
                transport.send_file(SentFile(file, offset, count, sent, self.file_is_short))
                return
        channel.registerProducer(FileReading(self, file, offset, count, sent), False)

    def file_is_short(self) -> None:
        """End the connection, of which what answers is told: a file is shorter than it was."""
        log.error("A file that is being sent is shorter than it was: the connection is closed.")
        self.unregister_producer()
        self.transport.abortConnection()

    def register_producer(self, producer: Any, streaming: bool) -> None:
        """Have the client's pace set that of `producer`."""
        if self.open:
            self._channel.registerProducer(producer, streaming)

    def unregister_producer(self) -> None:
        """Let the producer go."""
        if self.open:
            self._channel.unregisterProducer()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.open:
            self.open = False
            self._channel.dropped()
            self.transport.abortConnection()

    def fail(self) -> None:
        """Respondent with a status of 500, or, if a response has begun, close the connection."""
        if not self.open:
            return
        if self._responded:
            self.abort()
            return
        self._channel.persistent = False
        self.respond(500, b"Internal Server Error", [(b"Content-Length", b"0")])
        self.finish()

    # ------------------------------------------------------------------ the upgrade

    @property
    def can_detach(self) -> bool:
        """Whether the bare socket can be taken."""
        if not hasattr(self.transport, "detach"):
            return False
        gate = self.transport.gate
        upgrading = gate.upgrading
        return gate.mover is None and (upgrading is None or not upgrading.may_move)

    def stay_while(self, busy: Callable[[], bool]) -> None:
        """Have a WebSocket that may move stay while `busy()`."""
        upgrading = self.transport.gate.upgrading
        if upgrading is not None:
            upgrading.passport.busy = busy

    @property
    def more(self) -> bool:
        """Whether bytes behind the request are here, or some in front of its response."""
        transport = self.transport
        return bool(transport.gate.exchange.held or transport.unread or transport.unsent())

    def detach(self, owner: SocketOwner, taken: Callable[[socket.socket, bytes], None]) -> None:
        """
        Take the bare socket: before a response, or when the head of one with status 101 has left.

        :raises RuntimeError: the socket cannot be taken (`can_detach`), there was another response,
            or, without a 101, more than the request has come (`more`).
        """
        if not self.can_detach or (self.more if not self._responded else not self._switched):
            raise RuntimeError("The socket can only be taken behind a 101, and not over TLS.")
        if not self.open:
            return
        self.open = False
        self._channel.dropped()
        detach(self.transport, owner, taken)


def _size(line: tuple[bytes, bytes]) -> int:
    return len(line[0]) + len(line[1])


@functools.lru_cache(entries(1024, 2 * _REMEMBERED))
def _read(
    headers: tuple[tuple[bytes, bytes], ...], switches: bool, unmeasured: bool
) -> tuple[bytes, int | None, bool]:
    """
    Read an application's header lines, which repeat within a second.

    :param switches: whether HTTP ends with the response.
    :param unmeasured: whether a length is not to be told.
    :returns: the lines as they are sent; the length that they tell; whether they say ``close``.
    """
    lines: list[bytes] = []
    length: int | None = None
    closes = False
    for name, value in headers:
        if not _NAME.fullmatch(name) or _CONTROLS.search(value):
            raise ValueError(f"This is no header line: {name!r}: {value!r}")
        lowered = name.lower()
        if lowered == b"content-length":
            if length is not None or not value.isdigit():
                raise ValueError(f"This is no Content-Length, or one too many: {value!r}")
            length = int(value)
            if unmeasured:  # RFC 9110, section 8.6
                continue
        elif lowered in _OURS and not switches:
            closes = closes or (lowered == b"connection" and b"close" in value.lower())
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines), length, closes
