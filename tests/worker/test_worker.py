"""The worker: adopts, serves, gives away, reports, drains and leaves."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tests.raw_frames import FrameReader, Kind, decode_json, encode, encode_json, pack_message
from tests.shells import ShellCase, ended, no_descriptors_left, open_descriptors, received
from txsticky import api
from txsticky.config import Config
from txsticky.core.how import How
from txsticky.core.http.inside import Inside
from txsticky.core.lifecycle.timing import QUICK, QUIET, requests_end
from txsticky.core.messages.from_primary import Boot
from txsticky.core.messages.handoff import Handoff, pack_handoff, pack_log, pack_peer, unpack
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.table import KEY_LIMIT
from txsticky.errors import ChannelFull
from txsticky.ipc.channel import FULL, channel_pair
from txsticky.ipc.mailbox import MailboxTransport, mailbox_pair
from txsticky.system.shared_log import HandedLog
from txsticky.worker import drain, ending, worker
from txsticky.worker import policy as desk
from txsticky.worker.worker import FRONT_DESK, HEARTBEAT, REPORT_SOON, Worker

PEER = ("192.0.2.7", 50000)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(target: str = "/", *headers: str) -> bytes:
    """A request."""
    lines = [f"GET {target} HTTP/1.1", "Host: example", *headers, "", ""]
    return "\r\n".join(lines).encode()


class Inner(Protocol):
    """Answers each piece it gets, unless it is told to wait."""

    waits = False

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.lost = 0

    def dataReceived(self, data: bytes) -> None:
        self.got.append(data)
        if not self.waits:
            self.transport.write(OK)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost += 1


class FakeServing:
    """An application that is wrapped."""

    interface = "protocol"
    http = True
    inside = Inside()
    busy = False

    def __init__(self) -> None:
        self.protocols: list[Inner] = []
        self.factory: Any = Factory.forProtocol(Inner)
        self.factory.buildProtocol = self.build
        self.refuses = False
        self.waits = False
        self.started: Deferred[None] | None = None
        self.stopped: Deferred[None] | None = None
        self.stops = 0
        self.seconds = 0.0
        self.reopened = 0
        self.polite: list[object] = []
        self.is_polite = False

    def build(self, address: object) -> Inner | None:
        """Make a protocol."""
        if self.refuses:
            return None
        protocol = Inner()
        protocol.waits = self.waits
        self.protocols.append(protocol)
        return protocol

    def start(self) -> Deferred[None] | None:
        """Start."""
        return self.started

    def stop(self, seconds: float) -> Deferred[None] | None:
        """Stop."""
        self.stops += 1
        self.seconds = seconds
        return self.stopped

    def reopen_logs(self) -> None:
        """Reopen the logs."""
        self.reopened += 1

    def close_politely(self, protocol: object) -> bool:
        """Ask the client to leave."""
        self.polite.append(protocol)
        return self.is_polite


class Box:
    """The reading end of a mailbox that the worker sends to."""

    def __init__(self, case: WorkerCase) -> None:
        self.sending, reading = mailbox_pair()
        self.transport = MailboxTransport(reading, case.reactor, self)
        self.got: list[tuple[socket.socket, Handoff]] = []
        self._descriptor = -1

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """A descriptor."""
        self._descriptor = descriptor

    def dataReceived(self, data: bytes) -> None:
        """A hand-off."""
        self.got.append((socket.socket(fileno=self._descriptor), unpack(data)))  # type: ignore[arg-type]

    def read(self) -> list[Handoff]:
        """Read what has come; returns all hand-offs so far."""
        while self.transport.read_one():
            pass
        return [handoff for _, handoff in self.got]

    def close(self) -> None:
        """Close everything."""
        for sock, _ in self.got:
            sock.close()
        self.sending.close()
        self.transport.loseConnection()


class WorkerCase(ShellCase):
    """
    Worker 2 of three that are ready, the test being the primary and the others.

    :ivar frames: what the worker has said on its channel so far.
    """

    options: dict[str, Any] = {}

    def setUp(self) -> None:
        super().setUp()
        for module in (worker, drain, desk):
            self.patch(module, "time", SimpleNamespace(monotonic=self.reactor.seconds))
        self.patch(ending.exit_status, "value", 0)
        self.addCleanup(api.install, api.current())
        self.serving = FakeServing()
        self.config = Config(graceful_timeout=30.0, **self.options)
        self.boxes = {place: Box(self) for place in (FRONT_DESK, 1, 3)}
        sending, reading = mailbox_pair()
        self.sender = MailboxTransport(sending, self.reactor)
        self.primary, self.theirs = channel_pair()
        self.pool = Pool()
        for id in (1, 2, 3):
            self.pool.add(id, id)
            self.pool.set_ready(id)
        boot = Boot(
            id=2,
            slot=2,
            generation=1,
            config=self.config.to_json(),
            secret=(b"s" * 16).hex(),
            pool=self.pool.view(),
            table_limit=100,
            table_ttl=3600.0,
            mailbox=reading.detach(),
            front_desk=self.boxes[FRONT_DESK].sending.detach(),
            listeners=self.listeners(),
        )
        self.worker = Worker(boot, self.config, self.reactor, self.serving)  # type: ignore[arg-type]
        self._reader = FrameReader(1 << 22)
        self.frames: list[tuple[Kind, bytes]] = []
        self.addCleanup(self.end)

    def listeners(self) -> list[tuple[int, int]]:
        """The listening sockets that the worker gets: none, as by default."""
        return []

    def end(self) -> None:
        """Close both sides."""
        self.reactor.running = False
        self.primary.close()
        self.theirs.close()
        for connection in list(self.worker.live):
            connection.transport.connectionLost(Failure(OSError()))
        for box in (self.sender, self.worker.intake.box, *self.worker.places.values()):
            for descriptor, _ in box.take_queue():
                os.close(descriptor)
            box.loseConnection()
        for box in self.boxes.values():
            box.close()

    def begin(self) -> None:
        """Start the worker, and introduce the others."""
        self.worker.start(self.theirs)
        for place in (1, 3):
            self.introduce(place)
        self.reactor.settle()

    def introduce(self, place: int) -> None:
        """Give the worker the mailbox of another one."""
        self.sender.sendFileDescriptor(self.boxes[place].sending.detach())
        self.sender.write(pack_peer(place))

    def hand(self, prefix: bytes = get(), **fields: Any) -> socket.socket:
        """Hand a connection to the worker; returns the client's end."""
        server, client = socket.socketpair()
        self.owned(client)
        self.sender.sendFileDescriptor(server.detach())
        fields = {"how": How.NEW, "reserved": True, **fields}
        self.sender.write(
            pack_handoff(
                Handoff(family=socket.AF_UNIX, origin=Origin(PEER), prefix=prefix, **fields)
            )
        )
        self.reactor.settle()
        return client

    def say(self, kind: Kind, body: bytes = b"") -> None:
        """The primary says something."""
        self.primary.sendall(encode(kind, body))
        self.reactor.settle()

    def say_json(self, kind: Kind, **fields: Any) -> None:
        """The primary says something."""
        self.primary.sendall(encode_json(kind, **fields))
        self.reactor.settle()

    def say_pool(self) -> None:
        """The primary says who is there."""
        self.say_json(Kind.POOL, pool=self.pool.view())

    def drain(self, seconds: float = 30.0, final: bool = False) -> None:
        """The primary has the worker leave."""
        self.pool.set_draining(2)
        self.say_pool()
        self.say_json(Kind.DRAIN, seconds=seconds, final=final)

    def heard(self, *kinds: Kind) -> list[bytes]:
        """The bodies of the frames of these kinds that the worker has sent so far."""
        self.frames += self._reader.feed(received(self.primary) or b"")
        return [body for kind, body in self.frames if kind in kinds]

    def load(self) -> dict[str, Any]:
        """The last report of load."""
        self.reactor.advance(REPORT_SOON)
        return decode_json(self.heard(Kind.LOAD)[-1])

    def tag(self, id: int) -> str:
        """A session id that names a worker."""
        return self.worker.router.signer.mint(id, "sid")

    def beat(self, seconds: float) -> None:
        """Let time pass as the reactor does, in small steps."""
        for _ in range(round(seconds * 8)):
            self.reactor.advance(0.125)  # without rounding errors
            self.reactor.settle()


