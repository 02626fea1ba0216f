"""A whole worker: it drains, leaves and ends."""

from __future__ import annotations

import socket
from unittest import mock

from twisted.internet.defer import Deferred

from tests.raw_frames import Kind
from tests.shells import ended, received
from txsticky.core.how import How
from txsticky.core.lifecycle.timing import NEXT_REQUEST, QUICK, QUIET, requests_end
from txsticky.core.routing.verdict import FRONT_DESK
from txsticky.worker.load_report import HEARTBEAT

from .cases import OK, WorkerCase, ended_or_read, get


class DrainTests(WorkerCase):
    """Leaving in peace."""

    def test_idle(self) -> None:
        """Idle connections are given to a worker that began later."""
        self.begin()
        client = self.hand()
        self.drain()
        (handoff,) = self.boxes[3].read()
        self.assertEqual((handoff.prefix, handoff.hops), (b"", 1))
        self.assertEqual((received(client), self.worker.connections.live), (OK, {}))

    def test_idle_of_a_lame_duck(self) -> None:
        """The idle connections of a lame duck get the next request answered, as the last one."""
        self.begin()
        idle, client = self.hand(), self.hand()
        for connection in (idle, client):
            self.assertEqual(received(connection), OK)
        self.worker.view.serve_on()
        self.drain(final=True)
        client.sendall(get("/2"))
        self.reactor.settle()
        self.assertEqual(received(client), OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        self.assertEqual((ended(client), ended(idle)), (True, False))
        self.beat(NEXT_REQUEST)
        self.assertTrue(ended(idle))
        self.assertFalse(self.reactor.running)

    def test_busy(self) -> None:
        """A request that is being served is answered; then its connection is given away."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.drain()
        self.assertEqual(self.boxes[3].read(), [])
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual((received(client), len(self.boxes[3].read())), (OK, 1))

    def test_idle_that_came(self) -> None:
        """A connection that came idle, and has not spoken since, goes on to another worker."""
        self.begin()
        client = self.hand(b"")
        self.assertEqual((self.serving.protocols, self.worker.connections.live), ([], {}))
        self.assertEqual(self.load()["live"], 1)
        self.drain()
        (handoff,) = self.boxes[3].read()
        self.assertEqual((handoff.prefix, handoff.hops), (b"", 1))
        self.assertEqual(received(client), None)

    def test_idle_that_speaks(self) -> None:
        """A connection that came idle is served when it speaks."""
        self.begin()
        client = self.hand(b"")
        client.send(get())
        self.reactor.settle()
        self.reactor.settle()
        self.assertEqual(received(client), OK)

    def test_pinned(self) -> None:
        """What is pinned to a draining worker is still served."""
        self.begin()
        self.drain()
        client = self.hand(get(f"/?sid={self.tag(2)}"), how=How.TAG)
        self.assertEqual(received(client), OK)

    def test_done_when_quiet(self) -> None:
        """A worker without a connection for a while says DONE, and not before."""
        self.begin()
        self.drain()
        self.beat(QUIET - 0.25)
        client = self.hand(get(f"/?sid={self.tag(2)}"))  # a poll that comes between
        client.close()
        self.beat(QUIET - 0.25)
        self.assertEqual(self.heard(Kind.DONE), [])
        self.beat(2 * HEARTBEAT + QUIET)
        self.assertGreaterEqual(len(self.heard(Kind.DONE)), 1)

    def test_done_before_the_end(self) -> None:
        """A worker with connections says DONE in the last part of its time, and serves on."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.drain(seconds=10.0)
        self.beat(7.125)
        self.assertEqual(self.heard(Kind.DONE), [])
        self.beat(0.125)
        self.assertEqual(len(self.heard(Kind.DONE)), 1)
        self.say(Kind.GO)
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(received(client), OK)

    def test_go(self) -> None:
        """A worker that is told to go leaves as soon as it holds nothing."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.drain()
        self.say(Kind.GO)
        self.assertTrue(self.reactor.running)
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual((self.serving.stops, self.reactor.running), (1, False))

    def test_came_before_it_goes(self) -> None:
        """What is in the mailbox of a worker that is told to go is served, too."""
        self.begin()
        self.drain()
        self.reactor.removeReader(self.worker.inbox.box)
        client = self.hand(get(f"/?sid={self.tag(2)}"))
        self.say(Kind.GO)
        self.assertEqual(received(client), OK)
        self.assertFalse(self.reactor.running)

    def test_comes_after_it_goes(self) -> None:
        """What comes while the application stops is left in the mailbox, for another worker."""
        self.serving.stopped = Deferred()
        self.begin()
        self.drain()
        self.say(Kind.GO)
        self.assertEqual(self.serving.stops, 1)
        client = self.hand()
        self.beat(2 * HEARTBEAT)
        self.assertEqual((self.worker.connections.live, received(client)), ({}, None))

    def test_not_pinned_any_more(self) -> None:
        """What was pinned to a worker that is withdrawn belongs to others."""
        self.serving.waits = True
        self.begin()
        self.worker.view.table.bind(b"key", 2, 0.0)
        client = self.hand()
        self.drain()
        self.say(Kind.GO)
        client.send(get(f"/?sid={self.tag(2)}"))
        self.reactor.settle()
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(len(self.serving.protocols[0].got), 1)
        self.assertEqual(len(self.worker.view.table), 0)

    def test_time_for_the_application(self) -> None:
        """An application that stops is told all the time that is left, and has it."""
        self.serving.waits = True
        self.serving.stopped = Deferred()
        self.begin()
        self.hand()
        self.drain(seconds=5.0)
        self.beat(requests_end(5.0))
        self.assertAlmostEqual(self.serving.seconds, 0.5)
        self.beat(0.375)
        self.assertTrue(self.reactor.running)
        self.beat(0.125)
        self.assertFalse(self.reactor.running)
        self.serving.stopped.callback(None)

    def test_no_time(self) -> None:
        """A worker with no time at all leaves at once."""
        self.serving.waits = True
        self.begin()
        self.hand()
        self.drain(seconds=0.0)
        self.assertFalse(self.reactor.running)

    def test_politely(self) -> None:
        """What can be told to go is told, and not cut."""
        self.serving.http, self.serving.is_polite = False, True
        self.begin()
        client = self.hand(b"hello")
        self.drain(seconds=1.0)
        self.beat(0.5)
        received(client)
        self.assertEqual(self.serving.polite, [self.serving.protocols[0]])
        self.assertFalse(ended(client))

    def upgrade(self, number: int) -> list[socket.socket]:
        """Have so many WebSockets; returns the clients."""
        self.serving.waits = True
        request = get("/", "Connection: Upgrade", "Upgrade: websocket")
        clients = [self.hand(request) for _ in range(number)]
        for protocol in self.serving.protocols:
            protocol.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        self.reactor.settle()
        return clients

    def test_upgraded(self) -> None:
        """A WebSocket behind the gate is told to go; one that has gone by its turn is not."""
        self.begin()
        clients = self.upgrade(3)
        self.drain(seconds=10.0)
        first, second, third = sorted(clients, key=ended_or_read, reverse=True)
        second.close()
        self.beat(8.0)
        self.assertEqual([ended_or_read(client) for client in (first, third)], [True, True])
        self.assertEqual(len(self.serving.polite), 2)

    def test_upgraded_meanwhile(self) -> None:
        """A connection that became a WebSocket meanwhile is closed in the last part of the time."""
        self.serving.waits = True
        self.begin()
        client = self.hand(get("/", "Connection: Upgrade", "Upgrade: websocket"))
        self.drain(seconds=10.0)
        self.serving.protocols[0].transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        self.beat(7.125)
        self.assertFalse(ended_or_read(client))
        self.beat(0.125)
        self.assertTrue(ended_or_read(client))


class FinalTests(WorkerCase):
    """Leaving when the whole cluster stops."""

    def test_idle(self) -> None:
        """Idle connections are closed, and the worker leaves as soon as there are none."""
        self.begin()
        client = self.hand()
        self.drain(final=True)
        self.assertTrue(ended_or_read(client))
        self.assertEqual(self.boxes[FRONT_DESK].read(), [])
        self.assertFalse(self.reactor.running)

    def test_busy(self) -> None:
        """A request that is being served is answered; then its connection is closed."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        self.drain(final=True)
        self.assertTrue(self.reactor.running)
        self.serving.protocols[0].transport.write(OK)
        self.reactor.settle()
        self.assertEqual(received(client), OK)
        self.assertTrue(ended(client))

    def test_pipelined(self) -> None:
        """Requests that are here already are answered as well."""
        self.serving.waits = True
        self.begin()
        client = self.hand(get("/1") + get("/2"))
        self.drain(final=True)
        for _ in range(2):
            self.serving.protocols[0].transport.write(OK)
            self.reactor.settle()
        self.assertEqual(received(client), 2 * OK)
        self.assertTrue(ended(client))

    def test_idle_with_a_big_response(self) -> None:
        """An idle connection whose last response is still under way gets it whole."""
        self.serving.waits = True
        self.begin()
        client = self.hand()
        body = bytes(5_000_000)
        transport = self.serving.protocols[0].transport
        transport.registerProducer(mock.Mock(), True)  # as twisted.web's channel does
        transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n")
        transport.write(body)
        self.drain(final=True)
        got = b""
        while not ended(client):
            got += received(client) or b""
            self.reactor.turn()
        self.assertTrue(got.endswith(body))
        self.assertEqual(self.worker.connections.live, {})


class ExitTests(WorkerCase):
    """The end."""

    def leave(self) -> None:
        """Have the worker leave."""
        self.begin()
        self.drain(final=True)

    def test_says_so(self) -> None:
        """From when its application stops a worker is handed nothing, nor expected to beat."""
        self.serving.stopped = Deferred()
        self.leave()
        self.assertEqual(self.heard(Kind.DONE), [b""])

    def test_quit(self) -> None:
        """A worker that is to be quick waits for no request, but for its application to stop."""
        self.serving.waits = True
        self.serving.stopped = Deferred()
        self.begin()
        self.hand()
        self.worker.quit()
        self.assertEqual((self.serving.stops, self.serving.seconds), (1, QUICK))
        self.beat(QUICK - 0.125)
        self.assertTrue(self.reactor.running)
        self.serving.stopped.callback(None)
        self.assertEqual((self.reactor.running, self.worker.end.status), (False, 0))
        self.beat(1.0)

    def test_once(self) -> None:
        """A worker goes once, however often it is told."""
        self.serving.stopped = Deferred()
        self.leave()
        self.say(Kind.GO)
        self.drain(seconds=0.0, final=True)
        self.beat(2 * HEARTBEAT)
        self.assertEqual(self.serving.stops, 1)
