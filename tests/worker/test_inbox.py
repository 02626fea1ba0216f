"""The inbox: what a worker takes out of its mailbox."""

from __future__ import annotations

import os
import socket
from unittest import mock

from tests.shells import ShellCase, ended, no_descriptors_left, open_descriptors
from tests.worker.cases import PEER
from txsticky.core.messages.handoff import Handoff, pack_handoff, pack_log, pack_peer
from txsticky.core.messages.origin import Origin
from txsticky.errors import WireError
from txsticky.ipc.mailbox import MailboxTransport, mailbox_pair
from txsticky.worker.inbox import WorkerInbox


class InboxTests(ShellCase):
    """The inbox of a worker, the test being what sends to it."""

    def setUp(self) -> None:
        super().setUp()
        sending, reading = mailbox_pair()
        self.sender = MailboxTransport(sending, self.reactor)
        self.adopted: list[tuple[socket.socket, Handoff]] = []
        self.peers: list[tuple[int, int]] = []
        self.logs: list[int] = []
        self.finished = mock.Mock()
        self.inbox = WorkerInbox(
            reading.detach(),
            self.reactor,
            adopt=lambda *adopted: self.adopted.append(adopted),
            add_peer=lambda *peer: self.peers.append(peer),
            take_log=self.logs.append,
            make_room=mock.Mock(),
            finished=self.finished,
        )
        self.addCleanup(self.end)

    def end(self) -> None:
        """Close everything."""
        for sock, _ in self.adopted:
            sock.close()
        for descriptor in (*self.logs, *(descriptor for _, descriptor in self.peers)):
            os.close(descriptor)
        self.sender.loseConnection()
        self.inbox.box.loseConnection()

    def send(self, message: bytes) -> socket.socket:
        """Send one end of a pair with a message; returns the other."""
        server, client = socket.socketpair()
        self.owned(client)
        self.sender.sendFileDescriptor(server.detach())
        self.sender.write(message)
        return client

    def hand(self, reserved: bool = True) -> socket.socket:
        """Hand a connection; returns the client's end."""
        origin = Origin(PEER)
        return self.send(
            pack_handoff(Handoff(family=socket.AF_UNIX, origin=origin, reserved=reserved))
        )

    def test_connection(self) -> None:
        """A connection is adopted; one that was reserved counts as taken."""
        self.inbox.start()
        self.hand()
        self.hand(reserved=False)
        self.reactor.settle()
        self.assertEqual((len(self.adopted), self.inbox.taken), (2, 1))
        self.assertEqual(self.adopted[0][1].origin.peer, PEER)

    def test_stopped_by_one(self) -> None:
        """What waits behind a connection whose request ends the worker is left to others."""
        self.inbox.start()
        self.inbox._adopt = lambda *adopted: (self.adopted.append(adopted), self.inbox.stop())
        for _ in range(3):
            self.hand()
        self.reactor.settle()
        self.assertEqual(len(self.adopted), 1)

    def test_peer_and_log(self) -> None:
        """The mailbox of a peer and the access log go where they belong."""
        self.inbox.start()
        self.send(pack_peer(3))
        self.send(pack_log())
        self.reactor.settle()
        self.assertEqual(([peer for peer, _ in self.peers], len(self.logs)), ([3], 1))

    def test_damaged(self) -> None:
        """A message that is damaged is logged, and its descriptor closed; the next one is taken."""
        self.inbox.start()
        before = open_descriptors()
        self.send(b"nonsense").close()
        self.reactor.settle()
        self.assertEqual((len(self.flushLoggedErrors()), open_descriptors()), (1, before))
        self.hand()
        self.reactor.settle()
        self.assertEqual(len(self.adopted), 1)

    def test_damaged_and_alone(self) -> None:
        """A damaged message that brought no descriptor closes none, first or later."""
        for _ in range(2):
            self.assertRaises(WireError, self.inbox.dataReceived, b"nonsense")
            self.send(pack_log())
            self.inbox.take_all()
        self.assertEqual(len(self.logs), 2)

    def test_lost_on_the_way(self) -> None:
        """A hand-off whose descriptor is lost is not outstanding any more."""
        for reserved in (True, False, True):
            client = self.hand(reserved)
            with no_descriptors_left():
                self.inbox.box.read_one()
            self.assertTrue(ended(client))
        self.assertEqual((self.inbox.taken, self.adopted), (2, []))

    def test_peer_lost_on_the_way(self) -> None:
        """The mailbox of a peer whose descriptor is lost is none, and no connection."""
        self.send(pack_peer(3))
        with no_descriptors_left():
            self.inbox.box.read_one()
        self.assertEqual((self.inbox.taken, self.peers), (0, []))

    def test_turn(self) -> None:
        """Four connections are taken in one turn of the reactor: others have their turns, too."""
        self.inbox.start()
        for _ in range(6):
            self.hand()
        self.reactor.turn()
        self.assertEqual(len(self.adopted), 4)

    def test_take_all(self) -> None:
        """All that is in the mailbox can be taken at once."""
        for _ in range(20):
            self.hand()
        self.inbox.take_all()
        self.assertEqual(len(self.adopted), 20)

    def test_stop(self) -> None:
        """An inbox that is stopped leaves its messages in the mailbox for other workers."""
        self.inbox.start()
        self.inbox.stop()
        self.hand()
        self.reactor.settle()
        self.inbox.take_all()
        self.assertEqual(self.adopted, [])

    def test_finished(self) -> None:
        """The end of the mailbox is told."""
        self.inbox.start()
        self.inbox.box._lose()
        self.reactor.settle()
        self.assertEqual(self.finished.call_count, 1)
