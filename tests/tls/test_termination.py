"""Connections over TLS in the worker that ends it, with a real client's TLS on a real socket."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory, Protocol

from tests.certificates import pair
from tests.shells import ShellCase, Stages, ended, received
from txsticky.core.how import How
from txsticky.core.http.conversation import Exchange
from txsticky.core.http.head import Head
from txsticky.core.http.steps import Known
from txsticky.core.lifecycle.timing import NEXT_REQUEST
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.tls.certificates import load_certificates
from txsticky.tls.termination import LINGER, SecureDoor, TlsLayer
from txsticky.transport.movable import adopt, begin
from txsticky.worker.connections import PlainServer

HERE, THERE, ELSEWHERE, FRONT_DESK = 1, 2, 3, 0
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
class Desk:
    """A worker's policy: the target of a request says whose it is."""

    draining: bool = False
    unconfirmed: int = 0
    known: dict[bytes, Any] = attrs.field(factory=dict)
    lines: bytes = b""
    done: int = 0
    settled: set[bool] = attrs.field(factory=set)
    waiting: list[Any] = attrs.field(factory=list)

    def whose(self, head: Head, host: str, settled: bool = False) -> tuple[int | None, How]:
        self.settled.add(settled)
        place = int(head.path.split(b"/")[1] or HERE)
        return (None if place == HERE else place), How.TAG

    def extra_headers(self, head: Head, host: str, secure: bool, how: How) -> bytes:
        return self.lines if secure else b""

    def when_confirmed(self, action: Any) -> None:
        self.waiting.append(action)

    def confirm(self) -> None:
        self.unconfirmed = 0
        while self.waiting:
            self.waiting.pop(0)()

    def request_done(self) -> None:
        self.done += 1


@attrs.define
class Serving:
    """An application."""

    factory: Apps
    http: bool = True


@attrs.define
class Config:
    """What the door reads of the configuration."""

    head_limit: int = 65536
    head_timeout: float = 5.0


@attrs.define
class Worker:
    """A worker that keeps what it is to give away."""

    serving: Serving
    id: int = HERE
    desk: Desk = attrs.field(factory=Desk)
    config: Config = attrs.field(factory=Config)
    given: list[tuple[socket.socket, int, Handoff]] = attrs.field(factory=list)

    def exchange(self, first_is_ours: bool) -> Exchange:
        return Exchange(self.config.head_limit, first_is_ours=first_is_ours)

    def give(self, sock: socket.socket, place: int, handoff: Handoff) -> None:
        self.given.append((sock, place, handoff))


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


