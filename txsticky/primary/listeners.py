"""
The listening sockets, and who accepts on each.

With ``--accept workers`` each slot has a socket of its own for each TCP endpoint, and the kernel
spreads the connections over them (socket(7), SO_REUSEPORT).  A worker of the slot accepts there;
the primary does whenever none can.  No socket is closed as long as the cluster lives: the kernel
would reset what waits in its queue, and number the others anew (`system.sockets.reuseport`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from twisted.logger import Logger

from ..intake.acceptor import Acceptor
from ..intake.reception import Reception
from ..system.descriptors import own
from ..system.sockets.half_open import half_open
from .kernel_routes import Group, KernelRoutes
from .upgrade.packing import Descriptors

log = Logger()

#: The slot of the sockets that are no worker's (slots of workers begin at 1).
NOBODYS = 0
#: The slot of the first socket of a shared address: it is there as long as the cluster.
FIRST = 1


class Listeners:
    """
    All listening sockets of a cluster.

    :param reception: gets the connections that the primary accepts.
    :param backlog: how many connections may wait at each socket.
    :param routes: has the kernel choose among the sockets of an address, where it can.
    """

    def __init__(self, reception: Reception, backlog: int, routes: KernelRoutes) -> None:
        self._reception = reception
        self._backlog = backlog
        self.routes = routes
        self._acceptors: dict[tuple[int, int], Acceptor] = {}
        #: The slots with a worker that accepts.
        self._attended: set[int] = set()
        self._open = False
        self._waits = False
        self._lets_in = False
        #: The numbers of those that another program may go on with.
        self._lent: set[int] = set()
        self._accepted = 0
        self.accepted_by_workers = 0

    @property
    def acceptors(self) -> list[Acceptor]:
        """The acceptors, one for each socket."""
        return list(self._acceptors.values())

    @property
    def accepted(self) -> int:
        """How many connections were accepted, in the primary and in the workers."""
        here = sum(acceptor.accepted for acceptor in self.acceptors)
        return self._accepted + here + self.accepted_by_workers

    # --------------------------------------------------------------- sockets

    def open(self, number: int, sock: socket.socket, shared: bool, lent: bool = False) -> None:
        """
        Take in what an endpoint has opened.

        :param number: which `--listen` it is.
        :param shared: whether the workers accept as well. The endpoint bound its address for itself
            alone, so that one that is in use is an error; only from here on others may share it.
        :param lent: whether the socket may be another program's as well, as a service manager's is.
        """
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if lent:
            self._lent.add(number)
        self.add(FIRST if shared else NOBODYS, number, sock)

    def add(self, slot: int, number: int, sock: socket.socket) -> None:
        """Take in a socket of a slot."""
        sock.listen(self._backlog)
        acceptor = self._acceptors[slot, number] = Acceptor(sock, self._reception)
        if self._waits:
            acceptor.defer(True)
        if self._open and slot not in self._attended:
            acceptor.start()

    def of(self, slot: int) -> list[tuple[int, int]]:
        """
        The sockets for a worker of a slot; those that are missing are made.

        :returns: for each, the number of its `--listen` and its descriptor, which stays ours.
        """
        shared = [number for of_slot, number in self._acceptors if of_slot == FIRST]
        for number in shared:
            if (slot, number) not in self._acceptors:
                self._add_sibling(slot, number)
        return [
            (number, self._acceptors[slot, number].fileno())
            for number in shared
            if (slot, number) in self._acceptors
        ]

    def _add_sibling(self, slot: int, number: int) -> None:
        try:
            self.add(slot, number, sibling(self._acceptors[FIRST, number].sock))
        except OSError as error:
            # The worker gets what the primary and other workers give to it.
            log.warn("Worker {slot} cannot accept itself: {error}.", slot=slot, error=error)

    def _groups(self) -> dict[int, Group]:
        """
        The sockets that share an address, by the number of their `--listen`.

        The first socket of an address is the first of its group; the others follow in the order in
        which they were made, which an upgrade keeps.
        """
        return {
            number: [
                (FIRST, first.sock),
                *(
                    (slot, acceptor.sock)
                    for (slot, of_number), acceptor in self._acceptors.items()
                    if of_number == number and slot != FIRST
                ),
            ]
            for (of_slot, number), first in self._acceptors.items()
            if of_slot == FIRST
        }

    def snapshot(self, descriptors: Descriptors) -> list[tuple[int, int, int]]:
        """The sockets that no endpoint has opened, for `restore`: slot, number and descriptor."""
        return [
            (slot, number, descriptors.keep(acceptor.fileno()))
            for (slot, number), acceptor in self._acceptors.items()
            if slot > FIRST
        ]

    def restore(self, siblings: Iterable[Sequence[int]]) -> None:
        """Take up the sockets that no endpoint has opened."""
        for slot, number, descriptor in siblings:
            self.add(slot, number, socket.socket(fileno=own(descriptor)))

    # ------------------------------------------------------------- accepting

    def defer(self, waits: bool) -> None:
        """Accept connections only when they bring bytes, or again at once."""
        self._waits = waits and not self._lets_in
        for acceptor in self.acceptors:
            acceptor.defer(self._waits)

    def let_in(self) -> None:
        """Accept connections that bring no bytes as well, until the end: no socket is left open."""
        self._lets_in = True
        self.defer(False)

    def any_outside(self) -> bool:
        """Whether clients are connected, or about to be, that are in no backlog yet."""
        inet = (socket.AF_INET, socket.AF_INET6)
        return half_open({a.sock.getsockname()[1] for a in self.acceptors if a.sock.family in inet})

    def shut(self) -> None:
        """Have no connection begin any more: the sockets are to be closed."""
        for (_, number), acceptor in self._acceptors.items():
            if number not in self._lent:
                acceptor.shut()

    def start(self) -> None:
        """Begin to accept, where no worker does."""
        self._open = True
        for (slot, _), acceptor in self._acceptors.items():
            if slot not in self._attended:
                acceptor.start()

    def attend(self, slots: set[int]) -> None:
        """
        Accept where no worker does.

        :param slots: those with a worker that accepts and is not suspect.
        """
        before, self._attended = self._attended, slots
        self.routes.follow(self._groups(), slots)
        if not self._open:
            return
        for (slot, _), acceptor in self._acceptors.items():
            if slot in slots and slot not in before:
                acceptor.stop()
            elif slot in before and slot not in slots:
                acceptor.start()

    def accept_all(self) -> None:
        """Accept every connection that is in a backlog."""
        for acceptor in self.acceptors:
            acceptor.accept_all()

    def close(self) -> None:
        """Close every socket, so that the system refuses connections at it."""
        self._open = False
        self._accepted = self.accepted - self.accepted_by_workers
        for (_, number), acceptor in self._acceptors.items():
            if number in self._lent:
                acceptor.close()
            else:
                acceptor.close_everywhere()
        self._acceptors.clear()


def sibling(first: socket.socket) -> socket.socket:
    """
    Make a further socket with the address of one that is bound.

    :raises OSError: the system does not let it be shared.
    """
    sock = socket.socket(first.family, socket.SOCK_STREAM)
    try:
        if first.family == socket.AF_INET6:
            only = first.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        # SO_REUSEADDR is for the connections that were accepted before the address was shared.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(first.getsockname())
    except BaseException:
        sock.close()
        raise
    return sock
