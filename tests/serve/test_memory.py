"""What is over is free at once: nothing waits for Python's collector, which is off here."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import SkipTest

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.asgi import AsgiCase, Receive, Scope, Send, answer, pair
from tests.integration import rawws
from tests.integration.rawhttp import Connection as Client
from tests.integration.rawhttp import request
from tests.tls import test_termination as test_door
from tests.tls.cases import ask
from tests.transport import test_gated
from txsticky.config import Config
from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.table import Table
from txsticky.serve.asgi.facade import FacadeFactory
from txsticky.transport import ending
from txsticky.worker import connections as connection
from txsticky.worker.view import ClusterView

PACKAGES = ("txsticky", "uvicorn", "OpenSSL")
#: What is remembered by the letters of a head, up to a bound.
MEMOS = {"RepeatedRequest", "RequestFraming", "ResponseFraming"}
#: The head that was looked at last is kept, in case that it is looked at again.
LAST = Counter({"Head": 1})


def alive() -> Counter[str]:
    """How many objects there are of each class of ours and of uvicorn's."""
    kinds = (type(each) for each in gc.get_objects())
    return Counter(
        kind.__name__ for kind in kinds if str(kind.__module__).partition(".")[0] in PACKAGES
    )


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Collects what there is, and then nothing any more; only what is new is counted (`alive`)."""
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


class FakeWorker:
    """What a `Connection` asks of its worker."""

    def __init__(self) -> None:
        self.live: set[Any] = set()
        self.given: list[socket.socket] = []

        self.around = connection.Surroundings(
            ClusterView(
                id=1,
                slot=1,
                router=Config().router(b"s" * 16),
                pool=Pool(),
                table=Table(1, 1.0),
                changed=lambda: None,
            ),
            self.forget,
            self.give,
            lambda protocol: False,
            lambda passport: None,  # type: ignore[arg-type, return-value]
        )

    def forget(self, connection: Any) -> None:
        """Note that the connection is over here."""
        self.live.discard(connection)

    def give(self, sock: socket.socket, place: int, handoff: Handoff) -> None:
        """Note that the connection goes to another process."""
        self.given.append(sock)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers, or echoes one message and closes."""
    if scope["type"] == "http":
        if scope["path"] == "/waits":
            while (await receive())["type"] != "http.disconnect":
                pass
        if scope["path"] == "/fails":
            raise ZeroDivisionError
        await answer(send, b"hello")
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.close"})


