"""A whole worker: connections that are handed to it, and those that it gives away."""

from __future__ import annotations

import socket
from unittest import mock

from tests.raw_frames import Kind
from tests.shells import ended, open_descriptors, received
from txsticky.core.how import How
from txsticky.core.messages.handoff import Handoff, pack_handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.verdict import FRONT_DESK

from .cases import OK, PEER, WorkerCase, get


class AdoptTests(WorkerCase):
    """Connections that are handed here."""

    def test_served(self) -> None:
        """A connection is served from its prefix on."""
        self.begin()
        client = self.hand(get("/a"))
        self.assertEqual((self.serving.protocols[0].got, received(client)), ([get("/a")], OK))
        client.send(get("/b"))
        self.reactor.settle()
        self.assertEqual((self.serving.protocols[0].got[1], received(client)), (get("/b"), OK))

    def test_counted(self) -> None:
        """A connection is counted while it lives, and a reserved hand-off counts as taken."""
        self.begin()
        self.hand()
        client = self.hand(reserved=False)
        load = self.load()
        self.assertEqual((load["live"], load["taken"], load["adopted"]), (2, 1, 2))
        client.close()
        self.reactor.settle()
        load = self.load()
        self.assertEqual((load["live"], load["taken"], load["requests"]), (1, 1, 2))

    def test_peer(self) -> None:
        """The peer of a connection is the one of its hand-off."""
        self.begin()
        self.hand()
        peer = self.serving.protocols[0].transport.getPeer()
        self.assertEqual((peer.host, peer.port), PEER)

    def test_factory_fails(self) -> None:
        """If the application fails over a connection, it is closed; the next is served."""
        self.begin()
        real = self.serving.factory.buildProtocol
        self.serving.factory.buildProtocol = mock.Mock(side_effect=[ZeroDivisionError, real(None)])
        bad, good = self.hand(), self.hand()
        self.assertEqual(
            (ended(bad), received(good), len(self.worker.connections.live)), (True, OK, 1)
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_short(self) -> None:
        """A worker says whether it takes nothing for want of descriptors."""
        self.begin()
        self.assertFalse(self.load().get("short", False))
        self.worker.inbox.box._headroom.ceiling = 0
        for _ in range(2):
            self.hand()
        self.assertTrue(self.load().get("short", False))
        self.assertEqual(self.worker.inbox.taken, 1)

    def test_not_http(self) -> None:
        """What is not HTTP is served without a gate: every byte, whatever it says."""
        self.serving.http = False
        self.begin()
        client = self.hand(b"hello")
        client.send(get(f"/?sid={self.tag(3)}"))
        self.reactor.settle()
        self.assertEqual(len(self.serving.protocols[0].got), 2)
        client.close()
        self.reactor.settle()
        self.assertEqual((self.worker.connections.live, self.serving.protocols[0].lost), ({}, 1))

    def test_tcp(self) -> None:
        """A connection over TCP is served from its prefix on."""
        self.begin()
        server, client = self.connected()
        self.sender.sendFileDescriptor(server.detach())
        self.sender.write(
            pack_handoff(
                Handoff(family=socket.AF_INET, origin=Origin(PEER), how=How.NEW, prefix=get())
            )
        )
        got = []
        self.until(lambda: got.append(received(client)) or got[-1])
        self.assertEqual(got[-1], OK)

    def test_retires(self) -> None:
        """A worker asks once to be replaced, after so many requests."""
        self.worker.report._retire_after = 3
        self.begin()
        client = self.hand()
        for _ in range(4):
            client.send(get())
            self.reactor.settle()
        self.assertEqual(len(self.heard(Kind.RETIRE)), 1)
        self.assertEqual(self.worker.report.requests, 5)


class GiveTests(WorkerCase):
    """Connections that belong elsewhere."""

    def ask(self, client: socket.socket, target: str) -> None:
        """Send a request on a connection."""
        client.send(get(target))
        self.reactor.settle()

    def test_to_another_worker(self) -> None:
        """A request for another worker takes the connection into that one's mailbox."""
        self.begin()
        client = self.hand()
        self.ask(client, f"/?sid={self.tag(3)}")
        (handoff,) = self.boxes[3].read()
        self.assertEqual(handoff.prefix, get(f"/?sid={self.tag(3)}"))
        self.assertEqual(
            (handoff.origin.peer, handoff.how, handoff.reserved), (PEER, How.TAG, False)
        )
        received(client)
        self.boxes[3].got[0][0].send(b"there")
        self.assertEqual(received(client), b"there")
        self.assertEqual((self.worker.connections.live, self.serving.protocols[0].lost), ({}, 1))
        self.assertEqual(self.load()["given"], 1)

    def test_hops(self) -> None:
        """The moves of a connection count anew once a request was served on it."""
        self.begin()
        self.ask(self.hand(hops=9), f"/?sid={self.tag(3)}")
        self.assertEqual(self.boxes[3].read()[0].hops, 1)

    def test_no_copy_stays(self) -> None:
        """Nothing of a connection that was given away stays open here."""
        self.begin()
        before = open_descriptors()
        client = self.hand()
        self.ask(client, f"/?sid={self.tag(3)}")
        self.assertEqual(open_descriptors() - before, {client.fileno()})

    def test_stranger(self) -> None:
        """If the other worker's mailbox is not known, the connection goes to the front desk."""
        self.worker.start()
        self.reactor.settle()
        self.ask(self.hand(), f"/?sid={self.tag(3)}")
        self.assertEqual(len(self.boxes[FRONT_DESK].read()), 1)

    def test_dead(self) -> None:
        """If the other worker's mailbox is read no more, the connection goes to the front desk."""
        self.begin()
        self.boxes[3].close()
        client = self.hand()
        self.ask(client, f"/?sid={self.tag(3)}")
        self.assertEqual(len(self.boxes[FRONT_DESK].read()), 1)
        self.assertFalse(ended(client))

    def test_gone(self) -> None:
        """A connection goes to the front desk when the primary says that the worker has gone."""
        self.begin()
        while not self.worker.outbox.boxes[3].queued:
            server, _ = socket.socketpair()
            self.worker.outbox.give(
                server,
                3,
                Handoff(
                    family=1,
                    origin=Origin(PEER),
                    prefix=bytes(60000),
                ),
            )
        self.pool.set_gone(3)
        self.say_pool()
        self.assertNotIn(3, self.worker.outbox.boxes)
        self.assertEqual(len(self.boxes[FRONT_DESK].read()), 1)

    def test_new_session(self) -> None:
        """A new session on a kept connection goes to a worker that has less to do."""
        self.begin()
        self.hand()
        self.ask(self.hand(), "/?EIO=4")
        self.assertEqual(len(self.boxes[1].read() + self.boxes[3].read()), 1)
