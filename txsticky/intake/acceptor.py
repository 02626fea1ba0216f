"""
Accepting: in batches, each connection read once and handed off at once if it brings its request.
"""

from __future__ import annotations

import errno
import select
import socket
from typing import Any

from twisted.logger import Logger

from ..core.addresses import unmapped_host
from ..system.descriptors import OUT_OF_DESCRIPTORS, RESPITE, descriptor_ceiling, has_room
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
    :param number: which `--listen` it is.
    :param reception: gets the connections.
    :param batch: connections accepted in one turn of the reactor.
    """

    def __init__(
        self, sock: socket.socket, number: int, reception: Reception, batch: int = BATCH
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.number = number
        self.accepted = 0
        self._reception = reception
        self._batch = batch
        self._reactor = reception.system.reactor
        self._family = int(sock.family)
        self._unix = sock.family == getattr(socket, "AF_UNIX", None)
        self._ceiling = descriptor_ceiling()
        self._scarce = False
        self._resting: Any = None
        self._warned = False
        self._stopped = True

    @property
    def resting(self) -> bool:
        """Whether nobody can be accepted at present, for descriptors are short."""
        return self._resting is not None

    def defer(self, flag: bool) -> None:
        """
        Accept a connection only when it brings bytes (tcp(7), TCP_DEFER_ACCEPT); silent ones come a
        second later.
        """
        if not self._unix and hasattr(socket, "TCP_DEFER_ACCEPT"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, int(flag))

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
        """Accept everybody who is there already: closing would reset their connections."""
        accepted = -1
        while accepted != self.accepted and self._resting is None:
            accepted = self.accepted
            self.doRead()

    def close(self) -> None:
        """Stop, and close the listening socket."""
        self.stop()
        self.sock.close()

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "acceptor"

    def connectionLost(self, reason: object) -> None:
        """The reactor is stopping."""
        self.close()

    def doRead(self) -> None:
        """
        Accept what waits; read each connection once, and hand it off if its first request is there.
        """
        reception, family = self._reception, self._family
        # What `socket.accept` does, less its Python object around the system's: half of its cost.
        accept, wrap = self.sock._accept, socket.SocketType  # type: ignore[attr-defined]
        for _ in range(self._batch):
            # Once descriptors are scarce, room is looked for before each.
            if self._scarce and self._somebody_waits() and not has_room(self._ceiling):
                self._rest("too many connections are in hand")
                return
            try:
                descriptor, address = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                # Out of descriptors, accept(2) fails even when nobody is there to be accepted.
                if self._somebody_waits():
                    if error.errno in OUT_OF_DESCRIPTORS:
                        self._free_descriptors()
                    self._rest(error.strerror or str(error))
                return
            self.accepted += 1
            sock = wrap(family, socket.SOCK_STREAM, 0, descriptor)
            peer = ("", 0) if self._unix else (unmapped_host(address[0]), address[1])
            arrival = Arrival(sock, peer, ("", 0), self.number)
            try:
                arrival.data = sock.recv(READ_SIZE, _DONTWAIT)
            except BlockingIOError:
                pass
            except OSError:
                sock.close()
                continue
            else:
                if not arrival.data:  # closed before it said anything
                    sock.close()
                    continue
            # One connection that cannot be dealt with must not close the listening socket.
            reception.admit(arrival)
            self._scarce = descriptor >= self._ceiling - 1 - self._scarce * BATCH

    def _somebody_waits(self) -> bool:
        if self.sock.fileno() < 0:
            return False  # it was closed over the last connection
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))

    def _rest(self, reason: str) -> None:
        """
        Nobody more can be accepted: leave the backlog to the kernel for a moment instead of
        spinning on it.
        """
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
        if has_room(self._ceiling):
            self._resting = None
            self._reactor.addReader(self)
            return
        self._resting = self._reactor.callLater(RESPITE, self._resume)
        if self._somebody_waits():
            self._free_descriptors()

    def _free_descriptors(self) -> None:
        try:
            self._reception.free_descriptors()
        except Exception:
            # It must not close the listening socket, nor keep it from being looked at again.
            log.failure("Connections could not be given up.")
