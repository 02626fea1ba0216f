"""Protocol factories, as a worker serves them, and the polite end of a WebSocket."""

from __future__ import annotations

from typing import Any

import txaio
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import (
    WampWebSocketServerFactory,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.policies import TimeoutFactory, WrappingFactory
from twisted.protocols.wire import Echo
from twisted.trial.unittest import TestCase
from twisted.web.http import HTTPFactory
from twisted.web.resource import Resource
from twisted.web.server import Site

from txsticky.errors import AppLoadError
from txsticky.serve import ServeSettings, serving_for
from txsticky.serve.protocol import close_politely, speaks_http

from ..serving import Connection, Page

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: chat.example:4711\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n%b\r\n"
)
#: A close frame with code 1001 and a reason, as a server sends it (RFC 6455, 5.2 and 5.5.1).
GOING_AWAY = b"\x88\x0c\x03\xe9going away"
#: The client's answer to it: masked, with a mask of zeros.
CLOSE_REPLY = b"\x88\x82\0\0\0\0\x03\xe9"


class WebSocketEcho(WebSocketServerProtocol):
    """A WebSocket that sends back what it gets."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)


class AutobahnCase(TestCase):
    """autobahn on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.patch(txaio.config, "loop", self.clock)

    def websockets(self, *arguments: Any, **options: Any) -> WebSocketServerFactory:
        """Make a factory of WebSockets."""
        factory = WebSocketServerFactory(*arguments, reactor=self.clock, **options)
        factory.protocol = WebSocketEcho
        return factory

    def site(self, resource: object) -> Site:
        """Make a Site with a resource at /ws."""
        root = Resource()
        root.putChild(b"ws", resource)
        return Site(root, reactor=self.clock)

    def open(self, factory: Any, extra: bytes = b"") -> Connection:
        """Connect, and upgrade to a WebSocket."""
        connection = Connection(factory)
        self.answer = connection.send(HANDSHAKE % extra)
        return connection


class FactoryTests(TestCase):
    """Any protocol factory."""

    def test_serves_its_protocol(self) -> None:
        """A factory's protocols are given the connections, without a gate."""
        serving = serving_for(Factory.forProtocol(Echo), "auto", ServeSettings(), Clock())
        self.assertEqual((serving.interface, serving.http), ("protocol", False))
        self.assertEqual(Connection(serving.factory).send(b"anything"), b"anything")

    def test_starts_and_stops_once(self) -> None:
        """startFactory and stopFactory run once a worker."""
        calls = []

        class Counted(Factory):
            protocol = Echo

            def startFactory(self) -> None:
                calls.append("start")

            def stopFactory(self) -> None:
                calls.append("stop")

        serving = serving_for(Counted(), "protocol", ServeSettings(), Clock())
        self.assertEqual(calls, [])
        serving.start()
        Connection(serving.factory)
        Connection(serving.factory)
        serving.stop(4.0)
        self.assertEqual(calls, ["start", "stop"])

    def test_stop_without_start(self) -> None:
        """A factory that was not started, or was stopped already, is not stopped."""
        calls = []

        class Counted(Factory):
            def doStop(self) -> None:
                calls.append("stop")

        serving = serving_for(Counted(), "protocol", ServeSettings(), Clock())
        serving.stop(4.0)
        self.assertEqual(calls, [])
        serving.start()
        serving.stop(4.0)
        serving.stop(4.0)
        self.assertEqual(calls, ["stop"])

    def test_has_no_logs_to_reopen(self) -> None:
        """A factory without access log takes the signal for new logs."""
        serving = serving_for(Factory.forProtocol(Echo), "auto", ServeSettings(), Clock())
        self.assertIsNone(serving.reopen_logs())

    def test_something_else_is_refused(self) -> None:
        """What is no factory cannot be served with --interface=protocol."""
        error = self.assertRaises(
            AppLoadError, serving_for, Resource(), "protocol", ServeSettings(), Clock()
        )
        self.assertIn("a Resource does not load: it is a twisted.web Resource", str(error))


class SpeaksHTTPTests(AutobahnCase):
    """Which factories get a gate."""

    def test_http_servers(self) -> None:
        """twisted.web's factories and autobahn's WebSocket servers begin with HTTP."""
        for factory in (
            HTTPFactory(reactor=self.clock),
            self.site(Resource()),
            self.websockets(),
            WampWebSocketServerFactory(lambda: None, reactor=self.clock),
        ):
            self.assertTrue(speaks_http(factory), factory)

    def test_wrapped_in_policies(self) -> None:
        """A policy around an HTTP server does not change that."""
        self.assertTrue(speaks_http(TimeoutFactory(WrappingFactory(self.site(Resource())))))
        self.assertFalse(speaks_http(TimeoutFactory(Factory.forProtocol(Echo))))

    def test_access_log_of_a_wrapped_site(self) -> None:
        """A Site in a policy has its access log."""
        path = self.mktemp()
        site = WrappingFactory(self.site(Page(lambda request: b"hello")))
        serving = serving_for(site, "auto", ServeSettings(access_log=path), self.clock)
        serving.start()
        self.addCleanup(serving.stop, 4.0)
        Connection(serving.factory).ask("/ws")
        with open(path) as file:
            self.assertIn('"GET /ws HTTP/1.1" 200 5', file.read())


