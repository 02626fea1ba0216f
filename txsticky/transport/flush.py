"""
The output of a server transport: how much of it is in the kernel, and when all of it is.

The private names of Twisted here are explained in `movable`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp

_MORE = int(getattr(socket, "MSG_MORE", 0))
#: With the last bytes, whether the socket may block or not.
_LAST = _MORE | int(getattr(socket, "MSG_DONTWAIT", 0))


if TYPE_CHECKING:

    class _Base(tcp.Server):
        """What the mixin is mixed into."""

        protocol: Any
        producer: Any
        reactor: Any

else:
    _Base = object


class FlushMixin(_Base):
    """The output of a server transport: how much of it is in the kernel, and when all of it is."""

    _sendmsgQueue: Any = ()
    _passed = 0
    _when_flushed: Callable[[], None] | None = None
    #: Whether the socket has the settings of one that is used for more than a single send.
    _prepared = True
    _no_delay: bool | None = None
    #: Whether the protocol is being given something, or was in this turn: what it wants meanwhile
    #: is done in `uncork`. So it is from the beginning, until `begin` has given it the first bytes.
    _corked = True
    _to_write = False

    def prepare(self) -> None:
        """Set the socket up for more than one send."""
        self._prepared = True
        self.socket.setblocking(False)
        if self._no_delay is not None:
            super().setTcpNoDelay(self._no_delay)

    def setTcpNoDelay(self, enabled: bool) -> None:
        if self._prepared:
            super().setTcpNoDelay(enabled)
        else:
            self._no_delay = bool(enabled)

    def getTcpNoDelay(self) -> bool:
        if not self._prepared:
            self.prepare()
        return super().getTcpNoDelay()

    def getHandle(self) -> socket.socket:
        if not self._prepared:
            self.prepare()
        return super().getHandle()

    def write(self, data: bytes) -> None:
        # As Twisted does, in one call: most of what is written is, while the protocol is given
        # bytes, and fits.
        if self._corked and data.__class__ is bytes and not (self.TLS or self._writeDisconnected):
            size = self._tempDataLen + len(data)
            if data and self.connected and size + len(self.dataBuffer) <= self.bufferSize:
                self._tempDataBuffer.append(data)
                self._tempDataLen = size
                self._to_write = True
                return
        super().write(data)

    def unsent(self) -> int:
        """How many bytes `write` accepted that are not yet in the kernel."""
        return int(len(self.dataBuffer) - self.offset + self._tempDataLen)

    def passed(self) -> int:
        """How many bytes have entered the kernel so far."""
        return self._passed

    def doWrite(self) -> Any:
        if not self.connected:
            return None
        if not self._prepared:
            self.prepare()
        why = super().doWrite()
        if self._when_flushed is not None and why is None and not self.unsent():
            callback, self._when_flushed = self._when_flushed, None
            callback()
        return why

    def end_output(self) -> None:
        """
        End what is sent once all output is in the kernel; what comes is read on.

        Nothing may be written after this. It is not `loseWriteConnection`, behind which
        `loseConnection` calls `connectionLost` before it returns, which TLS does not survive.
        """
        self.when_sent(self._shut)

    def _shut(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client has reset the connection, which the next read tells

    def writeSomeData(self, data: Any) -> Any:
        if not data:
            return 0  # a close finds nothing left; behind a half-close send(2) would fail
        # The last bytes before the close travel with the FIN (send(2), MSG_MORE): on a short
        # connection that saves a packet and a waking of the client.
        last = self.disconnecting and self.producer is None and not self._sendmsgQueue
        if last and len(data) <= self.SEND_LIMIT:
            try:
                sent: Any = self.socket.send(data, _MORE)
            except OSError:
                sent = super().writeSomeData(data)  # the usual way tells what it means
        else:
            sent = super().writeSomeData(data)
        if sent.__class__ is int:  # else it is why the connection is lost
            self._passed += sent
        return sent

    def sent_at_once(self) -> bool:
        """
        Send what was written, if that is all there is to do.

        :returns: whether all of it is in the kernel. If not, `doWrite` has to be called.
        """
        pieces, producer = self._tempDataBuffer, self.producer
        waits = self.dataBuffer or self._writeDisconnecting or self._sendmsgQueue
        paced = producer is not None and (self.producerPaused or not self.streamingProducer)
        if waits or paced or self._when_flushed or not 0 < self._tempDataLen <= self.SEND_LIMIT:
            return False
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        # With the FIN, as in `writeSomeData`.
        last = self.disconnecting and producer is None
        if not (last or self._prepared):
            self.prepare()
        try:
            sent = self.socket.send(data, _LAST if last else 0)
        except OSError:
            return False  # the usual way tells what it means
        self._passed += sent
        self._tempDataBuffer, self._tempDataLen = [], 0
        self.dataBuffer = data[sent:]
        return not self.dataBuffer

    def flush(self, callback: Callable[[], None]) -> None:
        """
        Call back once all output is in the kernel: now if one send does it.

        Never call back if the connection is lost.
        """
        if self.unsent() and not self.disconnecting:
            why = self.doWrite()
            if why is not None:
                self.reactor._disconnectSelectable(self, why, False)
                return
        if self.connected:
            self.when_sent(callback)

    def when_sent(self, callback: Callable[[], None]) -> None:
        """
        Call back once all output is in the kernel, at whatever time that is sent.

        Never call back if the connection is lost.
        """
        if self.unsent():
            self._when_flushed = callback
        else:
            callback()
