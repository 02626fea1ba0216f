"""What tests of a worker share: one that is composed, the test being its primary and its peers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tests.fakes import FakeSystem
from tests.raw_frames import FrameReader, Kind, decode_json, encode, encode_json
from tests.shells import ShellCase, ended, received
from txsticky import api
from txsticky.config import Config
from txsticky.core.how import How
from txsticky.core.http.inside import Inside
from txsticky.core.messages.from_primary import Boot
from txsticky.core.messages.handoff import Handoff, pack_handoff, pack_peer, unpack
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.table import Table
from txsticky.core.routing.verdict import FRONT_DESK
from txsticky.ipc.channel import channel_pair
from txsticky.ipc.mailbox import MailboxTransport, mailbox_pair
from txsticky.worker.load_report import REPORT_SOON
from txsticky.worker.view import ClusterView
from txsticky.worker.worker import Worker

PEER = ("192.0.2.7", 50000)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(target: str = "/", *headers: str) -> bytes:
    """A request."""
    lines = [f"GET {target} HTTP/1.1", "Host: example", *headers, "", ""]
    return "\r\n".join(lines).encode()


def view(changed: Callable[[], None] = lambda: None, **options: Any) -> ClusterView:
    """What worker 2 of three that are ready knows of its cluster."""
    pool = Pool()
    for id in (1, 2, 3):
        pool.add(id, id)
        pool.set_ready(id)
    return ClusterView(
        id=2,
        slot=2,
        router=Config(**options).router(b"s" * 16),
        pool=pool,
        table=Table(100, 3600.0),
        changed=changed,
    )


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
    events = False
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
        """Keep a descriptor."""
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
    :ivar certificates: what clients over TLS are shown; there is no TLS, as by default.
    """

    options: dict[str, Any] = {}
    certificates: Any = None

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(api.install, api.current())
        self.serving = FakeServing()
        # A session id is the only key by default: no cookie goes with what the tests look at.
        options = {"sticky": "sid", **self.options}
        self.config = Config(graceful_timeout=30.0, **options)
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
            pool=self.pool.view(),
            table_limit=100,
            table_ttl=3600.0,
            secret=(b"s" * 16).hex(),
            mailbox=reading.detach(),
            front_desk=self.boxes[FRONT_DESK].sending.detach(),
            listeners=self.listeners(),
            appoints=True,
        )
        self.addCleanup(self.end)
        self.prepare()
        self.worker = Worker(
            boot,
            self.config,
            self.theirs,
            FakeSystem(reactor=self.reactor),
            self.serving,  # type: ignore[arg-type]
            certificates=self.certificates,
        )
        self._reader = FrameReader(1 << 22)
        self.frames: list[tuple[Kind, bytes]] = []

    def listeners(self) -> list[tuple[int, int]]:
        """The listening sockets that the worker gets: none, as by default."""
        return []

    def prepare(self) -> None:
        """Make ready what serves, before the worker is made."""

    def end(self) -> None:
        """Close both sides."""
        self.reactor.running = False
        self.primary.close()
        self.theirs.close()
        for connection in list(self.worker.connections.live):
            connection.transport.connectionLost(Failure(OSError()))
        for box in (self.sender, self.worker.inbox.box, *self.worker.outbox.boxes.values()):
            for descriptor, _ in box.take_queue():
                os.close(descriptor)
            box.loseConnection()
        for box in self.boxes.values():
            box.close()

    def begin(self) -> None:
        """Start the worker, and introduce the others."""
        self.worker.start()
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
        """Have the primary say something."""
        self.primary.sendall(encode(kind, body))
        self.reactor.settle()

    def say_json(self, kind: Kind, **fields: Any) -> None:
        """Have the primary say something with a JSON object."""
        self.primary.sendall(encode_json(kind, **fields))
        self.reactor.settle()

    def say_pool(self) -> None:
        """Have the primary say which workers there are."""
        self.say_json(Kind.POOL, pool=self.pool.view())

    def drain(self, seconds: float = 30.0, final: bool = False) -> None:
        """Have the primary tell the worker to leave."""
        self.pool.set_draining(2)
        self.say_pool()
        self.say_json(Kind.DRAIN, seconds=seconds, final=final)

    def heard(self, *kinds: Kind) -> list[bytes]:
        """The bodies of the frames of these kinds that the worker has sent so far."""
        self.frames += self._reader.feed(received(self.primary) or b"")
        return [body for kind, body in self.frames if kind in kinds]

    def load(self) -> dict[str, Any]:
        """A report of load, as it is now."""
        self.worker.report.changed()
        self.reactor.advance(REPORT_SOON)
        return decode_json(self.heard(Kind.LOAD)[-1])

    def tag(self, id: int) -> str:
        """A session id that names a worker."""
        return self.worker.view.router.signer.mint(id, "sid")

    def beat(self, seconds: float) -> None:
        """Let time pass as the reactor does, in small steps."""
        for _ in range(round(seconds * 8)):
            self.reactor.advance(0.125)  # without rounding errors
            self.reactor.settle()


def ended_or_read(client: socket.socket) -> bool:
    """Whether a client has been closed, after it has read what came."""
    received(client)
    return ended(client)