class AsgiMemory(AsgiCase):
    """ASGI in the clear."""

    def setUp(self) -> None:
        super().setUp()
        self.worker = FakeWorker()
        self.serve(app)

    def connect(self, **ignored: Any) -> Client:  # type: ignore[override]
        """Connect a client; what the worker keeps of the connection is the real thing."""
        ours, theirs = pair()
        handoff = Handoff(family=socket.AF_INET, origin=Origin(("192.0.2.7", 5000)), how=How.NEW)
        kept = connection.Connection(self.worker.around, handoff)
        self.worker.live.add(kept)
        self.serving.adopt(ours, kept, self.desk, Conversation())
        self.addCleanup(theirs.close)
        return Client.over(theirs)

    def assert_free(self, converse: Callable[[Client], object], *kept: str) -> None:
        """Assert that an ended connection leaves nothing, but for these classes of uvicorn's."""
        self.one(converse)
        with without_collector():
            before = alive()
            for _ in range(3):
                self.one(converse)
            self.turn()
            left = alive() - before - LAST
        self.assertEqual(set(left) - {*MEMOS, *kept}, set())

    def one(self, converse: Callable[[Client], object]) -> None:
        """Serve one connection."""
        client = self.connect()
        self.talk(converse, client)
        self.until(lambda: not self.worker.live)
        for sock in self.worker.given:
            sock.close()
        client.close()
        self.worker.given.clear()
        self.turn()

    def test_client_closes(self) -> None:
        """A client that leaves between two requests leaves nothing."""

        def converse(client: Client) -> None:
            client.ask(request("GET", "/"))
            client.ask(request("POST", "/", body=b"more"))
            client.close()

        self.assert_free(converse)

    def test_client_says_nothing(self) -> None:
        """A client that leaves without a word leaves nothing."""
        self.assert_free(Client.close)

    def test_client_resets(self) -> None:
        """A client that resets in the middle of a request leaves nothing."""

        def converse(client: Client) -> None:
            client.send(request("GET", "/waits"))
            time.sleep(0.1)
            client.reset()

        self.assert_free(converse)

    def test_server_closes(self) -> None:
        """A connection that ends with its last request leaves nothing."""

        def converse(client: Client) -> None:
            client.ask(request("GET", "/", headers=[("Connection", "close")]))
            client.end()

        self.assert_free(converse)

    def test_failure(self) -> None:
        """An application that fails leaves nothing."""

        def converse(client: Client) -> None:
            client.ask(request("GET", "/fails", headers=[("Connection", "close")]))
            client.end()

        self.assert_free(converse)

    def test_nonsense(self) -> None:
        """A client that speaks no HTTP leaves nothing."""
        self.patch(ending, "LINGER", 0.05)

        def converse(client: Client) -> None:
            client.ask(b"nonsense\r\n\r\n")
            client.end()

        self.assert_free(converse)

    def test_moved(self) -> None:
        """A connection that goes to another worker leaves nothing."""

        def converse(client: Client) -> None:
            client.ask(request("GET", "/"))
            client.send(request("GET", "/", headers=[("Place", "3")]))

        self.assert_free(converse)

    def test_websocket(self) -> None:
        """A WebSocket that its client or the application closes leaves nothing."""

        def client_closes(client: Client) -> None:
            rawws.join(client)
            client.send(rawws.frame(struct.pack("!H", 1000), rawws.CLOSE))
            rawws.message(client.reader)
            client.end()

        def server_closes(client: Client) -> None:
            rawws.join(client)
            client.send(rawws.frame(b"close"))
            rawws.message(client.reader)
            client.send(rawws.frame(struct.pack("!H", 1000), rawws.CLOSE))
            client.end()

        # The protocol that has handed a WebSocket over knows its parser, which knows the protocol:
        # uvicorn leaves them to the collector under its own server as well.
        kept = ("RememberingProtocol", "FlowControl", "GatedTransport")
        self.assert_free(client_closes, *kept)
        self.assert_free(server_closes, *kept)


class UvloopMemory(AsgiMemory):
    """On uvloop."""

    loop_name = "uvloop"
    engines: ClassVar[dict[str, str]] = {"UVICORN_HTTP": "httptools"}


class PureMemory(AsgiMemory):
    """By h11 and wsproto."""

    engines: ClassVar[dict[str, str]] = {"UVICORN_HTTP": "h11", "UVICORN_WS": "wsproto"}

    def test_nonsense(self) -> None:
        """h11's exception is left out: it is a circle through all its callers, as without us."""
        raise SkipTest("h11 leaves its exception to the collector")


SERVED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Page(Resource):
    """A page of twisted.web."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        return b"hello"


class TlsMemory(test_door.TlsCase):
    """TLS: an application of Twisted's."""

    def protocol_factory(self) -> Any:
        """What serves."""
        return Site(Page())

    def assert_free(self, converse: Callable[[Any], object]) -> None:
        """Assert that a connection that has ended so leaves nothing."""
        self.terminator = self.terminate(self.protocol_factory(), http=True)
        self.one(converse)
        with without_collector():
            before = alive()
            for _ in range(3):
                self.one(converse)
            left = alive() - before - LAST
        self.assertEqual(set(left) - MEMOS, set())

    def one(self, converse: Callable[[Any], object]) -> None:
        """Serve one connection."""
        forgotten = self.forgotten
        client = self.client()
        converse(client)
        self.turns(client, lambda: self.forgotten > forgotten)
        client.sock.close()
        self._cleanups.clear()
        for sock, _, _ in self.given:
            sock.close()
        self.given.clear()
        # What the worker keeps lets go of its transport, which ConnectionMemory tests.
        self.transport = self.outer = self.handoff = None
        self.reactor.advance(10)
        self.reactor.settle()

    def asked(self, client: Any, *lines: str) -> None:
        """Have a request answered."""
        client.send(ask("/1/", *lines))
        self.turns(client, lambda: b"hello" in client.got)

    def test_client_closes(self) -> None:
        """A client that closes TLS leaves nothing."""

        def converse(client: Any) -> None:
            self.asked(client)
            client.close()

        self.assert_free(converse)

    def test_client_vanishes(self) -> None:
        """A client that closes TCP alone leaves nothing."""

        def converse(client: Any) -> None:
            self.asked(client)
            client.sock.close()
            client.turn = lambda: None

        self.assert_free(converse)

    def test_server_closes(self) -> None:
        """A last request whose client closes as well leaves nothing."""

        def converse(client: Any) -> None:
            self.asked(client, "Connection: close")
            self.turns(client, lambda: client.closed)
            client.close()

        self.assert_free(converse)

    def test_relayed(self) -> None:
        """A connection that another worker serves between two requests leaves nothing."""

        def converse(client: Any) -> None:
            self.asked(client)
            client.send(ask("/2/"))
            self.turns(client, lambda: self.given)
            self.given[0][0].send(SERVED)
            self.turns(client, lambda: client.got.endswith(b"ok"))
            client.got = b""
            self.asked(client)
            client.close()

        self.assert_free(converse)


