"""What the tests of ASGI share: event loops, a worker's part played by fakes, real connections."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.runtime import seconds as runtimeSeconds
from twisted.trial.unittest import SynchronousTestCase

from tests.core.http.talk import adding
from tests.integration.rawhttp import Connection
from tests.shells import Stages
from txsticky.core.how import How
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.head import Head
from txsticky.core.http.response import Additions
from txsticky.core.http.steps import Known
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.verdict import KEEP, Give, Verdict
from txsticky.serve import ServeSettings
from txsticky.serve.asgi.engine import new_loop
from txsticky.serve.asgi.serving import AsgiServing

T = TypeVar("T")
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: Seconds after which a test hangs.
PATIENCE = 60.0


class FakeDesk:
    """A worker's desk: a request belongs to the place that its header Place names, else here."""

    movements = None

    def __init__(self) -> None:
        self.draining = False
        self.unconfirmed = 0
        self.known: dict[bytes, Known] = {}
        self.given: dict[bytes, Give] = {}
        self.hosts: dict[str, Verdict] = {}
        self.done = 0

    @property
    def bindings(self) -> FakeDesk:
        """The desk's bindings, which it keeps itself."""
        return self

    def whose(self, head: Head, host: str) -> Verdict:
        """Whose a request is."""
        place = head.header(b"place")
        return KEEP[How.HIT] if place is None else Give(int(place), How.TAG)

    def additions(
        self, head: Head, host: str, secure: bool, how: How, first: bool
    ) -> Additions | None:
        """What goes with the response."""
        return adding(b"X-How: %b\r\n" % how.name.encode())

    def when_confirmed(self, action: Callable[[], None]) -> None:
        """Call when nothing is unconfirmed."""
        action()

    def request_done(self) -> None:
        """Count a response that is complete."""
        self.done += 1


class Kept(Stages):
    """
    What the worker keeps of a connection.

    :ivar ends: how often it was over here.
    :ivar left: (socket, place, held bytes) when it was taken away.
    """

    def __init__(self, handoff: Handoff) -> None:
        self.handoff = handoff
        self.transport: Any = None
        self.ends = 0
        self.left: tuple[socket.socket, int, bytes] | None = None

    def closed(self) -> None:
        """Note that the connection is over."""
        self.ends += 1

    def departed(self, sock: socket.socket, place: int, held: bytes) -> None:
        """Note that the connection has been taken away."""
        self.ends += 1
        self.left = (sock, place, held)


class LoopCase(SynchronousTestCase):
    """
    Tests on an event loop of their own; the client runs in a thread, as plain blocking code.

    :cvar loop_name: `asyncio` or `uvloop`.
    """

    loop_name: ClassVar[str] = "asyncio"

    def setUp(self) -> None:
        self.loop = new_loop(self.loop_name)
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context))
        self.addCleanup(self._close)

    def _close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the loop until this is done."""
        return self.loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    def fired(self, deferred: Deferred[T]) -> T:
        """Run the loop until a Deferred has fired."""
        return self.wait(deferred.asFuture(self.loop))  # type: ignore[arg-type]

    def talk(self, client: Callable[..., T], *arguments: Any) -> T:
        """Run a client in a thread, and the loop meanwhile."""
        return self.wait(asyncio.to_thread(client, *arguments))

    def until(self, fact: Callable[[], object]) -> None:
        """Run the loop until the fact is true."""

        async def come_true() -> None:
            while not fact():
                await asyncio.sleep(0.002)

        self.wait(come_true())

    def turn(self) -> None:
        """Let everything happen that is due now."""
        for _ in range(5):
            self.wait(asyncio.sleep(0))


def pair(family: int = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """A connection: the server's end and the client's."""
    if family == socket.AF_UNIX:
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return listener.accept()[0], client


class ReactorOn:
    """As much of an asyncio reactor as `AsgiServing` asks for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncioEventloop = loop
        self.seconds = runtimeSeconds


class AsgiCase(LoopCase):
    """
    An ASGI application on adopted connections.

    :cvar engines: what the environment says of uvicorn's engines.
    """

    engines: ClassVar[dict[str, str]] = {}

    def setUp(self) -> None:
        super().setUp()
        for name in ("UVICORN_HTTP", "UVICORN_WS", "UVICORN_LIFESPAN"):
            self.patch(os, "environ", {k: v for k, v in os.environ.items() if k != name})
        os.environ.update(self.engines)
        logger, quiet = logging.getLogger("uvicorn.error"), logging.NullHandler()
        logger.addHandler(quiet)
        self.addCleanup(logger.removeHandler, quiet)
        self.desk = FakeDesk()

    def make(self, app: Any, **settings: Any) -> AsgiServing:
        """Make an application ready, without starting it."""
        reactor: Any = ReactorOn(self.loop)
        serving = AsgiServing(app, ServeSettings(**settings), reactor)
        self.addCleanup(lambda: self.fired(serving.stop(4.0)))
        return serving

    def serve(self, app: Any, **settings: Any) -> AsgiServing:
        """Serve an application until the end of the test."""
        self.serving = self.make(app, **settings)
        self.fired(self.serving.start())
        return self.serving

    def connect(
        self,
        prefix: bytes = b"",
        family: int = socket.AF_INET,
        peer: tuple[str, int] = ("192.0.2.7", 5000),
        how: How = How.NEW,
        secure: bool = False,
    ) -> Connection:
        """A client whose connection was handed here; `self.kept` is what the worker keeps."""
        ours, theirs = pair(family)
        handoff = Handoff(
            family=family, origin=Origin(peer, ("", 0), secure), how=how, prefix=prefix
        )
        self.kept = Kept(handoff)
        self.serving.adopt(ours, self.kept, self.desk, Conversation())
        self.addCleanup(theirs.close)
        return Connection.over(theirs)

    def ask(self, data: bytes, **handoff: Any) -> Any:
        """The response to one request on a connection of its own, which stays open."""
        self.client = self.connect(**handoff)
        return self.talk(self.client.ask, data)


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a lifespan, and leave everything else unanswered."""
    if scope["type"] == "lifespan":
        for what in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{what}.complete"})


async def answer(send: Send, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Answer with 200 and a body."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})
