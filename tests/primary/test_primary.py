"""The primary and its handles: whose a connection becomes, and what the workers are told."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any
from unittest import mock

import attrs

from tests.raw_frames import Kind, decode_json, encode, pack_message
from tests.shells import (
    PlayedWorker,
    ShellCase,
    ended,
    open_descriptors,
    received,
)
from txsticky.config import Config
from txsticky.core.how import How
from txsticky.core.lifecycle.timing import SILENT
from txsticky.core.messages.from_worker import Bind, Free
from txsticky.core.messages.handoff import Handoff, pack_handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.pool import State
from txsticky.errors import MailboxFull
from txsticky.ipc.channel import FULL, Channel
from txsticky.ipc.inbox import FrontDesk
from txsticky.primary.beginning import OTHERS
from txsticky.primary.dispatcher import MAX_HOPS
from txsticky.primary.provision import Provision
from txsticky.primary.replication import VIEW_INTERVAL
from txsticky.primary.suspicion import SHORT, STUCK, STUCK_AFTER
from txsticky.primary.worker_handle import WorkerHandle
from txsticky.system.trust import Identity

from .cases import PEER, WAIT, PrimaryCase, get


class SpawnTests(PrimaryCase):
    """Starting a worker."""

    def test_command(self) -> None:
        """A worker is a fresh interpreter that inherits its channel, mailbox and front desk."""
        before = open_descriptors()
        self.primary.workers.spawn(7, 3, 2)
        (process,) = self.system.processes
        self.assertEqual(process.arguments[:3], ["-P", "-m", "txsticky.worker.process"])
        self.assertEqual(len(process.inherited), 3)
        self.assertIn(int(process.arguments[3]), process.inherited)
        self.assertIsNone(process.identity)
        worker = PlayedWorker(process)
        self.assertEqual((worker.boot["id"], worker.boot["slot"]), (7, 3))
        self.assertEqual(worker.boot["generation"], 2)
        worker.die()
        self.reactor.settle()
        self.assertEqual(open_descriptors(), before)

    def test_boot(self) -> None:
        """The first frame says all that the worker has to know."""
        self.start(1)
        boot = self.spawn().boot
        self.assertEqual(Config.from_json(boot["config"]), self.config)
        self.assertEqual(bytes.fromhex(boot["secret"]), self.primary.secret)
        self.assertEqual(
            [m[:3] for m in boot["pool"]["members"]], [[1, 1, "ready"], [2, 2, "starting"]]
        )

    def test_channel_is_not_shared(self) -> None:
        """Nobody else holds the worker's end of its channel, so that its end is seen at once."""
        worker = self.spawn()
        worker.ready()
        self.reactor.settle()
        worker.channel.close()
        self.reactor.settle()
        self.assertIsNone(self.primary.pool.get(worker.id))

    def test_refused(self) -> None:
        """A process that cannot be started leaves nothing behind."""
        before = open_descriptors()
        self.system.refusing = OSError("no more processes")
        self.assertRaises(OSError, self.primary.workers.spawn, 1, 1, 1)
        self.assertEqual((len(self.primary.pool), self.primary.workers.handles), (0, {}))
        self.assertEqual((open_descriptors(), self.reactor.getReaders()[1:]), (before, []))

    def test_output(self) -> None:
        """What the worker prints is logged under its name."""
        worker = self.spawn()
        with mock.patch("txsticky.primary.worker_handle.log") as log:
            worker.process.say("[warn] it is late")
        event = log.emit.call_args
        self.assertEqual(event.args[0].name, "warn")
        self.assertEqual(event.args[1].format(**event.kwargs), "worker 1: it is late")


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
        """A key that nobody knows leads the same way every time."""
        self.start()
        self.assertEqual(len({self.whose(get("/?sid=foreign")) for _ in range(4)}), 1)

    def test_herd(self) -> None:
        """Load counts from the decision on: a herd spreads before any worker has reported."""
        self.start()
        for _ in range(10):
            self.arrive()
        self.assertEqual(sorted(worker for worker, _ in self.taken()), [1] * 5 + [2] * 5)

    def test_reports(self) -> None:
        """Who reports less load gets more."""
        self.start()
        self.workers[0].report(live=6)
        self.workers[1].report(live=2)
        self.reactor.settle()
        for _ in range(3):
            self.arrive()
        self.assertEqual([worker for worker, _ in self.taken()], [2, 2, 2])

    def test_suspect(self) -> None:
        """Who is suspected gets nothing new, but what is pinned to it; for every reason alone."""
        self.start()
        self.primary.workers.suspect(1, True)
        self.primary.workers.suspect(1, True, "crowded")
        self.assertEqual({self.whose(get()) for _ in range(3)}, {2})
        self.assertEqual(self.whose(get(f"/?sid={self.tag(1)}")), 1)
        self.primary.workers.suspect(1, False)
        self.assertEqual({self.whose(get()) for _ in range(3)}, {2})
        self.primary.workers.suspect(1, False, "crowded")
        self.assertEqual({self.whose(get()) for _ in range(6)}, {1, 2})

    def test_hops(self) -> None:
        """A connection that goes on moving without being served is refused."""
        self.start()
        self.assertIn(self.whose(get(), hops=MAX_HOPS), (1, 2))
        self.assertIn(b"moved too often", self.refused(self.arrive(hops=MAX_HOPS + 1)))


