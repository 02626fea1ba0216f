"""
A live connection as a thing that can be taken away and adopted.

Twisted has no public way to let go of a connected transport without closing it, nor to give one
bytes that another process has read.  The private names of Twisted that this needs stand in this
module and in `flush`; ``tests/transport/test_private_names.py`` fails loudly on a Twisted in which
one of them has changed:

* ``FileDescriptor.dataBuffer``, ``offset``, ``_tempDataBuffer``, ``_tempDataLen`` — output that is
  not yet in the kernel; ``_sendmsgQueue`` of `unix.Server` — descriptors that go with it;
* ``FileDescriptor._writeDisconnecting`` — a half-close is pending, and ``_writeDisconnected``, it
  is done;
* ``Connection._aborting`` — `abortConnection` was called and is about to act;
* ``Connection._dataReceived`` — the door through which input reaches the protocol;
* ``Connection.socket``, ``fileno`` deleted and ``connected``/``disconnected`` set — what
  `connectionLost` does too, so that every later callback on the transport is a no-op by Twisted's
  own guards;
* ``Server.__init__`` with those of its bases, and the attributes that they set, among them
  ``_addressType``; ``_LogOwner._getLogPrefix`` - what the log calls a protocol;
* ``PosixReactorBase._disconnectSelectable`` — how the reactor treats a failed read;
* ``Port._shouldShutdown`` — whether a port that stops listening is shut down first.

The rules: unregister before letting go (epoll keeps firing for a descriptor that lives on
elsewhere, and cannot be told to stop), and neither ``shutdown(2)`` nor ``SO_LINGER`` on a socket
that another process will hold.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import address, error, tcp, unix
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..system.descriptors import severed
from .adopt import host_address
from .flush import FlushMixin
from .write_batch import WriteBatch

log = Logger()

_UNNAMED = tcp.Connection.logstr
#: Shared, as Twisted shares its own.
DONE = Failure(error.ConnectionDone())


class MovableMixin(FlushMixin):
    """
    What a server transport needs to be movable, mixed into `tcp.Server` or `unix.Server`.

    Subclasses override the hooks `arrived`, `ended`, `write`, `caught_up` and `closed`.
    """

    #: Bytes that come before what the socket has.
    unread: bytes = b""
    #: The client's address as the PROXY protocol or another process named it; None: ask the socket.
    named_peer: IAddress | None = None
    #: Whether input is wanted, which it is from the beginning, and whether the reactor watches for
    #: it.
    _reading: bool
    _watched = False
    _kick: Any = None
    #: Whether the reactor watches for room to write.
    _writes = False
    #: What is written while the transport reads is flushed with this batch; None flushes at once.
    turn: WriteBatch | None = None

    def arrived(self, data: bytes) -> None:
        """Take bytes from the client."""
        self.protocol.dataReceived(data)

    def ended(self) -> bool:
        """Take note that the client has closed its side; returns whether to lose the connection."""
        return True

    def caught_up(self) -> None:
        """Take note that the protocol has been given all bytes that came with the connection."""

    def closed(self) -> None:
        """Take note that the connection is lost (not when it was taken away)."""

    def startReading(self) -> None:
        self._reading = True
        if not self._corked:
            self._watch()

    def stopReading(self) -> None:
        self._reading = False
        if not self._corked:
            self._watch()

    def _watch(self) -> None:
        """Let the reactor watch for input if it is wanted, and only then."""
        wanted = self._reading
        if wanted is not self._watched:
            self._watched = wanted
            if wanted:
                if not self._prepared:
                    self.prepare()
                super().startReading()
            else:
                super().stopReading()
        if self.unread and wanted:
            if self._kick is None:
                self._kick = self.reactor.callLater(0, self._deliver_unread)
        elif self._kick is not None:
            kick, self._kick = self._kick, None
            kick.cancel()

    def doRead(self) -> Any:
        # Not every event finds what it was for: one before it may have taken the connection away,
        # or made the protocol pause, which the reactor learns only when the transport is uncorked.
        if not (self.connected and self._reading):
            return None
        self._corked = True
        try:
            data = self.unread
            if data:
                self.unread = b""
                why = self._dataReceived(data)
                self.caught_up()
            else:
                why = super().doRead()
        except BaseException:
            self._corked = False
            raise
        if why is None and self._to_write and self.turn is not None:
            self.turn.add(self)
        else:
            self.uncork(why is None)
        return why

    def end_turn(self) -> None:
        """Flush: every readable connection has been served (`write_batch.Sender`)."""
        if self._corked:
            self.guarded(self.uncork)

    def _dataReceived(self, data: bytes | None) -> Any:
        if data:
            self.arrived(data)
            return None
        return error.ConnectionDone() if self.ended() else None

    def _deliver_unread(self) -> None:
        self._kick = None
        if self.unread and self._reading:
            self.guarded(self.doRead)

    def guarded(self, action: Callable[..., Any], *arguments: Any) -> None:
        """
        Call `action` as the reactor calls doRead, and raise nothing.

        Its result or exception may end the connection.
        """
        try:
            why = action(*arguments)
        except BaseException as raised:
            log.failure("Unhandled error in {transport}", transport=self)
            why = raised
        if why and self.connected:
            try:
                self.reactor._disconnectSelectable(self, why, True)
            except Exception:  # the protocol's, when it is told
                log.failure("Unhandled error in {transport}", transport=self)

    def loseConnection(self) -> None:
        over = self.disconnecting or self._writeDisconnected
        if self._corked and self.connected and not (over or self.TLS):
            self._reading, self._to_write, self.disconnecting = False, True, 1
        else:
            super().loseConnection()

    def startWriting(self) -> None:
        if self._corked:
            self._to_write = True
        else:
            if not self._prepared:
                self.prepare()
            self._writes = True
            super().startWriting()

    def stopWriting(self) -> None:
        self._to_write = False
        if self._writes:
            self._writes = False
            super().stopWriting()

    def uncork(self, send: bool = True) -> None:
        """
        Do what the protocol has asked for while it was given bytes: write, close, pause.

        Most responses are written, and many connections closed, before the protocol returns. What
        is sent here costs neither the registration of a writer nor its removal; a connection that
        ends here was never registered at all.

        :param send: send what was written. If not all of it leaves, the reactor sends the rest.
        """
        self._corked = False
        if not self.connected:
            return
        if self._to_write and send:
            self._to_write = False
            if self.sent_at_once():
                if self.disconnecting:
                    self.connectionLost(DONE)
                    return
            else:
                why = self.doWrite()
                if why is not None:
                    self.reactor._disconnectSelectable(self, why, False)
                    return
                if self.unsent():
                    self.startWriting()
        if self.connected:
            self._watch()

    # ---------------------------------------------------------------- leaving

    def severed(self) -> bool:
        """Whether the kernel knows that the client is gone."""
        return severed(self.socket.fileno())

    def live(self) -> bool:
        """Whether the connection is open and not being closed."""
        return bool(self.connected and not self.disconnecting and not self._aborting)

    def can_leave(self) -> bool:
        """Whether `detach` would take the connection away whole."""
        return self.live() and not self._writeDisconnecting and not self.unsent()

    def detach(self) -> tuple[socket.socket, bytes]:
        """
        Take the connection away from this transport and from the reactor.

        No shutdown, no close, no `connectionLost`: the caller tells the protocol, and owns the
        socket.

        :returns: the socket and the bytes not yet delivered.
        :raises RuntimeError: output is pending or the connection is closing (`can_leave` is False).
        """
        if not self.can_leave():
            raise RuntimeError("cannot detach: output is pending, or the connection is closing")
        self._corked = self._reading = False
        if self._watched or self._kick:
            self._watch()
        self.stopWriting()
        if not self._prepared:
            self.prepare()
        self.connected, self.disconnected = 0, 1
        self.producer = None
        unread, self.unread = self.unread, b""
        sock: socket.socket = self.socket
        del self.socket, self.fileno
        self.protocol = None
        return sock, unread

    def connectionLost(self, reason: Failure) -> None:
        lost = bool(self.connected)
        self._when_flushed = None
        self._corked = False
        unknown = not (self._watched or self._writes or self._kick)
        try:
            if reason is DONE and lost and unknown and self.producer is None:
                self._lose()
            else:
                super().connectionLost(reason)
        finally:
            if lost:
                self.closed()

    def _lose(self) -> None:
        """Do what `Connection.connectionLost` does, for what the reactor has never heard of."""
        self.connected, self.disconnected = 0, 1
        self._reading = self._to_write = False
        sock, protocol = self.socket, self.protocol
        del self.socket, self.fileno, self.protocol
        try:
            # A process that the application has forked may have a copy.
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client has reset the connection
        sock.close()
        protocol.connectionLost(DONE)

    def getPeer(self) -> Any:
        return self.named_peer or super().getPeer()

    def __repr__(self) -> str:
        protocol = type(getattr(self, "protocol", self)).__name__
        return f"<{protocol} #{self.sessionno} from {self.hostname or 'a UNIX socket'}>"


class MovableServer(MovableMixin, tcp.Server):
    """
    A TCP connection that can be taken away and adopted.

    It is made without Twisted's constructors, of which a short connection needs little. The socket
    may block until it is used for more than the send with which a short connection ends: what such
    a socket needs is set then (`prepare`).

    :param server: there is no port that accepts; None.
    """

    #: The connection's own name, as getsockname(2) returns it; None: ask the socket when it is
    #: wanted. It does not change, and twisted.web asks for every request.
    own_name: tuple[Any, ...] | None = None
    _prepared = False

    def __init__(
        self,
        sock: socket.socket,
        protocol: Any,
        client: tuple[Any, ...],
        server: None,
        number: int,
        reactor: Any,
    ) -> None:
        self.reactor = reactor
        self._tempDataBuffer: list[bytes] = []
        self._tempDataLen = 0
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        if len(client) != 2:
            self._addressType = address.IPv6Address
        self.server = server  # type: ignore[assignment]
        self.client = client
        self.sessionno = number
        self.hostname = client[0]
        self._reading = True
        self.connected = 1

    def logPrefix(self) -> str:
        # The reactor asks at each event, so it is made once; a short connection has none.
        if self.logstr == _UNNAMED:
            protocol = getattr(self, "protocol", None)
            prefix = "-" if protocol is None else self._getLogPrefix(protocol)
            self.logstr = f"{prefix},{self.sessionno},{self.hostname}"
        return self.logstr

    def getHost(self) -> Any:
        if self.own_name is None:
            self.own_name = self.socket.getsockname()
        return host_address(self.own_name)


class MovableUNIXServer(MovableMixin, unix.Server):
    """A connection over a UNIX socket that can be taken away and adopted."""

    def getHost(self) -> Any:
        # unix.Server asks for no other name, which is empty for one end of a pair.
        return address.UNIXAddress(self.socket.getsockname() or None)


def spare(port: Any) -> None:
    """Have a port closed without shutdown(2), which would end its socket in other processes."""
    port._shouldShutdown = False
