"""WSGI applications with a channel in memory, whose threads are run by the test."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.how import How
from txsticky.core.http.head import Head, parse_head
from txsticky.core.routing.forwarded import Trusted
from txsticky.serve.accesslog import AccessLog
from txsticky.serve.wsgi.call import Call, WsgiAnswering
from txsticky.serve.wsgi.calls import Calls
from txsticky.serve.wsgi.pending import Buffers
from txsticky.serve.wsgi.run import Shared
from txsticky.serve.wsgi.tries import Tries

PEER = IPv4Address("TCP", "192.0.2.7", 50000)
HOST = IPv4Address("TCP", "192.0.2.1", 8080)


def head_of(method: str = "GET", target: str = "/", *headers: str, version: str = "1.1") -> Head:
    """Make a request's head; it has a Host unless there are headers."""
    lines = [f"{method} {target} HTTP/{version}", *(headers or ("Host: example",)), "", ""]
    head = parse_head("\r\n".join(lines).encode("latin-1"), 65536)
    assert isinstance(head, Head)
    return head


class Channel:
    """
    A channel in memory with one exchange (`http1.exchange.Exchange`).

    :ivar events: what was done, in order; content in one piece where it was written in several.
    :ivar paused: whether the content of the request is to wait.
    """

    transport: Any = None

    def __init__(self, head: Head, length: int | None = 0, **values: Any) -> None:
        self.head = head
        self.length = length
        self.peer: Any = values.get("peer", PEER)
        self.host: Any = values.get("host", HOST)
        self.secure = values.get("secure", False)
        self.how = How.NEW
        self.expects = values.get("expects", False)
        self.open = True
        self.paused = False
        self.producer: Any = None
        self.transport = self
        self.status = 0
        self.reason = b""
        self.lines: list[tuple[bytes, bytes]] = []
        self.content = b""
        self.ends: list[str] = []
        self.file: tuple[int, int, int] | None = None
        self._sent: Callable[[], None] | None = None
        #: How many times it was called from the reactor with something to send.
        self.writes = 0

    can_detach = True

    def headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Not used."""
        raise NotImplementedError

    def proceed(self) -> None:
        """Note that the client is told to go on."""
        self.expects = False
        self.ends.append("proceed")

    def pause(self) -> None:
        """Note that the content is to wait."""
        assert not self.paused
        self.paused = True

    def resume(self) -> None:
        """Note that the content may come."""
        if self.open:
            assert self.paused
            self.paused = False

    def respond(self, status: int, reason: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Note the beginning of the response."""
        assert self.open and not self.status and 200 <= status < 600
        self.status, self.reason, self.lines = status, reason, list(headers)

    def header(self, name: str) -> str | None:
        """Return a header of the response."""
        for key, value in self.lines:
            if key.decode().lower() == name.lower():
                return value.decode("latin-1")
        return None

    def write(self, data: bytes) -> None:
        """Note a piece of the response."""
        assert self.open and self.status and data.__class__ is bytes and self.file is None
        self.writes += 1
        self.content += data

    def send_file(self, file: int, offset: int, count: int, sent: Callable[[], None]) -> None:
        """Read the file once `file_leaves` is called."""
        self.file, self._sent = (file, offset, count), sent

    def file_leaves(self) -> None:
        """Have the file be sent."""
        assert self.file is not None and self._sent is not None
        file, offset, count = self.file
        self.file = None
        self.content += os.pread(file, count, offset)
        self._sent()

    def finish(self) -> None:
        """Note the end of the response."""
        assert self.open and self.status and self.file is None and not self.paused
        self.open = False
        self.producer = None
        self.ends.append("finish")

    def abort(self) -> None:
        """Note that the connection is closed at once."""
        self.open = False
        self.ends.append("abort")

    def together(self, action: Callable[[], object]) -> None:
        """Do an action (`transport.movable`)."""
        action()

    def loseConnection(self) -> None:
        """Note that the connection is closed (`ITransport`)."""
        self.ends.append("lose")

    def register_producer(self, producer: Any, streaming: bool) -> None:
        """Note the producer."""
        assert streaming and self.producer is None
        self.producer = producer

    def unregister_producer(self) -> None:
        """Note that the producer is let go."""
        self.producer = None

    def detach(self, owner: Any, taken: Callable[[socket.socket, bytes], None]) -> None:
        """Not used."""
        raise NotImplementedError


class Threads:
    """
    Threads that the test runs, in its own.

    :ivar waiting: the actions that are to run.
    :ivar asides: called in the place of a wait.
    """

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.asides: list[Callable[[], object]] = []

    def run(self, action: Callable[[], object]) -> None:
        """Note an action."""
        self.waiting.append(action)

    def aside(self, wait: Callable[[], object]) -> None:
        """Have the next of `asides` end the wait, before it begins."""
        self.asides.pop(0)()
        wait()

    def go(self) -> None:
        """Run what waits."""
        while self.waiting:
            self.waiting.pop(0)()


class CallCase(SynchronousTestCase):
    """An application, and requests to it."""

    room = 1 << 20

    def setUp(self) -> None:
        self.threads = Threads()
        self.wakes: list[Callable[[], object]] = []
        self.woken = 0
        self.tries = Tries()
        self.buffers = Buffers(self.room)

    def answering(self, app: Any, **values: Any) -> WsgiAnswering:
        """Make what answers requests; it writes `access_log`."""
        shared = Shared(app, self.threads, Calls(self.wakes.append), self.buffers, self.tries)  # type: ignore[arg-type]
        log: AccessLog | None = values.get("access_log")
        return WsgiAnswering(
            shared,
            values.get("threads", 64),
            values.get("root_path", ""),
            values.get("trusted", Trusted()),
            log,
            lambda: 0.0,
        )

    def begin(self, app: Any, channel: Channel, **values: Any) -> Call:
        """Begin a request."""
        return self.answering(app, **values)(channel)

    def wake(self) -> None:
        """Do in the reactor's place what threads have it called for."""
        while self.wakes:
            self.woken += 1
            self.wakes.pop(0)()

    def ask(
        self, app: Any, head: Head | None = None, body: bytes | None = None, **values: Any
    ) -> Channel:
        """Ask an application, and return the channel behind its answer."""
        channel = Channel(head or head_of(), 0 if body is None else len(body), **values)
        call = self.begin(app, channel, **values)
        if body:
            call.body(body)
        call.complete()
        self.threads.go()
        self.wake()
        return channel

    def lose(self, call: Call, channel: Channel) -> None:
        """Lose the connection."""
        call.lost(Failure(ConnectionDone()))
        channel.open = False


def app_of(
    *pieces: bytes, status: str = "200 OK", headers: Iterable[tuple[str, str]] = (), as_list=True
) -> Any:
    """Make an application that answers these pieces, as a list or one after the other."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, list(headers))
        return list(pieces) if as_list else iter(pieces)

    return app