class EntranceTests(PrimaryCase):
    """Workers that accept themselves."""

    options = {"accept": "workers"}

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.listening()
        self.primary.listeners.open(0, self.listener.dup(), True)
        self.primary.listeners.start()
        self.addCleanup(self.primary.listeners.close)

    def accepting(self) -> int:
        """At how many sockets the primary accepts."""
        return sum(a in self.reactor.readers for a in self.primary.listeners.acceptors)

    def entrance(self, worker: PlayedWorker, accepted: int, *routes: int, **more: Any) -> None:
        """Have a worker report what it has done at its entrance."""
        counted = {"accepted": accepted, "routes": routes, "refusals": [], "waiting": 0}
        worker.report(entrance={**counted, **more})
        self.reactor.settle()

    def test_inherited(self) -> None:
        """A worker gets the sockets of its slot, with the number of their endpoint."""
        for slot in (1, 2):
            worker = self.spawn()
            ((number, descriptor),) = worker.boot["listeners"]
            with worker.process.socket(descriptor) as sock:
                self.assertEqual(sock.getsockname(), self.listener.getsockname())
            ours = self.primary.listeners.of(slot)
            self.assertEqual([(number, descriptor)], ours)
        self.assertEqual(self.accepting(), 2)

    def test_beginning(self) -> None:
        """None is told to accept before connections are routed: then all that are ready are."""
        first, second = self.spawn(), self.spawn()
        first.ready()
        self.reactor.settle()
        self.assertEqual((first.told(Kind.ACCEPT), self.accepting()), ([], 2))
        second.ready()
        self.reactor.settle()
        told = [kind for kind, _ in first.frames() + second.frames()]
        self.assertEqual((told.count(Kind.ACCEPT), self.accepting()), (2, 0))

    def test_pool_comes_first(self) -> None:
        """A worker has the pool before it accepts."""
        worker = self.spawn()
        worker.ready()
        self.reactor.settle()
        self.reactor.advance(OTHERS)
        kinds = [kind for kind, _ in worker.frames()]
        self.assertLess(kinds.index(Kind.POOL), kinds.index(Kind.ACCEPT))

    def test_until_it_ends(self) -> None:
        """Where a worker is silent, drains or has ended, the primary accepts; and no longer."""
        self.start()
        self.assertEqual(self.accepting(), 0)
        self.primary.workers.suspect(1, True)
        self.assertEqual(self.accepting(), 1)
        self.primary.workers.suspect(1, False)
        self.assertEqual(self.accepting(), 0)
        self.primary.workers.retire(1, 5.0, final=False)
        self.assertEqual(self.accepting(), 1)
        self.workers[1].die(-9)
        self.reactor.settle()
        self.assertEqual(self.accepting(), 2)

    def test_counted(self) -> None:
        """What they accept, place and refuse is counted as if the primary had done it."""
        one, other = self.start()
        before = dict(self.primary.dispatcher.routes)
        self.entrance(one, 5, 1, 0, 0, 3, 1, refusals=[[400, 2]])
        self.entrance(one, 9, 1, 0, 0, 7, 1, refusals=[[400, 2], [408, 1]])
        self.entrance(other, 1, 1, 0, 0, 0, 0)
        self.assertEqual(self.primary.listeners.accepted, 10)
        more = {how.name: self.primary.dispatcher.routes[how] - before[how] for how in How}
        self.assertEqual(more, {"TAG": 2, "HIT": 0, "HASH": 0, "NEW": 7, "MISS": 1})
        self.assertEqual(dict(self.primary.reception.refusals), {400: 2, 408: 1})

    def test_counted_beyond_its_end(self) -> None:
        """And it stays counted when a worker has ended."""
        one, _ = self.start()
        self.entrance(one, 5, 0, 0, 0, 5, 0)
        one.die(-9)
        self.reactor.settle()
        self.assertEqual(self.primary.listeners.accepted, 5)
        self.assertEqual(self.primary.dispatcher.routes[How.NEW], 5)

    def test_short(self) -> None:
        """As long as a worker is short of descriptors the primary accepts, and spares it."""
        one, _ = self.start()
        one.report(short=True)
        self.reactor.settle()
        self.assertEqual(self.accepting(), 1)
        self.assertEqual({self.whose(get()) for _ in range(4)}, {2})
        one.report(short=False)
        self.reactor.settle()
        self.assertEqual(self.accepting(), 0)
        self.assertIn(1, {self.whose(get()) for _ in range(4)})

    def test_fresh(self) -> None:
        """A connection of which a worker has dealt with nothing is one that was just accepted."""
        self.start()
        server, _ = self.pair()
        handoff = Handoff(
            family=socket.AF_UNIX, origin=Origin(PEER), prefix=b"GET", hops=1, fresh=True
        )
        self.primary.returns.desk.fileDescriptorReceived(server.detach())
        self.primary.returns.desk.dataReceived(pack_handoff(handoff))
        (arrival,) = self.primary.reception.arrivals()
        self.assertEqual((arrival.hops, arrival.idle, arrival.proxied), (0, False, False))


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
        """When its mailbox is full, hand-offs wait here, and new ones go to others."""
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
        """When too many wait here, those that are pinned to it are refused at once."""
        self.start()
        self.fill(self.workers[0])
        for _ in range(self.config.backlog - 1):
            self.arrive(get(f"/?sid={self.tag(1)}") + bytes(60_000))
        sent = self.primary.pool.get(1).sent
        client = self.arrive(get(f"/?sid={self.tag(1)}"))
        self.assertIn(b"wait for their worker", self.refused(client))
        self.assertEqual(self.primary.pool.get(1).sent, sent)

    def test_crowded_by_an_introduction(self) -> None:
        """The same when it was no hand-off with which the queue began."""
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


