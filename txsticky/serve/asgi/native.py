"""
asyncio protocols on adopted connections: asyncio's own transports, with the gate between.

The data path is that of the loop (uvloop's, where it is installed); no Twisted transport is in it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from ...core.how import How
from ...core.messages.handoff import Handoff
from ...system.system import OUT_OF_DESCRIPTORS, RESPITE
from ...transport.gate import Cancelable, Gate
from ...transport.movable import open_socket, severed
from ...transport.write_batch import Turn

log = Logger()

#: How many bytes may wait for the end of a turn. More are sent at once, so that a client that is
#: behind is noticed.
MOST_WAITING = 65536


class Connection(Protocol):
    """What the worker keeps of a connection."""

    handoff: Handoff

    def made(self, transport: Any) -> None:
        """The host is made."""

    def begun(self) -> None:
        """The protocol inside is connected."""

    def delivered(self) -> None:
        """The protocol has, or the gate has, all that was read elsewhere."""

    def departing(self) -> None:
        """The connection's exchange is over, and it is being taken away."""

    def closed(self) -> None:
        """The connection is over."""

    def departed(self, sock: socket.socket, place: int, held: bytes) -> None:
        """The connection has been taken away, to go to `place`."""


class GatedTransport(asyncio.Transport):
    """
    What the protocol inside takes for its transport.

    :param host: where its calls go, until it is `over`.
    """

    def __init__(self, host: NativeHost) -> None:
        super().__init__()
        self._host: NativeHost | None = host
        self._extra: dict[str, Any] = host.extra

    def over(self) -> None:
        """
        The connection is over: let the host go.

        A protocol keeps its transport, and may be part of a circle of its own for long: an upgrade
        leaves uvicorn's httptools behind so.
        """
        self._host = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The addresses are those of the hand-off: a proxy may have named them."""
        return self._extra.get(name, default)

    def is_closing(self) -> bool:
        """Whether nothing more will be sent."""
        return self._host is None or not self._host.live()

    def close(self) -> None:
        """Close after what was written."""
        if self._host is not None:
            self._host.close()

    def abort(self) -> None:
        """Close at once."""
        if self._host is not None:
            self._host.abort()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the client."""
        if self._host is not None:
            self._host.write(data if isinstance(data, bytes) else bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        """Send the pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """A half-close is not offered: the connection may have to move."""
        return False

    def get_write_buffer_size(self) -> int:
        """Bytes that are not in the kernel."""
        return 0 if self._host is None else self._host.unsent()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """When the protocol is told to resume, and to pause."""
        return (0, 0) if self._host is None else self._host.native.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause, and to resume."""
        if self._host is not None and self._host.live():
            self._host.native.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        """The protocol wants no more."""
        if self._host is not None:
            self._host.gate.pause()

    def resume_reading(self) -> None:
        """The protocol wants more again."""
        if self._host is not None and self._host.live():
            self._host.gate.resume()

    def is_reading(self) -> bool:
        """Whether the protocol wants more."""
        return self._host is not None and not self._host.gate.inner_paused

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Go on with another protocol (an upgrade)."""
        if self._host is not None:
            self._host.protocol = protocol

    def get_protocol(self) -> Any:
        """The protocol inside; None if it is over."""
        return None if self._host is None else self._host.protocol


class NativeHost(asyncio.Protocol):
    """
    One connection: asyncio's transport outside, the protocol inside, the gate between.

    :param loop: the running loop.
    :param protocol: the protocol inside.
    :param connection: what the worker keeps of it.
    :param extra: what `get_extra_info` is to know.
    :param entering: called with `how` before the protocol gets anything, in the context that its
        tasks get; None if nobody wants to know.
    :param turn: at whose end it sends.
    :ivar how: how the present request was routed.
    """

    native: asyncio.Transport
    gate: Gate
    _inner: GatedTransport

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        connection: Connection,
        extra: dict[str, Any],
        how: How,
        entering: Callable[[How], object] | None,
        turn: Turn,
    ) -> None:
        self.protocol: Any = protocol
        self.extra = extra
        self.how = how
        self._loop = loop
        self._connection = connection
        self._entering = entering
        self._prefix = connection.handoff.prefix
        #: What the socket had before that was delivered.
        self._late = b""
        self._begun = False
        self._departing = False
        self._open = False
        self._closing = False
        self._reading = True
        self._flushed: Callable[[], None] | None = None
        #: What the protocol has written in this turn of the loop. The gate follows it at once, one
        #: system call sends it, and no client is woken before everybody's turn is over.
        self._pieces: list[bytes] = []
        self._size = 0
        self._written = 0
        self._turn = turn

    # ----------------------------------------------------------- what asyncio says

    def connection_made(self, transport: Any) -> None:
        """
        The transport is there: connect the protocol.

        What was read elsewhere comes a moment later, because asyncio (before Python 3.12) and
        uvloop start reading behind this call even if the protocol paused in it.
        """
        self.native = transport
        if self._closing:  # it was aborted before it began
            transport.abort()
            self.gate.closed()
            self._connection.closed()
            return
        self._inner = GatedTransport(self)
        self._open = True
        self._connection.begun()
        self._loop.call_soon(self._begin)
        try:
            self.protocol.connection_made(self._inner)
        except Exception:
            log.failure("A protocol failed to take its connection.")
            self.abort()

    def _begin(self) -> None:
        """Give the protocol what was read elsewhere, before anything that the socket has."""
        if self._begun:
            return
        self._begun = True
        prefix, self._prefix = self._prefix, b""
        if not self._open:
            return
        if not self._reading:
            self.native.pause_reading()  # what it was told before it began may be forgotten
        try:
            if prefix:
                self.gate.arrived(prefix)
            if self._late and not self._departing:
                late, self._late = self._late, b""
                self.data_received(late)
            self._connection.delivered()
        except Exception:
            log.failure("A protocol failed to read.")
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes have come from the client."""
        if not self._begun:
            # It follows what was read elsewhere, which may take the connection away first.
            self._late = data
            self._begin()
        elif self._open:
            self.gate.arrived(data)

    def eof_received(self) -> bool:
        """The client has closed its side. Whether the transport stays open."""
        if not self._begun:
            self._begin()
        return self._open and not self.gate.ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, unless it was we who left it."""
        if self._open:
            self._over(lambda: self.protocol.connection_lost(exc))

    def pause_writing(self) -> None:
        """The write buffer is full."""
        if self._open:
            self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """The write buffer has room again."""
        callback, self._flushed = self._flushed, None
        try:
            if self._open:
                self.protocol.resume_writing()
        finally:
            if callback is not None:
                self._loop.call_soon(self.guarded, lambda: self._all_sent(callback))

    def _all_sent(self, callback: Callable[[], None]) -> None:
        if self.live():
            self.native.set_write_buffer_limits()
            self._uncork()  # what was written meanwhile may be a reason to stay
            callback()

    # -------------------------------------------------- what the protocol inside does

    def write(self, data: bytes) -> None:
        """The protocol sends."""
        if not (self._open and data):
            return
        if self._size + len(data) > MOST_WAITING:
            self._uncork()
            if len(data) > MOST_WAITING:
                self._follow(data)
                return
        self._pieces.append(data)
        self._size += len(data)
        if len(self._pieces) == 1:
            self._turn.add(self)

    def end_turn(self) -> None:
        """Everybody else is served (`turn.Sender`)."""
        self.guarded(self._uncork)

    def _uncork(self) -> None:
        """Send what has been written."""
        pieces = self._pieces
        if pieces and self._open:
            self._pieces, self._size = [], 0
            self._follow(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _follow(self, data: bytes) -> None:
        data = self.gate.wrote(data)
        if data:
            self._written += len(data)
            self.native.write(data)

    def close(self) -> None:
        """The protocol closes."""
        if self.live():
            self._uncork()
            if self.gate.may_close():
                self.hang_up()

    def abort(self) -> None:
        """The protocol closes at once."""
        if self._open:
            try:
                self._uncork()
            finally:
                self._closing = True
                self.native.abort()
        self._closing = True

    loseConnection = close
    abortConnection = abort

    def unsent(self) -> int:
        """Bytes that are not in the kernel."""
        return self.native.get_write_buffer_size() + self._size if self._open else 0

    # ------------------------------------------------------- what the gate asks: Host

    def severed(self) -> bool:
        """Whether nobody is at the other end any more."""
        return severed(self.native.get_extra_info("socket").fileno())

    def deliver(self, data: bytes) -> None:
        """Give bytes to the protocol."""
        if self._entering is not None:
            self._entering(self.how)
        self.protocol.data_received(data)

    def live(self) -> bool:
        """Whether the connection is open and not being closed."""
        return self._open and not self._closing and not self.native.is_closing()

    def stop_reading(self) -> None:
        """Leave the client's bytes in the kernel."""
        if self._reading and self._open:
            self._reading = False
            self.native.pause_reading()

    def start_reading(self) -> None:
        """Read the client's bytes again."""
        if not self._reading and self._open:
            self._reading = True
            self.native.resume_reading()

    def send(self, data: bytes) -> None:
        """Write to the client."""
        self._written += len(data)
        self.native.write(data)

    def passed(self) -> int:
        """Bytes that have entered the kernel so far."""
        return self._written - (self.native.get_write_buffer_size() if self._open else 0)

    def later(self, seconds: float, action: Callable[[], None]) -> Cancelable:
        """Call `action` from the loop."""
        return self._loop.call_later(seconds, self.guarded, action)

    def guarded(self, action: Callable[[], None]) -> None:
        """An exception closes the connection, as it does when asyncio calls."""
        if self._open:
            try:
                action()
            except Exception:
                log.failure("A protocol failed to read.")
                self.abort()

    def flush(self, callback: Callable[[], None]) -> None:
        """Call back once all output is in the kernel."""
        self._uncork()
        if not self.unsent():
            callback()
            return
        self._flushed = callback
        self.native.set_write_buffer_limits(0)  # pauses now, and resumes when all is sent

    def depart(self, place: int, held: bytes) -> None:
        """
        Take the connection away.

        The descriptor is duplicated: `abort` only closes asyncio's own, in asyncio as in uvloop,
        with neither shutdown(2) nor SO_LINGER. Where there is no descriptor left, it is tried again
        as others leave.
        """
        held, self._late = held + self._late, b""
        self._departing = True
        inside = self.native.get_extra_info("socket")
        try:
            if self.unsent():
                raise BlockingIOError(errno.EAGAIN, "what was written meanwhile leaves first")
            descriptor = os.dup(inside.fileno())
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS or isinstance(error, BlockingIOError):
                self._connection.departing()
                self.later(RESPITE, lambda: self.depart(place, held))
                return
            log.error("A connection is lost, for it cannot move: {error}", error=error)
            self.gone()
            return
        self._open = False
        self.native.abort()
        sock = open_socket(descriptor, inside.family)
        try:
            self._say_goodbye()
        finally:
            self._inner.over()
            self._connection.departed(sock, place, held)

    def hang_up(self) -> None:
        """Close after what is written."""
        self._closing = True
        self.native.close()

    def half_close(self) -> None:
        """Tell the client that nothing follows what is written."""
        self.native.write_eof()

    def gone(self) -> None:
        """Tell the protocol that the client has left, and close."""
        if self._open:
            self.native.abort()
            self._over(self._say_goodbye)

    dismiss = gone

    def _over(self, tell: Callable[[], None]) -> None:
        self._open = False
        self.gate.closed()
        try:
            tell()
        finally:
            self._inner.over()
            self._connection.closed()

    def _say_goodbye(self) -> None:
        try:
            self.protocol.eof_received()
        finally:
            self.protocol.connection_lost(None)
