"""Twisted's transports with a gate in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import error
from twisted.python.failure import Failure

from ..core.how import How
from ..core.http.steps import Begin, Content
from ..system.descriptors import quiet
from .gate import Gate
from .host import Cancelable
from .movable import DONE, MovableMixin, MovableServer, MovableUNIXServer
from .withheld import hold_producer

#: Bytes of a file that are sent at once: other connections have their turn in between.
_PIECE = 1 << 20
#: Bytes of a request's content that are read at once, if so many are certain to come.
_LONG_READ = 1 << 18


@attrs.define(eq=False)
class SentFile:
    """
    A part of a regular file that the kernel sends.

    :param file: a descriptor.
    :param offset: of the next byte.
    :param left: how many bytes.
    :param sent: called when all are in the kernel.
    :param short: called when the file has come to its end before.
    :ivar begin: of the first byte.
    """

    file: int
    offset: int
    left: int
    sent: Callable[[], None]
    short: Callable[[], None]
    begin: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.begin = self.offset


class GatedMixin(MovableMixin):
    """
    A movable transport with a gate in it.

    `gate` and `connection` are set before the protocol is connected.
    """

    gate: Gate
    how: How
    #: What the worker keeps of a connection: gets `delivered()`, `departed(socket, place, held)`
    #: and `closed()`.
    connection: Any
    #: Whether the producer, if there is one, only keeps the protocol to the client's pace: it was
    #: there before the first request, so it is not the body of a response.
    _paces: bool
    #: What the kernel is to send when all is sent that was written.
    _part: SentFile | None = None

    def doRead(self) -> Any:
        brought = bool(self.unread)
        why = self._read_on()
        # Of a request that was cut in two by the hand-off the rest is likely to be here by now.
        if brought and why is None and self.gate.exchange.due:
            why = self._read_on()
        return why

    def _read_on(self) -> Any:
        # A turn of the reactor costs more than to read 64 KiB. What is read beyond them is content
        # alone: no more than before is held of what follows it.
        due = self.gate.exchange.due
        if due > self.bufferSize and self.connected and self._reading and not self.unread:
            try:
                self.unread = self.socket.recv(min(due, _LONG_READ))
            except BlockingIOError:
                return None
            except OSError:
                pass  # the usual way tells what it means
        return super().doRead()

    def arrived(self, data: bytes) -> None:
        self.gate.arrived(data)

    def ended(self) -> bool:
        return self.gate.ended()

    def caught_up(self) -> None:
        self.connection.delivered()

    def closed(self) -> None:
        self.gate.closed()
        self.connection.closed()

    # The protocol's side of the transport.

    def pauseProducing(self) -> None:
        self.gate.pause()

    def resumeProducing(self) -> None:
        if self.live():
            self.gate.resume()

    def write(self, data: bytes) -> None:
        if data and (data := self.gate.wrote(data)):
            super().write(data)

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def together(self, action: Callable[[], object]) -> None:
        """
        Do something; what it writes leaves in one send, at once.

        For what is written outside of the reading: the reactor need not watch for the room to send
        it, unless there is none.

        :param action: raises nothing.
        """
        if self._corked:
            action()
            return
        self._corked = True
        action()
        if self._corked:  # else it has taken the connection away
            self.uncork()

    def send_file(self, part: SentFile) -> None:
        """
        Send a part of a file with sendfile(2), behind what was written.

        It belongs to a content of known length, and nothing is withheld (`Output.withholds`).
        Nothing may be written before it is sent.
        """
        self._part = part
        self.startWriting()

    def unsent(self) -> int:
        part = self._part
        return super().unsent() + (0 if part is None else part.left)

    def sent_at_once(self) -> bool:
        return self._part is None and super().sent_at_once()

    def doWrite(self) -> Any:
        part = self._part
        if part is None or not self.connected:
            return super().doWrite()
        if super().unsent():
            why = super().doWrite()
            if why is not None or super().unsent():
                return why
        return self._send_part(part)

    def _send_part(self, part: SentFile) -> Any:
        try:
            size = os.sendfile(self.socket.fileno(), part.file, part.offset, min(part.left, _PIECE))
        except (BlockingIOError, InterruptedError):
            self.startWriting()
            return None
        except OSError:
            return error.ConnectionLost()
        self._passed += size
        part.offset += size
        part.left -= size
        if part.left and size:
            self.startWriting()
            return None
        self._part = None
        self.stopWriting()
        if part.left:
            part.short()
        else:
            self.gate.sent(part.offset - part.begin)
            part.sent()
        return None

    def connectionLost(self, reason: Failure) -> None:
        self._part = None
        super().connectionLost(reason)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._paces = paces = streaming and not self.gate.served
        if paces and self.producer is None and not (self.disconnected or self.TLS):
            self.producer, self.streamingProducer = producer, True  # all that Twisted does
        else:
            super().registerProducer(producer, streaming)

    def loseConnection(self) -> None:
        if self.gate.may_close():
            super().loseConnection()
            if self.producer is not None and self._paces:
                # A WebSocket leaves the HTTP channel, whose place it has taken, registered; and
                # Twisted does not close for as long as it has paused a producer.
                self.when_sent(self.unregisterProducer)

    def loseWriteConnection(self) -> None:
        if self.gate.may_close():
            super().loseWriteConnection()

    # The gate's side of it: `Host`.

    def quiet(self) -> float:
        return quiet(self.socket)

    def deliver(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def tell(self, step: Begin | Content) -> None:
        step.tell(self.protocol)

    def stop_reading(self) -> None:
        self.stopReading()

    def start_reading(self) -> None:
        self.startReading()

    def send(self, data: bytes) -> None:
        # A producer that was paused for what is withheld is not paused again for the sending of it:
        # Twisted resumes it once, and the task behind a pull producer counts.
        producer = self.producer
        if self.producerPaused:
            self.producer = None
        super().write(data)
        self.producer = producer

    def withholds(self, size: int) -> None:
        hold_producer(self, size)

    def later(self, seconds: float, action: Callable[[], None]) -> Cancelable:
        call: Cancelable = self.reactor.callLater(seconds, self.guarded, action)
        return call

    def settled(self, messages: int) -> bool:
        return True  # a protocol is told of each message before `deliver` returns

    def hang_up(self) -> None:
        # Twisted does not close for as long as a producer is registered that it has paused, and
        # twisted.web's channel is one to its end.
        self.unregisterProducer()
        super().loseConnection()

    def half_close(self) -> None:
        self.unregisterProducer()  # for the same reason
        super().loseWriteConnection()

    def gone(self) -> None:
        if self.connected:
            self.connectionLost(Failure(error.ConnectionDone()))

    dismiss = gone

    def depart(self, place: int, held: bytes) -> None:
        protocol = self.protocol
        sock, unread = self.detach()
        try:
            protocol.connectionLost(DONE)
        finally:
            self.connection.departed(sock, place, held + unread)


class GatedServer(GatedMixin, MovableServer):
    """A TCP connection with a gate."""


class GatedUNIXServer(GatedMixin, MovableUNIXServer):
    """A connection over a UNIX socket with a gate."""
