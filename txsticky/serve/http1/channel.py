"""
One connection of HTTP/1.1 whose requests the gate has parsed: what all that answers them share.

The gate tells of a request (`begun`, `continued`) when its head has come and the response before it
is complete, and follows what is written to the transport. The channel puts a response together,
holds it to its Content-Length, keeps its producer to the client's pace, and closes the connection
behind the last response.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ...core.http.steps import Begin, Content
from ...transport.ending import tell_surplus
from .idle import Idle
from .pulling import Pulling

log = Logger()

#: Content that is longer is not copied behind the head, but written after it. In bytes.
_JOINED = 16384


@implementer(IPushProducer)
class HttpChannel:
    """
    One connection: an `IProtocol` that takes events for bytes, and its transport's producer.

    :ivar first: where it waits for its first request.
    :ivar idle: where it waits for a later one.
    :ivar transport: the connection.
    :ivar persistent: whether another request may follow the present one.
    """

    transport: Any = None
    persistent = True
    #: What is to be written before anything else: the head of a response.
    _head = b""
    #: Bytes of the response that are still to come; None for an unknown length or no content.
    _left: int | None = None
    #: Whether it was told that the response is longer than it says.
    _cut = False
    #: Whether a request is open: begun, and not answered.
    _open = False
    #: Whether the request is being told of: what is written meanwhile leaves together.
    _telling = False
    _full = False  # the transport takes no more for now
    #: The next request, begun before the application has said that it answered the open one.
    _next: Begin | None = None
    _producer: Any = None
    _waits: Idle | None = None  # where it may wait for a request

    def __init__(self, first: Idle, idle: Idle) -> None:
        self.first = first
        self.idle = idle

    # ------------------------------------------------------------------ the connection

    def makeConnection(self, transport: Any) -> None:
        """Take the transport (`IProtocol`)."""
        self.transport = transport
        transport.setTcpNoDelay(True)
        self._waits = self.first.add(self)
        transport.registerProducer(self, True)

    def connectionLost(self, reason: Failure) -> None:
        """End what is under way: the connection is lost, or served elsewhere (`IProtocol`)."""
        if self._waits is not None:
            self._waits.discard(self)
        self._head = b""
        self._next = None
        if self._open:
            self._open = False
            self.lost(reason)

    def idled(self) -> None:
        """Close: no request has come for too long (`idle.Idler`)."""
        self.transport.gate.finish()

    # ----------------------------------------------------------------------- requests

    def begun(self, step: Begin) -> None:
        """Take a request, of which the head has come, and perhaps more."""
        if self._open:  # its response is whole, and the application has yet to finish it
            self._next = step
            self.transport.pauseProducing()
            return
        if self._waits is not None:
            self._waits.discard(self)
            self._waits = None
        self._open = self._telling = True
        self.persistent = not step.last
        try:
            self.begin(step)
            self._take(step.content, step.whole)
        finally:
            self._told()

    def continued(self, step: Content) -> None:
        """Take what more has come of the request."""
        self._telling = True
        try:
            self._take(step.content, step.whole)
        finally:
            self._told()

    def _take(self, content: bytes, whole: bool) -> None:
        # A request may be answered before it is here whole.
        if content and self._open:
            self.content(content)
        if whole:
            if self._open:
                self.complete()
            else:
                self._waits = self.idle.add(self)

    def _told(self) -> None:
        self._telling = False
        self.flush()

    def begin(self, step: Begin) -> None:
        """Begin to answer a request."""
        raise NotImplementedError

    def content(self, data: bytes) -> None:
        """Take content of the open request."""
        raise NotImplementedError

    def complete(self) -> None:
        """Take note that the open request is here whole."""
        raise NotImplementedError

    def lost(self, reason: Failure) -> None:
        """Take note that the connection is lost, in an open request."""
        raise NotImplementedError

    def request_line(self) -> bytes:
        """Return the line of the open request, for the log."""
        return bytes(self.transport.gate.exchange.request_line)

    # ---------------------------------------------------------------------- responses

    def begin_response(self, head: bytes, length: int | None) -> None:
        """
        Begin a response: its head is written with what is written next.

        :param head: from the status line to the empty line.
        :param length: of what is going to be written; None to write whatever comes.
        """
        self._left = length
        self._cut = False
        self._head += head

    def flush(self, now: bool = False) -> None:
        """
        Write the head of the response.

        :param now: also while the request is being told of, when more is likely to be written.
        """
        if self._head and (now or not self._telling):
            self._send(b"")

    def counts(self, count: int) -> bool:
        """Whether the length of the response is known, and has so many bytes left."""
        return self._left is not None and count <= self._left

    def counted(self, count: int) -> None:
        """Take note that so many bytes of the response leave by another way."""
        assert self._left is not None
        self._left -= count

    def write(self, data: bytes) -> None:
        """Write a part of the response, up to its length."""
        left = self._left
        if left is not None:
            if len(data) > left:
                self._surplus()
                data = data[:left]
            self._left = left - len(data)
        if data:
            self._send(data)

    def _send(self, data: bytes) -> None:
        head = self._head
        if head:
            self._head = b""
            if len(data) > _JOINED:
                self.transport.write(head)
            else:
                data = head + data
        self.transport.write(data)

    def _surplus(self) -> None:
        if not self._cut:
            self._cut = True
            tell_surplus(self.request_line())

    def _end_response(self) -> None:
        """End the response to the open request, and the connection if it is the last."""
        self._open = False
        self.flush(now=True)
        if self._left:
            _tell_short(self.request_line(), self._left)
            self.persistent = False
        transport = self.transport
        conversation = transport.gate.exchange
        following, self._next = self._next, None
        # What is open still is a response that has no end but that of the connection.
        open_still = conversation.request_open and conversation.finished_request
        endless = open_still and following is None
        if not self.persistent or endless or conversation.tunnel:
            self.loseConnection()
            return
        if following is None and not conversation.body_due:
            self._waits = self.idle.add(self)
        if self._full:
            transport.pauseProducing()
        elif transport.gate.inner_paused:
            transport.resumeProducing()
        if following is not None:
            self.begun(following)

    def loseConnection(self) -> None:
        """Close the connection after what was written (`ITransport`)."""
        self.flush(now=True)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    # ------------------------------------------------------------------ the client's pace

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Have the client's pace set that of `producer` (`IConsumer`).

        :raises RuntimeError: there is a producer already.
        """
        if self._producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}, because producer {self._producer} was never"
                " unregistered."
            )
        if not streaming:
            later = self.transport.gate.host.later
            producer = Pulling(producer, later, self.transport.abortConnection)
        self._producer = producer
        if self._full:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Let the producer go (`IConsumer`)."""
        producer, self._producer = self._producer, None
        if isinstance(producer, Pulling):
            producer.end()

    def pauseProducing(self) -> None:
        """Write no more for now: the transport is full (`IPushProducer`)."""
        self._full = True
        if self._producer is not None:
            self._producer.pauseProducing()
        if not self._open and self.transport is not None:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Write again (`IPushProducer`)."""
        self._full = False
        if self._producer is not None:
            self._producer.resumeProducing()
        if not self._open and self.transport is not None:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Take note that the connection is lost (`IPushProducer`)."""
        if self._producer is not None:
            self._producer.stopProducing()


def _tell_short(line: bytes, left: int) -> None:
    log.warn(
        "The response to {line!r} is {left} bytes shorter than its Content-Length: the"
        " connection is closed.",
        line=line.decode("latin-1"),
        left=left,
    )
