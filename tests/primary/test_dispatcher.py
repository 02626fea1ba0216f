"""Whose a connection becomes, by a primary with played workers."""

from __future__ import annotations

import socket

from tests.primary.cases import PEER, PrimaryCase, get
from tests.raw_frames import Kind
from tests.shells import (
    open_descriptors,
    received,
)
from txsticky.core.how import How
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.intake.arrival import Arrival
from txsticky.primary.dispatcher import MAX_HOPS


class HandOffTests(PrimaryCase):
    """Handing a connection to a worker."""

    def test_all_that_is_known(self) -> None:
        """The hand-off carries all that is known of the connection, and its bytes."""
        self.start(1)
        self.spawn().ready()
        self.reactor.settle()
        self.arrive(get("/a") + b"tail", secure=True)
        ((_, handoff),) = self.taken()
        self.assertEqual(
            handoff,
            Handoff(
                family=socket.AF_UNIX,
                origin=Origin(PEER, secure=True),
                how=How.NEW,
                reserved=True,
                prefix=get("/a") + b"tail",
            ),
        )

    def test_the_connection_itself(self) -> None:
        """The worker holds the connection; the primary holds nothing of it any more."""
        self.start()
        before = open_descriptors()
        client = self.arrive()
        self.assertEqual(self.arrival.sock.fileno(), -1)
        self.assertEqual(open_descriptors() - before, {client.fileno()})
        ((worker, _),) = self.taken()
        sock, _ = self.workers[worker - 1].hands[0]
        sock.send(b"answer")
        self.assertEqual(received(client), b"answer")
        client.send(b"more")
        self.assertEqual(received(sock), b"more")

    def test_tag(self) -> None:
        """A tag in the session id leads to its worker."""
        self.start()
        for worker in (2, 1, 2):
            self.assertEqual(self.whose(get(f"/?sid={self.tag(worker)}")), worker)
        self.assertEqual(self.primary.dispatcher.routes[How.TAG], 3)

    def test_bound(self) -> None:
        """A key that a worker bound leads to it, until it is freed."""
        self.start()
        self.workers[1].send(Kind.BIND, b"mine")
        self.reactor.settle()
        self.assertEqual({self.whose(get("/?sid=mine")) for _ in range(4)}, {2})
        self.assertEqual(self.primary.dispatcher.routes[How.HIT], 4)
        self.workers[0].send(Kind.FREE, b"mine")
        self.reactor.settle()
        self.arrive(get("/?sid=mine"))
        ((_, handoff),) = self.taken()
        self.assertEqual(handoff.how, How.MISS)

    def test_unknown(self) -> None:
        """A key that is not known leads the same way every time."""
        self.start()
        self.assertEqual(len({self.whose(get("/?sid=foreign")) for _ in range(4)}), 1)

    def test_herd(self) -> None:
        """Load counts from the decision on: a herd spreads before any worker has reported."""
        self.start()
        for _ in range(10):
            self.arrive()
        self.assertEqual(sorted(worker for worker, _ in self.taken()), [1] * 5 + [2] * 5)

    def test_reports(self) -> None:
        """A worker that reports less load gets more."""
        self.start()
        self.workers[0].report(live=6)
        self.workers[1].report(live=2)
        self.reactor.settle()
        for _ in range(3):
            self.arrive()
        self.assertEqual([worker for worker, _ in self.taken()], [2, 2, 2])

    def test_suspect(self) -> None:
        """A suspect worker gets nothing new, but what is pinned to it; for every reason alone."""
        self.start()
        self.primary.workers.suspect(1, True)
        self.primary.workers.suspect(1, True, "crowded")
        self.assertEqual({self.whose(get()) for _ in range(3)}, {2})
        self.assertEqual(self.whose(get(f"/?sid={self.tag(1)}")), 1)
        self.primary.workers.suspect(1, False)
        self.assertEqual({self.whose(get()) for _ in range(3)}, {2})
        self.primary.workers.suspect(1, False, "crowded")
        self.assertEqual({self.whose(get()) for _ in range(6)}, {1, 2})

    def test_not_whole(self) -> None:
        """One without its whole request is received anew, unless its PROXY header is gone."""
        self.start()
        for proxied in (False, True):
            server, _ = self.pair()
            arrival = Arrival(server, Origin(PEER), data=b"GET /", proxied=proxied)
            self.primary.dispatcher.place(arrival, whole=False)
            ((_, handoff),) = self.taken()
            self.assertEqual((handoff.fresh, handoff.prefix), (not proxied, b"GET /"))

    def test_leaving(self) -> None:
        """Where all workers are leaving, and none will come, one of them gets it."""
        self.expects = False
        self.start()
        for worker, live in ((1, 3), (2, 1)):
            self.workers[worker - 1].report(live=live)
            self.reactor.settle()
            self.primary.pool.set_draining(worker)
        self.assertEqual(self.whose(get()), 2)
        self.assertEqual(self.whose(get(f"/?sid={self.tag(1)}")), 1)
        self.assertIn(b"503", self.refused(self.arrive(hops=MAX_HOPS + 1)))

    def test_hops(self) -> None:
        """A connection that goes on moving without being served is refused."""
        self.start()
        self.assertIn(self.whose(get(), hops=MAX_HOPS), (1, 2))
        self.assertIn(b"moved too often", self.refused(self.arrive(hops=MAX_HOPS + 1)))


class HashTests(PrimaryCase):
    """Clients that are told apart by their address."""

    options = {"sticky": "ip"}

    def test_address(self) -> None:
        """One address leads the same way every time; many spread."""
        self.start()
        self.assertEqual(len({self.whose(get()) for _ in range(4)}), 1)
        self.assertEqual({self.whose(get(), peer=(f"192.0.2.{n}", 1)) for n in range(20)}, {1, 2})
        self.assertEqual(self.primary.dispatcher.routes[How.HASH], 24)


class FullTests(PrimaryCase):
    """Workers that do not take what is theirs."""

    def test_waits_here(self) -> None:
        """When its mailbox is full, a worker's hand-offs wait here, and new ones go to others."""
        self.start()
        number = self.fill(self.workers[0])
        self.assertEqual(self.primary.pool.candidates()[0].id, 2)
        self.arrive()
        self.assertEqual(len(self.workers[1].take()), 1)
        got = []
        while len(got) < number:
            got += self.workers[0].take()
            self.reactor.turn()
        self.assertEqual(len(self.primary.pool.candidates()), 2)

    def test_too_many(self) -> None:
        """When too many wait here, connections that are pinned to the worker are refused."""
        self.start()
        self.fill(self.workers[0])
        for _ in range(self.config.backlog - 1):
            self.arrive(get(f"/?sid={self.tag(1)}") + bytes(60_000))
        sent = self.primary.pool.get(1).sent
        client = self.arrive(get(f"/?sid={self.tag(1)}"))
        self.assertIn(b"wait for their worker", self.refused(client))
        self.assertEqual(self.primary.pool.get(1).sent, sent)

    def test_crowded_by_an_introduction(self) -> None:
        """A queue that an introduction began counts as one that a hand-off began."""
        self.start()
        handle = self.primary.workers.handles[1]
        while not handle.mailbox.box.queued:
            handle.introduce(self.primary.workers.handles[2])
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.assertEqual([m.id for m in self.primary.pool.candidates()], [2])
        while handle.mailbox.box.queued:
            self.workers[0].take()
            for peer in self.workers[0].peers.values():
                peer.loseConnection()
            self.reactor.turn()
        self.assertEqual([m.id for m in self.primary.pool.candidates()], [1, 2])
