"""The listening sockets: which process accepts on which, and that no client at one is forgotten."""

from __future__ import annotations

import socket
from unittest import mock

from tests.fakes import FakeSystem
from tests.shells import ShellCase
from txsticky.config import Config
from txsticky.intake import acceptor as accepting
from txsticky.intake.arrival import Arrival
from txsticky.intake.reception import Reception
from txsticky.primary import listeners
from txsticky.primary.kernel_routes import KernelRoutes
from txsticky.primary.listeners import FIRST, NOBODYS, Listeners
from txsticky.primary.upgrade.packing import Descriptors

DEFER = (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)


class ListenerCase(ShellCase):
    """
    The listeners of a cluster of three, with one shared socket.

    :ivar placed: what the primary accepted.
    """

    def setUp(self) -> None:
        super().setUp()
        self.placed: list[Arrival] = []
        system = FakeSystem(reactor=self.reactor)
        self.reception = Reception(system, Config(), self.placed.append)
        self.listeners = Listeners(self.reception, 100, KernelRoutes(""))
        #: The slots whose workers accept.
        self.slots: set[int] = set()
        self.addCleanup(self.end)

    def end(self) -> None:
        """Close everything."""
        self.listeners.close()
        self.reception.close()
        for arrival in self.placed:
            arrival.sock.close()

    def open(self, shared: bool = True, family: int = socket.AF_INET) -> None:
        """Open the first socket, and those of the slots."""
        self.first = self.listening(family)
        self.listeners.open(7, self.first.dup(), shared)
        for slot in (1, 2, 3):
            self.listeners.of(slot)

    def ready(self, *slots: int) -> None:
        """Have the workers of some slots accept."""
        self.slots.update(slots)
        self.listeners.attend(set(self.slots))

    def gone(self, *slots: int) -> None:
        """Have the workers of some slots accept no more."""
        self.slots.difference_update(slots)
        self.listeners.attend(set(self.slots))

    def watched(self) -> set[int]:
        """The slots on whose sockets the primary accepts."""
        slots = {acceptor: slot for (slot, _), acceptor in self.listeners._acceptors.items()}
        return {slots[reader] for reader in self.reactor.getReaders() if reader in slots}

    def connect(self, number: int = 1) -> list[socket.socket]:
        """Connect so many clients, each with a request."""
        clients = [
            self.owned(socket.create_connection(self.first.getsockname()[:2]))
            for _ in range(number)
        ]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return clients