class ParkTests(PrimaryCase):
    """When nobody is ready."""

    def test_first_start(self) -> None:
        """Until all workers of the first start are ready, connections wait; then all are routed."""
        clients = [self.arrive(get(f"/{n}")) for n in range(3)]
        first = self.spawn()
        first.ready()
        self.reactor.settle()
        self.assertEqual((self.taken(), len(self.primary.room)), ([], 3))
        self.assertTrue(self.primary.beginning.under_way)
        self.spawn().ready()
        self.reactor.settle()
        self.assertEqual((len(self.taken()), len(self.primary.room)), (3, 0))
        self.assertFalse(self.primary.beginning.under_way)
        self.assertEqual([received(client) for client in clients], [None] * 3)

    def test_one_that_is_slow(self) -> None:
        """If one of them takes much longer than the others, those that are ready serve."""
        self.spawn()
        self.spawn()
        self.reactor.advance(WAIT - 1)
        client = self.arrive()
        self.workers[0].ready()
        self.reactor.settle()
        self.reactor.advance(OTHERS - 0.5)
        self.assertEqual(self.taken(), [])
        self.reactor.advance(0.5)
        self.assertEqual([worker for worker, _ in self.taken()], [1])
        self.arrive()
        self.assertEqual([worker for worker, _ in self.taken()], [1])
        self.assertIsNone(received(client))

    def test_none_is_refused_while_one_is_ready(self) -> None:
        """Who has waited for his time by then is served by those that are ready, at once."""
        first, second = self.spawn(), self.spawn()
        client = self.arrive()
        self.reactor.advance(WAIT - 1)
        first.ready()
        self.reactor.settle()
        self.reactor.advance(1)
        self.assertEqual([worker for worker, _ in self.taken()], [1])
        self.assertEqual((received(client), self.primary.beginning.under_way), (None, False))
        second.ready()

    def test_ready_and_gone(self) -> None:
        """If the one that was ready dies while it waits for the others, the first start goes on."""
        first, second = self.spawn(), self.spawn()
        first.ready()
        self.reactor.settle()
        first.die(-9)
        self.arrive()
        self.reactor.advance(OTHERS)
        self.assertTrue(self.primary.beginning.under_way)
        second.ready()
        self.reactor.settle()
        self.reactor.advance(OTHERS)
        self.assertEqual([worker for worker, _ in self.taken()], [2])

    def test_slow_first_start(self) -> None:
        """A first start may take long: what waits is refused only when its time is over."""
        refused = self.arrive()
        self.reactor.advance(WAIT - 1)
        self.assertIsNone(received(refused))
        self.reactor.advance(1)
        self.refused(refused)

    def test_half_a_head_at_the_first_start(self) -> None:
        """Who has sent half a head by then goes on with it, as HTTP or not as the workers say."""
        client = self.arrive(get()[:9])
        self.start()
        client.send(get()[9:])
        self.reactor.settle()
        ((_, handoff),) = self.taken()
        self.assertEqual(handoff.prefix, get())

    def test_nobody(self) -> None:
        """If nobody is ready and nobody comes, the client is refused at once."""
        self.start()
        for worker in self.workers:
            worker.die()
        self.refused(self.arrive())

    def test_somebody_comes(self) -> None:
        """If somebody is to come, it is waited for, in order."""
        self.start()
        self.expects = True
        for worker in self.workers:
            worker.die()
        self.spawn()
        clients = [self.arrive(get(f"/{n}")) for n in range(3)]
        self.workers[2].ready()
        self.reactor.settle()
        self.assertEqual(
            [(worker, handoff.prefix) for worker, handoff in self.taken()[0:3]],
            [(3, get(f"/{n}")) for n in range(3)],
        )
        self.assertEqual([received(client) for client in clients], [None] * 3)

    def test_time(self) -> None:
        """Each waits for so long, and is refused then."""
        self.start()
        self.expects = True
        for worker in self.workers:
            worker.die()
        self.spawn()
        first = self.arrive()
        self.reactor.advance(WAIT - 1)
        second = self.arrive()
        self.reactor.advance(1)
        self.refused(first)
        self.assertIsNone(received(second))
        self.reactor.advance(WAIT - 2)
        self.assertIsNone(received(second))
        self.reactor.advance(1)
        self.refused(second)
        self.assertEqual(len(self.primary.room), 0)

    def test_too_many(self) -> None:
        """If too many wait, the next is refused at once."""
        clients = [self.arrive() for _ in range(self.config.backlog + 1)]
        self.assertIn(b"too many", self.refused(clients[-1]))
        self.assertEqual([received(client) for client in clients[:-1]], [None] * 20)

    def test_gone(self) -> None:
        """A client that has gone meanwhile is dropped, and the others keep their order."""
        clients = [self.arrive(get(f"/{n}")) for n in range(3)]
        clients[1].close()
        self.reactor.settle()
        self.assertEqual(len(self.primary.room), 2)
        self.start()
        took = [handoff.prefix for worker in self.workers for _, handoff in worker.hands]
        self.assertEqual(sorted(took), [get("/0"), get("/2")])

    def test_told_to_stop(self) -> None:
        """When the cluster is told to stop, who waits for a worker is refused at once."""
        self.start()
        self.expects = True
        for worker in self.workers:
            worker.die()
        client = self.arrive()
        self.primary.stopping()
        self.refused(client)

    def test_told_to_stop_at_the_first_start(self) -> None:
        """What waits for the others of a first start is handed to those that are ready."""
        self.arrive()
        self.spawn().ready()
        self.reactor.settle()
        self.primary.stopping()
        self.assertEqual(len(self.taken()), 1)

    def test_stop(self) -> None:
        """Who still waits when all is over is refused."""
        client = self.arrive()
        self.primary._ended(3, "it does not load")
        self.refused(client)
        self.assertEqual(self.told.ended.call_args.args, (3, "it does not load"))

    def test_nonsense(self) -> None:
        """Nonsense that came while nobody knew what is spoken gets 400 as soon as that is known."""
        client = self.arrive(b"nonsense\r\n")
        self.start()
        self.assertTrue((received(client) or b"").startswith(b"HTTP/1.1 400 "))

    def test_nonsense_and_nobody(self) -> None:
        """And if nobody gets ready in time, too."""
        client = self.arrive(b"nonsense\r\n")
        self.reactor.advance(WAIT)
        self.assertTrue((received(client) or b"").startswith(b"HTTP/1.1 400 "))