class StartTests(WorkerCase):
    """The start."""

    def test_ready(self) -> None:
        """When the application is started it says READY and what it serves."""
        self.begin()
        (body,) = self.heard(Kind.READY)
        self.assertEqual(decode_json(body), {"interface": "protocol", "http": True})

    def test_slow(self) -> None:
        """Not before; and until then the mailbox is left alone."""
        self.serving.started = Deferred()
        self.worker.start(self.theirs)
        client = self.hand()
        self.assertEqual((self.heard(Kind.READY), self.worker.intake.taken), ([], 0))
        self.serving.started.callback(None)
        self.reactor.settle()
        self.assertEqual((len(self.heard(Kind.READY)), received(client)), (1, OK))

    def test_fails(self) -> None:
        """If it does not start, the reason is said, and the exit code is 3."""
        self.serving.started = Deferred()
        self.worker.start(self.theirs)
        self.serving.started.errback(Failure(ZeroDivisionError("no database")))
        self.reactor.settle()
        (body,) = self.heard(Kind.FAILED)
        self.assertIn("no database", decode_json(body)["reason"])
        self.assertEqual((self.reactor.running, ending.exit_status.value), (False, 3))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_current(self) -> None:
        """The application finds the worker."""
        self.begin()
        here = api.current()
        assert here is not None
        self.assertEqual((here.id, here.slot), (2, 2))