class SocketTests(ListenerCase):
    """The sockets."""

    def test_one_for_each_slot(self) -> None:
        """Each slot has a socket of its own with the same address, the first the endpoint's."""
        for family in (socket.AF_INET, socket.AF_INET6):
            self.open(family=family)
            for slot in (1, 2, 3):
                ((number, descriptor),) = self.listeners.of(slot)
                with socket.socket(fileno=socket.dup(descriptor)) as sock:
                    self.assertEqual(sock.getsockname(), self.first.getsockname())
                self.assertEqual(number, 7)
            self.assertEqual(
                [slot for slot, _, _ in self.listeners.snapshot(Descriptors())], [2, 3]
            )
            self.assertEqual(len(self.listeners.acceptors), 3)
            self.listeners.close()

    def test_the_kernel_spreads(self) -> None:
        """Connections wait at the sockets of all slots."""
        self.open()
        self.connect(60)
        for acceptor in self.listeners.acceptors:
            acceptor.accept_all()
            self.assertGreater(acceptor.accepted, 3)
        self.assertEqual((self.listeners.accepted, len(self.placed)), (60, 60))

    def test_both_families(self) -> None:
        """A socket that serves IPv4 as well has siblings that do."""
        self.first = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.owned(self.first)
        self.listeners.open(7, self.first.dup(), True)
        self.listeners.of(2)
        for _ in range(40):
            self.owned(socket.create_connection(("127.0.0.1", self.first.getsockname()[1])))
        self.listeners.accept_all()
        self.assertEqual([0 < a.accepted < 40 for a in self.listeners.acceptors], [True, True])

    def test_connections_from_before(self) -> None:
        """Connections that were accepted before are no obstacle to sharing, nor are closed ones."""
        self.first = self.owned(socket.create_server(("127.0.0.1", 0)))  # reused, as Twisted does
        clients = self.connect(4)
        for client in clients[:2]:
            self.first.accept()[0].close()
            client.close()
        self.owned(self.first.accept()[0])
        self.listeners.open(7, self.first.dup(), True)
        self.assertEqual(len(self.listeners.of(2)), 1)

    def test_still_in_use(self) -> None:
        """To other programs a shared address is in use."""
        self.open()
        stranger = self.owned(socket.socket())
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.assertRaises(OSError, stranger.bind, self.first.getsockname())

    def test_not_shared(self) -> None:
        """A socket that is not shared is no worker's: the primary accepts on it for ever."""
        self.open(shared=False)
        self.assertEqual([self.listeners.of(slot) for slot in (1, 2)], [[], []])
        self.listeners.start()
        self.ready(1, 2, 3)
        self.assertEqual(self.watched(), {NOBODYS})

    def test_not_shared_any_more(self) -> None:
        """After an upgrade without the option, workers get no sockets; the primary has them."""
        self.listeners.open(7, self.listening().dup(), False)
        self.listeners.add(2, 7, self.listening().dup())
        self.listeners.start()
        self.assertEqual([self.listeners.of(slot) for slot in (1, 2)], [[], []])
        self.assertEqual(self.watched(), {NOBODYS, 2})

    def test_refused(self) -> None:
        """If the system makes no further socket, the worker has none, and that is logged."""
        self.open()
        with (
            mock.patch.object(listeners, "sibling", side_effect=OSError("no")),
            mock.patch.object(listeners, "log") as log,
        ):
            self.assertEqual(self.listeners.of(4), [])
        self.assertEqual(log.warn.call_count, 1)
        self.assertEqual(len(self.listeners.of(4)), 1)

    def test_not_bound(self) -> None:
        """A further socket that cannot be bound is closed."""
        first = self.listening()
        with self.assertRaises(OSError):
            listeners.sibling(first)  # it was not opened for sharing

    def test_defer(self) -> None:
        """The kernel holds silent connections back at each socket, also at later ones."""
        self.open()
        self.listeners.defer(True)
        self.listeners.of(4)
        held = [acceptor.sock.getsockopt(*DEFER) > 0 for acceptor in self.listeners.acceptors]
        self.assertEqual(held, [True] * 4)
        self.listeners.defer(False)
        held = [acceptor.sock.getsockopt(*DEFER) > 0 for acceptor in self.listeners.acceptors]
        self.assertEqual(held, [False] * 4)

    def test_shut(self) -> None:
        """No connection begins at any of them any more, but at one that was lent."""
        self.open()
        lent = self.listening()
        self.listeners.open(8, lent.dup(), False, lent=True)
        with mock.patch.object(accepting, "shut") as shut:
            self.listeners.shut()
        told = {call.args[0].fileno() for call in shut.mock_calls}
        self.assertEqual(told, {each.fileno() for each in self.listeners.acceptors[:-1]})
        self.assertEqual(len(told), 3)

    def test_close(self) -> None:
        """Listeners that are closed take no connection; what was counted stays."""
        self.open()
        self.connect(5)
        self.listeners.accept_all()
        self.first.close()
        address = self.listeners.acceptors[0].sock.getsockname()
        self.listeners.close()
        self.assertEqual(self.listeners.accepted, 5)
        with self.assertRaises(ConnectionRefusedError):
            self.owned(socket.socket()).connect(address)
        self.ready(1)
        self.assertEqual(self.reactor.getReaders(), [])


class AttendTests(ListenerCase):
    """Which process accepts."""

    def setUp(self) -> None:
        super().setUp()
        self.open()
        self.listeners.start()

    def test_before(self) -> None:
        """At first the primary accepts at every socket."""
        self.assertEqual(self.watched(), {1, 2, 3})

    def test_not_yet(self) -> None:
        """The primary does not accept before it is started."""
        other = Listeners(self.reception, 100, KernelRoutes(""))
        self.addCleanup(other.close)
        other.open(0, self.listening().dup(), True)
        other.of(2)
        before = self.reactor.getReaders()
        other.attend(set())
        self.assertEqual(self.reactor.getReaders(), before)

    def test_ready(self) -> None:
        """The primary stops at the socket of a worker that accepts."""
        self.ready(2)
        self.assertEqual(self.watched(), {1, 3})

    def test_dead(self) -> None:
        """When workers have gone the primary accepts, and what waited by then is not lost."""
        self.ready(1, 2, 3)
        self.assertEqual(self.watched(), set())
        self.connect(40)
        self.reactor.settle()
        self.assertEqual(self.placed, [])
        self.gone(1, 2, 3)
        self.assertEqual(self.watched(), {1, 2, 3})
        self.until(lambda: len(self.placed) == 40)

    def test_more(self) -> None:
        """A new slot is the primary's first; a slot that was removed is the primary's again."""
        self.ready(1, 2, 3)
        self.listeners.of(4)
        self.assertEqual(self.watched(), {4})
        self.gone(3)
        self.assertEqual(self.watched(), {3, 4})

    def test_taken_up(self) -> None:
        """A socket of before, whose worker accepts already, is left to it."""
        self.ready(FIRST)
        sock = self.first.dup()
        self.listeners.add(FIRST, 8, sock)
        self.assertEqual(len(self.reactor.getReaders()), 2)