class AutobahnTests(AutobahnCase):
    """A bare WebSocketServerFactory."""

    def test_any_port_without_url(self) -> None:
        """A factory without URL takes handshakes whatever port the client came to."""
        self.open(self.websockets())
        self.assertTrue(self.answer.startswith(b"HTTP/1.1 101 "), self.answer)

    def test_any_port_with_url(self) -> None:
        """A factory with a URL takes handshakes whatever port the client came to."""
        factory = self.websockets("ws://127.0.0.1:9000")
        self.open(factory, b"Origin: http://chat.example:4711\r\n")
        self.assertTrue(self.answer.startswith(b"HTTP/1.1 101 "), self.answer)

    def test_external_port_is_checked(self) -> None:
        """autobahn refuses another port than a factory's externalPort, here as anywhere."""
        self.open(self.websockets("ws://127.0.0.1:9000", externalPort=9000))
        self.assertTrue(self.answer.startswith(b"HTTP/1.1 400 "), self.answer)

    def test_echo(self) -> None:
        """Messages arrive and are answered."""
        connection = self.open(serving_for(self.websockets(), "auto", ServeSettings()).factory)
        self.assertEqual(connection.send(b"\x81\x82\0\0\0\0hi"), b"\x81\x02hi")

    def test_starts_and_stops(self) -> None:
        """startFactory and stopFactory of the application's factory run."""
        calls = []

        class Counted(WebSocketServerFactory):
            def startFactory(self) -> None:
                calls.append("start")

            def stopFactory(self) -> None:
                calls.append("stop")

        serving = serving_for(Counted(reactor=self.clock), "auto", ServeSettings(), self.clock)
        serving.start()
        serving.stop(4.0)
        self.assertEqual(calls, ["start", "stop"])


class ClosePolitelyTests(AutobahnCase):
    """A WebSocket's end, with code 1001."""

    def check_autobahn(self, connection: Connection) -> None:
        """Assert that the client is told, and that the connection ends with its answer."""
        self.assertTrue(self.answer.startswith(b"HTTP/1.1 101 "), self.answer)
        self.assertTrue(close_politely(connection.transport.protocol))
        self.assertEqual(connection.transport.value(), GOING_AWAY)
        self.assertFalse(connection.closed)
        connection.send(CLOSE_REPLY)
        self.assertTrue(connection.closed)

    def test_autobahn(self) -> None:
        """A bare autobahn WebSocket is closed so."""
        self.check_autobahn(self.open(self.websockets()))

    def test_autobahn_in_a_resource(self) -> None:
        """A WebSocket in a Resource tree, which has replaced the protocol, is closed so."""
        self.check_autobahn(self.open(self.site(WebSocketResource(self.websockets()))))

    def test_autobahn_in_a_resource_behind_tls(self) -> None:
        """A WebSocket in a Resource whose transport wraps another is closed so."""
        site = self.site(WebSocketResource(self.websockets()))
        self.check_autobahn(self.open(WrappingFactory(site)))

    def test_through_the_serving(self) -> None:
        """The worker asks the serving, which knows the kind."""
        serving = serving_for(self.websockets(), "auto", ServeSettings(), self.clock)
        connection = self.open(serving.factory)
        self.assertTrue(serving.close_politely(connection.transport.protocol))
        self.assertEqual(connection.transport.value(), GOING_AWAY)

    def test_silent_client_is_not_waited_for(self) -> None:
        """If the client does not answer, autobahn closes after its closeHandshakeTimeout."""
        connection = self.open(self.websockets())
        close_politely(connection.transport.protocol)
        self.clock.pump([0.5] * 4)
        self.assertTrue(connection.closed)

    def test_twice(self) -> None:
        """A WebSocket that is closing already closes by itself, and nothing more is sent."""
        connection = self.open(self.websockets())
        close_politely(connection.transport.protocol)
        connection.transport.clear()
        self.assertTrue(close_politely(connection.transport.protocol))
        self.assertEqual(connection.transport.value(), b"")

    def test_before_the_handshake(self) -> None:
        """A connection that is no WebSocket yet is left to the caller."""
        connection = Connection(self.websockets())
        self.assertFalse(close_politely(connection.transport.protocol))
        self.assertEqual(connection.transport.value(), b"")

    def test_twisted_websocket(self) -> None:
        """A WebSocket of twisted.web.websocket is closed so as well."""
        try:
            from twisted.web.websocket import WebSocketResource as TwistedWebSocketResource
        except ImportError as error:
            self.skipTest(str(error))

        class Silent:
            """A protocol of twisted.web.websocket that does nothing."""

            @classmethod
            def buildProtocol(cls, request: object) -> Silent:
                return cls()

            def negotiationStarted(self, transport: object) -> None:
                """Do nothing."""

            def negotiationFinished(self) -> None:
                """Do nothing."""

        connection = self.open(self.site(TwistedWebSocketResource(Silent)))
        self.assertTrue(self.answer.startswith(b"HTTP/1.1 101 "), self.answer)
        self.assertTrue(close_politely(connection.transport.protocol))
        self.assertEqual(connection.transport.value()[:4], b"\x88\x02\x03\xe9")
        self.assertTrue(connection.closed)
        self.assertFalse(close_politely(connection.transport.protocol))

    def test_anything_else(self) -> None:
        """HTTP connections and other protocols are left to the caller."""
        idle = Connection(self.site(Page(lambda request: b"hello")))
        idle.ask("/ws")
        for protocol in (idle.transport.protocol, Protocol(), Echo(), None):
            self.assertFalse(close_politely(protocol))
        self.assertEqual(idle.transport.value(), b"")
