"""Accepting: in batches; each connection is read once, and placed if it brings its request."""

from __future__ import annotations

import errno
import select
import socket
from typing import Any

from twisted.logger import Logger

from ..core.addresses import unmapped_host
from ..core.messages.origin import NOWHERE, Origin
from ..system.descriptors import OUT_OF_DESCRIPTORS, RESPITE, Headroom, own_address, socket_maker
from ..system.sockets.door import close_everywhere, shut
from .arrival import READ_SIZE, Arrival
from .reception import Reception

log = Logger()

#: Connections accepted in one turn of the reactor, where they are only handed off.
BATCH = 64

_GONE = frozenset((errno.ECONNABORTED, errno.EPROTO, errno.EPERM))
_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)


class Acceptor:
    """
    Accepts on a listening socket.

    :param sock: the listening socket, non-blocking; owned from here on.
    :param reception: gets the connections.
    :param batch: connections accepted in one turn of the reactor.
    :param kind: the class of the connections' sockets. Python's object around the system's is half
        of what `accept` costs; where a connection is only handed off, none is needed.
    :ivar accepted: how many connections were accepted.
    """

    def __init__(
        self,
        sock: socket.socket,
        reception: Reception,
        batch: int = BATCH,
        kind: type[socket.SocketType] = socket.SocketType,
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.accepted = 0
        self._reception = reception
        self._batch = batch
        self._reactor = reception.system.reactor
        self._unix = sock.family == getattr(socket, "AF_UNIX", None)
        self._mapped = sock.family == socket.AF_INET6
        self._host = own_address(sock) or NOWHERE
        self._wrap = socket_maker(int(sock.family), kind)
        self._headroom = Headroom(BATCH)
        self._resting: Any = None
        self._warned = False
        self._stopped = True

    @property
    def resting(self) -> bool:
        """Whether accepting has paused, because descriptors are scarce."""
        return self._resting is not None

    def defer(self, flag: bool) -> None:
        """
        Accept a connection only when it brings bytes (tcp(7), TCP_DEFER_ACCEPT).

        A silent one is accepted a second later.
        """
        if not self._unix and hasattr(socket, "TCP_DEFER_ACCEPT"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(flag))

    def shut(self) -> None:
        """Have no connection begin any more, so that none comes behind the last `accept_all`."""
        shut(self.sock)

    def start(self) -> None:
        """Begin to accept."""
        self._stopped = False
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Leave new connections in the kernel's backlog."""
        self._stopped = True
        self._reactor.removeReader(self)
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    def accept_all(self) -> None:
        """Accept every connection of the backlog, which would be reset by closing the socket."""
        accepted = -1
        while accepted != self.accepted and self._resting is None:
            accepted = self.accepted
            self.doRead()

    def close(self) -> None:
        """Stop, and close the listening socket."""
        self.stop()
        self.sock.close()

    def close_everywhere(self) -> None:
        """Stop, and have connections be refused, also where another process has the socket."""
        self.stop()
        close_everywhere(self.sock)

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "acceptor"

    def connectionLost(self, reason: object) -> None:
        """Close: the reactor is stopping, or another process has closed the socket everywhere."""
        self.close()

    def doRead(self) -> None:
        """Accept what waits; read each connection once, and hand those off whose request came."""
        admit, headroom, wrap = self._reception.admit, self._headroom, self._wrap
        accept, host = self.sock._accept, self._host  # type: ignore[attr-defined]
        for _ in range(self._batch):
            if headroom.scarce and self._backlog_waits() and not headroom.has_room():
                self._rest("too many connections are in hand")
                return
            try:
                descriptor, address = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno == errno.EINVAL:  # another process has closed it everywhere
                    self.close()
                    return
                # Out of descriptors, accept(2) fails even when the backlog is empty.
                if self._backlog_waits():
                    if error.errno in OUT_OF_DESCRIPTORS:
                        self._free_descriptors()
                    self._rest(error.strerror or str(error))
                return
            self.accepted += 1
            sock = wrap(descriptor)
            if self._unix:
                address = NOWHERE
            elif self._mapped:
                address = unmapped_host(address[0]), address[1]
            arrival = Arrival(sock, Origin(address, host))
            try:
                arrival.data = sock.recv(READ_SIZE, _DONTWAIT)
            except BlockingIOError:
                pass
            except OSError:
                sock.close()
                continue
            else:
                if not arrival.data:  # the client has closed before it sent anything
                    sock.close()
                    continue
            admit(arrival)
            if headroom.scarce or descriptor + 1 >= headroom.ceiling:
                headroom.taken(descriptor)

    def _backlog_waits(self) -> bool:
        if self.sock.fileno() < 0:
            return False  # the last connection made the socket be closed
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def _rest(self, reason: str) -> None:
        """Leave the backlog to the kernel for a moment, instead of spinning on it."""
        if not self._warned:
            self._warned = True
            log.warn(
                "Cannot accept: {reason}. Accepting goes on as connections end;"
                " raise the limit of open files.",
                reason=reason,
            )
        self._reactor.removeReader(self)
        self._resting = self._reactor.callLater(RESPITE, self._resume)

    def _resume(self) -> None:
        if self._headroom.has_room():
            self._resting = None
            self._reactor.addReader(self)
            return
        self._resting = self._reactor.callLater(RESPITE, self._resume)
        if self._backlog_waits():
            self._free_descriptors()

    def _free_descriptors(self) -> None:
        try:
            self._reception.free_descriptors()
        except Exception:
            # A failure must neither close the listening socket nor end the waiting for room.
            log.failure("Connections could not be closed to free their descriptors.")