class AdoptTests(WorkerCase):
    """Connections that are handed here."""

    def test_prefix_is_not_kept(self) -> None:
        """What came with a connection is delivered, and not kept for as long as that lasts."""
        self.begin()
        client = self.hand()
        (connection,) = self.worker.live
        self.assertEqual((connection.handoff.prefix, received(client)), (b"", OK))

    def test_served(self) -> None:
        """One is served from its prefix on."""
        self.begin()
        client = self.hand(get("/a"))
        self.assertEqual((self.serving.protocols[0].got, received(client)), ([get("/a")], OK))
        client.send(get("/b"))
        self.reactor.settle()
        self.assertEqual((self.serving.protocols[0].got[1], received(client)), (get("/b"), OK))

    def test_counted(self) -> None:
        """It is counted while it lives, and what was reserved for it counts as taken."""
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
        """Its peer is the one of the hand-off."""
        self.begin()
        self.hand()
        peer = self.serving.protocols[0].transport.getPeer()
        self.assertEqual((peer.host, peer.port), PEER)

    def test_refused(self) -> None:
        """One that the application refuses is closed, and not counted."""
        self.serving.refuses = True
        self.begin()
        client = self.hand()
        self.assertEqual((ended(client), self.worker.live), (True, set()))

    def test_factory_fails(self) -> None:
        """If the application fails over it, that one is closed; the next is served."""
        self.begin()
        real = self.serving.factory.buildProtocol
        self.serving.factory.buildProtocol = mock.Mock(side_effect=[ZeroDivisionError, real(None)])
        bad, good = self.hand(), self.hand()
        self.assertEqual((ended(bad), received(good), len(self.worker.live)), (True, OK, 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_damaged(self) -> None:
        """A message that is none is logged; its descriptor is closed, the next one is served."""
        self.begin()
        before = open_descriptors()
        self.sender.sendFileDescriptor(os.dup(0))
        self.sender.write(b"nonsense")
        self.reactor.settle()
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual(open_descriptors(), before)
        self.assertEqual(received(self.hand()), OK)

    def test_not_served(self) -> None:
        """If serving it fails in any other way, that one is closed and forgotten as well."""
        self.begin()
        self.serving.adopt = mock.Mock(side_effect=ZeroDivisionError)  # type: ignore[attr-defined]
        client = self.hand()
        self.assertEqual((ended(client), self.worker.live), (True, set()))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_lost_on_the_way(self) -> None:
        """What came without its descriptor, for want of one, is not outstanding any more."""
        self.begin()
        for reserved in (True, False):
            server, client = socket.socketpair()
            self.owned(client)
            self.sender.sendFileDescriptor(server.detach())
            self.sender.write(
                pack_handoff(
                    Handoff(
                        family=socket.AF_UNIX, origin=Origin(PEER), prefix=get(), reserved=reserved
                    )
                )
            )
            with no_descriptors_left():
                self.worker.intake.box.read_one()
            self.assertTrue(ended(client))
        self.assertEqual((self.load()["taken"], self.worker.live), (1, set()))

    def test_short(self) -> None:
        """It says whether it takes nothing for want of descriptors."""
        self.begin()
        self.assertFalse(self.load().get("short", False))
        self.worker.intake.box._ceiling = 0
        for _ in range(2):
            self.hand()
        self.assertTrue(self.load().get("short", False))
        self.assertEqual(self.worker.intake.taken, 1)

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
        self.assertEqual((self.worker.live, self.serving.protocols[0].lost), (set(), 1))

    def test_tcp(self) -> None:
        """The same over TCP."""
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
        """After so many requests it asks to be replaced, once."""
        self.worker._retire_after = 3
        self.begin()
        client = self.hand()
        for _ in range(4):
            client.send(get())
            self.reactor.settle()
        self.assertEqual(len(self.heard(Kind.RETIRE)), 1)
        self.assertEqual(self.worker.requests, 5)

    def test_retire_after(self) -> None:
        """The number is that of the configuration, and by chance a little more; none is never."""
        self.assertEqual(self.worker._retire_after, 0)
        limits = {
            worker._limit(Config(max_requests=100, max_requests_jitter=5)) for _ in range(200)
        }
        self.assertEqual(limits, set(range(100, 106)))


class DeafTests(WorkerCase):
    """The mailbox ends, though nobody has told the worker to leave."""

    def test_leaves(self) -> None:
        """It says so, serves what it holds to its end, and leaves with an exit code of its own."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.worker.intake.box._lose()
        self.reactor.settle()
        self.assertEqual((len(self.heard(Kind.DEAF)), self.reactor.running), (1, True))
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual((received(client), self.worker.live), (OK, set()))
        self.beat(QUIET + 2 * HEARTBEAT)
        self.say(Kind.GO)
        self.reactor.settle()
        self.assertEqual((self.reactor.running, worker.exit_status.value), (False, 1))

    def test_the_primary_is_gone(self) -> None:
        """If it has ended because the primary has gone, that is another matter."""
        self.patch(os, "dup2", mock.Mock())
        self.begin()
        self.hand()
        self.primary.close()
        self.sender.loseConnection()
        self.worker.intake.box.doRead()
        self.assertTrue(self.worker.intake.box.is_closed())
        self.assertEqual(worker.exit_status.value, 0)

    def test_not_at_the_end(self) -> None:
        """A worker that ends has nothing to say of it."""
        self.begin()
        self.worker.leave(0)
        self.worker.intake.box._lose()
        self.reactor.settle()
        self.assertEqual((self.heard(Kind.DEAF), worker.exit_status.value), ([], 0))


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
        self.assertEqual((self.worker.live, self.serving.protocols[0].lost), (set(), 1))
        self.assertEqual(self.load()["given"], 1)

    def test_hops(self) -> None:
        """A request was served on it, so its moves count anew."""
        self.begin()
        self.ask(self.hand(hops=9), f"/?sid={self.tag(3)}")
        self.assertEqual(self.boxes[3].read()[0].hops, 1)

    def test_no_copy_stays(self) -> None:
        """Nothing of it stays open here."""
        self.begin()
        before = open_descriptors()
        client = self.hand()
        self.ask(client, f"/?sid={self.tag(3)}")
        self.assertEqual(open_descriptors() - before, {client.fileno()})

    def test_stranger(self) -> None:
        """If the other's mailbox is not known here, the connection goes to the front desk."""
        self.worker.start(self.theirs)
        self.reactor.settle()
        self.ask(self.hand(), f"/?sid={self.tag(3)}")
        self.assertEqual(len(self.boxes[FRONT_DESK].read()), 1)

    def test_dead(self) -> None:
        """If nobody reads the other's mailbox any more, too."""
        self.begin()
        self.boxes[3].close()
        client = self.hand()
        self.ask(client, f"/?sid={self.tag(3)}")
        self.assertEqual(len(self.boxes[FRONT_DESK].read()), 1)
        self.assertFalse(ended(client))

    def test_full(self) -> None:
        """What waits for a full mailbox goes to the front desk when its worker dies."""
        self.begin()
        box = self.worker.places[3]
        box._limit = 3
        number = 0
        while box.queued < 3:
            server, _ = socket.socketpair()
            self.worker.give(
                server,
                3,
                Handoff(
                    family=1,
                    origin=Origin(PEER),
                    prefix=bytes(60000),
                ),
            )
            number += 1
        server, _ = socket.socketpair()
        self.worker.give(server, 3, Handoff(family=1, origin=Origin(PEER), prefix=b"one too many"))
        self.assertEqual([h.prefix for h in self.boxes[FRONT_DESK].read()], [b"one too many"])
        self.boxes[3].close()
        self.reactor.settle()
        self.assertEqual(len(self.boxes[FRONT_DESK].read()), 4)

    def test_gone(self) -> None:
        """So it does when the primary says that the worker has gone."""
        self.begin()
        while not self.worker.places[3].queued:
            server, _ = socket.socketpair()
            self.worker.give(
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
        self.assertNotIn(3, self.worker.places)
        self.assertEqual(len(self.boxes[FRONT_DESK].read()), 1)

    def test_nowhere(self) -> None:
        """If not even the front desk takes it, it is closed, and that is logged."""
        self.begin()
        self.boxes[FRONT_DESK].close()
        with mock.patch("txsticky.worker.worker.log") as log:
            server, client = socket.socketpair()
            self.owned(client)
            self.worker.give(server, FRONT_DESK, Handoff(family=1, origin=Origin(PEER)))
        self.assertEqual((log.error.call_count, ended(client)), (1, True))

    def test_new_session(self) -> None:
        """A new session on a kept connection goes to a worker that has less to do."""
        self.begin()
        self.hand()
        self.ask(self.hand(), "/?EIO=4")
        self.assertEqual(len(self.boxes[1].read() + self.boxes[3].read()), 1)


class PoolTests(WorkerCase):
    """What the primary tells of the cluster."""

    def test_gone(self) -> None:
        """What a worker that has gone had bound belongs to nobody."""
        self.begin()
        self.say(Kind.BIND, b"3 key")
        self.assertEqual(self.worker.table.find(b"key", 0.0), 3)
        self.pool.set_gone(3)
        self.say_pool()
        self.assertIsNone(self.worker.table.find(b"key", 0.0))

    def test_gone_before_it_was_introduced(self) -> None:
        """A mailbox that comes only after its worker has gone does not stay open."""
        self.begin()
        self.boxes[4] = Box(self)
        self.introduce(4)
        self.reactor.settle()
        self.assertIn(4, self.worker.places)
        self.say_pool()
        self.assertIn(4, self.worker.places)  # it may be one that is still to be told of
        self.pool.add(5, 1)
        self.say_pool()
        self.assertNotIn(4, self.worker.places)
        self.assertEqual(set(self.worker.places), {FRONT_DESK, 1, 3})

    def test_free(self) -> None:
        """A key can be freed from elsewhere."""
        self.begin()
        self.say(Kind.BIND, b"3 a key")
        self.say(Kind.FREE, b"a key")
        self.assertEqual(len(self.worker.table), 0)

    def test_decided_anew(self) -> None:
        """What was remembered is forgotten when the pool or the table changes, not by a view."""
        self.begin()
        changes = (
            lambda: self.say(Kind.BIND, b"3 key"),
            lambda: self.say(Kind.FREE, b"key"),
            lambda: (self.pool.set_draining(3), self.say_pool()),
            lambda: self.worker.bind(b"key"),
        )
        for change in changes:
            self.worker.desk.known[b"x"] = mock.Mock()
            self.say_pool()
            self.assertEqual(len(self.worker.desk.known), 1)
            change()
            self.assertEqual(len(self.worker.desk.known), 0)

    def test_introduced_again(self) -> None:
        """A mailbox that is given again takes the place of the old one, which is closed."""
        self.begin()
        old = self.worker.places[3].fileno()
        box = Box(self)
        self.boxes[4] = box
        self.sender.sendFileDescriptor(box.sending.detach())
        self.sender.write(pack_peer(3))
        self.reactor.settle()
        self.assertTrue(self.boxes[3].transport.read_one() is False)
        self.assertTrue(self.boxes[3].transport.is_closed())
        self.assertNotEqual(self.worker.places[3], old)

    def test_rotate(self) -> None:
        """The logs are reopened."""
        self.begin()
        self.say(Kind.ROTATE)
        self.assertEqual(self.serving.reopened, 1)

    def give_log(self, path: str) -> None:
        """The primary gives the worker an access log."""
        self.sender.sendFileDescriptor(os.open(path, os.O_WRONLY | os.O_CREAT))
        self.sender.write(pack_log())
        self.reactor.settle()

    def test_log_comes(self) -> None:
        """Where the primary opens the log, a new one is gone over to when it comes."""
        old, new = self.mktemp(), self.mktemp()
        self.worker.handed_log = HandedLog(os.open(old, os.O_WRONLY | os.O_CREAT))
        self.begin()
        self.give_log(new)
        self.assertEqual(self.serving.reopened, 1)
        copy = self.worker.handed_log.open()
        self.assertTrue(os.path.samestat(os.fstat(copy), os.stat(new)))
        os.close(copy)
        os.close(self.worker.handed_log._descriptor)

    def test_log_that_is_not_needed(self) -> None:
        """Where the worker has opened the log itself, one that comes is closed."""
        self.begin()
        before = open_descriptors()
        self.give_log(self.mktemp())
        self.assertEqual((self.serving.reopened, open_descriptors()), (0, before))

    def test_reopened_by_hand(self) -> None:
        """USR1 reopens the logs; one that the primary has opened is asked for."""
        self.begin()
        self.worker.reopen_logs()
        self.assertEqual((self.serving.reopened, self.heard(Kind.ROTATE)), (1, []))
        self.worker.handed_log = HandedLog(-1)
        self.worker.reopen_logs()
        self.assertEqual((self.serving.reopened, self.heard(Kind.ROTATE)), (2, [b""]))

    def test_message(self) -> None:
        """Bus messages reach the subscribers."""
        self.begin()
        got: list[bytes] = []
        self.worker.here.subscribe("news", got.append)
        self.say(Kind.MESSAGE, pack_message(b"news", b"hello"))
        self.assertEqual((self.heard(Kind.SUBSCRIBE), got), ([b"news"], [b"hello"]))

    def test_lost_messages(self) -> None:
        """And so does the number of those that were lost."""
        self.begin()
        lost: list[int] = []
        self.worker.here.subscribe("news", lambda message: None, lost.append)
        self.say_json(Kind.LOST, topic="news", count=3)
        self.assertEqual(lost, [3])


class BindTests(WorkerCase):
    """Keys that the application binds."""

    def test_told(self) -> None:
        """A key that is bound is known here at once, and told."""
        self.begin()
        self.worker.bind(b"key")
        self.assertEqual(self.worker.table.find(b"key", 0.0), 2)
        self.assertEqual(self.heard(Kind.BIND), [b"key"])

    def test_too_long(self) -> None:
        """A key that is too long is a ValueError that says how long it may be, and goes nowhere."""
        self.begin()
        self.worker.bind(b"k" * KEY_LIMIT)
        error = self.assertRaises(ValueError, self.worker.bind, b"k" * 9_000_000)
        self.assertIn("9000000 bytes is too long", str(error))
        self.worker.free(b"k" * 9_000_000)
        self.assertEqual(self.heard(Kind.BIND), [b"k" * KEY_LIMIT])
        self.assertEqual(self.heard(Kind.FREE), [])
        self.assertEqual((len(self.worker.table), self.worker.desk.unconfirmed), (1, 1))

    def test_primary_does_not_read(self) -> None:
        """What waits for a primary that does not read has a bound: then a binding is an error."""
        self.begin()
        key = b"k" * KEY_LIMIT
        bound = 0
        for _ in range(2 * FULL // KEY_LIMIT):
            try:
                self.worker.bind(key)
            except ChannelFull:
                break
            bound += 1
        self.assertRaises(ChannelFull, self.worker.bind, key)
        for _ in range(100):
            self.worker.free(key)
            self.worker._send_report()
        self.assertLess(self.worker.channel.waiting, FULL + 2 * KEY_LIMIT)
        self.assertEqual(self.worker.desk.unconfirmed, bound)

    def test_anew(self) -> None:
        """With a pool that begins anew the table is forgotten: what is bound follows."""
        self.begin()
        self.say(Kind.BIND, b"1 old")
        self.say_json(Kind.POOL, pool=self.pool.view(), anew=True)
        self.say(Kind.BIND, b"3 new")
        self.assertEqual(self.worker.table.items(), [(b"new", 3)])
        self.say_pool()
        self.assertEqual(self.worker.table.items(), [(b"new", 3)])

    def test_confirmed(self) -> None:
        """The Deferreds fire in order, as the primary confirms."""
        self.begin()
        first, second = self.worker.bind(b"1"), self.worker.bind(b"2")
        self.say(Kind.BOUND)
        self.assertIsNone(self.successResultOf(first))
        self.assertNoResult(second)
        self.say(Kind.BOUND)
        self.assertIsNone(self.successResultOf(second))

    def test_response_waits(self) -> None:
        """A response that is written behind a binding waits for it."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.worker.bind(b"key")
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertIsNone(received(client))
        self.say(Kind.BOUND)
        self.assertEqual(received(client), OK)

    def test_canceled(self) -> None:
        """A Deferred that is canceled confuses nothing."""
        self.begin()
        canceled, other = self.worker.bind(b"1"), self.worker.bind(b"2")
        canceled.addErrback(lambda failure: None)
        canceled.cancel()
        self.say(Kind.BOUND)
        self.say(Kind.BOUND)
        self.assertIsNone(self.successResultOf(other))
        self.assertEqual(self.worker.desk.unconfirmed, 0)

    def test_free(self) -> None:
        """A key that is freed is forgotten here, and told."""
        self.begin()
        self.worker.bind(b"key")
        self.worker.free(b"key")
        self.assertEqual(len(self.worker.table), 0)
        self.assertEqual(self.heard(Kind.BIND, Kind.FREE), [b"key", b"key"])


class LoadTests(WorkerCase):
    """Reports."""

    def test_heartbeat(self) -> None:
        """With nothing to say it still gives signs of life."""
        self.begin()
        self.beat(10 * HEARTBEAT)
        self.assertGreaterEqual(len(self.heard(Kind.LOAD)), 9)

    def test_soon_and_together(self) -> None:
        """Changes are reported soon, many in one report."""
        self.begin()
        self.reactor.advance(REPORT_SOON)
        before = len(self.heard(Kind.LOAD))
        for _ in range(5):
            self.hand()
        self.assertEqual(len(self.heard(Kind.LOAD)), before)
        self.assertEqual(self.load()["live"], 5)
        self.assertEqual(len(self.heard(Kind.LOAD)), before + 1)

    def test_lag(self) -> None:
        """It says how late its event loop runs."""
        self.begin()
        self.assertEqual(self.load()["lag"], 0.0)
        self.reactor.advance(HEARTBEAT + 1.0)
        self.assertEqual(self.load()["lag"], 1.0 + REPORT_SOON)


class DrainTests(WorkerCase):
    """Leaving in peace."""

    def test_idle(self) -> None:
        """Idle connections are given to the front desk."""
        self.begin()
        client = self.hand()
        self.drain()
        ((_, handoff),) = [(b, h) for b in (0,) for h in self.boxes[FRONT_DESK].read()]
        self.assertEqual((handoff.prefix, handoff.hops), (b"", 1))
        self.assertEqual((received(client), self.worker.live), (OK, set()))

    def test_busy(self) -> None:
        """A request that is being served is answered; then its connection is given away."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.drain()
        self.assertEqual(self.boxes[FRONT_DESK].read(), [])
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual((received(client), len(self.boxes[FRONT_DESK].read())), (OK, 1))

    def test_pinned(self) -> None:
        """What is pinned to it is still served."""
        self.begin()
        self.drain()
        client = self.hand(get(f"/?sid={self.tag(2)}"), how=How.TAG)
        self.assertEqual(received(client), OK)

    def test_done_when_quiet(self) -> None:
        """When it has had no connection for a while it says DONE, and not before."""
        self.begin()
        self.drain()
        self.beat(QUIET - 0.25)
        client = self.hand(get(f"/?sid={self.tag(2)}"))  # a poll that comes between
        client.close()
        self.beat(QUIET - 0.25)
        self.assertEqual(self.heard(Kind.DONE), [])
        self.beat(2 * HEARTBEAT + QUIET)
        self.assertGreaterEqual(len(self.heard(Kind.DONE)), 1)

    def test_work_without_a_connection(self) -> None:
        """An application at work behind its response is waited for."""
        self.begin()
        self.serving.busy = True
        self.drain()
        self.beat(2 * HEARTBEAT + 2 * QUIET)
        self.assertEqual(self.heard(Kind.DONE), [])
        self.serving.busy = False
        self.beat(2 * HEARTBEAT + QUIET)
        self.assertGreaterEqual(len(self.heard(Kind.DONE)), 1)

    def test_done_before_the_end(self) -> None:
        """With connections it says DONE in the last part of its time, for which it serves on."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.drain(seconds=10.0)
        self.beat(7.125)
        self.assertEqual(self.heard(Kind.DONE), [])
        self.beat(0.125)
        self.assertEqual(len(self.heard(Kind.DONE)), 1)
        self.say(Kind.GO)
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(received(client), OK)

    def test_go(self) -> None:
        """Told to go, it leaves as soon as it holds nothing."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.drain()
        self.say(Kind.GO)
        self.assertTrue(self.reactor.running)
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual((self.serving.stops, self.reactor.running), (1, False))

    def test_came_before_it_goes(self) -> None:
        """What is in its mailbox by then is served, too."""
        self.begin()
        self.drain()
        self.reactor.removeReader(self.worker.intake.box)
        client = self.hand(get(f"/?sid={self.tag(2)}"))
        self.say(Kind.GO)
        self.assertEqual(received(client), OK)
        self.assertFalse(self.reactor.running)

    def test_comes_after_it_goes(self) -> None:
        """What comes while the application stops is left in the mailbox, for another worker."""
        self.serving.stopped = Deferred()
        self.begin()
        self.drain()
        self.say(Kind.GO)
        self.assertEqual(self.serving.stops, 1)
        client = self.hand()
        self.beat(2 * HEARTBEAT)
        self.assertEqual((self.worker.live, received(client)), (set(), None))

    def test_not_pinned_any_more(self) -> None:
        """When it has been withdrawn, what was pinned to it belongs to others."""
        self.serving.waits = True
        self.begin()
        self.worker.table.bind(b"key", 2, 0.0)
        client = self.hand()
        self.drain()
        self.say(Kind.GO)
        client.send(get(f"/?sid={self.tag(2)}"))
        self.reactor.settle()
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(len(self.serving.protocols[0].got), 1)
        self.assertEqual(len(self.worker.table), 0)

    def test_time_is_over(self) -> None:
        """When the time for requests is over it leaves, whatever is still open."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.drain(seconds=5.0)
        self.beat(4.375)
        self.assertTrue(self.reactor.running)
        self.beat(0.125)
        self.assertFalse(self.reactor.running)

    def test_time_for_the_application(self) -> None:
        """All the time that is left is the application's, and it is told how much that is."""
        self.serving.waits = True
        self.serving.stopped = Deferred()
        self.begin()
        self.hand()
        self.drain(seconds=5.0)
        self.beat(requests_end(5.0))
        self.assertAlmostEqual(self.serving.seconds, 0.5)
        self.beat(0.375)
        self.assertTrue(self.reactor.running)
        self.beat(0.125)
        self.assertFalse(self.reactor.running)
        self.serving.stopped.callback(None)

    def test_no_time(self) -> None:
        """With no time at all it leaves at once."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.drain(seconds=0.0)
        self.assertFalse(self.reactor.running)

    def test_websockets(self) -> None:
        """Connections that do not end by themselves are closed one by one, over the time."""
        self.serving.http = False
        self.begin()
        clients = [self.hand(b"hello") for _ in range(4)]
        self.drain(seconds=10.0)
        closed = []
        for _ in range(4):
            closed.append(sum(ended_or_read(client) for client in clients))
            self.beat(2.0)
        self.assertEqual(closed, [1, 2, 3, 4])
        self.assertEqual(len(self.serving.polite), 4)

    def test_politely(self) -> None:
        """What can be told to go is told, and not cut."""
        self.serving.http, self.serving.is_polite = False, True
        self.begin()
        client = self.hand(b"hello")
        self.drain(seconds=1.0)
        self.beat(0.5)
        received(client)
        self.assertEqual(self.serving.polite, [self.serving.protocols[0]])
        self.assertFalse(ended(client))

    def upgrade(self, number: int) -> list[socket.socket]:
        """Have so many WebSockets; returns the clients."""
        self.serving.waits = True
        request = get("/", "Connection: Upgrade", "Upgrade: websocket")
        clients = [self.hand(request) for _ in range(number)]
        for protocol in self.serving.protocols:
            protocol.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        self.reactor.settle()
        return clients

    def test_upgraded(self) -> None:
        """A WebSocket behind the gate is among them; one that has gone by its turn is not."""
        self.begin()
        clients = self.upgrade(3)
        self.drain(seconds=10.0)
        first, second, third = sorted(clients, key=ended_or_read, reverse=True)
        second.close()
        self.beat(8.0)
        self.assertEqual([ended_or_read(client) for client in (first, third)], [True, True])
        self.assertEqual(len(self.serving.polite), 2)

    def test_upgraded_meanwhile(self) -> None:
        """One that became a WebSocket meanwhile is closed in the last part of the time."""
        self.serving.waits = True
        self.begin()
        client = self.hand(get("/", "Connection: Upgrade", "Upgrade: websocket"))
        self.drain(seconds=10.0)
        self.serving.protocols[0].transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        self.beat(7.125)
        self.assertFalse(ended_or_read(client))
        self.beat(0.125)
        self.assertTrue(ended_or_read(client))

    def test_twice(self) -> None:
        """Told twice, the shorter time counts."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.drain(seconds=30.0)
        self.drain(seconds=1.0, final=True)
        self.beat(1.0)
        self.assertFalse(self.reactor.running)


def ended_or_read(client: socket.socket) -> bool:
    """Whether a client has been closed, after it has read what came."""
    received(client)
    return ended(client)


class FinalTests(WorkerCase):
    """Leaving when the whole cluster stops."""

    def test_idle(self) -> None:
        """Idle connections are closed, and it leaves as soon as there are none."""
        self.begin()
        client = self.hand()
        self.drain(final=True)
        self.assertTrue(ended_or_read(client))
        self.assertEqual(self.boxes[FRONT_DESK].read(), [])
        self.assertFalse(self.reactor.running)

    def test_busy(self) -> None:
        """A request that is being served is answered; then its connection is closed."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.drain(final=True)
        self.assertTrue(self.reactor.running)
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(received(client), OK)
        self.assertTrue(ended(client))

    def test_pipelined(self) -> None:
        """Requests that are here already are answered as well."""
        self.serving.waits = True
        self.begin()
        client = self.hand(get("/1") + get("/2"))
        self.drain(final=True)
        for _ in range(2):
            self.serving.protocols[0].transport.write(OK)
            self.reactor.settle()
        self.assertEqual(received(client), 2 * OK)
        self.assertTrue(ended(client))

    def test_idle_with_a_big_response(self) -> None:
        """An idle connection whose last response is still under way gets it whole."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        body = bytes(5_000_000)
        transport = self.serving.protocols[0].transport
        transport.registerProducer(mock.Mock(), True)  # as twisted.web's channel does
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n")
        transport.write(body)
        self.drain(final=True)
        got = b""
        while not ended(client):
            got += received(client) or b""
            self.reactor.turn()
        self.assertTrue(got.endswith(body))
        self.assertEqual(self.worker.live, set())


class ExitTests(WorkerCase):
    """The end."""

    def leave(self) -> None:
        """Have the worker leave."""
        self.begin()
        self.drain(final=True)

    def test_in_order(self) -> None:
        """It stops the application, and then the reactor, with exit code 0."""
        self.serving.stopped = Deferred()
        self.leave()
        self.assertEqual((self.serving.stops, self.reactor.running), (1, True))
        self.serving.stopped.callback(None)
        self.assertEqual((self.reactor.running, ending.exit_status.value), (False, 0))

    def test_slow_stop(self) -> None:
        """An application that does not stop is waited for until the graceful timeout is over."""
        self.serving.stopped = Deferred()
        self.leave()
        self.assertEqual(self.serving.seconds, 30.0)
        self.beat(29.875)
        self.assertTrue(self.reactor.running)
        self.beat(0.125)
        self.assertFalse(self.reactor.running)
        self.serving.stopped.callback(None)

    def test_says_so(self) -> None:
        """From when its application stops nothing is handed here, nor any sign of life expected."""
        self.serving.stopped = Deferred()
        self.leave()
        self.assertEqual(self.heard(Kind.DONE), [b""])

    def test_quit(self) -> None:
        """Told to be quick it waits for no request, but for the application to stop."""
        self.serving.waits = True
        self.serving.stopped = Deferred()
        self.begin()
        self.hand()
        self.worker.quit()
        self.assertEqual((self.serving.stops, self.serving.seconds), (1, QUICK))
        self.beat(QUICK - 0.125)
        self.assertTrue(self.reactor.running)
        self.serving.stopped.callback(None)
        self.assertEqual((self.reactor.running, ending.exit_status.value), (False, 0))
        self.beat(1.0)

    def test_quit_meanwhile(self) -> None:
        """An application that is stopping already has no more time than that from then on."""
        self.serving.stopped = Deferred()
        self.begin()
        self.drain(seconds=30.0, final=True)
        self.beat(2.0)
        self.worker.quit()
        self.beat(QUICK - 0.125)
        self.assertTrue(self.reactor.running)
        self.beat(0.125)
        self.assertEqual((self.serving.stops, self.reactor.running), (1, False))
        self.serving.stopped.callback(None)

    def test_quit_late(self) -> None:
        """And not more than it had."""
        self.serving.stopped = Deferred()
        self.begin()
        self.drain(seconds=30.0, final=True)
        self.beat(28.0)
        self.worker.quit()
        self.beat(2.0)
        self.assertFalse(self.reactor.running)
        self.serving.stopped.callback(None)

    def test_stopped_from_outside(self) -> None:
        """An application that has stopped the reactor itself does no harm."""
        self.serving.stopped = Deferred()
        self.leave()
        self.reactor.stop()
        self.serving.stopped.callback(None)
        self.assertEqual(ending.exit_status.value, 0)

    def test_bad_stop(self) -> None:
        """One that fails to stop is logged."""
        self.serving.stopped = Deferred()
        self.leave()
        self.serving.stopped.errback(Failure(ZeroDivisionError()))
        self.assertFalse(self.reactor.running)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_once(self) -> None:
        """However often it is told, it goes once."""
        self.serving.stopped = Deferred()
        self.leave()
        self.say(Kind.GO)
        self.drain(seconds=0.0, final=True)
        self.beat(2 * HEARTBEAT)
        self.assertEqual(self.serving.stops, 1)


class OrphanTests(WorkerCase):
    """When the primary has died."""

    def setUp(self) -> None:
        super().setUp()
        self.dup2 = mock.Mock()
        self.patch(os, "dup2", self.dup2)

    def orphan(self) -> None:
        """The primary dies, and with it the front desk."""
        self.boxes[FRONT_DESK].close()
        self.primary.close()
        self.reactor.settle()

    def test_idle(self) -> None:
        """A worker without connections leaves at once, in order."""
        self.begin()
        self.orphan()
        self.assertEqual((self.serving.stops, self.reactor.running), (1, False))

    def test_busy(self) -> None:
        """One that serves finishes that first."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.orphan()
        self.assertTrue(self.reactor.running)
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(received(client), OK)
        self.assertTrue(ended(client))
        self.beat(2 * HEARTBEAT)
        self.assertFalse(self.reactor.running)

    def test_in_the_mailbox(self) -> None:
        """What was in its mailbox by then is served: nobody else could."""
        self.begin()
        self.reactor.removeReader(self.worker.intake.box)
        clients = [self.hand(get(f"/{n}")) for n in range(20)]
        self.orphan()
        self.assertEqual([received(client) for client in clients], [OK] * 20)

    def test_given_afterwards(self) -> None:
        """And so is what another worker gives to it as long as it is there."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.orphan()
        self.serving.waits = False
        self.assertEqual(received(self.hand()), OK)

    def test_bound(self) -> None:
        """Responses that wait for a binding leave, and later bindings wait for nobody."""
        self.serving.waits = True
        self.begin()
        client, other = self.hand(), self.hand()
        first = self.worker.bind(b"1")
        self.serving.protocols[0].transport.write(OK)
        self.orphan()
        self.assertIsNone(self.successResultOf(first))
        self.assertEqual(received(client), OK)
        self.assertIsNone(self.successResultOf(self.worker.bind(b"2")))
        self.serving.protocols[1].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(received(other), OK)

    def test_output(self) -> None:
        """Nobody reads its output any more: it goes nowhere, instead of raising."""
        self.begin()
        self.orphan()
        self.assertEqual([call.args[1] for call in self.dup2.call_args_list], [1, 2])

    def test_deadline(self) -> None:
        """After the graceful timeout it leaves, whatever it serves."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.orphan()
        self.beat(26.875)
        self.assertTrue(self.reactor.running)
        self.beat(0.125)
        self.assertFalse(self.reactor.running)

    def test_own_end(self) -> None:
        """When its own reactor closes the channel, the primary is not taken for dead."""
        self.begin()
        self.drain(final=True)
        self.worker.channel.connectionLost(Failure(OSError()))
        self.reactor.settle()
        self.assertEqual(self.dup2.call_count, 0)


class StallTests(WorkerCase):
    """Clients that pause."""

    options: ClassVar[dict[str, Any]] = {"stall_timeout": 8.0}
    interface = "web"

    def setUp(self) -> None:
        self.patch(FakeServing, "interface", self.interface)
        super().setUp()
        self.serving.waits = True
        self.begin()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
        self.client = self.hand(head + b"part")

    def wait(self, seconds: int) -> None:
        """Time passes."""
        for _ in range(4 * seconds):
            self.reactor.advance(0.25)
            self.reactor.settle()

    def test_upload(self) -> None:
        """An upload that pauses is answered in time, and its application told."""
        self.wait(7)
        self.assertIsNone(received(self.client))
        self.wait(5)
        answer = received(self.client) or b""
        self.assertTrue(answer.startswith(b"HTTP/1.1 408 "), answer)
        self.assertTrue(ended(self.client))
        self.assertEqual([each.lost for each in self.serving.protocols], [1])
        self.assertEqual(self.worker.live, set())

    def test_download(self) -> None:
        """A response that is not taken is cut off in time."""
        self.client.sendall(b"12345")
        self.reactor.settle()
        self.serving.protocols[0].transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000)
        )
        self.wait(7)
        self.assertEqual(len(self.worker.live), 1)
        self.wait(5)
        self.assertEqual(self.worker.live, set())
        self.assertLess(len(received(self.client) or b""), 9_000_000)

    def test_taken_little_by_little(self) -> None:
        """One that is taken, however slowly, is not."""
        self.client.sendall(b"12345")
        self.reactor.settle()
        self.serving.protocols[0].transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000)
        )
        for _ in range(10):
            self.wait(4)
            self.client.recv(300_000)
        self.assertEqual(len(self.worker.live), 1)


class ProtocolStallTests(StallTests):
    """Protocol factories, which see to their connections themselves."""

    interface = "protocol"

    def test_upload(self) -> None:
        """Nobody else ends one."""
        self.wait(60)
        self.assertIsNone(received(self.client))
        self.assertEqual(len(self.worker.live), 1)

    def test_download(self) -> None:
        """Nor one whose output is not taken."""
        self.serving.protocols[0].transport.write(bytes(9_000_000))
        self.wait(60)
        self.assertEqual(len(self.worker.live), 1)