class TlsAsgiMemory(TlsMemory):
    """TLS: asyncio's protocols."""

    def protocol_factory(self) -> Any:
        return FacadeFactory(Greeter, None)


class Greeter(asyncio.Protocol):
    """An asyncio protocol that answers, and knows its transport."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(SERVED.replace(b"2", b"5").replace(b"ok", b"hello", 1))
        if b"Connection: close" in data:
            self.transport.close()


class GatedMemory(test_gated.TransportCase):
    """A gate in a transport of Twisted's."""

    def assert_free(self, end: Callable[[Any], object]) -> None:
        """Assert that a connection that has ended so leaves nothing."""
        with without_collector():
            before = alive()
            transport: Any = self.serve(Factory.forProtocol(Lasting), test_gated.GET)
            end(transport)
            self.until(lambda: self.kept.closings or self.kept.moves)
            for sock, _, _ in self.kept.moves:
                sock.close()
            self.reactor.settle()
            transport = self.kept = self.policy = None  # type: ignore[assignment]
            self.served.clear()
            self.client.close()
            left = alive() - before - LAST
        self.assertEqual(set(left) - MEMOS, set())

    def test_client_closes(self) -> None:
        """A client that leaves leaves nothing in a gate."""
        self.assert_free(lambda transport: self.client.close())

    def test_server_closes(self) -> None:
        """A protocol that closes leaves nothing in a gate."""
        self.assert_free(lambda transport: transport.loseConnection())

    def test_aborted(self) -> None:
        """A protocol that aborts leaves nothing in a gate."""
        self.assert_free(lambda transport: transport.abortConnection())

    def test_moved(self) -> None:
        """A connection that goes to another worker leaves nothing in a gate."""
        self.assert_free(lambda transport: self.client.sendall(test_gated.to(3)))


class Lasting(Protocol):
    """A protocol that knows its transport."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(SERVED)


class ConnectionMemory(SynchronousTestCase):
    """What the worker keeps."""

    def kept(self) -> connection.Connection:
        """What the worker keeps of a connection with a gate."""
        handoff = Handoff(family=socket.AF_INET, origin=Origin(("192.0.2.7", 5000)), how=How.NEW)
        kept = connection.Connection(FakeWorker().around, handoff)
        kept.transport = SimpleNamespace(gate=SimpleNamespace(mover=None, served=True), how=How.TAG)
        return kept

    def test_closed(self) -> None:
        """What the worker keeps lets the transport go when the connection is over."""
        kept = self.kept()
        kept.closed()
        self.assertIsNone(kept.transport)

    def test_departed(self) -> None:
        """What the worker keeps lets the transport go when the connection has left."""
        kept, (sock, other) = self.kept(), socket.socketpair()
        self.addCleanup(sock.close)
        self.addCleanup(other.close)
        kept.departed(sock, 3, b"")
        self.assertIsNone(kept.transport)