class NoWaitTests(PrimaryCase):
    """--queue-timeout 0."""

    options = {"queue_timeout": 0}

    def test_none_ready(self) -> None:
        """Nothing waits for a worker, not even for the first."""
        self.refused(self.arrive())
        self.start()
        self.supervisor.expects.side_effect = lambda seconds: True
        for worker in self.workers:
            worker.die()
        self.refused(self.arrive())
        self.assertEqual(len(self.primary.room), 0)

    def test_the_first_ready(self) -> None:
        """Nor for the others of the first start."""
        self.spawn().ready()
        self.spawn()
        self.reactor.settle()
        self.arrive()
        self.assertEqual([worker for worker, _ in self.taken()], [1])

    def test_half_a_head(self) -> None:
        """Who has sent half a head when the first worker is ready goes on with it."""
        client = self.arrive(get()[:9])
        self.spawn().ready()
        self.reactor.settle()
        client.send(get()[9:])
        self.reactor.settle()
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [get()])


class MannersTests(PrimaryCase):
    """What the clients are expected to say, by what the application speaks."""

    def test_http(self) -> None:
        """HTTP: a head is waited for, and anything else is refused; silence can be deferred."""
        self.primary.listeners.defer = mock.Mock()  # type: ignore[method-assign]
        self.start()
        self.assertEqual(self.primary.listeners.defer.call_args_list, [mock.call(True)])
        self.assertTrue((received(self.arrive(b"x\r\n")) or b"").startswith(b"HTTP/1.1 400 "))

    def test_other(self) -> None:
        """Something else: nothing is waited for; the server may speak first."""
        self.primary.listeners.defer = mock.Mock()  # type: ignore[method-assign]
        client = self.arrive(b"")
        self.start(http=False)
        self.assertEqual(self.primary.listeners.defer.call_args_list, [mock.call(False)])
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [])
        self.assertEqual(sum(len(worker.hands) for worker in self.workers), 1)
        self.arrive(b"hello")
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [b"hello"])
        self.assertIsNone(received(client))


class OtherKeyTests(PrimaryCase):
    """An application that is not recognized as HTTP, with a key that stands in the head."""

    options = {"sticky": "query:room"}

    def test_head(self) -> None:
        """The head is waited for, because the operator named a key that stands in it."""
        self.start(http=False)
        client = self.arrive(get(f"/?room={self.tag(2)}")[:9])
        self.assertEqual(self.taken(), [])
        client.send(get(f"/?room={self.tag(2)}")[9:])
        self.reactor.settle()
        self.assertEqual([worker for worker, _ in self.taken()], [2])


class TLSTests(PrimaryCase):
    """TLS, which ends in the worker."""

    options = {"tls_cert": ("cert.pem",), "tls_key": ("key.pem",)}

    def test_first_bytes(self) -> None:
        """The first bytes are waited for, and not looked at."""
        self.start(http=False)
        client = self.arrive(b"")
        self.assertEqual(self.taken(), [])
        client.send(b"\x16\x03\x01")
        self.reactor.settle()
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [b"\x16\x03\x01"])


class ProxyTests(PrimaryCase):
    """The PROXY protocol."""

    options = {"proxy_protocol": True}
    header = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n"

    def peer(self, data: bytes, peer: tuple[str, int]) -> tuple[str, int]:
        """What the worker hears of the client."""
        self.arrive(data, peer)
        ((_, handoff),) = self.taken()
        self.assertEqual(handoff.prefix, get())
        return handoff.origin.peer

    def test_this_host(self) -> None:
        """It is expected of this host and of UNIX sockets, and of nobody else."""
        self.start()
        for host in ("127.0.0.1", "::1", ""):
            self.assertEqual(self.peer(self.header + get(), (host, 1)), ("203.0.113.9", 4711))
        self.assertEqual(self.peer(get(), PEER), PEER)

    def test_server_speaks_first(self) -> None:
        """Behind the header, a server that is not HTTP may speak first."""
        self.start(http=False)
        self.arrive(self.header, ("127.0.0.1", 1))
        self.assertEqual([handoff.prefix for _, handoff in self.taken()], [b""])


class TrustedProxyTests(PrimaryCase):
    """The PROXY protocol from proxies that the operator names."""

    options = {"proxy_protocol": True, "forwarded_allow_ips": "192.0.2.0/24"}

    def test_named(self) -> None:
        """It is expected of those, and no longer of this host."""
        self.start()
        self.arrive(ProxyTests.header + get(), PEER)
        self.arrive(get(), ("127.0.0.1", 1))
        self.assertEqual(
            sorted(handoff.origin.peer[0] for _, handoff in self.taken()),
            ["127.0.0.1", "203.0.113.9"],
        )


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
        """One that is given back idle waits for its next request."""
        self.start()
        client, worker = self.serve()
        worker.give(worker.desk, b"")
        self.reactor.settle()
        self.assertEqual((self.taken(), self.primary.reception.waiting), ([], 1))
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