class DoorCase(Stages, ShellCase):
    """A worker with a door."""

    http = True

    def setUp(self) -> None:
        """Begin, with a certificate."""
        super().setUp()
        folder = Path(self.mktemp())
        folder.mkdir()
        made = pair(folder, "door.test")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(made.certificate)
        self.apps = Apps()
        self.worker = Worker(Serving(self.apps, self.http))
        self.door = SecureDoor(
            self.worker,  # type: ignore[arg-type]
            self.reactor,
            load_certificates([made.certificate], [made.key]),
        )
        self.forgotten = 0
        self.addCleanup(self._close_given)

    def _close_given(self) -> None:
        for sock, _, _ in self.worker.given:
            sock.close()

    def closed(self) -> None:
        """What the worker keeps of a connection is told of its end."""
        self.forgotten += 1

    def handed(self, peer: tuple[str, int], prefix: bytes = b"") -> Handoff:
        """What the primary says of a client."""
        return Handoff(family=socket.AF_INET, origin=Origin(peer), how=How.NEW, prefix=prefix)

    def arrive(self, handoff: Handoff | None = None) -> socket.socket:
        """Adopt a connection as a worker does; returns the client's socket."""
        server, client = self.connected()
        self.handoff = handoff or self.handed(client.getsockname())
        self.transport: Any = None  # set by the door
        transport = adopt(
            self.reactor,
            server,
            self.handoff.origin.peer,
            self.door.factory_for(self),
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

    def client(self, name: str = "door.test") -> Client:
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
        given = len(self.worker.given)
        self.turns(
            client,
            lambda: (
                sum(len(app.got) for app in self.apps.made) > seen or len(self.worker.given) > given
            ),
        )
        return self.apps.made[-1].got if self.apps.made else b""

    def answer(self, client: Client, answer: bytes = OK) -> bytes:
        """The application answers; returns what the client gets."""
        before = len(client.got)
        transport: Any = self.apps.made[-1].transport
        transport.write(answer)
        self.turns(client, lambda: len(client.got) - before >= len(answer))
        return client.got[before:]


class Local(DoorCase):
    """Requests that are served here."""

    def test_served(self) -> None:
        """The application gets the bytes, and the client its answer."""
        client = self.client()
        request = ask("/1/")
        self.assertEqual(self.exchange(client, request), request)
        self.assertEqual(self.answer(client), OK)
        self.assertEqual(self.exchange(client, request), request * 2)
        self.answer(client)
        self.assertEqual((len(self.apps.made), self.worker.given), (1, []))
        self.assertEqual(self.worker.desk.done, 2)
        self.assertEqual(self.worker.desk.settled, {True})

    def test_addresses(self) -> None:
        """The application sees the client's address, its own, and that it is secure."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        self.assertEqual(transport.getPeer().port, client.sock.getsockname()[1])
        self.assertEqual(transport.getHost().port, client.sock.getpeername()[1])
        self.assertIs(ISSLTransport(transport, None), transport)
        self.assertEqual(transport.how, How.TAG)
        self.assertIsNone(transport.getPeerCertificate())
        self.assertEqual(transport.getHandle().get_servername(), b"door.test")

    def test_added_lines(self) -> None:
        """Lines such as a cookie's are added to the response."""
        client = self.client()
        self.worker.desk.lines = b"X-Added: 1\r\n"
        self.exchange(client, ask("/1/"))
        self.assertIn(b"\r\nX-Added: 1\r\n", self.answer(client))

    def test_withheld(self) -> None:
        """A response that waits for a binding arrives, though the application closes meanwhile."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.worker.desk.unconfirmed = 1
        transport: Any = self.apps.made[0].transport
        transport.write(OK)
        transport.loseConnection()
        self.reactor.settle()
        self.turns(client)
        self.assertEqual((client.got, client.closed), (b"", False))
        self.worker.desk.confirm()
        self.turns(client, lambda: client.closed)
        self.assertEqual(client.got, OK)

    def test_no_delay(self) -> None:
        """TCP does not wait for more before it sends a small record (tcp(7), TCP_NODELAY)."""
        self.client()
        sock = self.outer.socket
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def test_prefix(self) -> None:
        """The ClientHello that the primary read is the beginning of the conversation."""
        hello = Client(self.pair()[0], self.context, "door.test")
        hello.turn()
        prefix = received(self._owned[-1]) or b""
        sock = self.arrive(self.handed(("192.0.2.1", 99), prefix))
        hello.sock = sock
        self.turns(hello, lambda: hello.shaken)
        self.exchange(hello, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        self.assertEqual(transport.getPeer().host, "192.0.2.1")

    def test_refused_by_the_factory(self) -> None:
        """If the application's factory wants no protocol, the connection is closed."""
        self.apps.refusing = True
        client = self.client()
        client.send(ask("/1/"))
        self.turns(client, lambda: client.aborted and self.forgotten)

    def test_closing(self) -> None:
        """While it closes, the transport says so, reads on, and gives the application nothing."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        transport.pauseProducing()
        transport.loseConnection()
        self.assertTrue(transport.disconnecting)
        client.send(ask("/1/more"))
        self.turns(client, lambda: client.closed)
        client.close()
        self.turns(client, lambda: self.forgotten)
        self.assertEqual(self.apps.made[0].got, ask("/1/"))

    def test_calls_of_the_dead(self) -> None:
        """What was to be done later is not done when the connection is lost."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        done: list[int] = []
        transport.later(1, lambda: done.append(1))
        self.reactor.advance(1)
        self.assertEqual(done, [1])
        transport.later(1, lambda: done.append(2))
        client.sock.close()
        self.until(lambda: self.forgotten)
        self.reactor.advance(1)
        self.assertEqual(done, [1])

    def test_known_requests(self) -> None:
        """A request that is known to be served here takes the short way, if it is served here."""
        data = b"GET /2/ HTTP/1.1\r\nHost: a\r\n\r\n"
        client = self.client()
        self.worker.desk.known[data] = Known(b"GET", False, How.TAG, len(data))
        self.assertEqual(self.exchange(client, data), data)
        self.answer(client)
        self.exchange(client, ask("/3/"))
        self.worker.given[0][0].send(OK)
        self.turns(client, lambda: client.got == OK * 2)
        self.exchange(client, data)
        self.assertEqual([place for _, place, _ in self.worker.given], [ELSEWHERE, THERE])

    def test_failing(self) -> None:
        """An application that raises loses its client, nobody else."""
        client = self.client()
        client.send(ask("/1/raise"))
        self.turns(client, lambda: self.forgotten)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertIsNotNone(self.apps.made[0].lost)

    def test_client_leaves(self) -> None:
        """The application is told when the client closes TLS."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        client.close()
        self.turns(client, lambda: self.forgotten)
        self.assertTrue(self.apps.made[0].lost.check(ConnectionDone))

    def test_client_leaves_without_a_word(self) -> None:
        """And it is told of an error if TCP ends without that: something may be missing."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        client.sock.close()
        self.until(lambda: self.forgotten)
        self.assertTrue(self.apps.made[0].lost.check(ConnectionLost))

    def test_client_leaves_in_a_response(self) -> None:
        """A client that closes TLS and reads no more is not waited for, whatever is unsent."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        producer = Producer()
        transport.registerProducer(producer, True)
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n" + b"x" * (8 << 20))
        self.until(lambda: producer.paused)
        client.close()
        self.until(lambda: self.apps.made[0].lost)
        self.reactor.settle()
        received(client.sock)
        self.reactor.advance(LINGER)
        self.reactor.settle()
        self.assertEqual(self.forgotten, 0, "it has taken something meanwhile")
        self.reactor.advance(LINGER)
        self.until(lambda: self.forgotten)
        self.assertFalse(producer.stopped)

    def test_client_breaks_tls(self) -> None:
        """What is not TLS ends the connection, also in the middle of a response."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        transport.registerProducer(Producer(), True)
        client.sock.send(b"nonsense" * 10)
        self.until(lambda: self.forgotten)
        self.assertIsNotNone(self.apps.made[0].lost)

    def test_handshake_that_fails(self) -> None:
        """A client with which nothing can be agreed on is told so before the end."""
        self.context.set_ciphers("AES128-GCM-SHA256")
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        client = Client(self.arrive(), self.context, "door.test")
        error = self.assertRaises(ssl.SSLError, self.turns, client, lambda: client.aborted)
        self.assertIn("handshake failure", str(error).replace("_", " ").lower())
        self.until(lambda: self.forgotten)
        self.assertTrue(ended(client.sock))

    def test_application_closes(self) -> None:
        """What was written before is sent, then TLS is closed, then the connection."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        transport.write(OK)
        transport.loseConnection()
        transport.write(b"late")
        self.turns(client, lambda: client.closed)
        self.assertEqual(client.got, OK)
        client.close()
        self.turns(client, lambda: self.forgotten)

    def test_application_aborts(self) -> None:
        """An abort closes at once."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        transport.abortConnection()
        self.assertFalse(transport.live())
        self.until(lambda: self.forgotten)

    def test_tls_is_aborted(self) -> None:
        """A connection that is about to be aborted from outside is not served any more."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        self.outer.abortConnection()
        self.assertFalse(transport.live())
        self.until(lambda: self.forgotten)

    def test_client_that_does_not_close(self) -> None:
        """A client that leaves the close of TLS unanswered is not waited for."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        transport: Any = self.apps.made[0].transport
        transport.loseConnection()
        self.reactor.settle()
        self.assertEqual(self.forgotten, 0)
        self.reactor.advance(LINGER)
        self.reactor.settle()
        self.assertEqual(self.forgotten, 1)


class Closing(DoorCase):
    """Whatever is registered as a producer, what is over is closed."""

    last = ask("/1/", "Connection: close")

    def pacing(self) -> None:
        """The protocol registers itself when it is connected, as twisted.web's and asyncio's do."""
        self.producers: list[Producer] = []

        def build(address: Any) -> App:
            app = App(self.apps.made, b"")
            self.producers.append(Producer())
            connected = app.makeConnection

            def connect(transport: Any) -> None:
                connected(transport)
                transport.registerProducer(self.producers[-1], True)

            app.makeConnection = connect  # type: ignore[method-assign]
            return app

        self.apps.buildProtocol = build  # type: ignore[method-assign]

    def closed(self) -> None:
        super().closed()
        self.transport = None

    def test_last_response(self) -> None:
        """Behind the last response TLS is closed, and TCP with it, though the client does not."""
        self.pacing()
        client = self.client()
        self.exchange(client, self.last)
        transport: Any = self.apps.made[0].transport
        transport.write(OK)
        transport.loseConnection()
        self.turns(client, lambda: client.closed)
        self.assertEqual(client.got, OK)
        self.until(lambda: ended(client.sock))
        self.assertEqual(self.forgotten, 0, "the client has not said that it is gone")
        client.sock.close()
        self.until(lambda: self.forgotten)

    def test_upgraded(self) -> None:
        """So it is behind a WebSocket, in whose place the HTTP channel is still registered."""
        self.pacing()
        client = self.client()
        self.exchange(client, ask("/1/", "Upgrade: websocket", "Connection: Upgrade"))
        transport: Any = self.apps.made[0].transport
        transport.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
        transport.loseConnection()
        self.turns(client, lambda: client.closed)

    def test_client_is_behind(self) -> None:
        """What is still to be sent comes first, and the producer may go on when it is."""
        self.pacing()
        client = self.client()
        self.exchange(client, self.last)
        transport: Any = self.apps.made[0].transport
        body = b"x" * (8 << 20)
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.until(lambda: self.producers[0].paused)
        transport.loseConnection()
        self.reactor.settle()
        self.assertTrue(self.producers[0].paused)
        self.turns(client, lambda: client.closed)
        self.assertEqual(client.got.count(b"x"), len(body))
        self.assertFalse(self.producers[0].paused)

    def test_producer_of_a_response(self) -> None:
        """A producer that came with a response is waited for until it is unregistered."""
        client = self.client()
        self.exchange(client, self.last)
        transport: Any = self.apps.made[0].transport
        transport.registerProducer(Producer(), True)
        transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        transport.loseConnection()
        self.reactor.settle()
        transport.write(b"late")
        self.turns(client, lambda: client.got.endswith(b"late"))
        self.assertFalse(client.closed)
        transport.unregisterProducer()
        self.turns(client, lambda: client.closed)
        self.until(lambda: ended(client.sock))

    def test_read_on(self) -> None:
        """What the client still sends is read, so that it does not reset what it gets."""
        self.pacing()
        client = self.client()
        self.exchange(client, self.last)
        transport: Any = self.apps.made[0].transport
        transport.pauseProducing()
        transport.write(OK)
        transport.loseConnection()
        client.send(*[b"more" * 10_000] * 4)
        self.turns(client, lambda: client.closed)
        self.reactor.advance(LINGER)
        self.until(lambda: self.forgotten)
        client.turn()
        self.assertFalse(client.aborted)


class Elsewhere(DoorCase):
    """Requests that are served by other workers."""

    def relayed(self, client: Client, data: bytes) -> socket.socket:
        """Send a request that is another's; returns the end that was given away for it."""
        given = len(self.worker.given)
        client.send(data)
        self.turns(client, lambda: len(self.worker.given) > given)
        return self.worker.given[-1][0]

    def test_hand_off(self) -> None:
        """The end that is given away goes with all that the right worker has to know."""
        client = self.client()
        data = ask("/2/", body=b"body")
        self.relayed(client, data)
        ((sock, place, handoff),) = self.worker.given
        self.assertEqual(place, THERE)
        self.assertEqual((handoff.family, sock.family), (socket.AF_UNIX, socket.AF_UNIX))
        self.assertEqual(handoff.prefix, data)
        self.assertEqual(handoff.origin.peer, client.sock.getsockname())
        self.assertEqual(handoff.origin.host, client.sock.getpeername())
        self.assertTrue(handoff.origin.secure)
        self.assertEqual((handoff.how, handoff.reserved), (How.TAG, False))
        self.assertEqual(self.apps.made, [])

    def test_relayed(self) -> None:
        """Bodies and answers go through; they count here neither as requests nor get lines."""
        client = self.client()
        self.worker.desk.lines = b"X-Added: 1\r\n"
        far = self.relayed(client, ask("/2/", "Content-Length: 9") + b"body")
        client.send(b" rest")
        self.until(lambda: received(far) == b" rest")
        far.send(OK)
        self.turns(client, lambda: client.got)
        self.assertEqual((client.got, self.worker.desk.done), (OK, 0))

    def test_same_place(self) -> None:
        """Further requests for the same worker use the same pipe."""
        client = self.client()
        far = self.relayed(client, ask("/2/"))
        for _ in range(3):
            far.send(OK)
            self.turns(client, lambda: client.got.endswith(OK))
            client.got = b""
            client.send(ask("/2/next"))
            self.until(lambda: received(far) == ask("/2/next"))
        self.assertEqual(len(self.worker.given), 1)

    def test_bindings_go_before(self) -> None:
        """A response that binds a key is on its way before the connection's next request is."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.worker.desk.unconfirmed = 1
        self.apps.made[0].transport.write(OK)  # type: ignore[union-attr]
        client.send(ask("/2/"))
        self.reactor.settle()
        self.assertEqual(self.worker.given, [])
        self.worker.desk.confirm()
        self.turns(client, lambda: self.worker.given)
        self.assertEqual(client.got, OK)

    def test_front_desk(self) -> None:
        """What the front desk is to decide about is given to it each time."""
        client = self.client()
        for number in range(1, 4):
            far = self.relayed(client, ask("/0/"))
            self.assertEqual(len(self.worker.given), number)
            far.send(OK)
            self.turns(client, lambda: client.got.endswith(OK))
            client.got = b""

    def test_there_and_back(self) -> None:
        """From the application to another worker, to a third, and back to the application."""
        client = self.client()
        self.exchange(client, ask("/1/a"))
        self.answer(client)
        first = self.relayed(client, ask("/2/b"))
        self.assertTrue(self.apps.made[0].lost.check(ConnectionDone))
        first.send(OK)
        self.turns(client, lambda: client.got.endswith(OK * 2))
        second = self.relayed(client, ask("/3/c"))
        self.until(lambda: ended(first))
        second.send(OK)
        self.turns(client, lambda: client.got.endswith(OK * 3))
        self.assertEqual(self.exchange(client, ask("/1/d")), ask("/1/d"))
        self.until(lambda: ended(second))
        self.answer(client)
        self.assertEqual(client.got, OK * 4)
        self.assertEqual([place for _, place, _ in self.worker.given], [THERE, ELSEWHERE])
        self.assertEqual((len(self.apps.made), self.forgotten), (2, 0))

    def test_pipelined(self) -> None:
        """Pipelined requests are answered in their order, each by its own."""
        client = self.client()
        client.send(ask("/1/a") + ask("/2/b", body=b"body") + ask("/1/c"))
        self.turns(client, lambda: self.apps.made)
        self.assertEqual(self.apps.made[0].got, ask("/1/a"))
        self.answer(client)
        self.turns(client, lambda: self.worker.given)
        far, _, handoff = self.worker.given[0]
        self.assertEqual(handoff.prefix, ask("/2/b", body=b"body"))
        far.send(OK)
        self.turns(client, lambda: len(self.apps.made) == 2)
        self.assertEqual(self.apps.made[1].got, ask("/1/c"))
        self.answer(client)
        self.assertEqual(client.got, OK * 3)

    def test_what_has_left_is_not_heard(self) -> None:
        """A protocol that does not accept that it is over cannot disturb the next."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.answer(client)
        old: Any = self.apps.made[0].transport
        producer = Producer()
        old.registerProducer(producer, True)
        far = self.relayed(client, ask("/2/"))
        old.write(b"stale")
        old.writeSequence([b"stale"])
        old.pauseProducing()
        old.resumeProducing()
        old.unregisterProducer()
        old.loseConnection()
        old.abortConnection()
        late = Producer()
        old.registerProducer(late, True)
        self.assertTrue(late.stopped)
        self.assertTrue(old.disconnecting)
        far.send(OK)
        self.turns(client, lambda: client.got.endswith(OK * 2))
        self.assertEqual(client.got, OK * 2)
        self.exchange(client, ask("/1/more"))
        self.answer(client)
        self.assertEqual((client.got, client.closed), (OK * 3, False))

    def test_upgrade(self) -> None:
        """After a 101 everything goes through, and nothing is asked about any more."""
        client = self.client()
        far = self.relayed(client, ask("/2/", "Upgrade: websocket", "Connection: Upgrade"))
        switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
        far.send(switching)
        self.turns(client, lambda: client.got == switching)
        client.send(ask("/1/"))
        self.until(lambda: received(far) == ask("/1/"))
        far.close()
        self.turns(client, lambda: client.closed)

    def test_client_leaves(self) -> None:
        """The other worker sees the client leave."""
        client = self.client()
        far = self.relayed(client, ask("/2/"))
        client.close()
        self.turns(client, lambda: ended(far) and self.forgotten)

    def test_other_worker_dies(self) -> None:
        """A response that stops short ends without the close of TLS, so it cannot look whole."""
        client = self.client()
        far = self.relayed(client, ask("/2/"))
        far.send(OK[:-1])
        self.turns(client, lambda: client.got)
        far.close()
        self.until(lambda: ended(client.sock))
        client.sock.close()
        self.until(lambda: self.forgotten)
        self.assertFalse(client.closed)

    def test_cut(self) -> None:
        """What has come of such a response reaches the client before that, however much it is."""
        client = self.client()
        far = self.relayed(client, ask("/2/"))
        part = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 3_000_000
        far.setblocking(False)
        while part:
            try:
                part = part[far.send(part) :]
            except BlockingIOError:
                self.reactor.turn()
                client.turn()
        far.close()
        self.turns(client, lambda: client.got.count(b"x") == 3_000_000)
        self.until(lambda: ended(client.sock))
        client.send(b"more")
        self.reactor.settle()
        self.reactor.advance(LINGER)
        self.until(lambda: self.forgotten)
        client.turn()
        self.assertEqual((client.closed, client.aborted), (False, False))

    def test_client_that_does_not_read(self) -> None:
        """What the client does not take stays in the other worker."""
        client = self.client()
        far = self.relayed(client, ask("/2/"))
        far.setblocking(False)
        far.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        sent = 0
        for _ in range(2000):
            try:
                sent += far.send(b"x" * 65536)
            except BlockingIOError:
                if not self.reactor.turn():
                    break
        self.assertLess(sent, 32 << 20)
        self.assertLess(self.outer.unsent(), 1 << 20)


class Producer:
    """Something that can be paused."""

    paused = stopped = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True


class InTime(DoorCase):
    """The head timeout."""

    def test_handshake(self) -> None:
        """A handshake that does not go on ends."""
        sock = self.arrive()
        self.reactor.advance(4.9)
        self.reactor.settle()
        self.assertEqual(self.forgotten, 0)
        self.reactor.advance(0.2)
        self.until(lambda: self.forgotten)
        self.assertRaises(ConnectionResetError, sock.recv, 1)

    def test_gone_before(self) -> None:
        """The time of a client that has gone does not end."""
        expired: list[TlsLayer] = []

        def noted(layer: TlsLayer) -> None:
            expired.append(layer)
            layer.deadlines.discard(layer)

        self.patch(TlsLayer, "expired", noted)
        client = self.client()
        client.sock.close()
        self.until(lambda: self.forgotten)
        self.reactor.advance(5)
        self.assertEqual(expired, [])
        self.client()
        self.reactor.advance(5)
        self.assertEqual(len(expired), 1)

    def test_no_request(self) -> None:
        """A client that asks for nothing after the handshake is let go."""
        client = self.client()
        self.reactor.advance(5)
        self.turns(client, lambda: client.closed)
        self.assertEqual(client.got, b"")

    def test_half_a_head(self) -> None:
        """A head that is not complete by then is answered with 408."""
        client = self.client()
        client.send(b"GET / HTTP/1.1\r\n")
        self.reactor.settle()
        self.reactor.advance(5)
        self.turns(client, lambda: client.closed)
        self.assertTrue(client.got.startswith(b"HTTP/1.1 408 "), client.got)

    def test_in_time(self) -> None:
        """A request that came has all the time it needs, here or relayed."""
        for path in ("/1/", "/2/"):
            client = self.client()
            self.exchange(client, ask(path))
            self.reactor.advance(5)
            self.reactor.settle()
            client.turn()
            self.assertEqual((client.closed, self.forgotten), (False, 0))

    def test_not_http(self) -> None:
        """For what is not HTTP the handshake alone has to come in time."""
        self.worker.serving.http = False
        client = self.client()
        self.reactor.advance(5)
        self.reactor.settle()
        client.turn()
        self.assertEqual((client.closed, self.forgotten), (False, 0))
        self.arrive()
        self.reactor.advance(5)
        self.until(lambda: self.forgotten)


class Leaving(DoorCase):
    """The worker drains."""

    def drain(self, final: bool = False) -> bool:
        """What the worker does; returns whether the connection will end by itself."""
        self.worker.desk.draining = True
        return bool(self.transport.let_go(final))

    def test_idle(self) -> None:
        """An idle client may ask once more for a moment; then it is closed."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.answer(client)
        self.assertTrue(self.drain())
        self.reactor.settle()
        client.turn()
        self.assertFalse(client.closed)
        self.reactor.advance(NEXT_REQUEST)
        self.turns(client, lambda: client.closed)
        self.assertIsNotNone(self.apps.made[0].lost)

    def test_last_request(self) -> None:
        """A request in that time is answered, is told to be the last, and is."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.answer(client)
        self.drain()
        self.exchange(client, ask("/1/last"))
        self.assertIn(b"\r\nConnection: close\r\n", self.answer(client))
        self.turns(client, lambda: client.closed)

    def test_last_relayed_request(self) -> None:
        """So is one that is relayed."""
        client = self.client()
        self.drain()
        self.exchange(client, ask("/2/"))
        self.worker.given[0][0].send(OK)
        self.turns(client, lambda: client.closed)
        self.assertIn(b"\r\nConnection: close\r\n", client.got)
        self.assertTrue(client.got.endswith(b"\r\n\r\nok"))

    def test_last_request_that_binds(self) -> None:
        """A last response waits for its bindings to be confirmed, as any does."""
        client = self.client()
        self.drain()
        self.exchange(client, ask("/1/"))
        self.worker.desk.unconfirmed = 1
        self.apps.made[0].transport.registerProducer(Producer(), True)  # type: ignore[union-attr]
        self.apps.made[0].transport.write(OK)  # type: ignore[union-attr]
        self.reactor.settle()
        client.turn()
        self.assertEqual((client.got, client.closed), (b"", False))
        self.worker.desk.confirm()
        self.turns(client, lambda: client.closed)
        self.assertTrue(client.got.endswith(b"\r\n\r\nok"))

    def test_behind_the_last(self) -> None:
        """What a client has sent behind its last request is served by nobody."""
        client = self.client()
        self.drain()
        self.exchange(client, ask("/1/a") + ask("/1/b"))
        self.answer(client)
        self.turns(client, lambda: client.closed)
        self.assertEqual(self.apps.made[0].got, ask("/1/a"))

    def test_behind_the_last_at_once(self) -> None:
        """So it is if the last is answered at once and more has come with it."""
        self.apps.answer = OK
        client = self.client()
        self.drain()
        client.send(ask("/1/a"), ask("/1/b"))
        self.turns(client, lambda: client.closed)
        self.assertEqual(self.apps.made[0].got, ask("/1/a"))

    def test_known_requests(self) -> None:
        """A request that is known to be served here is told to be the last all the same."""
        data = b"GET /1/ HTTP/1.1\r\nHost: a\r\n\r\n"
        self.worker.desk.known[data] = Known(b"GET", False, How.TAG, len(data))
        client = self.client()
        self.drain()
        self.exchange(client, data)
        self.assertIn(b"\r\nConnection: close\r\n", self.answer(client))

    def test_under_way(self) -> None:
        """A response that has begun is finished, whenever that is; then the client is closed."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.answer(client, OK[:-1])
        self.assertTrue(self.drain())
        self.reactor.advance(10 * NEXT_REQUEST)
        self.reactor.settle()
        client.turn()
        self.assertFalse(client.closed)
        self.answer(client, OK[-1:])
        self.turns(client, lambda: client.closed)

    def test_final(self) -> None:
        """If the whole cluster stops, an idle client is closed at once."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.answer(client)
        self.assertTrue(self.drain(final=True))
        self.turns(client, lambda: client.closed)

    def test_handshake(self) -> None:
        """A client that is still in its handshake is let go after the same time."""
        sock = self.arrive()
        self.assertTrue(self.drain())
        self.reactor.advance(NEXT_REQUEST)
        self.until(lambda: self.forgotten)
        self.assertRaises(ConnectionResetError, sock.recv, 1)

    def test_websockets(self) -> None:
        """A WebSocket here is for the worker to close politely; a relayed one stays."""
        switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
        upgrade = ("Upgrade: websocket", "Connection: Upgrade")
        client = self.client()
        self.exchange(client, ask("/1/", *upgrade))
        self.answer(client, switching)
        self.assertFalse(self.drain())
        self.assertIs(self.transport.protocol, self.apps.made[0])
        self.transport.loseConnection()
        self.turns(client, lambda: client.closed)

        self.worker.desk.draining = False
        client = self.client()
        self.exchange(client, ask("/2/", *upgrade))
        self.worker.given[0][0].send(switching)
        self.turns(client, lambda: client.got)
        self.assertTrue(self.drain())
        self.reactor.advance(10 * NEXT_REQUEST)
        self.reactor.settle()
        client.turn()
        self.assertFalse(client.closed)

    def test_handshake_of_a_websocket(self) -> None:
        """A WebSocket that begins meanwhile is not told to close: its handshake would fail."""
        client = self.client()
        self.drain()
        self.exchange(client, ask("/1/", "Upgrade: websocket", "Connection: Upgrade"))
        switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
        self.assertEqual(self.answer(client, switching), switching)


class NotHttp(DoorCase):
    """An application that is not HTTP."""

    http = False

    def test_served(self) -> None:
        """It is served without a gate, through TLS alone."""
        client = self.client()
        client.send(b"anything")
        self.turns(client, lambda: self.apps.made[0].got == b"anything")
        transport: Any = self.apps.made[0].transport
        self.assertTrue(ISSLTransport.providedBy(transport))
        transport.write(b"answer")
        self.turns(client, lambda: client.got == b"answer")
        self.transport.loseConnection()
        self.turns(client, lambda: client.closed)

    def test_client_that_does_not_close(self) -> None:
        """A client that leaves the close of TLS unanswered is not waited for."""
        client = self.client()
        client.send(b"anything")
        self.turns(client, lambda: self.apps.made[0].got)
        self.apps.made[0].transport.loseConnection()  # type: ignore[union-attr]
        self.until(lambda: client.turn() or client.closed)
        self.until(lambda: ended(client.sock))
        self.reactor.advance(LINGER)
        self.until(lambda: self.forgotten)

    def test_refused_by_the_factory(self) -> None:
        """If its factory wants no protocol, the connection is not taken."""
        self.apps.refusing = True
        sock = self.arrive()
        self.assertIsNone(self.outer)
        self.assertTrue(ended(sock))
