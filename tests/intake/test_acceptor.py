"""Accepting: batches, addresses, and what happens when descriptors run out."""

from __future__ import annotations

import errno
import os
import socket
import struct
from unittest import mock

from tests.shells import ended, no_descriptors_left, received
from txsticky.intake.acceptor import BATCH, RESPITE, Acceptor

from .cases import GET, AcceptCase, PeekCase


class AcceptTests(AcceptCase):
    """Accepting."""

    def test_with_head(self) -> None:
        """A connection that brings its head is placed in the turn in which it is accepted."""
        client = self.client(GET)
        self.place_all(1)
        (arrival,) = self.placed
        self.assertEqual(arrival.origin.peer, client.getsockname())
        self.assertEqual((arrival.data, arrival.hops), (GET, 0))
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_own_address(self) -> None:
        """A connection to a socket that is bound to one address was made to that address."""
        client = self.client(GET)
        self.place_all(1)
        self.assertEqual(self.placed[0].origin.host, client.getpeername())

    def test_silent(self) -> None:
        """A silent connection waits."""
        client = self.client()
        self.accept()
        self.assertEqual((self.placed, self.reception.waiting), ([], 1))
        client.sendall(GET)
        self.place_all(1)

    def test_not_inherited(self) -> None:
        """What is accepted is not inherited by children."""
        self.client(GET)
        self.place_all(1)
        self.assertFalse(os.get_inheritable(self.placed[0].sock.fileno()))

    def test_gone_before(self) -> None:
        """A client that has closed or reset before it was accepted leaves nothing behind."""
        self.client().close()
        reset = self.client(GET)
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
        self.accept(2)
        self.reactor.settle()
        for arrival in self.placed:
            arrival.sock.close()
        self.assertEqual(self.reception.waiting, 0)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_half_closed_behind_its_request(self) -> None:
        """A client that has sent its request and closed its side is placed: it wants an answer."""
        self.client(GET).shutdown(socket.SHUT_WR)
        self.place_all(1)
        self.assertEqual(self.placed[0].data, GET)

    def test_closed_everywhere(self) -> None:
        """Where another process closes the socket everywhere, accepting ends without a word."""
        Acceptor(self.acceptor.sock.dup(), self.reception).close_everywhere()
        self.acceptor.doRead()
        self.assertEqual((self.acceptor.fileno(), self.acceptor.resting), (-1, False))
        self.assertEqual(self.reactor.getReaders(), [])

    def test_batch(self) -> None:
        """One turn accepts so many and no more."""
        self.acceptor.sock.listen(BATCH + 10)
        clients = [self.client(GET) for _ in range(BATCH + 5)]
        self.acceptor.doRead()
        self.assertEqual(self.acceptor.accepted, BATCH)
        self.place_all(len(clients))

    def test_smaller_batch(self) -> None:
        """Where each connection may be served at once, one turn accepts fewer."""
        acceptor = Acceptor(self.acceptor.sock.dup(), self.reception, 2)
        self.addCleanup(acceptor.close)
        clients = [self.client(GET) for _ in range(5)]
        acceptor.doRead()
        self.assertEqual(acceptor.accepted, 2)
        self.place_all(len(clients))

    def test_stop(self) -> None:
        """While the acceptor is stopped connections stay in the kernel's backlog."""
        self.acceptor.stop()
        self.client(GET)
        self.reactor.settle()
        self.assertEqual(self.acceptor.accepted, 0)
        self.acceptor.start()
        self.place_all(1)

    def test_close(self) -> None:
        """An acceptor that is closed takes no connection; a second close does nothing."""
        address = self.acceptor.sock.getsockname()
        self.acceptor.close()
        self.acceptor.close()
        with self.assertRaises(ConnectionRefusedError):
            self.owned(socket.socket()).connect(address)
        self.assertEqual(self.reactor.getReaders(), [])

    def test_defer(self) -> None:
        """The kernel can be told to hold silent connections back, or no longer."""
        option = (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
        self.acceptor.defer(True)
        self.assertGreater(self.acceptor.sock.getsockopt(*option), 0)
        self.acceptor.defer(False)
        self.assertEqual(self.acceptor.sock.getsockopt(*option), 0)

    def test_one_that_cannot_be_dealt_with(self) -> None:
        """A connection over which something fails is closed and logged; the others are served."""
        self.reception.place = mock.Mock(side_effect=[ZeroDivisionError, None])
        bad, _ = self.client(GET), self.client(GET)
        self.until(lambda: self.reception.place.call_count == 2)
        self.addCleanup(self.reception.place.call_args.args[0].sock.close)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.until(lambda: ended(bad))
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])


class IPv6AcceptTests(AcceptCase):
    """Accepting over IPv6."""

    family = socket.AF_INET6

    def test_peer(self) -> None:
        """The peer is host and port, without flow and scope."""
        client = self.client(GET)
        self.place_all(1)
        self.assertEqual(self.placed[0].origin.peer, client.getsockname()[:2])
        self.assertEqual(self.placed[0].sock.family, socket.AF_INET6)