class ReadyTests(PrimaryCase):
    """A worker gets ready."""

    def test_introductions(self) -> None:
        """It and those before it get the sending ends of each other's mailboxes."""
        self.count = 3
        self.start(3)
        for worker in self.workers:
            self.assertEqual(set(worker.peers), {1, 2, 3} - {worker.id})
        message = pack_handoff(Handoff(family=socket.AF_UNIX, origin=Origin(PEER)))
        server, _ = self.pair()
        self.workers[0].peers[3].sendFileDescriptor(server.detach())
        self.workers[0].peers[3].write(message)
        self.assertEqual(len(self.workers[2].take()), 1)

    def test_not_before(self) -> None:
        """A worker that is not ready is not introduced, and told nothing."""
        self.start(1)
        second = self.spawn()
        self.workers[0].send(Kind.BIND, b"key")
        self.reactor.settle()
        second.take()
        self.assertEqual((second.peers, second.frames()), ({}, []))
        self.assertEqual(self.workers[0].peers, {})

    def test_bindings(self) -> None:
        """It is told all bindings there are, before it is told that it is in the pool."""
        self.start(1)
        for number in range(3):
            self.workers[0].send(Kind.BIND, b"key %d" % number)
        self.reactor.settle()
        second = self.spawn()
        second.ready()
        self.reactor.settle()
        frames = second.frames()
        self.assertEqual(frames[:3], [(Kind.BIND, b"1 key %d" % number) for number in range(3)])
        self.assertIs(frames[3][0], Kind.POOL)

    def test_pool(self) -> None:
        """All who are ready are told who is there."""
        self.start(1)
        self.spawn().ready()
        self.reactor.settle()
        for worker in self.workers:
            (body,) = worker.told(Kind.POOL)
            members = decode_json(body)["pool"]["members"]
            self.assertEqual([member[:3] for member in members], [[1, 1, "ready"], [2, 2, "ready"]])

    def test_supervisor(self) -> None:
        """The supervisor is told."""
        self.start()
        self.assertEqual(self.supervisor.ready.call_args_list, [mock.call(1), mock.call(2)])

    def test_interface(self) -> None:
        """What it serves is known from then on."""
        self.assertEqual(self.primary.spoken.interface, "auto")
        self.start()
        self.assertEqual((self.primary.spoken.interface, self.primary.spoken.http), ("web", True))


class BindTests(PrimaryCase):
    """Keys that applications bind."""

    count = 3

    def test_everybody_first(self) -> None:
        """When the worker hears that its key is bound, all others have the frame already."""
        self.start()
        order = []
        for handle in self.primary.workers.handles.values():
            real = handle.channel.send

            def send(frame: Any, real: Any = real, handle: Any = handle) -> None:
                real(frame)
                order.append((handle.id, Kind(frame.KIND), handle.channel.waiting))

            handle.channel.send = send
        self.workers[1].send(Kind.BIND, b"key")
        self.reactor.settle()
        self.assertEqual(order[-1], (2, Kind.BOUND, 0))
        self.assertEqual(sorted(order[:-1]), [(1, Kind.BIND, 0), (3, Kind.BIND, 0)])
        self.assertEqual(self.workers[0].told(Kind.BIND), [b"2 key"])
        self.assertEqual(self.workers[1].told(Kind.BIND, Kind.BOUND), [b""])

    def test_any_key(self) -> None:
        """A key may have any bytes, blanks included."""
        self.start()
        self.workers[0].send(Kind.BIND, b" a b\0\xff ")
        self.reactor.settle()
        self.assertEqual(self.workers[1].told(Kind.BIND), [b"1  a b\0\xff "])

    def change(self, change: Bind | Free) -> None:
        """Have worker 1 change the table; worker 2 reads what it is told."""
        self.primary.heard(self.primary.workers.handles[1], change)
        self.workers[1].frames()
        self.reactor.turn()

    def stopped(self) -> tuple[WorkerHandle, list[bytes]]:
        """
        Have worker 1 bind keys until worker 3, which does not read, is told no more.

        :returns: the handle of worker 3, and the keys.
        """
        self.start()
        third = self.primary.workers.handles[3]
        keys = []
        while not self.primary.replication.replica(3).stale:
            keys.append(b"%06d" % len(keys) + b"k" * 4000)
            self.change(Bind(keys[-1]))
            assert len(keys) < 2 * FULL // 4000, "there is no bound"
        return third, keys

    def read(self, handle: WorkerHandle) -> list[tuple[Kind, bytes]]:
        """Have a worker read all that waits for it."""
        got = []
        while handle.channel.waiting or not got:
            got += self.workers[handle.id - 1].frames()
            self.reactor.turn()
        return got + self.workers[handle.id - 1].frames()

    def test_stopped(self) -> None:
        """A worker that does not read makes the primary grow to a bound, and is given nothing."""
        third, _ = self.stopped()
        before = third.channel.waiting
        self.assertLess(before, FULL + 5000)
        for number in range(3000):
            self.change(Bind(b"%d" % number + b"l" * 4000))
            self.change(Free(b"%d" % number + b"l" * 4000))
            self.primary.replication.tell_pool()
        self.assertEqual(third.channel.waiting, before)
        self.assertEqual([member.id for member in self.primary.pool.candidates()], [1, 2])

    def test_continued(self) -> None:
        """When it reads again it gets the pool and the table as they are, and connections again."""
        third, keys = self.stopped()
        self.change(Free(keys[-1]))
        self.change(Bind(b"last"))
        told = self.read(third)
        (anew,) = [
            number
            for number, (kind, body) in enumerate(told)
            if kind is Kind.POOL and decode_json(body).get("anew")
        ]
        self.assertEqual(
            [body for kind, body in told[anew + 1 :] if kind is Kind.BIND],
            [b"1 %b" % key for key, _ in self.primary.table.items()],
        )
        self.assertEqual(self.primary.table.items()[-1], (b"last", 1))
        self.assertEqual([member.id for member in self.primary.pool.candidates()], [1, 2, 3])
        self.change(Bind(b"next"))
        self.assertEqual(self.workers[2].told(Kind.BIND), [b"1 next"])

    def test_killed(self) -> None:
        """Nothing is kept of one that is killed meanwhile."""
        self.stopped()
        self.workers[2].die(-9)
        self.primary.workers.suspect(3, True, "anything")
        self.assertEqual(self.primary.workers.suspicions.of(3), ())

    def test_views_are_replaced(self) -> None:
        """One that is behind is sent no view of the pool until it has caught up, and then one."""
        self.start()
        third = self.primary.workers.handles[3]
        while not third.channel.behind:
            third.channel.write(encode(Kind.MESSAGE, bytes(1 << 20)))
        before = third.channel.waiting
        for _ in range(100):
            self.primary.replication.tell_pool()
        self.assertEqual(third.channel.waiting, before)
        views = [decode_json(body) for kind, body in self.read(third) if kind is Kind.POOL]
        self.assertEqual(views, [{"pool": self.primary.pool.view()}])

    def test_free(self) -> None:
        """A freed key is freed everywhere."""
        self.start()
        self.workers[0].send(Kind.BIND, b"key")
        self.workers[1].send(Kind.FREE, b"key")
        self.reactor.settle()
        self.assertEqual(self.workers[0].told(Kind.FREE), [b"key"])
        self.assertEqual(self.workers[2].told(Kind.FREE), [b"key"])
        self.assertEqual(len(self.primary.table), 0)

    def test_gone(self) -> None:
        """The keys of a worker that is gone belong to nobody."""
        self.start()
        self.workers[0].send(Kind.BIND, b"key")
        self.reactor.settle()
        self.workers[0].die(-9)
        self.arrive(get("/?sid=key"))
        ((_, handoff),) = self.taken()
        self.assertEqual((handoff.how, len(self.primary.table)), (How.MISS, 0))


