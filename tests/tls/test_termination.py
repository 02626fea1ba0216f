"""Connections over TLS in the worker that ends it, with a real client's TLS on a real socket."""

from __future__ import annotations

import socket
import ssl
from typing import Any
from unittest import mock

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport

from tests.core.http.heads import known_of
from tests.shells import ended, received
from txsticky.core.how import How
from txsticky.tls.termination import LINGER, TlsLayer

from .cases import ELSEWHERE, OK, THERE, App, Client, Policy, Producer, TlsCase, ask


class Local(TlsCase):
    """Requests that are served here."""

    def test_served(self) -> None:
        """The application gets the bytes, and the client its answer."""
        client = self.client()
        request = ask("/1/")
        self.assertEqual(self.exchange(client, request), request)
        self.assertEqual(self.answer(client), OK)
        self.assertEqual(self.exchange(client, request), request * 2)
        self.answer(client)
        self.assertEqual((len(self.apps.made), self.given), (1, []))
        self.assertEqual(self.policy.done, 2)
        self.assertEqual(self.policy.settled, {True})

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
        self.assertEqual(transport.getHandle().get_servername(), b"tls.test")

    def test_added_lines(self) -> None:
        """Lines such as a cookie's are added to the response."""
        client = self.client()
        self.policy.lines = b"X-Added: 1\r\n"
        self.exchange(client, ask("/1/"))
        self.assertIn(b"\r\nX-Added: 1\r\n", self.answer(client))

    def test_hosts(self) -> None:
        """The gate looks a client's address up where the worker's policy keeps it."""
        self.client()
        self.assertIs(self.transport.hosts, self.policy.hosts)

    def test_asked_for_lines(self) -> None:
        """The worker's policy is told of which request lines are to be added to the response."""
        asked: list[Any] = []
        self.patch(Policy, "additions", lambda policy, *of: asked.append(of))
        client = self.client()
        self.exchange(client, ask("/1/"))
        ((head, *others),) = asked
        self.assertEqual(head.path, b"/1/")
        self.assertEqual(others, ["127.0.0.1", True, How.TAG, True])
        self.assertIs(others[-1], True)  # which How.TAG is equal to

    def test_withheld(self) -> None:
        """A response that waits for a binding arrives, though the application closes meanwhile."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.policy.unconfirmed = 1
        transport: Any = self.apps.made[0].transport
        transport.write(OK)
        transport.loseConnection()
        self.reactor.settle()
        self.turns(client)
        self.assertEqual((client.got, client.closed), (b"", False))
        self.policy.confirm()
        self.turns(client, lambda: client.closed)
        self.assertEqual(client.got, OK)

    def test_no_delay(self) -> None:
        """TCP does not wait for more before it sends a small record (tcp(7), TCP_NODELAY)."""
        self.client()
        sock = self.outer.socket
        self.assertTrue(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def test_prefix(self) -> None:
        """The ClientHello that the primary read is the beginning of the conversation."""
        hello = Client(self.pair()[0], self.context, "tls.test")
        hello.turn()
        prefix = received(self._owned[-1]) or b""
        sock = self.arrive(self.handed(("192.0.2.1", 99), prefix))
        hello.sock = sock
        self.turns(hello, lambda: hello.shaken)
        self.assertEqual(self.transport._handoff.prefix, b"", "it is not kept")
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
        """A transport that closes says so, reads on, and gives the application nothing."""
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
        self.policy.known[data] = known_of(data, How.TAG)
        self.assertEqual(self.exchange(client, data), data)
        self.assertTrue(self.transport.gate.served)
        self.answer(client)
        self.exchange(client, ask("/3/"))
        self.given[0][0].send(OK)
        self.turns(client, lambda: client.got == OK * 2)
        self.exchange(client, data)
        self.assertEqual([place for _, place, _ in self.given], [ELSEWHERE, THERE])

    def test_failing(self) -> None:
        """An application that raises loses its client, no other."""
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
        """The application is told of an error if TCP ends without TLS: bytes may lack."""
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
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n" + b"x" * (32 << 20))
        self.until(lambda: producer.paused)
        client.close()
        self.until(lambda: self.apps.made[0].lost)
        unsent = self.outer.unsent()
        received(client.sock)
        self.until(lambda: self.outer.unsent() < unsent)  # the kernel may take a moment
        self.reactor.advance(LINGER)
        self.reactor.settle()
        self.assertEqual(self.forgotten, 0, "it has taken something meanwhile")
        self.until(lambda: self.reactor.advance(LINGER) or self.forgotten)
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
        client = Client(self.arrive(), self.context, "tls.test")
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

    def test_waits_once(self) -> None:
        """A close that is waited for already is not waited for anew, nor one that is over."""
        client = self.client()
        layer = self.transport.layer
        before = len(self.reactor.getDelayedCalls())
        layer.linger()
        layer.linger()
        self.assertEqual(len(self.reactor.getDelayedCalls()), before + 1)
        client.sock.close()
        self.until(lambda: self.forgotten)
        layer.linger()
        self.assertEqual(len(self.reactor.getDelayedCalls()), before)

    def test_closed_after_an_abort(self) -> None:
        """A close after an abort sends nothing more."""
        self.client()
        layer = self.transport.layer
        layer.loseConnection()
        self.outer.abortConnection()
        with mock.patch.object(self.outer, "end_output") as end_output:
            layer.loseConnection()
        end_output.assert_not_called()

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


class Closing(TlsCase):
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
        """TLS is closed behind a WebSocket, in whose place the HTTP channel is still registered."""
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


class InTime(TlsCase):
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
        self.terminator = self.terminate(self.apps, http=False)
        client = self.client()
        self.reactor.advance(5)
        self.reactor.settle()
        client.turn()
        self.assertEqual((client.closed, self.forgotten), (False, 0))
        self.arrive()
        self.reactor.advance(5)
        self.until(lambda: self.forgotten)


class NotHttp(TlsCase):
    """An application that is not HTTP."""

    http = False

    def test_served(self) -> None:
        """An application that is not HTTP is served without a gate, through TLS alone."""
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

    def test_client_leaves(self) -> None:
        """The application is told when the client closes TLS."""
        client = self.client()
        client.send(b"anything")
        self.turns(client, lambda: self.apps.made[0].got)
        client.close()
        self.turns(client, lambda: self.forgotten)
        self.assertTrue(self.apps.made[0].lost.check(ConnectionDone))

    def test_refused_by_the_factory(self) -> None:
        """A connection that the factory wants no protocol for is not taken."""
        self.apps.refusing = True
        sock = self.arrive()
        self.assertIsNone(self.outer)
        self.assertTrue(ended(sock))
