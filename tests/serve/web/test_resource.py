"""Resources and Sites, as a worker serves them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from twisted.web.http import HTTPFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txsticky.core.routing.forwarded import Trusted
from txsticky.errors import AppLoadError
from txsticky.serve import ServeSettings, serving_for

from ...serving import Connection, Page, header


def hello(request: Request) -> bytes:
    """Answer a few bytes."""
    return b"hello"


def client(request: Request) -> bytes:
    """Answer the client's address."""
    return request.getClientAddress().host.encode()


class WebCase(TestCase):
    """An application on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()

    def serve(self, app: object, **settings: object):  # type: ignore[no-untyped-def]
        """Serve an application until the end of the test."""
        serving = serving_for(app, "auto", ServeSettings(**settings), self.clock)
        serving.start()
        self.addCleanup(serving.stop, 4.0)
        return serving

    def connect(self, app: object, **settings: object) -> Connection:
        """Connect to an application."""
        return Connection(self.serve(app, **settings).factory)


class ResourceTests(WebCase):
    """A Resource."""

    def test_is_web_and_speaks_http(self) -> None:
        """A Resource is served as web, with a gate."""
        serving = self.serve(Page(hello))
        self.assertEqual((serving.interface, serving.http), ("web", True))

    def test_answers_on_a_kept_connection(self) -> None:
        """Requests on one connection are all answered, pipelined ones in order."""
        seen = []

        def count(request: Request) -> bytes:
            seen.append(request.uri)
            return request.uri

        connection = self.connect(Page(count))
        self.assertTrue(connection.ask("/a").endswith(b"/a"))
        both = connection.send(b"GET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n")
        self.assertEqual(re.findall(rb"\n/[abc]", both), [b"\n/b", b"\n/c"])
        self.assertEqual(seen, [b"/a", b"/b", b"/c"])
        self.assertFalse(connection.closed)

    def test_traceback_is_not_shown(self) -> None:
        """An exception in a Resource is a 500 that tells the client nothing of the code."""

        def fail(request: Request) -> bytes:
            raise RuntimeError("secret")

        answer = self.connect(Page(fail)).ask()
        self.assertTrue(answer.startswith(b"HTTP/1.1 500 "))
        self.assertNotIn(b"secret", answer)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_addresses_are_the_transports(self) -> None:
        """The application sees the transport's peer and host."""

        def addresses(request: Request) -> bytes:
            same = request.getClientAddress() == request.transport.getPeer()
            return b"%r %r" % (same, request.getHost() == request.transport.getHost())

        self.assertTrue(self.connect(Page(addresses)).ask().endswith(b"True True"))

    def test_posted_form_is_parsed(self) -> None:
        """`request.args` has a posted form, as under `twist web`."""
        connection = self.connect(Page(lambda request: request.args[b"name"][0]))
        answer = connection.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 8\r\n\r\nname=ann"
        )
        self.assertTrue(answer.endswith(b"ann"))

    def test_something_else_is_refused(self) -> None:
        """What is no Resource cannot be served with --interface=web."""
        error = self.assertRaises(AppLoadError, serving_for, 7, "web", ServeSettings(), self.clock)
        self.assertIn("with --interface=web it has to be a twisted.web Resource", str(error))


def measured(status: int, length: bytes, *pieces: bytes) -> Page:
    """A page that names this length and writes these pieces."""

    def answer(request: Request) -> int:
        request.setResponseCode(status)
        request.setHeader(b"content-length", length)
        for piece in pieces:
            request.write(piece)
        request.finish()
        return NOT_DONE_YET

    return Page(answer)


