"""What comes back to the primary, and what dead workers leave behind."""

from __future__ import annotations

import os
import socket
from unittest import mock

from tests.primary.cases import PEER, PrimaryCase, get
from tests.shells import (
    PlayedWorker,
    ShellCase,
    ended,
    open_descriptors,
    received,
)
from txsticky.core.how import How
from txsticky.core.messages.handoff import Handoff, pack_handoff
from txsticky.core.messages.origin import Origin, Stage
from txsticky.primary.front_desk import FrontDesk


class GivenBackTests(PrimaryCase):
    """The front desk."""

    def serve(self) -> tuple[socket.socket, PlayedWorker]:
        """Have a client's first request taken by a worker; returns both."""
        client = self.arrive()
        ((worker, _),) = self.taken()
        return client, self.workers[worker - 1]

    def test_with_a_request(self) -> None:
        """A connection that is given back with a request goes to that request's worker."""
        self.start()
        client, worker = self.serve()
        other = 3 - worker.id
        worker.give(worker.desk, get(f"/?sid={self.tag(other)}"))
        self.reactor.settle()
        ((taker, handoff),) = self.taken()
        self.assertEqual((taker, handoff.how, handoff.hops), (other, How.TAG, 2))
        self.assertEqual((handoff.origin.peer, handoff.reserved), (PEER, True))
        self.workers[other - 1].hands[0][0].send(b"moved")
        self.assertEqual(received(client), b"moved")

    def test_idle(self) -> None:
        """A connection that is given back idle waits for its next request at a worker."""
        self.start()
        _, worker = self.serve()
        worker.give(worker.desk, b"")
        self.reactor.settle()
        ((_, handoff),) = self.taken()
        self.assertEqual((handoff.stage, handoff.hops), (Stage.IDLE, 0))
        self.assertEqual(self.primary.reception.waiting, 0)

    def test_idle_and_no_worker(self) -> None:
        """An idle connection waits in the primary where no worker is ready."""
        self.start()
        client, worker = self.serve()
        for each in self.workers:
            self.primary.pool.set_draining(each.id)
        worker.give(worker.desk, b"")
        self.reactor.settle()
        self.assertEqual((self.taken(), self.primary.reception.waiting), ([], 1))
        for each in self.workers:
            self.primary.pool.set_ready(each.id)
        client.send(get("/next"))
        self.reactor.settle()
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [get("/next")])

    def test_nonsense(self) -> None:
        """What is no hand-off is logged and closed; the front desk goes on."""
        self.start()
        client, worker = self.serve()
        before = open_descriptors()
        copy = os.dup(client.fileno())
        worker.desk.sendFileDescriptor(copy)
        worker.desk.write(b"nonsense")
        self.reactor.settle()
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual(open_descriptors(), before)
        worker.give(worker.desk, get("/next"))
        self.reactor.settle()
        self.assertEqual(len(self.taken()), 1)

    def test_mailbox(self) -> None:
        """An introduction that a dead worker did not take is closed."""
        self.start(1)
        before = open_descriptors()
        self.spawn().ready()
        self.reactor.settle()
        self.workers[0].die(-9)  # it has not taken the second one's mailbox
        self.workers[1].die(-9)
        self.reactor.settle()
        self.assertEqual(open_descriptors() - before, set())


class LeftoverTests(PrimaryCase):
    """What a worker leaves behind."""

    def setUp(self) -> None:
        super().setUp()
        self.first, self.second = self.start()

    def send(self, number: int, size: int = 0) -> list[socket.socket]:
        """Have so many clients send a request to the first worker; returns them."""
        target = f"?sid={self.tag(1)}"
        return [self.arrive(get(f"/{n}{target}") + bytes(size)) for n in range(number)]

    def answered(self, clients: list[socket.socket], begin: int = 0) -> None:
        """Answer at the second worker, from a number on; each client has its answer."""
        while self.reactor.turn():
            self.second.take()
        self.second.take()
        self.assertEqual(len(self.second.hands), len(clients))
        for sock, handoff in self.second.hands:
            sock.send(handoff.prefix.partition(b"?")[0])
        self.assertEqual(
            [received(client) for client in clients],
            [b"GET /%d" % n for n in range(begin, begin + len(clients))],
        )

    def test_killed(self) -> None:
        """What a killed worker had not taken is served by another one, each connection once."""
        clients = self.send(60)
        self.first.die(-9)
        self.answered(clients)
        self.assertEqual({handoff.hops for _, handoff in self.second.hands}, {1})

    def test_some_taken(self) -> None:
        """Only the connections that a killed worker had in hand are lost with it."""
        clients = self.send(30)
        for _ in range(10):
            self.first.mailbox.read_one()
        self.first.die(-9)
        self.answered(clients[10:], begin=10)
        self.assertEqual([ended(client) for client in clients], [True] * 10 + [False] * 20)

    def test_waiting_here(self) -> None:
        """What did not even fit into a dead worker's mailbox is served as well."""
        clients = []
        while not self.primary.workers.handles[1].mailbox.box.queued:
            clients.append(self.arrive(get(f"/{len(clients)}?sid={self.tag(1)}") + bytes(60_000)))
        clients.append(self.arrive(get(f"/{len(clients)}?sid={self.tag(1)}")))
        self.first.die(-9)
        while self.reactor.turn():
            self.second.take()
        self.second.take()
        for sock, handoff in self.second.hands:
            sock.send(handoff.prefix.partition(b"?")[0])
        self.assertEqual(
            [received(client) for client in clients],
            [b"GET /%d" % n for n in range(len(clients))],
        )

    def test_given_by_another_worker(self) -> None:
        """What another worker still puts into a dead one's mailbox is served, too."""
        client = self.arrive(get(f"/?sid={self.tag(2)}"))
        self.second.take()
        self.first.die(-9)
        self.second.give(self.second.peers[1], get(f"/0?sid={self.tag(1)}"))
        self.answered([client])

    def test_to_the_last_sender(self) -> None:
        """The mailbox is read until the last process has closed its sending end."""
        self.first.die(-9)
        self.reactor.settle()
        self.assertEqual(len(self.primary.returns.leftovers), 1)
        self.second.peers[1].loseConnection()
        self.reactor.settle()
        self.assertEqual(len(self.primary.returns.leftovers), 0)

    def test_nobody_else(self) -> None:
        """If there is no other worker, the clients are refused, completely."""
        clients = self.send(5)
        self.second.die(-9)
        self.first.die(-9)
        self.reactor.settle()
        for client in clients:
            self.refused(client)

    def test_successor(self) -> None:
        """Leftovers wait for a successor that is to come."""
        self.supervisor.exited.side_effect = lambda id, status: setattr(self, "expects", True)
        clients = self.send(5)
        self.second.die(-9)
        self.second = self.spawn()
        self.first.die(-9)
        self.reactor.settle()
        self.second.ready()
        self.answered(clients)


class FrontDeskTests(ShellCase):
    """What comes back to the primary."""

    def test_one_that_fails(self) -> None:
        """A message that cannot be dealt with keeps no other one from its worker."""
        receive = mock.Mock(side_effect=[ZeroDivisionError, None])
        desk = FrontDesk(receive)
        ends = [self.pair() for _ in range(2)]
        message = pack_handoff(Handoff(family=socket.AF_UNIX, origin=Origin(PEER), prefix=get()))
        desk.take((ours.detach(), message) for ours, _ in ends)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(receive.call_count, 2)
