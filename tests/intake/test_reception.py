"""The peek: what is read, waited for, refused and given up before a connection has a worker."""

from __future__ import annotations

import socket
import struct
from unittest import mock

from tests.fakes import FakeSystem
from tests.shells import ended, is_open, received
from txsticky.core.messages.origin import Origin
from txsticky.intake.arrival import Arrival
from txsticky.intake.reception import Reception
from txsticky.system.deadlines import Deadlines

from .cases import GET, Limits, PeekCase


class WaitTests(PeekCase):
    """What is waited for."""

    def test_whole_head(self) -> None:
        """A connection that brings its head is placed at once; the reactor never hears of it."""
        self.arrive(GET)
        self.assertEqual(self.placed, [self.arrival])
        self.assertEqual(self.watched(), 0)
        assert self.arrival.head is not None
        self.assertEqual(self.arrival.head.target, b"/chat?sid=1")

    def test_bytes_behind_the_head(self) -> None:
        """What was read behind the head stays with the arrival."""
        self.arrive(GET + b"body and more")
        self.assertEqual(self.placed[0].data, GET + b"body and more")

    def test_half_a_head(self) -> None:
        """Half a head waits for the other half; all bytes arrive in order, once."""
        client = self.arrive(GET[:20])
        self.assertEqual((self.placed, self.reception.waiting), ([], 1))
        self.say(client, GET[20:] + b"body")
        self.assertEqual([arrival.data for arrival in self.placed], [GET + b"body"])

    def test_nothing_yet(self) -> None:
        """A silent connection waits for its first byte."""
        client = self.arrive()
        self.assertEqual(self.placed, [])
        self.say(client, GET)
        self.assertEqual([arrival.data for arrival in self.placed], [GET])

    def test_unregistered_before_it_leaves(self) -> None:
        """When a connection is placed, nothing watches it, and no deadline counts."""
        watched = []
        self.reception.place = lambda arrival: watched.append(self.watched()) or self.place(arrival)
        client = self.arrive(GET[:20])
        self.say(client, GET[20:])
        self.assertEqual((watched, self.reception.waiting), ([0], 0))

    def test_read_once(self) -> None:
        """Behind a complete head nothing more is read: the rest is for the worker to read."""
        client = self.arrive(GET[:20])
        client.sendall(GET[20:])
        self.reactor.turn()
        client.sendall(b"body")
        self.reactor.settle()
        self.assertEqual(self.placed[0].data, GET)
        self.assertEqual(self.placed[0].sock.recv(100), b"body")

    def test_drip(self) -> None:
        """A head that comes byte by byte is placed with its last byte, and not before."""
        client = self.arrive()
        for number in range(len(GET)):
            self.assertEqual(self.placed, [])
            self.say(client, GET[number : number + 1])
        self.assertEqual(self.placed[0].data, GET)

    def test_called_for_nothing(self) -> None:
        """If the reactor calls though nothing has come, the connection waits on."""
        client = self.arrive(GET[:20])
        (peek,) = self.reactor.getReaders()
        peek.doRead()
        self.assertEqual((self.reception.waiting, ended(client)), (1, False))
        self.say(client, GET[20:])
        self.assertEqual(self.placed[0].data, GET)

    def test_client_leaves(self) -> None:
        """A client that goes away before its head is complete leaves nothing behind."""
        for data in (b"", GET[:20]):
            client = self.arrive(data)
            client.close()
            self.reactor.settle()
            self.assertFalse(is_open(self.arrival.sock.fileno()) if data else False)
        self.assertEqual((self.watched(), self.reception.waiting, self.placed), (0, 0, []))
        self.assertEqual(self.arrival.sock.fileno(), -1)

    def test_client_resets(self) -> None:
        """A client that resets the connection leaves nothing behind."""
        server, client = self.connected()
        self.reception.receive(Arrival(server, Origin(("192.0.2.7", 1)), data=GET[:20]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.until(lambda: not self.reception.waiting)
        self.assertEqual((server.fileno(), self.watched()), (-1, 0))

    def test_reactor_loses_it(self) -> None:
        """A descriptor that the reactor gives up is closed."""
        self.arrive()
        (peek,) = self.reactor.getReaders()
        peek.connectionLost(None)
        self.assertEqual((self.arrival.sock.fileno(), self.reception.waiting), (-1, 0))

    def test_take_waiting(self) -> None:
        """All connections that wait can be taken out, with their bytes; none stays registered."""
        self.arrive(GET[:5])
        first = self.arrival
        self.arrive(b"", hops=1, idle=True)
        self.arrive(b"garbage\0")  # this one is refused, not waiting
        taken = self.reception.take_waiting()
        self.addCleanup(lambda: [arrival.sock.close() for arrival in taken])
        self.assertEqual([arrival.data for arrival in taken], [GET[:5], b""])
        self.assertIs(taken[0], first)
        self.assertEqual((self.reception.waiting, self.watched()), (0, 1))

    def test_take_silent(self) -> None:
        """Connections over which nothing has come can be taken out alone."""
        self.arrive()
        silent = self.arrival
        self.arrive(GET[:5])
        self.arrive(b"", hops=1, idle=True)
        taken = self.reception.take_silent()
        self.addCleanup(lambda: [arrival.sock.close() for arrival in taken])
        self.assertEqual((taken, self.reception.waiting), ([silent], 2))

    def test_close(self) -> None:
        """Everything that waits here can be closed."""
        clients = [self.arrive(), self.arrive(GET[:5]), self.arrive(b"", hops=1, idle=True)]
        self.reception.close()
        self.assertEqual([ended(client) for client in clients], [True] * 3)
        self.assertEqual((self.watched(), self.reactor.getDelayedCalls()), (0, []))


class DeadlineTests(PeekCase):
    """How long is waited."""

    def test_nothing_sent(self) -> None:
        """A client that says nothing in time is closed without a word."""
        client = self.arrive()
        self.reactor.advance(9.9)
        self.assertFalse(ended(client))
        self.reactor.advance(0.1)
        self.assertEqual((received(client), self.watched()), (b"", 0))

    def test_half_a_head(self) -> None:
        """A client that sends half a head in time gets 408."""
        client = self.arrive(GET[:20])
        self.reactor.advance(9.9)
        self.assertIsNone(received(client))
        self.reactor.advance(0.1)
        self.assertEqual(self.status(client), 408)

    def test_drip(self) -> None:
        """Bytes that drip in do not prolong the time."""
        client = self.arrive(GET[:1])
        for number in range(1, 10):
            self.reactor.advance(1)
            self.say(client, GET[number : number + 1])
        self.reactor.advance(1)
        self.assertEqual(self.status(client), 408)

    def test_one_that_fails(self) -> None:
        """A connection that cannot be ended in its way is closed; the others end in time."""
        clients = [self.arrive(GET[:20]) for _ in range(3)]
        with mock.patch.object(
            self.reception, "refuse", side_effect=[ZeroDivisionError, mock.DEFAULT, mock.DEFAULT],
            wraps=self.reception.refuse,
        ):  # fmt: skip
            self.reactor.advance(10)
        self.assertEqual(received(clients[0]), b"")
        self.assertEqual([self.status(client) for client in clients[1:]], [408, 408])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_each_its_own(self) -> None:
        """Each connection has its own time, although one call serves all."""
        first = self.arrive()
        self.reactor.advance(4)
        second = self.arrive()
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(6)
        self.assertEqual((ended(first), ended(second)), (True, False))
        self.reactor.advance(4)
        self.assertTrue(ended(second))

    def test_ended_by_another(self) -> None:
        """A connection taken out at the end of another one's time does not expire."""
        deadlines = Deadlines(self.system, 1.0)
        first, second = mock.Mock(), mock.Mock()
        first.expired.side_effect = lambda: (deadlines.discard(first), deadlines.discard(second))
        deadlines.add(first)
        deadlines.add(second)
        self.reactor.advance(1)
        self.assertEqual((first.expired.call_count, second.expired.call_count), (1, 0))

    def test_idle(self) -> None:
        """
        A connection given back between two requests is closed without a word when its time
        as an idle one is over.
        """
        client = self.arrive(b"", hops=1, idle=True)
        self.reactor.advance(59.9)
        self.assertFalse(ended(client))
        self.reactor.advance(0.1)
        self.assertEqual((received(client), self.watched()), (b"", 0))

    def test_idle_goes_on(self) -> None:
        """The next request of an idle connection has the time of any head, and is placed."""
        client = self.arrive(b"", hops=1, idle=True)
        self.reactor.advance(55)
        self.say(client, GET[:20])
        self.reactor.advance(9.9)
        self.say(client, GET[20:])
        self.assertEqual([(a.data, a.hops) for a in self.placed], [(GET, 1)])

    def test_idle_goes_on_slowly(self) -> None:
        """A later head of an idle connection that does not come in time gets 408."""
        client = self.arrive(b"", hops=1, idle=True)
        self.reactor.advance(5)
        self.say(client, GET[:20])
        self.reactor.advance(10)
        self.assertEqual(self.status(client), 408)

    def test_no_keep_alive(self) -> None:
        """Where idle connections are not kept, an idle one is closed at once."""
        self.reception = Reception(self.system, Limits(keep_alive=0), self.place)
        client = self.arrive(b"", hops=1, idle=True)
        self.reactor.settle()
        self.assertTrue(ended(client))

    def test_shared_call(self) -> None:
        """Waiters that go one by one leave no call behind that spins; the rest keep theirs."""
        system = FakeSystem(reactor=self.reactor)
        deadlines = Deadlines(system, 10)
        waiters = [mock.Mock() for _ in range(3)]
        for waiter in waiters:
            waiter.expired.side_effect = lambda waiter=waiter: deadlines.discard(waiter)
            deadlines.add(waiter)
            self.reactor.advance(1)
        deadlines.discard(waiters[0])
        self.reactor.advance(7)
        self.assertEqual([w.expired.call_count for w in waiters], [0, 0, 0])
        self.reactor.advance(1)
        self.assertEqual([w.expired.call_count for w in waiters], [0, 1, 0])
        self.reactor.advance(1)
        self.assertEqual([w.expired.call_count for w in waiters], [0, 1, 1])
        self.assertEqual((len(deadlines), self.reactor.getDelayedCalls()), (0, []))

    def test_added_while_others_expire(self) -> None:
        """A client that comes as others' time ends has the whole time, and can be cleared."""
        deadlines = Deadlines(FakeSystem(reactor=self.reactor), 10)
        late, early, middle = mock.Mock(), mock.Mock(), mock.Mock()

        def expired() -> None:
            deadlines.discard(early)
            deadlines.add(late)

        early.expired.side_effect = expired
        deadlines.add(early)
        self.reactor.advance(5)
        deadlines.add(middle)
        self.reactor.advance(5)
        self.assertEqual((len(deadlines), len(self.reactor.getDelayedCalls())), (2, 1))
        deadlines.clear()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class EvictionTests(PeekCase):
    """When too many wait."""

    def test_oldest(self) -> None:
        """The connection that has waited longest is given up for the newest."""
        self.limits.head_backlog = 2
        clients = [self.arrive(), self.arrive(), self.arrive()]
        self.assertEqual([ended(client) for client in clients], [True, False, False])
        self.assertEqual(self.reception.waiting, 2)

    def test_with_half_a_head(self) -> None:
        """A client that is given up with half a head is told so."""
        self.limits.head_backlog = 1
        client = self.arrive(GET[:20])
        self.arrive()
        self.assertEqual(self.status(client), 408)

    def test_idle(self) -> None:
        """Idle connections are not counted, and stay."""
        self.limits.head_backlog = 1
        clients = [self.arrive(b"", hops=1, idle=True) for _ in range(3)] + [self.arrive()]
        self.assertEqual([ended(client) for client in clients], [False] * 4)
        self.arrive()
        self.assertEqual([ended(client) for client in clients], [False] * 3 + [True])

    def test_idle_first(self) -> None:
        """For want of descriptors idle connections are given up before new clients."""
        fresh, idle = self.arrive(), self.arrive(b"", hops=1, idle=True)
        self.assertTrue(self.reception.evict())
        self.assertEqual((ended(fresh), ended(idle)), (False, True))

    def test_descriptor(self) -> None:
        """To free a descriptor, a refused connection goes before one that waits."""
        waits = self.arrive(GET[:20])
        refused = self.arrive(b"BAD\r\n")
        refused_sock = self.arrival.sock
        self.reception.free_descriptors()
        self.assertEqual((refused_sock.fileno(), self.reception.waiting), (-1, 1))
        self.assertEqual(self.status(refused), 400)
        self.assertIsNone(received(waits))
