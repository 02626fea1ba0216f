"""The outbox: connections are given away, and what a mailbox does not take goes another way."""

from __future__ import annotations

import os
import socket
from unittest import mock

from tests.shells import ShellCase, ended
from tests.worker.cases import PEER, Box, view
from txsticky.core.messages.frames import Frame
from txsticky.core.messages.from_worker import WantPeer
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.verdict import FRONT_DESK
from txsticky.worker.outbox import Outbox


class OutboxTests(ShellCase):
    """The outbox of worker 2, the test being its peers and the primary."""

    def setUp(self) -> None:
        super().setUp()
        self.view = view()
        self.boxes = {place: Box(self) for place in (FRONT_DESK, 1, 3)}
        self.told: list[Frame] = []
        front_desk = self.boxes[0].sending.detach()
        self.outbox = Outbox(front_desk, self.view, self.told.append, self.reactor)
        for place in (1, 3):
            self.outbox.add(place, self.boxes[place].sending.detach())
        self.addCleanup(self.end)

    def end(self) -> None:
        """Close both sides."""
        for box in self.outbox.boxes.values():
            for descriptor, _ in box.take_queue():
                os.close(descriptor)
            box.loseConnection()
        for box in self.boxes.values():
            box.close()

    def give(self, place: int, prefix: bytes = b"") -> socket.socket:
        """Give a connection away; returns the client's end."""
        server, client = socket.socketpair()
        self.owned(client)
        handoff = Handoff(family=socket.AF_UNIX, origin=Origin(PEER), prefix=prefix)
        self.outbox.give(server, place, handoff)
        return client

    def came(self, place: int) -> list[bytes]:
        """What has come to a place."""
        return [handoff.prefix for handoff in self.boxes[place].read()]

    def fill(self, place: int, number: int) -> None:
        """Give until so many wait."""
        while self.outbox.boxes[place].queued < number:
            self.give(place, bytes(60_000))

    def test_given(self) -> None:
        """A connection goes to the mailbox of its worker, and is counted."""
        client = self.give(3, b"x")
        self.assertEqual((self.came(3), self.came(1), self.outbox.given), ([b"x"], [], 1))
        self.boxes[3].got[0][0].close()
        self.assertTrue(ended(client))

    def test_stranger(self) -> None:
        """A connection for a worker whose mailbox is not here goes to the front desk."""
        self.give(9, b"x")
        self.assertEqual(self.came(FRONT_DESK), [b"x"])

    def test_wanted(self) -> None:
        """The primary is asked once for the mailbox of a worker that is to get something."""
        self.view.asks = True
        self.assertEqual([self.outbox.reaches(place) for place in (3, 4, 4)], [True, False, False])
        self.assertEqual(self.told, [WantPeer(4)])
        box = self.boxes[4] = Box(self)
        self.outbox.add(4, box.sending.detach())
        self.assertTrue(self.outbox.reaches(4))

    def test_wanted_anew(self) -> None:
        """A mailbox that was not brought is asked for again, when its worker is not forgotten."""
        self.view.asks = True
        self.outbox.reaches(4)
        self.outbox.forget(4)
        self.outbox.reaches(4)
        self.assertEqual(self.told, [WantPeer(4)] * 2)

    def test_old_primary(self) -> None:
        """A primary that cannot bring mailboxes is asked for none."""
        self.assertFalse(self.outbox.reaches(4))
        self.assertEqual(self.told, [])

    def test_final(self) -> None:
        """When the whole cluster stops, an idle connection for the front desk is closed."""
        self.view.final = True
        client = self.give(FRONT_DESK)
        self.assertEqual((ended(client), self.outbox.given), (True, 0))
        self.give(3, b"x")
        self.assertEqual(self.came(3), [b"x"])

    def test_final_is_at_once(self) -> None:
        """When the whole cluster stops, an idle connection is closed while it is given away."""
        self.view.final = True
        server, client = map(self.owned, socket.socketpair())
        idle = Handoff(family=socket.AF_UNIX, origin=Origin(PEER))
        self.outbox.give(server, FRONT_DESK, idle)
        self.assertEqual((server.fileno(), ended(client)), (-1, True))

    def test_idle_with_a_place(self) -> None:
        """An idle connection that has a place goes there, whatever others there are."""
        self.ids(1, 2, 3)
        self.give(1)
        self.assertEqual([len(self.came(place)) for place in (0, 1, 3)], [0, 1, 0])

    def test_successor(self) -> None:
        """The place of an idle connection is chosen by this worker's id and slot."""
        self.view.slot = 1
        self.view.spread = spread = mock.Mock()
        spread.choose.return_value = None
        self.give(FRONT_DESK)
        spread.choose.assert_called_once_with(self.view.pool, 2, 1, self.outbox.boxes)

    def test_final_request(self) -> None:
        """When the cluster stops, a connection with a request still goes to the front desk."""
        self.view.final = True
        self.give(FRONT_DESK, b"x")
        self.assertEqual(self.came(FRONT_DESK), [b"x"])

    def test_full(self) -> None:
        """A connection for a mailbox that is full goes to the front desk."""
        self.outbox.boxes[3].outgoing.limit = 3
        self.fill(3, 3)
        self.give(3, b"one too many")
        self.assertEqual(self.came(FRONT_DESK), [b"one too many"])

    def test_dead(self) -> None:
        """What waits for a mailbox goes to the front desk when its worker dies."""
        self.fill(3, 2)
        self.boxes[3].close()
        self.reactor.settle()
        self.assertEqual(len(self.came(FRONT_DESK)), 2)

    def test_forget(self) -> None:
        """What waits goes to the front desk when the worker has gone; its mailbox is closed."""
        self.fill(3, 1)
        self.outbox.forget(3)
        self.assertEqual(len(self.came(FRONT_DESK)), 1)
        self.assertEqual(set(self.outbox.boxes), {FRONT_DESK, 1})
        self.outbox.forget(3)  # a second time there is nothing to close

    def test_front_desk_is_full(self) -> None:
        """A connection that the front desk has no room for is closed; what waits there waits on."""
        desk = self.outbox.boxes[FRONT_DESK]
        desk.outgoing.limit = 3
        self.fill(FRONT_DESK, 3)
        with mock.patch("txsticky.worker.outbox.log") as log:
            client = self.give(FRONT_DESK, b"x")
        self.assertEqual((log.error.call_count, ended(client), desk.queued), (1, True, 3))

    def test_lost(self) -> None:
        """If not even the front desk takes a connection, it is closed, and that is logged."""
        self.boxes[FRONT_DESK].close()
        with mock.patch("txsticky.worker.outbox.log") as log:
            client = self.give(FRONT_DESK, b"x")
        self.assertEqual((log.error.call_count, ended(client)), (1, True))

    def ids(self, *ids: int) -> None:
        """Have the cluster's ready workers be these."""
        pool = self.view.pool = Pool()
        for id in ids:
            pool.add(id, id)
            pool.set_ready(id)

    def test_idle(self) -> None:
        """An idle connection waits at a worker that began later, at each of these in turn."""
        self.boxes[4] = Box(self)
        self.outbox.add(4, self.boxes[4].sending.detach())
        self.ids(1, 2, 3, 4)
        for _ in range(4):
            self.give(FRONT_DESK)
        self.assertEqual([len(self.came(place)) for place in (0, 1, 3, 4)], [0, 0, 2, 2])

    def test_idle_is_counted(self) -> None:
        """An idle connection counts at once as one that is on its way to its worker."""
        self.ids(1, 2)
        self.give(FRONT_DESK)
        self.assertEqual([member.load for member in self.view.pool.members], [1, 0])

    def test_idle_at_the_youngest(self) -> None:
        """Where no worker began later, an idle connection waits at another."""
        self.ids(1, 2)
        self.give(FRONT_DESK)
        self.assertEqual([len(self.came(place)) for place in (0, 1, 3)], [0, 1, 0])

    def test_idle_and_alone(self) -> None:
        """Where no other worker is known, an idle connection goes to the front desk."""
        for ids in ((2,), (2, 7)):
            self.ids(*ids)
            self.give(FRONT_DESK)
        self.assertEqual([len(self.came(place)) for place in (0, 1, 3)], [2, 0, 0])

    def test_again(self) -> None:
        """A mailbox that is added again takes the place of the old one, which is closed."""
        box = self.boxes[4] = Box(self)
        self.outbox.add(3, box.sending.detach())
        self.give(3, b"x")
        self.assertEqual((self.came(4), self.came(3)), ([b"x"], []))
        self.assertTrue(self.boxes[3].transport.is_closed())