class SayTests(PrimaryCase):
    """What else workers say."""

    def test_load(self) -> None:
        """A report is a sign of life, and is kept."""
        self.start()
        self.workers[0].report(live=3, taken=2, lag=0.5)
        self.reactor.settle()
        member = self.primary.pool.get(1)
        self.assertEqual((member.live, member.taken, member.lag), (3, 2, 0.5))
        self.assertEqual(self.supervisor.heartbeat.call_args_list, [mock.call(1, takes=True)])
        self.assertEqual(self.primary.workers.handles[1].load.live, 3)

    def takes(self) -> bool:
        """Whether the last report of a worker counted as a sign of life."""
        return bool(self.supervisor.heartbeat.call_args.kwargs["takes"])

    def stuck(self, seconds: float, taken: int = 0, **more: Any) -> None:
        """Have the first worker report now and after so many seconds."""
        for wait in (0.0, seconds):
            self.reactor.advance(wait)
            self.workers[0].report(taken=taken, **more)
            self.reactor.settle()

    def test_takes_nothing(self) -> None:
        """Who reports, and takes nothing though hand-offs wait for him, is spared and not alive."""
        self.start()
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.stuck(STUCK_AFTER)
        self.assertEqual(self.primary.workers.suspicions.of(1), (STUCK,))
        self.assertFalse(self.takes())
        self.workers[0].report(taken=1)
        self.reactor.settle()
        self.assertEqual((self.primary.workers.suspicions.of(1), self.takes()), ((), True))

    def test_takes_soon(self) -> None:
        """A moment is no reason for suspicion, nor is it when nothing waits."""
        self.start()
        self.stuck(STUCK_AFTER * 2)
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.stuck(STUCK_AFTER - 0.01)
        self.assertEqual((self.primary.workers.suspicions.of(1), self.takes()), ((), True))

    def test_takes_some(self) -> None:
        """Who takes one after the other is alive, however many wait for him."""
        self.start()
        for _ in range(3):
            self.arrive(get(f"/?sid={self.tag(1)}"))
        self.stuck(STUCK_AFTER - 0.1, taken=1)
        self.stuck(STUCK_AFTER - 0.1, taken=2)
        self.assertEqual((self.primary.workers.suspicions.of(1), self.takes()), ((), True))

    def test_short_is_no_silence(self) -> None:
        """Who takes nothing for want of descriptors is spared, and lives."""
        self.start()
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.stuck(STUCK_AFTER, short=True)
        self.assertEqual((self.primary.workers.suspicions.of(1), self.takes()), ((SHORT,), True))

    def test_draining_is_no_silence(self) -> None:
        """Who is told to leave is not hurried for what still waits for him."""
        self.start()
        self.arrive(get(f"/?sid={self.tag(1)}"))
        self.primary.workers.retire(1, 30.0, final=False)
        self.stuck(STUCK_AFTER)
        self.assertTrue(self.takes())

    def test_deaf(self) -> None:
        """What waits for a worker whose mailbox has ended goes to others, and it is replaced."""
        self.start()
        client = self.arrive(get(f"/?sid={self.tag(1)}"))
        self.workers[0].send(Kind.DEAF)
        self.reactor.settle()
        (handoff,) = self.workers[1].take()
        self.assertEqual(handoff.prefix, self.arrival.data)
        self.assertEqual(self.supervisor.retire_request.call_args_list, [mock.call(1)])
        self.assertEqual({self.whose(get()) for _ in range(4)}, {2})
        self.workers[0].die(1)
        self.reactor.settle()
        self.assertFalse(ended(client))

    def test_views(self) -> None:
        """After reports all workers are told the load, once in a while and not at each report."""
        self.start()
        for live in range(5):
            self.workers[0].report(live=live)
        self.reactor.settle()
        self.assertEqual(self.workers[1].told(Kind.POOL), [])
        self.reactor.advance(VIEW_INTERVAL)
        (body,) = self.workers[1].told(Kind.POOL)
        self.assertEqual(decode_json(body)["pool"]["members"][0][4], 4)
        self.reactor.advance(10 * VIEW_INTERVAL)
        self.assertEqual(self.workers[1].told(Kind.POOL), [])

    def test_failed(self) -> None:
        """An application that does not load is told to the supervisor, with the reason."""
        self.spawn().send_json(Kind.FAILED, reason="no such module")
        self.reactor.settle()
        self.assertEqual(
            self.supervisor.load_failed.call_args_list, [mock.call(1, "no such module")]
        )

    def test_last_words(self) -> None:
        """What a worker said before it ended is told before that, however late it is read."""
        worker = self.spawn()
        worker.send_json(Kind.FAILED, reason="no such module")
        worker.die(3)
        self.assertEqual(
            self.supervisor.method_calls,
            [mock.call.load_failed(1, "no such module"), mock.call.exited(1, 3)],
        )

    def test_retire(self) -> None:
        """A worker may ask to be replaced."""
        self.start()
        self.workers[1].send(Kind.RETIRE)
        self.reactor.settle()
        self.assertEqual(self.supervisor.retire_request.call_args_list, [mock.call(2)])

    def test_bus(self) -> None:
        """What one publishes reaches all who subscribed, itself included, and nobody else."""
        self.count = 3
        self.start(3)
        self.workers[0].send(Kind.SUBSCRIBE, b"news")
        self.workers[1].send(Kind.SUBSCRIBE, b"news")
        self.workers[2].send(Kind.SUBSCRIBE, b"weather")
        self.reactor.settle()
        body = pack_message(b"news", b"hello")
        self.workers[0].send(Kind.PUBLISH, body)
        self.reactor.settle()
        self.assertEqual(
            [worker.told(Kind.MESSAGE) for worker in self.workers], [[body], [body], []]
        )
        self.workers[0].send(Kind.UNSUBSCRIBE, b"news")
        self.workers[1].die(-9)
        self.workers[0].send(Kind.PUBLISH, body)
        self.reactor.settle()
        self.assertEqual(self.workers[0].told(Kind.MESSAGE), [])

    def test_nonsense(self) -> None:
        """A frame that makes no sense ends the channel, as damage does, and is told."""
        self.start()
        with mock.patch.object(Channel, "_log") as log:
            self.workers[0].channel.sendall(encode(Kind.LOAD, b"nonsense"))
            self.reactor.settle()
        self.assertEqual(log.error.call_count, 1)
        self.assertFalse(self.primary.workers.handles[1].channel.connected)

    def test_rotate(self) -> None:
        """All workers can be told to reopen their logs."""
        self.start()
        self.primary.workers.rotate_logs()
        self.assertEqual([len(worker.told(Kind.ROTATE)) for worker in self.workers], [1, 1])