class MappedAcceptTests(PeekCase):
    """Accepting IPv4 clients on a socket that listens on `::`."""

    def test_peer(self) -> None:
        """The peer has its IPv4 name."""
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
        listener.listen()
        acceptor = Acceptor(listener, self.reception)
        self.addCleanup(acceptor.close)
        acceptor.start()
        client = self.owned(socket.create_connection(("127.0.0.1", listener.getsockname()[1])))
        client.sendall(GET)
        self.until(lambda: self.placed)
        self.assertEqual(self.placed[0].origin.peer, client.getsockname())


class UNIXAcceptTests(PeekCase):
    """Accepting on a UNIX socket."""

    def test_peer(self) -> None:
        """The peer has no name; TCP's options are left alone."""
        listener = socket.socket(socket.AF_UNIX)
        path = self.mktemp()
        listener.bind(path)
        listener.listen()
        acceptor = Acceptor(listener, self.reception)
        self.addCleanup(acceptor.close)
        acceptor.defer(True)
        acceptor.start()
        client = self.owned(socket.socket(socket.AF_UNIX))
        client.connect(path)
        client.sendall(GET)
        self.until(lambda: self.placed)
        self.assertEqual(self.placed[0].origin.peer, ("", 0))
        self.assertEqual(self.placed[0].sock.family, socket.AF_UNIX)


class ExhaustionTests(AcceptCase):
    """When the process is out of descriptors."""

    def rest(self) -> None:
        """Let the acceptor try once more."""
        self.reactor.advance(RESPITE)
        self.reactor.turn()

    def test_rest(self) -> None:
        """Out of descriptors the acceptor neither spins nor closes: it rests until there is one."""
        self.client(GET)
        with no_descriptors_left():
            self.until(lambda: self.reactor.getReaders() == [])
            self.assertEqual(self.reactor.turn(), 0)
            self.rest()
            self.assertEqual(self.reactor.getReaders(), [])
        self.rest()
        self.place_all(1)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_room_cannot_be_made(self) -> None:
        """If making room fails, the acceptor goes on all the same when there is a descriptor."""
        self.client(GET)
        with mock.patch.object(self.reception, "free_descriptors", side_effect=ZeroDivisionError):
            with no_descriptors_left():
                self.until(lambda: self.acceptor not in self.reactor.getReaders())
                self.rest()
            self.rest()
        self.place_all(1)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_silent_one_goes(self) -> None:
        """The client that is silent for longest makes room for one that has a request."""
        silent = [self.client(), self.client()]
        self.accept(2)
        self.client(GET)
        with no_descriptors_left():
            self.until(lambda: self.acceptor not in self.reactor.getReaders())
            self.rest()
            self.assertEqual(len(self.placed), 1)
        self.assertEqual([ended(client) for client in silent], [True, False])

    def test_half_a_head_goes(self) -> None:
        """A client with half a head makes room as well, and no second one before that helped."""
        slow = [self.client(GET[:20]), self.client(GET[:20])]
        self.accept(2)
        self.client(GET)
        with no_descriptors_left():
            self.until(lambda: self.acceptor not in self.reactor.getReaders())
            self.rest()
            self.rest()
            self.assertEqual(len(self.placed), 1)
        self.assertEqual([ended(client) for client in slow], [False, False])
        self.assertTrue((received(slow[0]) or b"").startswith(b"HTTP/1.1 408 "))
        self.assertIsNone(received(slow[1]))

    def test_stopped_while_it_rests(self) -> None:
        """An acceptor that is stopped while it rests does not come back by itself."""
        self.client(GET)
        with no_descriptors_left():
            self.until(lambda: self.reactor.getReaders() == [])
        self.acceptor.stop()
        self.reactor.advance(RESPITE)
        self.reactor.settle()
        self.assertEqual((self.acceptor.accepted, self.reactor.getDelayedCalls()), (0, []))

    def test_said_once(self) -> None:
        """The log tells the want of descriptors once, not at every try."""
        with mock.patch("txsticky.intake.acceptor.log") as log:
            self.client(GET)
            with no_descriptors_left():
                self.until(lambda: self.reactor.getReaders() == [])
                self.rest()
        self.assertEqual(log.warn.call_count, 1)
        self.place_all(0)

    def test_aborted_connections(self) -> None:
        """An error that is one connection's own does not stop the others."""
        self.acceptor.sock.close()
        self.acceptor.sock = mock.Mock()
        self.acceptor.sock._accept.side_effect = [
            OSError(errno.ECONNABORTED, "aborted"),
            OSError(errno.EPERM, "firewall"),
            BlockingIOError(errno.EAGAIN, "nothing"),
        ]
        self.acceptor.doRead()
        self.assertEqual(self.acceptor.sock._accept.call_count, 3)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_nobody_is_there(self) -> None:
        """At the limit no connection is given up, and no rest taken, while no client comes."""
        silent = self.client()
        self.accept()
        with no_descriptors_left():
            self.acceptor.doRead()
            self.assertIn(self.acceptor, self.reactor.getReaders())
        self.assertFalse(ended(silent))
