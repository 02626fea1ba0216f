"""
asyncio protocols on adopted connections: asyncio's own transports, with the gate between.

The data path is that of the loop (uvloop's, where it is installed); no Twisted transport is in it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.logger import Logger

from ...core.how import How
from ...core.http.steps import Begin, Content
from ...system.descriptors import OUT_OF_DESCRIPTORS, RESPITE, open_socket, quiet, severed
from ...transport.host import Cancelable
from ...transport.policy import Kept
from ...transport.write_batch import WriteBatch
from .receiving import settled
from .transport import GatedTransport
from .writing import WritingHost

log = Logger()


@attrs.define
class _Start:
    """
    How a connection starts.

    :ivar prefix: bytes that another process has read; they come before those of the socket.
    :ivar late: bytes that the socket had before the prefix was delivered.
    :ivar begun: whether the delivery has begun.
    :ivar aborted: whether to close the connection as soon as asyncio gives its transport.
    """

    prefix: bytes
    late: bytes = b""
    begun: bool = False
    aborted: bool = False


class NativeHost(WritingHost):
    """
    One connection: asyncio's transport outside, the protocol inside, the gate between.

    :param loop: the running loop.
    :param protocol: the protocol inside.
    :param connection: what the worker keeps of it.
    :param extra: what `get_extra_info` is to know.
    :param entering: called with `how` before the protocol gets anything, in the context that its
        tasks get; None if that is not asked for.
    :param turn: the end of an iteration of the loop, when output is sent.
    :ivar how: how the present request was routed.
    """

    _inner: GatedTransport

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        connection: Kept,
        extra: dict[str, Any],
        how: How,
        entering: Callable[[How], object] | None,
        turn: WriteBatch,
    ) -> None:
        super().__init__(loop, protocol, turn)
        self.extra = extra
        self.how = how
        self._connection = connection
        self._entering = entering
        self._start = _Start(connection.handoff.prefix)
        self._reading = True

    # ----------------------------------------------------------- what asyncio says

    def connection_made(self, transport: Any) -> None:
        """
        Connect the protocol.

        What was read elsewhere comes a moment later, because asyncio (before Python 3.12) and
        uvloop start reading behind this call even if the protocol paused in it.
        """
        self.native = transport
        if self._start.aborted:
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
        start = self._start
        if start.begun:
            return
        start.begun = True
        prefix, start.prefix = start.prefix, b""
        if not self._open:
            return
        if not self._reading:
            self.native.pause_reading()  # what it was told before it began may be forgotten
        try:
            if prefix:
                self.gate.arrived(prefix)
            if start.late:  # nothing, if the prefix has taken the connection away
                late, start.late = start.late, b""
                self.data_received(late)
            self._connection.delivered()
        except Exception:
            log.failure("A protocol failed to read.")
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        if not self._start.begun:
            # The bytes follow what was read elsewhere, which may take the connection away first.
            self._start.late = data
            self._begin()
        elif self._open:
            self.gate.arrived(data)

    def eof_received(self) -> bool:
        """Tell whether the transport stays open, now that the client has closed its side."""
        self._begin()
        return not self.gate.ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection, unless it was taken away from here."""
        if self._open:
            self._over(lambda: self.protocol.connection_lost(exc))

    # -------------------------------------------------- what the protocol inside does

    def close(self) -> None:
        """Close for the protocol, after what it has written."""
        if self.live():
            self._uncork()
            if self.gate.may_close():
                self.hang_up()

    def abort(self) -> None:
        """Close at once."""
        if self._open:
            try:
                self._uncork()
            finally:
                self.native.abort()
        else:
            self._start.aborted = True

    loseConnection = close
    abortConnection = abort

    # ------------------------------------------------------- what the gate asks: Host

    def severed(self) -> bool:
        """Whether the kernel knows that the client's end is gone."""
        return severed(self.native.get_extra_info("socket").fileno())

    def quiet(self) -> float:
        """Seconds for which no data has gone either way; 0 over a UNIX socket."""
        return quiet(self.native.get_extra_info("socket"))

    def deliver(self, data: bytes) -> None:
        """Give bytes to the protocol."""
        if self._entering is not None:
            self._entering(self.how)
        self.protocol.data_received(data)

    def tell(self, step: Begin | Content) -> None:
        """Do nothing: asyncio's protocols take bytes, and no events."""
        raise NotImplementedError

    def settled(self, messages: int) -> bool:
        """Whether the application has taken all messages, and waits for the next."""
        return settled(self.protocol, messages)

    def stop_reading(self) -> None:
        """Leave the client's bytes in the kernel."""
        self._reading = False
        self.native.pause_reading()

    def start_reading(self) -> None:
        """Read the client's bytes again."""
        self._reading = True
        self.native.resume_reading()

    def later(self, seconds: float, action: Callable[[], None]) -> Cancelable:
        """Call `action` from the loop."""
        return self._loop.call_later(seconds, self.guarded, action)

    def guarded(self, action: Callable[[], None]) -> None:
        """Call `action`; an exception closes the connection, as it does when asyncio calls."""
        if self._open:
            try:
                action()
            except Exception:
                log.failure("A protocol failed to read.")
                self.abort()

    def depart(self, place: int, held: bytes) -> None:
        """Take the connection away; to the protocol the client has left."""
        held, self._start.late = held + self._start.late, b""
        self._connection.departing()
        self._inner.over()
        try:
            self._say_goodbye()
        finally:
            self.protocol = asyncio.Protocol()  # the other one hears no more of the connection
            self._leave(place, held)

    def _leave(self, place: int, held: bytes) -> None:
        """Take the descriptor; where there is none for it, once others have closed theirs."""
        try:
            sock = taken(self.native)
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                self.later(RESPITE, lambda: self._leave(place, held))
            else:
                log.error("A connection is lost, for it cannot move: {error}", error=error)
                self.gone()
        else:
            self._open = False
            self._connection.departed(sock, place, held)

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


def taken(native: asyncio.Transport) -> socket.socket:
    """
    Take a connection away from asyncio's transport.

    The descriptor is duplicated: `abort` only closes asyncio's own, in asyncio as in uvloop, with
    neither shutdown(2) nor SO_LINGER.

    :returns: the connection.
    :raises OSError: it cannot be duplicated; the transport goes on.
    """
    inside = native.get_extra_info("socket")
    descriptor = os.dup(inside.fileno())
    native.abort()
    return open_socket(descriptor, inside.family)