class ProvidedTests(PrimaryCase):
    """Workers that run as another user, with an access log that only root may open."""

    def provision(self, config: Config) -> Provision:
        """An access log, and another user."""
        folder = self.mktemp()
        os.mkdir(folder)
        self.path = os.path.join(folder, "log")
        self.identity = mock.Mock(spec=Identity)
        self.identity.may_write.return_value = False
        self.provided = Provision(attrs.evolve(config, access_log=self.path), self.identity)
        self.provided.open()
        return self.provided

    def test_given(self) -> None:
        """What only root may open, a worker gets at its start; and it is that user."""
        path = self.path
        worker = self.spawn()
        self.assertIs(worker.process.identity, self.identity)
        log = worker.process.inherited[worker.boot["access_log"]]
        self.assertTrue(os.path.samestat(os.fstat(log), os.stat(path)))
        worker.ready()

    def test_rotated(self) -> None:
        """After a rotation all get the new one, and a worker that asks gets one, too."""
        path = self.path
        self.start()
        for act, given in (
            (self.primary.workers.rotate_logs, [1, 1]),
            (lambda: self.workers[1].send(Kind.ROTATE), [1, 2]),
        ):
            os.rename(path, path + ".old")
            act()
            self.reactor.settle()
            for worker in self.workers:
                worker.take()
            self.assertEqual([len(worker.logs) for worker in self.workers], given)
            log = self.workers[1].logs[-1]
            self.assertTrue(os.path.samestat(os.fstat(log), os.stat(path)))

    def test_log_of_the_dead(self) -> None:
        """An access log that a worker had not taken when it died is closed."""
        path = self.path
        self.start()
        os.rename(path, path + ".old")
        self.primary.workers.rotate_logs()
        self.workers[0].die(-9)
        self.reactor.settle()
        self.workers[1].take()
        self.workers[1].drop()
        new = os.stat(path)
        still = [n for n in open_descriptors() if os.path.samestat(os.fstat(n), new)]
        self.assertEqual(still, [self.provided.log])

    def test_full_mailbox(self) -> None:
        """If a mailbox takes nothing, that is said, and nothing stays open."""
        self.start()
        handle = self.primary.workers.handles[1]
        before = open_descriptors()
        with (
            mock.patch.object(handle.mailbox.box, "write", side_effect=MailboxFull(queued=1)),
            mock.patch("txsticky.primary.worker_mailbox.log") as log,
        ):
            handle.mailbox.hand_log(self.provided.log)
        self.assertEqual(log.error.call_args.kwargs, {"worker": "worker 1"})
        self.assertEqual(open_descriptors(), before)


