"""The content of a request: when the application starts, what it reads, how much is held."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import IO, Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from txsticky.serve.wsgi import body as body_module
from txsticky.serve.wsgi.body import ENOUGH, LOW, Body

from .cases import CallCase, Channel, Threads, head_of

PATIENCE = 20.0
MIB = 1 << 20


class BodyCase(SynchronousTestCase):
    """A body, and a note of whether its client is read."""

    def setUp(self) -> None:
        self.threads = Threads()
        self.flow: list[str] = []

    def make(self, whole: bool = False) -> Body:
        """A body."""
        return Body(
            lambda: self.flow.append("pause"),
            lambda: self.flow.append("resume"),
            lambda action: action(),
            self.threads.aside,
            whole,
        )


class WholeTests(BodyCase):
    """Bodies that are here before the application starts."""

    def test_small(self) -> None:
        """A small body is read from memory, with all ways of reading."""
        body = self.make()
        self.assertFalse(body.add(b"one\ntwo"))
        self.assertFalse(body.add(b"\nthree"))
        body.end()
        stream = body.stream()
        self.assertEqual(stream.readline(), b"one\n")
        self.assertEqual(stream.read(2), b"tw")
        self.assertEqual(stream.readlines(), [b"o\n", b"three"])
        self.assertEqual(stream.read(), b"")
        self.assertEqual(body.size, 13)

    def test_enough(self) -> None:
        """With 1 MiB the application may start, once; the client is not read any more then."""
        body = self.make()
        self.assertFalse(body.add(b"x" * (ENOUGH - 1)))
        self.assertEqual(self.flow, [])
        self.assertTrue(body.add(b"x"))
        self.assertEqual(self.flow, ["pause"])
        body.stream()
        self.assertFalse(body.add(b"x"))
        self.assertEqual(self.flow, ["pause"])

    def test_wanted_whole(self) -> None:
        """A body that is wanted whole waits in a file, and its client is read."""
        body = self.make(whole=True)
        data = bytes(range(256)) * 5000
        for at in range(0, len(data), 50_000):
            self.assertFalse(body.add(data[at : at + 50_000]))
        body.end()
        self.assertEqual(len(body._data), 0)
        stream = body.stream()
        self.assertTrue(hasattr(stream, "fileno") and stream.fileno())
        self.assertEqual(stream.read(), data)
        self.assertEqual((self.flow, body.size), ([], len(data)))
        stream.close()

    def test_tiny_pieces(self) -> None:
        """A body that comes byte by byte takes no more memory than its bytes."""
        body = self.make()
        for _ in range(10_000):
            body.add(b"x")
        self.assertLess(body._data.__sizeof__(), 15_000)


class StreamTests(BodyCase):
    """Bodies that are read while they come."""

    def streams(self) -> tuple[Body, IO[bytes]]:
        """A body of which 1 MiB is here."""
        body = self.make()
        body.add(bytes(range(256)) * (ENOUGH // 256))
        return body, body.stream()

    def test_read_on(self) -> None:
        """When little is left the client is read again, and is stopped again at 1 MiB."""
        body, stream = self.streams()
        stream.read(ENOUGH - LOW - 70_000)
        self.assertEqual(self.flow, ["pause"])
        stream.read(140_000)
        self.assertEqual(self.flow, ["pause", "resume"])
        while self.flow[-1] == "resume":
            body.add(b"y" * 65536)
        self.assertLess(len(body._data), ENOUGH + 65536)
        self.assertEqual(self.flow, ["pause", "resume", "pause"])

    def test_waits(self) -> None:
        """A read waits for what it wants, and is aside meanwhile."""
        body, stream = self.streams()
        stream.read(ENOUGH)
        self.threads.asides = [
            lambda: body.add(b"y" * 10),
            lambda: body.add(b"z\n" * 10),
            body.end,
        ]
        self.assertEqual(stream.readline(), b"y" * 10 + b"z\n")
        self.assertEqual(stream.read(), b"z\n" * 9)
        self.assertEqual(self.threads.asides, [])
        self.assertEqual(stream.read(1), b"")

    def test_client_leaves(self) -> None:
        """A body that is cut off is no shorter body: to read it is an error."""
        body, stream = self.streams()
        stream.read(ENOUGH)
        self.threads.asides = [body.drop]
        with self.assertRaises(ConnectionError):
            stream.read()

    def test_dropped(self) -> None:
        """Once nothing is wanted any more, what comes is taken from the client and held nowhere."""
        body, _ = self.streams()
        body.drop()
        self.assertEqual(self.flow, ["pause", "resume"])
        for _ in range(50):
            self.assertFalse(body.add(b"y" * 65536))
        self.assertEqual(len(body._data), 0)

    @given(st.data())
    def test_same_bytes(self, data: st.DataObject) -> None:
        """However it comes and is read, what is read is what came."""
        self.patch(body_module, "ENOUGH", 1000)
        self.patch(body_module, "LOW", 300)
        body = self.make()
        sent = bytearray(b"".join(b"%d\n" % number for number in range(2000)))
        total = bytes(sent)
        begun = len(sent) - data.draw(st.integers(1, len(sent) - 1000))
        self.assertTrue(body.add(bytes(sent[:begun])))
        del sent[:begun]
        stream = body.stream()
        sizes = data.draw(st.lists(st.integers(1, 9000), min_size=1, max_size=5))

        def more() -> None:
            size = sizes[len(sent) % len(sizes)]
            piece = bytes(sent[:size])
            del sent[:size]
            if piece:
                body.add(piece)
            if not sent:
                body.end()

        self.threads.asides = Endless(more)  # type: ignore[assignment]
        read = bytearray()
        ways: list[Callable[[], Any]] = [
            lambda: stream.read(7000),
            lambda: stream.readline(),
            lambda: stream.read(3),
            lambda: b"".join(stream.readlines(3000)),
        ]
        way = data.draw(st.sampled_from(ways))
        while piece := way():
            read += piece
        self.assertEqual(bytes(read), total)

    def test_in_threads(self) -> None:
        """A real thread reads what another gives, at the pace of both."""
        body = Body(
            lambda: flowing.clear(),
            lambda: flowing.set(),
            lambda a: a(),
            lambda wait: wait(),
            False,
        )
        flowing = threading.Event()
        flowing.set()
        data = bytes(range(251)) * 40_000
        at = 0
        while not body.add(data[at : at + 65536]):
            at += 65536
        at += 65536
        stream, read = body.stream(), bytearray()

        def reads() -> None:
            while piece := stream.read(100_001):
                read.extend(piece)

        reader = threading.Thread(target=reads)
        reader.start()
        while at < len(data):
            assert flowing.wait(PATIENCE)
            body.add(data[at : at + 65536])
            at += 65536
        body.end()
        reader.join(PATIENCE)
        self.assertEqual(bytes(read), data)


class Endless(list[Callable[[], object]]):
    """A list whose first element is always the same."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action = action

    def pop(self, index: Any = -1) -> Callable[[], object]:
        """Return the element."""
        return self._action


