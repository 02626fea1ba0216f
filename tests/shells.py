"""What the tests of the I/O shells share: descriptors looked at, and sockets in every state."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet import (
    reactor,  # noqa: F401 - it opens descriptors of its own, which no test is to answer for
    tcp,
)
from twisted.internet.epollreactor import EPollReactor
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeProcess, FakeReactor
from tests.raw_frames import FrameReader, Kind, decode_json, encode, encode_json
from txsticky.core.messages.handoff import Handoff, Log, Peer, pack_handoff, unpack
from txsticky.ipc.mailbox import MailboxTransport

#: Seconds in which what does not come never will, however busy the machine is.
PATIENCE = 60.0


def is_open(descriptor: int) -> bool:
    """Whether a descriptor of this process is open."""
    try:
        os.fstat(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return False
    return True


def open_descriptors() -> set[int]:
    """The descriptors of this process, but for the one that looks."""
    return {number for number in map(int, os.listdir("/proc/self/fd")) if is_open(number)}


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Within this, the process is at its limit of open files; there is not one left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_descriptors()) + 1, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def not_waiting(sock: socket.socket) -> Iterator[None]:
    """Within this, a socket does not block."""
    timeout = sock.gettimeout()
    sock.setblocking(False)
    try:
        yield
    finally:
        sock.settimeout(timeout)


def received(sock: socket.socket) -> bytes | None:
    """What has come so far, without waiting: b"" is the end, None is nothing yet."""
    pieces = []
    with not_waiting(sock):
        while True:
            try:
                piece = sock.recv(1 << 20)
            except BlockingIOError:
                return b"".join(pieces) if pieces else None
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)


def ended(sock: socket.socket) -> bool:
    """Whether the other side has closed; bytes that have come are left where they are."""
    with not_waiting(sock):
        try:
            return sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False


def frames(sock: socket.socket) -> list[tuple[Kind, bytes]]:
    """The control frames that have come on a channel so far."""
    return FrameReader(1 << 22).feed(received(sock) or b"")


class Stages:
    """What a host tells of a connection's way to its first bytes, for fakes that do not mind it."""

    transport: Any = None

    def made(self, transport: Any) -> None:
        """Take note that the host is made."""
        self.transport = transport

    def begun(self) -> None:
        """Take note that the protocol is connected."""

    def delivered(self) -> None:
        """Take note that all is delivered which the connection brought."""

    def departing(self) -> None:
        """Take note that the connection is being taken away."""


