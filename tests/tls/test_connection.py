"""Connections over TLS whose requests are served elsewhere, and how they leave."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionDone

from tests.core.http.heads import known_of
from tests.shells import ended, received
from txsticky.core.how import How
from txsticky.core.lifecycle.timing import NEXT_REQUEST
from txsticky.tls.termination import LINGER

from .cases import ELSEWHERE, OK, THERE, Client, Producer, TlsCase, ask


class Elsewhere(TlsCase):
    """Requests that are served by other workers."""

    def relayed(self, client: Client, data: bytes) -> socket.socket:
        """Send a request that is another's; returns the end that was given away for it."""
        given = len(self.given)
        client.send(data)
        self.turns(client, lambda: len(self.given) > given)
        return self.given[-1][0]

    def test_hand_off(self) -> None:
        """The end that is given away goes with all that the right worker has to know."""
        client = self.client()
        data = ask("/2/", body=b"body")
        self.relayed(client, data)
        ((sock, place, handoff),) = self.given
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
        self.policy.lines = b"X-Added: 1\r\n"
        far = self.relayed(client, ask("/2/", "Content-Length: 9") + b"body")
        client.send(b" rest")
        self.until(lambda: received(far) == b" rest")
        far.send(OK)
        self.turns(client, lambda: client.got)
        self.assertEqual((client.got, self.policy.done), (OK, 0))

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
        self.assertEqual(len(self.given), 1)

    def test_bindings_go_before(self) -> None:
        """A response that binds a key is on its way before the connection's next request is."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.policy.unconfirmed = 1
        self.apps.made[0].transport.write(OK)  # type: ignore[union-attr]
        client.send(ask("/2/"))
        self.reactor.settle()
        self.assertEqual(self.given, [])
        self.policy.confirm()
        self.turns(client, lambda: self.given)
        self.assertEqual(client.got, OK)

    def test_front_desk(self) -> None:
        """What the front desk is to decide about is given to it each time."""
        client = self.client()
        for number in range(1, 4):
            far = self.relayed(client, ask("/0/"))
            self.assertEqual(len(self.given), number)
            far.send(OK)
            self.turns(client, lambda: client.got.endswith(OK))
            client.got = b""

    def test_there_and_back(self) -> None:
        """A connection goes to another worker, to a third, and back to the application."""
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
        self.assertEqual([place for _, place, _ in self.given], [THERE, ELSEWHERE])
        self.assertEqual((len(self.apps.made), self.forgotten), (2, 0))

    def test_pipelined(self) -> None:
        """Pipelined requests are answered in their order, each by its own."""
        client = self.client()
        client.send(ask("/1/a") + ask("/2/b", body=b"body") + ask("/1/c"))
        self.turns(client, lambda: self.apps.made)
        self.assertEqual(self.apps.made[0].got, ask("/1/a"))
        self.answer(client)
        self.turns(client, lambda: self.given)
        far, _, handoff = self.given[0]
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
        """What has come of a response that is cut reaches the client first, however much it is."""
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


class Leaving(TlsCase):
    """The worker drains."""

    def drain(self, final: bool = False) -> bool:
        """Have the worker drain; returns whether the connection will end by itself."""
        self.policy.draining = True
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
        """A request while the worker leaves is answered, told to be the last, and is."""
        client = self.client()
        self.exchange(client, ask("/1/"))
        self.answer(client)
        self.drain()
        self.exchange(client, ask("/1/last"))
        self.assertIn(b"\r\nConnection: close\r\n", self.answer(client))
        self.turns(client, lambda: client.closed)

    def test_last_relayed_request(self) -> None:
        """A relayed request while the worker leaves is answered, told to be the last, and is."""
        client = self.client()
        self.drain()
        self.exchange(client, ask("/2/"))
        self.given[0][0].send(OK)
        self.turns(client, lambda: client.closed)
        self.assertIn(b"\r\nConnection: close\r\n", client.got)
        self.assertTrue(client.got.endswith(b"\r\n\r\nok"))

    def test_last_request_that_binds(self) -> None:
        """A last response waits for its bindings to be confirmed, as any does."""
        client = self.client()
        self.drain()
        self.exchange(client, ask("/1/"))
        self.policy.unconfirmed = 1
        self.apps.made[0].transport.registerProducer(Producer(), True)  # type: ignore[union-attr]
        self.apps.made[0].transport.write(OK)  # type: ignore[union-attr]
        self.reactor.settle()
        client.turn()
        self.assertEqual((client.got, client.closed), (b"", False))
        self.policy.confirm()
        self.turns(client, lambda: client.closed)
        self.assertTrue(client.got.endswith(b"\r\n\r\nok"))

    def test_behind_the_last(self) -> None:
        """What a client has sent behind its last request is not served."""
        client = self.client()
        self.drain()
        self.exchange(client, ask("/1/a") + ask("/1/b"))
        self.answer(client)
        self.turns(client, lambda: client.closed)
        self.assertEqual(self.apps.made[0].got, ask("/1/a"))

    def test_behind_the_last_at_once(self) -> None:
        """What came with a last request that is answered at once is not served."""
        self.apps.answer = OK
        client = self.client()
        self.drain()
        client.send(ask("/1/a"), ask("/1/b"))
        self.turns(client, lambda: client.closed)
        self.assertEqual(self.apps.made[0].got, ask("/1/a"))

    def test_known_requests(self) -> None:
        """A request that is known to be served here is told to be the last all the same."""
        data = b"GET /1/ HTTP/1.1\r\nHost: a\r\n\r\n"
        self.policy.known[data] = known_of(data, How.TAG)
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

    def test_final_handshake(self) -> None:
        """If the whole cluster stops, a client in its handshake has the same time to ask."""
        self.arrive()
        self.assertTrue(self.drain(final=True))
        self.reactor.settle()
        self.assertEqual(self.forgotten, 0)
        self.reactor.advance(NEXT_REQUEST)
        self.until(lambda: self.forgotten)

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

        self.policy.draining = False
        client = self.client()
        self.exchange(client, ask("/2/", *upgrade))
        self.given[0][0].send(switching)
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
