"""The channel of twisted.web's requests, behind a gate in memory."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import resource, static
from twisted.web.http_headers import Headers
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory, Request, Site

from tests.gated import Transport
from tests.serving import Connection, Page, header
from txsticky.serve import ServeSettings, serving_for

GET = b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n"


class ChannelCase(SynchronousTestCase):
    """A site in memory."""

    def setUp(self) -> None:
        self.clock = Clock()

    def connect(self, app: object, **settings: Any) -> Connection:
        """Connect to an application."""
        serving = serving_for(app, "auto", ServeSettings(**settings), self.clock)
        self.assertTrue(serving.events)
        serving.start()
        self.addCleanup(serving.stop, 4.0)
        return Connection(serving.factory)

    def page(self, answer: Callable[[Request], bytes | int], **settings: Any) -> Connection:
        """Connect to a page that answers for any path."""
        return self.connect(Page(answer), **settings)


class RequestTests(ChannelCase):
    """What a request is told, and in which order."""

    def test_calls(self) -> None:
        """A subclass of Request hears its content as it comes, and is processed at its end."""
        calls: list[tuple[object, ...]] = []

        class Noting(Request):
            def gotLength(self, length: int | None) -> None:
                calls.append(("length", length, self.requestHeaders.getRawHeaders(b"a")))
                super().gotLength(length)

            def parseCookies(self) -> None:
                super().parseCookies()
                calls.append(("cookies", dict(self.received_cookies)))

            def handleContentChunk(self, data: bytes) -> None:
                calls.append(("content", data))
                super().handleContentChunk(data)

            def process(self) -> None:
                calls.append((self.method, self.uri, self.clientproto, self.content.read()))
                super().process()

        site = Site(Page(lambda request: b"hello"), requestFactory=Noting, reactor=self.clock)
        connection = self.connect(site)
        connection.send(b"PUT /x HTTP/1.1\r\nA: b\r\nCookie: c=d\r\nContent-Length: 4\r\n\r\nab")
        connection.send(b"c")
        self.assertTrue(connection.send(b"d").endswith(b"hello"))
        self.assertEqual(
            calls,
            [
                ("cookies", {b"c": b"d"}),
                ("length", 4, [b"b"]),
                *[("content", piece) for piece in (b"ab", b"c", b"d")],
                (b"PUT", b"/x", b"HTTP/1.1", b"abcd"),
            ],
        )

    def test_own_headers(self) -> None:
        """Headers that a subclass of Request sets as it is made stay, whatever their class."""

        class Own(Headers):
            pass

        class Setting(Request):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                self.responseHeaders.setRawHeaders(b"X-Frame-Options", [b"DENY"])
                self.requestHeaders = Own()

        def answer(request: Request) -> bytes:
            self.assertIsInstance(request.requestHeaders, Own)
            return request.getHeader(b"host")

        site = Site(Page(answer), requestFactory=Setting, reactor=self.clock)
        answered = self.connect(site).ask()
        self.assertEqual(header(answered, "X-Frame-Options"), "DENY")
        self.assertTrue(answered.endswith(b"example"))

    def test_queued(self) -> None:
        """A requestFactory that is a function is called as HTTPChannel calls it."""
        got: list[tuple[object, ...]] = []

        def make(*arguments: Any) -> Request:
            got.append(arguments[1:])
            return Request(arguments[0])

        site = Site(Page(lambda request: b"hello"), requestFactory=make, reactor=self.clock)
        self.connect(site).ask()
        self.assertEqual(got, [(0,)])

    def test_content(self) -> None:
        """Content is in memory or in a file by its length, decoded if it came in chunks."""
        connection = self.page(lambda request: b"%d" % len(request.content.read()))
        for size in (0, 5, 200_000):
            for coded in (False, True):
                body = b"x" * size
                data = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (size, body)
                if coded:
                    data = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                    data += b"%x\r\n%b\r\n" % (size, body) if size else b""
                    data += b"0\r\nTrailer: x\r\n\r\n"
                self.assertTrue(connection.send(data).endswith(b"%d" % size))

    def test_multipart(self) -> None:
        """A form of several parts is read into `args`, and one that is none is refused with 400."""
        connection = self.page(lambda request: request.args[b"n"][0])
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=%b\r\n"
        form = b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\nann\r\n--x--\r\n'
        length = b"Content-Length: %d\r\n\r\n%b" % (len(form), form)
        self.assertTrue(connection.send(head % b"x" + length).endswith(b"ann"))
        answer = connection.send(head.replace(b"; boundary=%b", b"") + length)
        self.assertTrue(answer.startswith(b"HTTP/1.1 400 "))
        self.assertTrue(connection.closed)

    def test_expect(self) -> None:
        """A client that waits to be told to go on is told so, at once."""
        connection = self.page(lambda request: request.content.read())
        head = b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
        self.assertEqual(connection.send(head), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertTrue(connection.send(b"ab").endswith(b"ab"))
        self.assertEqual(connection.send(head.replace(b"1.1", b"1.0")), b"")

    def test_requests(self) -> None:
        """The open request is in `requests`, and none when it is answered."""
        found: list[Any] = []

        def answer(request: Request) -> bytes:
            found.append((request.channel.requests == [request], request.channel))
            return b""

        self.page(answer).ask()
        self.assertTrue(found[0][0])
        self.assertEqual(found[0][1].requests, [])


class ResponseTests(ChannelCase):
    """What goes to the client."""

    def test_same(self) -> None:
        """The response is to the byte what twisted.web's own channel writes."""

        def pages() -> resource.Resource:
            root = resource.Resource()
            for name in (b"plain", b"chunks", b"none", b"later"):
                root.putChild(name, Page(lambda request, name=name: answer(name, request)))
            gzipped = Page(lambda request: b"x" * 500)
            root.putChild(
                b"gzip", resource.EncodingResourceWrapper(gzipped, [GzipEncoderFactory()])
            )
            return root

        def answer(name: bytes, request: Request) -> bytes | int:
            request.setHeader(b"date", b"now")
            if name == b"plain":
                request.addCookie(b"a", b"b")
                return b"hello"
            if name == b"chunks":
                request.write(b"one")
                request.write(b"")
                request.write(b"two")
            elif name == b"none":
                request.setResponseCode(204)
            else:
                request.setETag(b'"x"')
                self.clock.callLater(1, lambda: (request.write(b"later"), request.finish()))
                return NOT_DONE_YET
            request.finish()
            return NOT_DONE_YET

        ours = self.connect(Site(pages(), reactor=self.clock))
        theirs = Site(pages(), reactor=self.clock).buildProtocol(None)
        transport = Transport()
        theirs.makeConnection(transport)
        for target in (b"plain", b"chunks", b"none", b"later", b"gzip", b"not-there"):
            for method, line in (
                (b"GET", b""),
                (b"HEAD", b""),
                (b"DELETE", b""),
                (b"GET", b"Connection: keep-alive\r\n"),
                (b"GET", b'If-None-Match: "x"\r\n'),
                (b"GET", b"Accept-Encoding: gzip\r\n"),
            ):
                data = b"%b /%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, target, line)
                theirs.dataReceived(data)
                got = ours.send(data)
                self.clock.advance(1)
                got += ours.send(b"")
                wanted = transport.value()
                transport.clear()
                self.assertEqual(undated(got), undated(wanted))
        body = ours.send(b"GET /gzip HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n")
        chunk = body.partition(b"\r\n\r\n")[2]
        self.assertIn(b"chunked", body)
        self.assertEqual(gzip.decompress(unchunked(chunk)), b"x" * 500)

    def test_close(self) -> None:
        """A client that asks for the end is told of it, and gets it."""
        connection = self.page(lambda request: b"hello")
        self.assertEqual(header(connection.ask("/", "Connection: close"), "connection"), "close")
        self.assertTrue(connection.closed)

    def test_head_and_content_together(self) -> None:
        """Head and content leave in one write, a head without content at once."""
        connection = self.page(lambda request: b"hello")
        wrote: list[bytes] = []
        self.patch(connection.transport, "write", wrote.append)
        connection.ask()
        self.assertEqual(len(wrote), 1)
        other = self.page(lambda request: request.write(b"") or NOT_DONE_YET)
        self.assertTrue(other.ask().startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_headers_in_pairs(self) -> None:
        """`writeHeaders` takes pairs as HTTPChannel does, and cleans them."""

        def answer(request: Request) -> int:
            request.channel.writeHeaders(
                b"HTTP/1.1", b"200", b"OK", [(b"content-length", b"2"), (b"a", b"b\r\nc: d")]
            )
            request.channel.write(b"hi")
            return NOT_DONE_YET

        answered = self.page(answer).ask()
        self.assertEqual(answered, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b c: d\r\n\r\nhi")

    def test_added_once(self) -> None:
        """The policy's header lines are added once, behind the status line."""
        connection = self.page(lambda request: b"hello")
        connection.transport.gate.policy.added = b"Set-Cookie: a=b\r\n"
        for _ in range(2):
            answer = connection.ask()
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n"))
            self.assertEqual(answer.count(b"Set-Cookie"), 1)

    def test_lose_connection(self) -> None:
        """A request that closes its connection gets what it wrote sent."""

        def answer(request: Request) -> int:
            request.write(b"some")
            request.loseConnection()
            return NOT_DONE_YET

        connection = self.page(answer)
        self.assertIn(b"some", connection.ask())
        self.assertTrue(connection.closed)


class EndTests(ChannelCase):
    """How requests end."""

    def test_notify_finish(self) -> None:
        """`notifyFinish` fires at the end of the response, or fails when the client leaves."""
        ended: list[Deferred[None]] = []

        def answer(request: Request) -> int:
            ended.append(request.notifyFinish())
            requests.append(request)
            return NOT_DONE_YET

        requests: list[Request] = []
        connection = self.page(answer)
        connection.ask()
        self.assertNoResult(ended[0])
        requests[0].finish()
        self.assertIsNone(self.successResultOf(ended[0]))
        connection.transport.turn()
        connection.ask()
        connection.transport.lost()
        self.failureResultOf(ended[1])
        self.assertRaises(RuntimeError, requests[1].finish)

    def test_lost_in_the_content(self) -> None:
        """A client that leaves within its request ends it."""
        lost: list[Request] = []

        class Noting(Request):
            def connectionLost(self, reason: Any) -> None:
                lost.append(self)
                super().connectionLost(reason)

        site = Site(Page(lambda request: b""), requestFactory=Noting, reactor=self.clock)
        connection = self.connect(site)
        connection.send(b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nab")
        connection.transport.lost()
        self.assertEqual(len(lost), 1)

    def test_timer(self) -> None:
        """A request may set a time for its connection, and take it off again."""

        def answer(request: Request) -> int:
            request.channel.setTimeout(7)
            if request.path == b"/off":
                request.channel.setTimeout(None)
            request.channel.resetTimeout()
            return NOT_DONE_YET

        first, second = self.page(answer), self.page(answer)
        first.ask("/on")
        second.ask("/off")
        self.clock.advance(8)
        self.assertEqual((first.closed, second.closed), (True, False))
        self.assertEqual(first.protocol.timeOut, ServeSettings().keep_alive)

    def test_written_and_not_finished(self) -> None:
        """A request waits until the one before is finished, though that one's response is whole."""
        requests: list[Request] = []

        def answer(request: Request) -> int:
            requests.append(request)
            request.setHeader(b"Content-Length", b"2")
            request.write(b"ok")
            return NOT_DONE_YET

        connection = self.page(answer)
        connection.send(GET)
        connection.send(GET + GET)
        self.clock.advance(0)
        for count in (1, 2, 3):
            self.assertEqual(len(requests), count)
            requests[-1].finish()
            self.clock.advance(0)
        self.assertEqual((len(requests), connection.closed), (3, False))

    def test_another_request(self) -> None:
        """A request that is not the open one cannot be done."""
        connection = self.page(lambda request: NOT_DONE_YET)
        connection.ask()
        self.assertRaises(TypeError, connection.protocol.requestDone, object())


class PaceTests(ChannelCase):
    """The client sets the pace."""

    def test_push(self) -> None:
        """A producer is paused while the transport is full, and asked to stop if it is lost."""
        said: list[str] = []

        class Producer:
            def pauseProducing(self) -> None:
                said.append("pause")

            def resumeProducing(self) -> None:
                said.append("resume")

            def stopProducing(self) -> None:
                said.append("stop")

        def answer(request: Request) -> int:
            request.registerProducer(Producer(), True)
            self.assertRaises(RuntimeError, request.channel.registerProducer, Producer(), True)
            return NOT_DONE_YET

        connection = self.page(answer)
        connection.ask()
        channel = connection.protocol
        self.assertIs(connection.transport.producer, channel)
        channel.pauseProducing()
        channel.resumeProducing()
        channel.stopProducing()
        self.assertEqual(said, ["pause", "resume", "stop"])

    def test_file(self) -> None:
        """A static file, which has to be asked for each piece, comes whole."""
        path = self.mktemp()
        content = bytes(range(256)) * 4000
        with open(path, "wb") as file:
            file.write(content)
        root = resource.Resource()
        root.putChild(b"file", static.File(path))
        connection = self.connect(root)
        answer = connection.ask("/file")
        for _ in range(100):
            answer += connection.send(b"")
        self.assertTrue(answer.partition(b"\r\n\r\n")[2] == content)

    def test_nothing_is_read_while_full(self) -> None:
        """A client that takes no responses is not asked for more requests."""
        seen: list[bytes] = []

        def answer(request: Request) -> bytes:
            seen.append(request.uri)
            request.channel.pauseProducing()  # as the transport does that the response fills
            return b"hello"

        connection = self.page(answer)
        connection.send(GET + GET)
        self.assertEqual(len(seen), 1)
        connection.protocol.resumeProducing()
        connection.transport.turn()
        self.assertEqual(len(seen), 2)

    def test_paused_by_the_application(self) -> None:
        """What an application has paused is read again behind its response."""

        def answer(request: Request) -> bytes:
            request.transport.pauseProducing()
            return b"hello"

        connection = self.page(answer)
        for _ in range(2):
            self.assertTrue(connection.ask().endswith(b"hello"))


def undated(response: bytes) -> bytes:
    """The response without its date."""
    lines = response.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"Date: "))


def unchunked(data: bytes) -> bytes:
    """The content of a body in chunks."""
    found = b""
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        found, data = found + data[:size], data[size + 2 :]
    return found