class ShellCase(SynchronousTestCase):
    """
    A test with a reactor of its own, which leaves no descriptor open and none watched.

    :ivar reactor: the reactor.
    """

    def setUp(self) -> None:
        """Begin."""
        self._before = open_descriptors()
        self._owned: list[Any] = []
        self.reactor = FakeReactor()

    def tearDown(self) -> None:
        """Close what is owned, after all cleanups (trial's order), and look for leaks."""
        for thing in reversed(self._owned):
            thing.close()
        self.assertEqual(open_descriptors() - self._before, set(), "leaks")

    def until(self, done: Callable[[], object]) -> None:
        """Turn until something is so; the kernel may take a moment between two sockets."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            busy = self.reactor.turn()
            if done():
                return
            if not busy:
                time.sleep(0.001)
        raise AssertionError("it never came to be")

    def owned(self, thing: Any) -> Any:
        """Close this at the end."""
        self._owned.append(thing)
        return thing

    def pair(self, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
        """Two sockets connected to each other, non-blocking."""
        one, other = socket.socketpair(socket.AF_UNIX, kind)
        for end in (one, other):
            end.setblocking(False)
            self.owned(end)
        return one, other

    def listening(self, family: int = socket.AF_INET) -> socket.socket:
        """A socket that listens on the loopback interface."""
        sock: socket.socket = self.owned(socket.socket(family, socket.SOCK_STREAM))
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        sock.listen(50)
        return sock

    def connected(self, family: int = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
        """The two ends of a TCP connection: (server's, client's)."""
        listener = self.listening(family)
        client: socket.socket = self.owned(socket.socket(family, socket.SOCK_STREAM))
        client.settimeout(PATIENCE)
        client.connect(listener.getsockname())
        server: socket.socket = self.owned(listener.accept()[0])
        server.setblocking(False)
        return server, client


class ReactorCase(ShellCase):
    """
    A test with a real reactor of its own, which runs only when it is told to.

    :ivar reactor: the reactor.
    """

    reactor: Any

    def setUp(self) -> None:
        tcp._reservedFD.reserve()  # what Twisted keeps once something has listened
        super().setUp()
        self.reactor = self.make_reactor()
        self.addCleanup(self.unmake_reactor)

    def make_reactor(self) -> Any:
        """The kind of reactor."""
        return EPollReactor()

    def unmake_reactor(self) -> None:
        """Close the reactor's own descriptors."""
        self.reactor.disconnectAll()
        for internal in list(self.reactor._internalReaders):
            self.reactor._internalReaders.remove(internal)
            self.reactor.removeReader(internal)
            internal.connectionLost(None)
        self.reactor._poller.close()

    def until(self, done: Callable[[], object]) -> None:
        """Run the reactor until something is so."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if done():
                return
            self.reactor.iterate(0.01)
        raise AssertionError("it never came to be")


class PlayedWorker:
    """
    A worker process that the test plays, from the side of the worker.

    :ivar boot: what the first frame on its channel said.
    :ivar peers: the mailboxes of other workers that it was introduced to, by their ids.
    :ivar hands: the connections that it has taken out of its mailbox, each with its hand-off.
    :ivar logs: the access logs that it was given.
    """

    def __init__(self, process: FakeProcess) -> None:
        self.process = process
        self.channel = process.socket(int(process.arguments[3]))
        self._frames = FrameReader(1 << 22)
        ((kind, body),) = self.frames()
        assert kind is Kind.BOOT, kind
        self.boot = decode_json(body)
        self.id: int = self.boot["id"]
        self.mailbox = self._transport(process.socket(self.boot["mailbox"]))
        self.desk = self._transport(process.socket(self.boot["front_desk"]))
        self.peers: dict[int, MailboxTransport] = {}
        self.hands: list[tuple[socket.socket, Handoff]] = []
        self.logs: list[int] = []
        self._descriptor = -1

    def _transport(self, sock: socket.socket) -> MailboxTransport:
        return MailboxTransport(sock, FakeReactor(), self)

    def frames(self) -> list[tuple[Kind, bytes]]:
        """The control frames that have come since the last call."""
        return self._frames.feed(received(self.channel) or b"")

    def told(self, *kinds: Kind) -> list[bytes]:
        """The bodies of those frames that are of these kinds."""
        return [body for kind, body in self.frames() if kind in kinds]

    def send(self, kind: Kind, body: bytes = b"") -> None:
        """Send a control frame."""
        self.channel.sendall(encode(kind, body))

    def send_json(self, kind: Kind, **fields: Any) -> None:
        """Send a control frame with a JSON object."""
        self.channel.sendall(encode_json(kind, **fields))

    def ready(self, interface: str = "web", http: bool = True) -> None:
        """Say that the application is started."""
        self.send_json(Kind.READY, interface=interface, http=http)

    def report(self, live: int = 0, taken: int = 0, lag: float = 0.0, **more: Any) -> None:
        """Report the load."""
        self.send_json(Kind.LOAD, live=live, taken=taken, lag=lag, requests=0, given=0, **more)

    def take(self) -> list[Handoff]:
        """Take everything out of the mailbox; returns the hand-offs."""
        before = len(self.hands)
        while self.mailbox.read_one():
            pass
        return [handoff for _, handoff in self.hands[before:]]

    def fileDescriptorReceived(self, descriptor: int) -> None:
        """Keep a descriptor; its message follows."""
        self._descriptor = descriptor

    def dataReceived(self, data: bytes) -> None:
        """Take a message."""
        descriptor, self._descriptor = self._descriptor, -1
        message = unpack(data)
        if isinstance(message, Peer):
            if message.worker_id in self.peers:
                self.peers[message.worker_id].loseConnection()
            self.peers[message.worker_id] = self._transport(socket.socket(fileno=descriptor))
        elif isinstance(message, Log):
            self.logs.append(descriptor)
        else:
            self.hands.append((socket.socket(fileno=descriptor), message))

    def give(self, place: MailboxTransport, prefix: bytes) -> None:
        """Give the connection that was taken last to a place, with some bytes read."""
        sock, handoff = self.hands.pop()
        place.sendFileDescriptor(sock.detach())
        place.write(pack_handoff(handoff.moved(prefix, True, handoff.how)))

    def drop(self) -> None:
        """Close the connections that were taken."""
        while self.hands:
            self.hands.pop()[0].close()
        while self.logs:
            os.close(self.logs.pop())

    def close(self) -> None:
        """Close everything, as the kernel does when a process ends."""
        self.drop()
        for place in (self.mailbox, self.desk, *self.peers.values()):
            place.loseConnection()
        self.channel.close()
        self.process.close()

    def die(self, status: int = 0) -> None:
        """End, with an exit code or the negative number of a signal."""
        self.close()
        self.process.exit(status)