def reads(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer how much there was to read, and how long it was said to be."""
    size = len(environ["wsgi.input"].read())
    start_response("200 OK", [])
    return [f"{size} {environ.get('CONTENT_LENGTH', '')}".encode()]


class RequestTests(CallCase):
    """Requests with a body."""

    def test_no_thread_before(self) -> None:
        """A body that is not here holds no thread."""
        channel = Channel(head_of("POST"), 1000)
        call = self.begin(reads, channel)
        call.body(b"x" * 999)
        self.assertEqual(self.threads.waiting, [])
        call.body(b"x")
        self.assertEqual(self.threads.waiting, [])
        call.complete()
        self.threads.go()
        self.wake()
        self.assertEqual(channel.content, b"1000 ")

    def test_large(self) -> None:
        """A large body is begun with 1 MiB, and read on."""
        channel = Channel(head_of("POST", "/", f"Content-Length: {3 * MIB}"), 3 * MIB)
        call = self.begin(reads, channel)
        call.body(b"x" * MIB)
        self.assertEqual((len(self.threads.waiting), channel.paused), (1, True))

        def more() -> None:
            self.wake()
            self.assertFalse(channel.paused)
            call.body(b"x" * MIB)

        def end() -> None:
            more()
            call.complete()

        self.threads.asides = [more, end]
        self.threads.go()
        self.wake()
        self.assertEqual(channel.content, b"%d %d" % (3 * MIB, 3 * MIB))

    def test_large_with_one_thread(self) -> None:
        """With one thread a body is begun when it is whole: a slow client keeps none out."""
        channel = Channel(head_of("POST"), 3 * MIB)
        call = self.begin(reads, channel, threads=1)
        for _ in range(3):
            call.body(b"x" * MIB)
        self.assertEqual(self.threads.waiting, [])
        call.complete()
        self.threads.go()
        self.wake()
        self.assertEqual(channel.content, b"%d " % (3 * MIB))

    def test_chunked(self) -> None:
        """A chunked body is begun when it is whole, and gets its length, as Django wants it."""
        for size in (5, 3 * MIB):
            channel = Channel(head_of("POST", "/", "Transfer-Encoding: chunked"), None)
            call = self.begin(reads, channel)
            for at in range(0, size, MIB):
                call.body(b"x" * min(MIB, size - at))
            self.assertEqual(self.threads.waiting, [])
            call.complete()
            self.threads.go()
            self.wake()
            self.assertEqual(channel.content, b"%d %d" % (size, size))

    def test_expectation(self) -> None:
        """A client that waits to be told so may send its body at once."""
        channel = Channel(head_of("POST"), 5, expects=True)
        self.begin(reads, channel)
        self.assertEqual(channel.ends, ["proceed"])

    def test_not_read(self) -> None:
        """A body that the application does not read is taken and dropped behind the answer."""

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response("403 Forbidden", [])
            return [b"no"]

        channel = Channel(head_of("POST"), 5 * MIB)
        call = self.begin(app, channel)
        call.body(b"x" * MIB)
        self.assertTrue(channel.paused)
        self.threads.go()
        self.wake()
        self.assertEqual((channel.status, channel.paused), (403, False))
        self.assertEqual(channel.ends, ["finish"])
        call.body(b"x" * MIB)
        call.complete()
        self.assertEqual(self.threads.waiting, [])

    def test_client_leaves(self) -> None:
        """An application that reads when the client leaves gets an error, which is logged."""
        channel = Channel(head_of("POST"), 5 * MIB, peer=IPv4Address("TCP", "192.0.2.3", 1))
        call = self.begin(reads, channel)
        call.body(b"x" * MIB)
        self.threads.asides = [lambda: self.lose(call, channel)]
        self.threads.go()
        self.wake()
        self.assertEqual((channel.status, channel.ends), (0, []))
        self.assertEqual(len(self.flushLoggedErrors(ConnectionError)), 1)

    def test_client_leaves_before(self) -> None:
        """A request whose client leaves before it is whole never reaches the application."""
        channel = Channel(head_of("POST"), 5)
        call = self.begin(reads, channel)
        call.body(b"x")
        self.lose(call, channel)
        self.assertEqual(self.threads.waiting, [])
