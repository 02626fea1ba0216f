"""What the tests of TLS share: a worker side that ends it, and a client with real TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.protocol import Factory, Protocol

from tests.certificates import pair
from tests.core.http.talk import adding
from tests.fakes import FakeSystem
from tests.shells import ShellCase, Stages, received
from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.head import Head
from txsticky.core.http.response import Additions
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.verdict import FRONT_DESK, GIVE_BACK, KEEP, Give, Verdict
from txsticky.tls.certificates import load_certificates
from txsticky.tls.connection import TlsServices
from txsticky.tls.termination import TlsTerminator
from txsticky.transport.adopt import adopt, begin
from txsticky.transport.plain import PlainServer

HERE = 1


THERE = 2


ELSEWHERE = 3


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(target: str, *lines: str, body: bytes = b"") -> bytes:
    """A request; the first segment of its path is the number of the worker that it belongs to."""
    length = (f"Content-Length: {len(body)}",) if body else ()
    head = "\r\n".join([f"POST {target} HTTP/1.1", "Host: a", *lines, *length, "", ""])
    return head.encode() + body


class App(Protocol):
    """The application's protocol: it notes what it gets."""

    def __init__(self, made: list[App], answer: bytes) -> None:
        self.got = b""
        self.lost: Any = None
        self.answer = answer
        made.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.answer:
            self.transport.write(self.answer)  # type: ignore[union-attr]
        if b"raise" in data:
            raise ValueError("the application fails")

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


class Apps(Factory):
    """Makes them."""

    noisy = False

    def __init__(self) -> None:
        self.made: list[App] = []
        self.refusing = False
        self.answer = b""

    def buildProtocol(self, address: Any) -> App | None:
        return None if self.refusing else App(self.made, self.answer)


@attrs.define
class Policy:
    """A worker's policy: the target of a request says whose it is."""

    draining: bool = False
    unconfirmed: int = 0
    known: dict[bytes, Any] = attrs.field(factory=dict)
    hosts: dict[str, Any] = attrs.field(factory=dict)
    given: dict[bytes, Any] = attrs.field(factory=dict)
    lines: bytes = b""
    done: int = 0
    settled: set[bool] = attrs.field(factory=set)
    waiting: list[Any] = attrs.field(factory=list)

    movements = None

    @property
    def bindings(self) -> Policy:
        return self

    def whose(self, head: Head, host: str, settled: bool = False) -> Verdict:
        self.settled.add(settled)
        place = int(head.path.split(b"/")[1] or HERE)
        if place == FRONT_DESK:
            return GIVE_BACK[How.TAG]
        return KEEP[How.TAG] if place == HERE else Give(place, How.TAG)

    def additions(
        self, head: Head, host: str, secure: bool, how: How, first: bool
    ) -> Additions | None:
        return adding(self.lines if secure else b"")

    def when_confirmed(self, action: Any) -> None:
        self.waiting.append(action)

    def confirm(self) -> None:
        self.unconfirmed = 0
        while self.waiting:
            self.waiting.pop(0)()

    def request_done(self) -> None:
        self.done += 1


class Client:
    """A TLS client on a socket that does not block."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self.sock = sock
        self.got = b""
        self.closed = self.aborted = self.shaken = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)

    def turn(self) -> None:
        """Take what has come, say what is to be said."""
        try:
            data = received(self.sock)
        except ConnectionResetError:
            self.aborted = True
            return
        if data:
            self._in.write(data)
        try:
            if not self.shaken:
                self._tls.do_handshake()
                self.shaken = True
            while piece := self._tls.read(1 << 16):
                self.got += piece
            self.closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        self._flush()

    def _flush(self) -> None:
        if self._out.pending:
            self.sock.sendall(self._out.read())

    def send(self, *records: bytes) -> None:
        """Send data, in one piece on the wire; the handshake has to be over."""
        for data in records:
            self._tls.write(data)
        self._flush()

    def close(self) -> None:
        """Say goodbye in TLS."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()


class TlsCase(Stages, ShellCase):
    """A worker that ends TLS."""

    http = True

    def setUp(self) -> None:
        """Begin, with a certificate."""
        super().setUp()
        folder = Path(self.mktemp())
        folder.mkdir()
        made = pair(folder, "tls.test")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(made.certificate)
        self.apps = Apps()
        self.policy = Policy()
        self.given: list[tuple[socket.socket, int, Handoff]] = []
        self.certificates = load_certificates([made.certificate], [made.key])
        self.terminator = self.terminate(self.apps, self.http)
        self.forgotten = 0
        self.addCleanup(self._close_given)

    def terminate(self, factory: Any, http: bool) -> TlsTerminator:
        """What ends TLS for an application."""
        services = TlsServices(
            here=HERE,
            policy=self.policy,
            factory=factory,
            converse=Conversation,
            follow=Conversation,
            give=lambda *gift: self.given.append(gift),
            reactor=self.reactor,
        )
        return TlsTerminator(
            services, http, self.certificates, 5.0, FakeSystem(reactor=self.reactor)
        )

    def _close_given(self) -> None:
        for sock, _, _ in self.given:
            sock.close()

    def closed(self) -> None:
        """Note that the connection is over, as the worker does."""
        self.forgotten += 1

    def handed(self, peer: tuple[str, int], prefix: bytes = b"") -> Handoff:
        """What the primary says of a client."""
        return Handoff(family=socket.AF_INET, origin=Origin(peer), how=How.NEW, prefix=prefix)

    def arrive(self, handoff: Handoff | None = None) -> socket.socket:
        """Adopt a connection as a worker does; returns the client's socket."""
        server, client = self.connected()
        self.handoff = handoff or self.handed(client.getsockname())
        self.transport: Any = None  # set by what ends TLS
        transport = adopt(
            self.reactor,
            server,
            self.handoff.origin.peer,
            self.terminator.factory_for(self),
            PlainServer,
            1,
        )
        self.outer = transport
        if transport is not None:
            transport.connection = self
            begin(transport, self.handoff.prefix)
            self.addCleanup(self._lose, transport)
        return client

    def _lose(self, transport: Any) -> None:
        if transport.connected:
            transport.abortConnection()
        self.reactor.settle()

    def client(self, name: str = "tls.test") -> Client:
        """A client whose handshake is over."""
        client = Client(self.arrive(), self.context, name)
        self.turns(client, lambda: client.shaken)
        self.reactor.settle()  # its end of the handshake comes last
        return client

    def turns(self, client: Client, done: Any = lambda: True) -> None:
        """Turn client and reactor until something is so."""

        def both() -> bool:
            client.turn()
            return bool(done())

        self.until(both)

    def exchange(self, client: Client, data: bytes) -> bytes:
        """Send a request; returns what its protocol got of it."""
        client.send(data)
        seen = sum(len(app.got) for app in self.apps.made)
        given = len(self.given)
        self.turns(
            client,
            lambda: sum(len(app.got) for app in self.apps.made) > seen or len(self.given) > given,
        )
        return self.apps.made[-1].got if self.apps.made else b""

    def answer(self, client: Client, answer: bytes = OK) -> bytes:
        """Have the application answer; returns what the client gets."""
        before = len(client.got)
        transport: Any = self.apps.made[-1].transport
        transport.write(answer)
        self.turns(client, lambda: len(client.got) - before >= len(answer))
        return client.got[before:]


class Producer:
    """Something that can be paused."""

    paused = stopped = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True