class LeaveTests(PrimaryCase):
    """Workers that leave."""

    def test_retire(self) -> None:
        """A worker that retires gets nothing new, what is pinned to it still, and is told."""
        self.start()
        self.primary.workers.retire(1, 30.0, False)
        (body,) = self.workers[0].told(Kind.DRAIN)
        self.assertEqual(decode_json(body), {"seconds": 30.0, "final": False})
        self.assertEqual({self.whose(get()) for _ in range(3)}, {2})
        self.assertEqual(self.whose(get(f"/?sid={self.tag(1)}")), 1)
        (body,) = self.workers[1].told(Kind.POOL)
        self.assertEqual(decode_json(body)["pool"]["members"][0][2], State.DRAINING.value)

    def test_done(self) -> None:
        """One that is done gets nothing any more, all are told, and it may go."""
        self.start()
        self.primary.workers.retire(1, 30.0, False)
        self.workers[0].send(Kind.DONE)
        self.reactor.settle()
        self.assertIn((Kind.GO, b""), self.workers[0].frames())
        self.assertEqual(self.supervisor.leaving.call_args_list, [mock.call(1)])
        self.assertEqual(self.whose(get(f"/?sid={self.tag(1)}")), 2)
        members = decode_json(self.workers[1].told(Kind.POOL)[-1])["pool"]["members"]
        self.assertEqual([member[0] for member in members], [2])

    def test_done_and_gone(self) -> None:
        """When its channel ends then, it is left to end in its own time."""
        self.start()
        self.workers[0].send(Kind.DONE)
        self.reactor.settle()
        self.workers[0].channel.close()
        self.reactor.settle()
        self.reactor.advance(60)
        self.assertEqual(self.workers[0].process.signals, [])

    def test_channel_ends(self) -> None:
        """If its channel ends unasked it gets nothing any more, and is given up if it stays."""
        self.start()
        self.workers[0].channel.close()
        self.reactor.settle()
        self.assertEqual({self.whose(get()) for _ in range(3)}, {2})
        self.assertEqual(self.workers[0].process.signals, [])
        self.reactor.advance(SILENT)
        self.assertEqual(self.workers[0].process.signals, [])
        self.assertEqual(self.supervisor.leaving.call_args_list, [mock.call(1)])

    def test_channel_ends_with_the_process(self) -> None:
        """If it ends by itself it is not killed, so that its exit code is its own."""
        self.start()
        self.workers[0].channel.close()
        self.reactor.settle()
        self.workers[0].die(7)
        self.reactor.advance(60)
        self.assertEqual(self.supervisor.leaving.call_args_list, [])
        self.assertEqual(self.supervisor.exited.call_args_list, [mock.call(1, 7)])

    def test_channel_ends_before_it_was_ready(self) -> None:
        """One that is still starting is the supervisor's business."""
        worker = self.spawn()
        worker.channel.close()
        self.reactor.settle()
        self.reactor.advance(60)
        self.assertEqual(worker.process.signals, [])

    def test_kill(self) -> None:
        """Killed softly it gets SIGQUIT, else SIGKILL."""
        self.start()
        self.primary.workers.kill(1, hard=False)
        self.primary.workers.kill(1, hard=True)
        self.assertEqual(self.workers[0].process.signals, [signal.SIGQUIT, signal.SIGKILL])

    def test_unknown(self) -> None:
        """What concerns a worker that is gone does nothing."""
        self.primary.workers.kill(99, hard=True)
        self.primary.workers.retire(99, 1.0, False)
        self.primary.workers.suspect(99, True)
        self.assertEqual(len(self.primary.pool), 0)

    def test_exit_counted(self) -> None:
        """How workers ended is counted."""
        self.start()
        self.workers[0].die(-11)
        self.assertEqual(self.primary.workers.exits, {-11: 1})


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
        """The second worker has all requests, from a number on, and each client gets its answer."""
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
        """Only the connections that it had in hand are lost with it."""
        clients = self.send(30)
        for _ in range(10):
            self.first.mailbox.read_one()
        self.first.die(-9)
        self.answered(clients[10:], begin=10)
        self.assertEqual([ended(client) for client in clients], [True] * 10 + [False] * 20)

    def test_waiting_here(self) -> None:
        """What did not even fit into its mailbox is served as well."""
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
        """What another worker puts into its mailbox, not knowing of the death, is served, too."""
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
        """If there is nobody else, the clients are refused, completely."""
        clients = self.send(5)
        self.second.die(-9)
        self.first.die(-9)
        self.reactor.settle()
        for client in clients:
            self.refused(client)

    def test_successor(self) -> None:
        """If a successor is to come, they wait for it."""
        self.supervisor.exited.side_effect = lambda id, status: setattr(self, "expects", True)
        clients = self.send(5)
        self.second.die(-9)
        self.second = self.spawn()
        self.first.die(-9)
        self.reactor.settle()
        self.second.ready()
        self.answered(clients)


class CloseTests(PrimaryCase):
    """The end."""

    def test_everything(self) -> None:
        """Closed, nothing is open, watched or due."""
        self.start()
        self.arrive(get()[:9])
        self.arrive(b"x\r\n")
        self.workers[0].report()
        self.workers[0].die()
        self.workers[1].die()
        self.reactor.turn()
        self.primary.close()
        self.assertEqual(self.reactor.getReaders() + self.reactor.getWriters(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class FrontDeskTests(ShellCase):
    """What comes back to the primary."""

    def test_one_that_fails(self) -> None:
        """Of what a worker had not even got, one that cannot be dealt with keeps no other out."""
        receive = mock.Mock(side_effect=[ZeroDivisionError, None])
        desk = FrontDesk(receive)
        ends = [self.pair() for _ in range(2)]
        message = pack_handoff(Handoff(family=socket.AF_UNIX, origin=Origin(PEER), prefix=get()))
        desk.take((ours.detach(), message) for ours, _ in ends)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(receive.call_count, 2)