class LengthTests(WebCase):
    """Responses that are not as long as they say, of our Site and of an application's own."""

    def setUp(self) -> None:
        super().setUp()
        self.told: list[str] = []
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)

    def note(self, event: LogEvent) -> None:
        """Keep what is said of lengths."""
        text = formatEvent(event)
        if "Content-Length" in text:
            self.told.append(text)

    def both(self, page: Page) -> Iterator[Connection]:
        """Connect to a page under either kind of Site."""
        for app in (page, Site(page, reactor=self.clock)):
            self.told.clear()
            yield self.connect(app)

    def test_longer(self) -> None:
        """What is too much is cut off and told once; the connection stays usable."""
        for pieces in ((b"0123456789",), (b"012", b"3456", b"789"), (b"01234", b"5", b"6")):
            for connection in self.both(measured(200, b"5", *pieces)):
                for _ in range(2):
                    answer = connection.ask("/a?b")
                    self.assertEqual(answer.partition(b"\r\n\r\n")[2], b"01234")
                self.assertFalse(connection.closed)
                self.assertEqual(len(self.told), 2)
                self.assertIn("'GET /a?b HTTP/1.1'", self.told[0])

    def test_shorter(self) -> None:
        """What is missing is told, and the connection closes at once."""
        for pieces in ((b"012",), (b"0", b"1", b"2"), ()):
            for connection in self.both(measured(200, b"5", *pieces)):
                answer = connection.ask("/a")
                self.assertEqual(answer.partition(b"\r\n\r\n")[2], b"".join(pieces))
                self.assertTrue(connection.closed)
                self.assertEqual(len(self.told), 1)
                self.assertIn(f"{5 - len(b''.join(pieces))} bytes shorter", self.told[0])

    def test_exact(self) -> None:
        """A response that is as long as it says is left alone."""
        for length, pieces in ((b"3", (b"0", b"12")), (b"0", ()), (b"0", (b"",))):
            for connection in self.both(measured(200, length, *pieces)):
                answer = connection.ask()
                self.assertEqual(answer.partition(b"\r\n\r\n")[2], b"".join(pieces))
                self.assertEqual((connection.closed, self.told), (False, []))

    def test_bodiless(self) -> None:
        """A response to HEAD, a 204 and a 304 have no body, whatever length they name."""
        for status, method in ((200, b"HEAD"), (204, b"GET"), (304, b"GET")):
            for pieces in ((), (b"0123456789",), (b"0", b"1")):
                for connection in self.both(measured(status, b"5", *pieces)):
                    answer = connection.send(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
                    self.assertEqual(answer.partition(b"\r\n\r\n")[2], b"")
                    self.assertEqual((connection.closed, self.told), (False, []))

    def test_no_length(self) -> None:
        """Without a length, or with one that is none, nothing is measured."""
        for connection in self.both(Page(lambda request: request.write(b"x") or b"y")):
            self.assertIn(b"\r\nx\r\n", connection.ask())
        for connection in self.both(measured(200, b"x", b"abc")):
            # It has no end but that of the connection.
            self.assertTrue(connection.ask().endswith(b"\r\n\r\nabc"))
            self.assertEqual((connection.closed, self.told), (True, []))


class HeadTests(WebCase):
    """Heads up to --head-limit, and no other limit of twisted.web's."""

    def test_large(self) -> None:
        """A line, a target, and many short lines are taken up to the limit."""
        for app in (Page(hello), Site(Page(hello), reactor=self.clock)):
            connection = self.connect(app, head_limit=100_000)
            for target, headers in (
                ("/" + "a" * 99_000, []),
                ("/", ["A: " + "b" * 99_000]),
                ("/", [f"A{number}: {'b' * 6000}" for number in range(16)]),
                ("/", ["A:"] * 20_000),
            ):
                self.assertTrue(connection.ask(target, *headers).startswith(b"HTTP/1.1 200 "))
            self.assertFalse(connection.closed)


class SiteTests(WebCase):
    """A Site that the application made."""

    def test_is_used_as_it_is(self) -> None:
        """Without settings that concern it, nothing of a Site is touched but how it reads heads
        and measures responses.
        """
        site = Site(Page(hello), reactor=self.clock)
        before = dict(vars(site))
        serving = serving_for(site, "auto", ServeSettings(), self.clock)
        self.assertIs(serving.factory, site)
        self.assertEqual((serving.interface, serving.http), ("protocol", True))
        changed = {"requestFactory", "buildProtocol"}
        self.assertEqual({k: v for k, v in vars(site).items() if k not in changed}, before)

    def test_starts_and_stops_once(self) -> None:
        """startFactory and stopFactory run once a worker."""
        calls = []

        class Counted(Site):
            def startFactory(self) -> None:
                calls.append("start")
                super().startFactory()

            def stopFactory(self) -> None:
                calls.append("stop")
                super().stopFactory()

        site = Counted(Page(hello), reactor=self.clock)
        serving = serving_for(site, "auto", ServeSettings(), self.clock)
        self.assertEqual(calls, [])
        serving.start()
        Connection(serving.factory).ask()
        Connection(serving.factory).ask()
        serving.stop(4.0)
        self.assertEqual(calls, ["start", "stop"])

    def test_keeps_its_own_log(self) -> None:
        """--access-log adds to a Site's own log and does not replace it."""
        own = []
        path = self.mktemp()

        class Logged(Site):
            def log(self, request: Request) -> None:
                own.append(request.uri)

        self.connect(Logged(Page(hello), reactor=self.clock), access_log=path).ask()
        self.assertEqual(own, [b"/"])
        with open(path) as file:
            self.assertIn('"GET / HTTP/1.1" 200 5', file.read())

    def test_requests_of_its_own_class(self) -> None:
        """A Site's own request class stays one, with what the settings add."""

        class Own(Request):
            def process(self) -> None:
                self.setHeader(b"X-Own", b"yes")
                super().process()

        site = Site(Page(client), requestFactory=Own, reactor=self.clock)
        answer = self.connect(site, trusted=Trusted.parse("*")).ask(
            "/", "X-Forwarded-For: 192.0.2.1"
        )
        self.assertEqual(header(answer, "X-Own"), "yes")
        self.assertTrue(answer.endswith(b"192.0.2.1"))

    def test_requests_from_a_function(self) -> None:
        """A requestFactory that is a function works as well."""
        made = []

        def make(*arguments: object) -> Request:
            made.append(Request(*arguments))
            return made[-1]

        site = Site(Page(client), requestFactory=make, reactor=self.clock)
        connection = self.connect(site, trusted=Trusted.parse("*"))
        connection.ask()
        self.assertTrue(connection.ask("/", "X-Forwarded-For: 192.0.2.1").endswith(b"192.0.2.1"))
        self.assertEqual(len(made), 2)
        self.assertIs(type(made[0]), type(made[1]))

    def test_other_http_factories(self) -> None:
        """An HTTPFactory that is no Site is served, and its requests are logged."""
        path = self.mktemp()
        serving = self.serve(HTTPFactory(reactor=self.clock), access_log=path)
        self.assertTrue(serving.http)

    def test_resource_tree_in_any_factory(self) -> None:
        """A factory that is no HTTP server gets no access log and no gate."""
        path = self.mktemp()
        serving = self.serve(Factory.forProtocol(Protocol), access_log=path)
        self.assertFalse(serving.http)


class AccessLogTests(WebCase):
    """--access-log for a Resource."""

    def test_line_of_a_request(self) -> None:
        """A finished request has its line, with client, worker and route."""
        path = self.mktemp()
        serving = self.serve(Page(hello), access_log=path, slot=3)
        Connection(serving.factory, how="TAG").ask("/x?y=1", "User-Agent: curl", "Referer: /r")
        with open(path) as file:
            self.assertEqual(
                file.read(),
                '192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] "GET /x?y=1 HTTP/1.1" 200 5 '
                '"/r" "curl" 3 TAG\n',
            )

    def test_goes_over_to_a_new_file(self) -> None:
        """reopen_logs reaches the access log."""
        path = self.mktemp()
        serving = self.serve(Page(hello), access_log=path)
        with open(path) as old:
            os.remove(path)
            serving.reopen_logs()
            Connection(serving.factory).ask()
            self.assertEqual(old.read(), "")
        with open(path) as new:
            self.assertIn("GET /", new.read())

    def test_shows_the_forwarded_client(self) -> None:
        """Behind a trusted proxy the line names the client, not the proxy."""
        path = self.mktemp()
        connection = self.connect(Page(hello), access_log=path, trusted=Trusted.parse("192.0.2.7"))
        connection.ask("/", "X-Forwarded-For: 198.51.100.9")
        with open(path) as file:
            self.assertTrue(file.read().startswith("198.51.100.9 - - ["))


class KeepAliveTests(WebCase):
    """How long a connection may idle."""

    def test_idle_connection_is_closed(self) -> None:
        """A connection without a request for keep_alive seconds is closed, and not before."""
        connection = self.connect(Page(hello), keep_alive=5)
        connection.ask()
        self.clock.advance(4.9)
        self.assertFalse(connection.closed)
        self.clock.advance(0.2)
        self.assertTrue(connection.closed)

    def test_each_response_starts_it_again(self) -> None:
        """The time counts from the last response."""
        connection = self.connect(Page(hello), keep_alive=5)
        for _ in range(3):
            connection.ask()
            self.clock.advance(4.9)
        self.assertFalse(connection.closed)

    def test_upload_may_stall_longer(self) -> None:
        """Within a request the client may pause for longer than keep_alive."""
        connection = self.connect(Page(lambda request: request.content.read()), keep_alive=5)
        connection.ask()
        connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        self.clock.advance(30)
        self.assertFalse(connection.closed)
        self.assertTrue(connection.send(b"b").endswith(b"ab"))

    def test_upload_without_end(self) -> None:
        """The idle time does not count in an upload: the stall watch looks after that."""
        connection = self.connect(Page(hello), keep_alive=5, stall_timeout=0)
        connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        self.clock.advance(100_000)
        self.assertTrue(connection.send(b"b").endswith(b"hello"))
        self.clock.advance(4.9)
        self.assertFalse(connection.closed)
        self.clock.advance(0.2)
        self.assertTrue(connection.closed)

    def test_response_that_is_not_read(self) -> None:
        """The idle time closes a connection behind its response, and never cuts that off."""
        for keep_alive in (5, 60, 600):
            connection = self.connect(Page(hello), keep_alive=keep_alive)
            connection.ask()
            ends: list[str] = []
            self.patch(connection.transport, "abortConnection", lambda ends=ends: ends.append("!"))
            self.clock.advance(keep_alive + 1)
            self.assertTrue(connection.closed)
            self.clock.advance(1000)
            self.assertEqual(ends, [])

    def test_slow_response_is_no_idling(self) -> None:
        """A long poll may take longer than the idle time."""
        connection = self.connect(Page(lambda request: NOT_DONE_YET), keep_alive=5)
        connection.ask()
        self.clock.advance(1000)
        self.assertFalse(connection.closed)

    def test_pipelined_slow_response_is_no_idling(self) -> None:
        """A long poll that was pipelined may take longer than the idle time, too."""
        first = []

        def answer(request: Request) -> bytes | int:
            if request.uri == b"/1":
                first.append(request)
            return NOT_DONE_YET

        connection = self.connect(Page(answer), keep_alive=5)
        connection.ask("/1")
        connection.ask("/2")
        first[0].finish()
        self.clock.advance(1000)
        self.assertFalse(connection.closed)

    def test_longer_than_the_read_timeout(self) -> None:
        """A keep-alive of more than a minute is kept as well."""
        connection = self.connect(Page(hello), keep_alive=600)
        connection.ask()
        self.clock.advance(599)
        self.assertFalse(connection.closed)
        self.clock.advance(2)
        self.assertTrue(connection.closed)

    def test_zero_closes_after_the_response(self) -> None:
        """A keep-alive of 0 closes after each response, and tells the client."""
        connection = self.connect(Page(hello), keep_alive=0)
        answer = connection.ask()
        self.assertEqual(header(answer, "Connection"), "close")
        self.assertTrue(connection.closed)

    def test_http_1_0_is_closed_anyway(self) -> None:
        """A connection that ends with its response has no timeout set."""
        connection = self.connect(Page(hello), keep_alive=5)
        connection.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(connection.closed)

    def test_nothing_stays_scheduled(self) -> None:
        """A connection that is lost leaves no timeout behind."""
        connection = self.connect(Page(hello), keep_alive=5)
        connection.ask()
        self.assertEqual(len(connection.protocol.idle), 1)
        connection.protocol.connectionLost(None)
        self.assertEqual(len(connection.protocol.idle), 0)


class TreeTests(WebCase):
    """A tree of resources."""

    def test_children(self) -> None:
        """Paths lead down the tree."""
        root = Resource()
        root.putChild(b"a", Page(hello))
        self.assertTrue(self.connect(root).ask("/a").endswith(b"hello"))
