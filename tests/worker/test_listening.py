"""Listening in a worker: it keeps what is its own, and gives the rest away."""

from __future__ import annotations

import os
import select
import socket
from typing import Any
from unittest import mock

from twisted.internet.protocol import Protocol

from tests.raw_frames import Kind, encode, encode_json
from tests.shells import ended, is_open, no_descriptors_left, received
from tests.worker.cases import OK, Inner, WorkerCase, get
from txsticky.core.how import How
from txsticky.core.lifecycle.timing import NEXT_REQUEST
from txsticky.core.messages.handoff import Handoff
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.verdict import FRONT_DESK, Give, Keep
from txsticky.intake import acceptor as accepting
from txsticky.intake.acceptor import RESPITE
from txsticky.intake.arrival import Arrival
from txsticky.primary.front_desk import arrival_of
from txsticky.worker.drain import LOOK
from txsticky.worker.load_report import HEARTBEAT

PROXY = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n"


class ListeningCase(WorkerCase):
    """Worker 2 of three, with a listening socket of its own."""

    def listeners(self) -> list[tuple[int, int]]:
        self.listener = self.listening()
        self.address = self.listener.getsockname()
        return [(5, os.dup(self.listener.fileno()))]

    def end(self) -> None:
        """Close the listening sockets as well."""
        for acceptor in self.worker.listening.acceptors:
            acceptor.close()
        self.worker.listening.close()
        super().end()

    def open(self) -> None:
        """Start the worker, and have it accept."""
        self.begin()
        self.say(Kind.ACCEPT)

    def client(self, data: bytes = b"") -> socket.socket:
        """Connect, and send something."""
        client = self.owned(socket.create_connection(self.address))
        client.settimeout(60)
        client.sendall(data)
        return client  # type: ignore[no-any-return]

    def answer(self, client: socket.socket) -> bytes:
        """Wait for what a client gets."""
        got: list[bytes | None] = []
        self.until(lambda: got.append(received(client)) or got[-1])
        return got[-1] or b""

    def given(self, place: int, number: int = 1) -> Handoff:
        """Wait until so many are given to a place; returns the last."""
        self.until(lambda: len(self.boxes[place].read()) >= number)
        return self.boxes[place].read()[-1]

    def count(self) -> dict[str, Any]:
        """What is reported of listening."""
        entrance = self.load()["entrance"]
        routes = dict(zip((how.name for how in How), entrance["routes"], strict=True))
        return {**entrance, "routes": {name: count for name, count in routes.items() if count}}


class OpenTests(ListeningCase):
    """When it accepts."""

    def test_not_before(self) -> None:
        """A worker does not accept before the primary says so."""
        self.begin()
        client = self.client(get())
        self.reactor.settle()
        self.assertIsNone(received(client))
        self.say(Kind.ACCEPT)
        self.assertEqual(self.answer(client), OK)

    def test_not_while_leaving(self) -> None:
        """A worker that is leaving already does not accept when the primary says so."""
        self.begin()
        self.drain()
        self.say(Kind.ACCEPT)
        self.client(get())
        self.reactor.settle()
        self.assertEqual(self.worker.connections.live, {})

    def test_not_inherited(self) -> None:
        """What the application starts does not inherit the socket."""
        (acceptor,) = self.worker.listening.acceptors
        self.assertFalse(os.get_inheritable(acceptor.fileno()))


class PlaceTests(ListeningCase):
    """Whose a connection is."""

    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_served_here(self) -> None:
        """What nothing pins is served here, from its first byte on."""
        client = self.client(get("/a"))
        self.assertEqual(self.answer(client), OK)
        self.assertEqual(self.serving.protocols[0].got, [get("/a")])
        peer = self.serving.protocols[0].transport.getPeer()
        self.assertEqual((peer.host, peer.port), client.getsockname())
        self.assertEqual(len(self.worker.connections.live), 1)
        count = self.count()
        self.assertEqual((count["accepted"], count["waiting"]), (1, 0))
        self.assertEqual((count["routes"], count["refusals"]), ({"NEW": 1}, []))
        self.assertEqual(self.load()["taken"], 0)

    def test_turn(self) -> None:
        """Four connections are accepted in one turn of the reactor, so that others get theirs."""
        for _ in range(6):
            self.client(get())
        self.reactor.turn()
        (acceptor,) = self.worker.listening.acceptors
        self.assertEqual(acceptor.accepted, 4)

    def adopts(self, **fields: Any) -> bool:
        """Whether a connection that brings no bytes is served at once."""
        adopted = mock.Mock()
        self.worker.listening._adopt = adopted
        server, _ = map(self.owned, socket.socketpair())
        handoff = Handoff(family=socket.AF_UNIX, origin=Origin(("192.0.2.7", 1)), **fields)
        self.worker.listening.take(server, handoff)
        return bool(adopted.call_count)

    def test_idle(self) -> None:
        """An idle connection waits for its next request; a WebSocket without bytes does not."""
        self.assertEqual([self.adopts(), self.adopts(replay=mock.Mock())], [False, True])

    def test_idle_while_leaving(self) -> None:
        """An idle connection that comes to a worker that leaves is served at once."""
        self.worker.listening.stop(False)
        self.assertTrue(self.adopts())

    def test_silent(self) -> None:
        """A silent connection that is given up is closed at once."""
        server, _ = map(self.owned, socket.socketpair())
        listening = self.worker.listening
        with mock.patch.object(listening.reception, "take_silent") as take:
            take.return_value = [Arrival(server, Origin(("192.0.2.7", 1)))]
            listening.give_up_silent()
        self.assertEqual(server.fileno(), -1)

    def test_new_session(self) -> None:
        """A session that begins is served here, from its first byte on."""
        self.assertEqual(self.answer(self.client(get("/?EIO=4"))), OK)

    def test_ours(self) -> None:
        """What is pinned here is served here."""
        self.assertEqual(self.answer(self.client(get(f"/?sid={self.tag(2)}"))), OK)
        self.assertEqual(self.count()["routes"], {"TAG": 1})

    def test_anothers(self) -> None:
        """What is pinned to another worker goes straight into its mailbox."""
        request = get(f"/?sid={self.tag(3)}") + b"and more"
        client = self.client(request)
        handoff = self.given(3)
        self.assertEqual((handoff.prefix, handoff.origin.peer), (request, client.getsockname()))
        self.assertEqual((handoff.how, handoff.hops), (How.TAG, 1))
        self.assertEqual((handoff.reserved, handoff.fresh), (False, False))
        self.boxes[3].got[0][0].send(b"there")
        self.assertEqual(self.answer(client), b"there")
        self.assertEqual((self.worker.connections.live, self.serving.protocols), ({}, []))
        self.assertEqual((self.count()["routes"], self.load()["given"]), ({"TAG": 1}, 1))

    def test_no_copy_stays(self) -> None:
        """Nothing of a connection that was given away stays open here."""
        self.client(get(f"/?sid={self.tag(3)}"))
        self.given(3)
        self.boxes[3].got[0][0].close()
        self.assertFalse(is_open(self.boxes[3].got[0][0].fileno()))

    def test_stranger(self) -> None:
        """If the other worker's mailbox is not known here the front desk gets the connection."""
        self.worker.outbox.boxes.pop(3).loseConnection()
        self.client(get(f"/?sid={self.tag(3)}"))
        self.given(FRONT_DESK)
        self.assertEqual(self.count()["routes"], {})

    def test_bound_meanwhile(self) -> None:
        """A binding that is in the channel by then is known."""
        self.reactor.removeReader(self.worker.channel)
        self.primary.sendall(encode(Kind.BIND, b"3 key"))
        self.client(get("/?sid=key"))
        self.assertEqual(self.given(3).how, How.HIT)

    def test_slow_head(self) -> None:
        """A head may come in pieces."""
        client = self.client()
        for byte in get(f"/?sid={self.tag(3)}"):
            client.send(bytes([byte]))
            self.reactor.settle()
        self.assertEqual(self.given(3).prefix, get(f"/?sid={self.tag(3)}"))

    def test_waiting(self) -> None:
        """As long as its head does not come, a connection is counted as waiting."""
        self.client(b"GET /")
        self.until(lambda: self.worker.listening.reception.waiting)
        self.assertEqual(self.count()["waiting"], 1)

    def test_refused(self) -> None:
        """What makes no sense is refused as by the primary, and counted."""
        client = self.client(b"nonsense\r\n")
        self.assertTrue(self.answer(client).startswith(b"HTTP/1.1 400 "))
        self.assertEqual(self.count()["refusals"], [[400, 1]])

    def test_too_late(self) -> None:
        """A head that does not come in time is refused, too."""
        client = self.client(b"GET /")
        self.until(lambda: self.worker.listening.reception.waiting)
        self.reactor.advance(self.config.head_timeout)
        self.assertTrue(self.answer(client).startswith(b"HTTP/1.1 408 "))

    def test_application_fails(self) -> None:
        """A connection over which the application fails is closed; the next one is served."""
        real = self.serving.factory.buildProtocol
        self.serving.factory.buildProtocol = mock.Mock(side_effect=[ZeroDivisionError, real(None)])
        bad = self.client(get())
        self.until(lambda: ended(bad))
        self.assertEqual(self.answer(self.client(get())), OK)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class OtherTests(ListeningCase):
    """What is not HTTP."""

    options = {"sticky": "auto"}

    def prepare(self) -> None:
        self.serving.http = False

    def test_speaks_first(self) -> None:
        """A server that speaks first need not wait for its client."""

        class Greeter(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"hello")

        self.serving.factory.buildProtocol = lambda address: Greeter()
        self.open()
        self.assertEqual(self.answer(self.client()), b"hello")


class AddressTests(ListeningCase):
    """Keys that are addresses."""

    options = {"sticky": "ip"}

    def test_by_address(self) -> None:
        """Every worker says the same of an address: it is served where it belongs."""
        self.open()
        verdict = self.worker.connections.policy.whose(None, "127.0.0.1")
        client = self.client(get())
        if isinstance(verdict, Give):
            self.assertEqual(self.given(verdict.worker).how, verdict.how)
        else:
            self.assertEqual((verdict, self.answer(client)), (Keep(How.HASH), OK))


class ProxyTests(ListeningCase):
    """The PROXY protocol."""

    options = {"proxy_protocol": True}

    def setUp(self) -> None:
        super().setUp()
        self.open()

    def given_back(self) -> Arrival:
        """Wait until a connection is given back; returns it as the primary gets it."""
        handoff = self.given(FRONT_DESK)
        return arrival_of(self.boxes[FRONT_DESK].got[0][0], handoff)

    def test_named(self) -> None:
        """The header names the client, and is not the application's."""
        self.assertEqual(self.answer(self.client(PROXY + get())), OK)
        protocol = self.serving.protocols[0]
        self.assertEqual((protocol.got, protocol.transport.getPeer().port), ([get()], 4711))

    def test_given(self) -> None:
        """Another worker gets the connection with the name, and without the header."""
        self.client(PROXY + get(f"/?sid={self.tag(3)}"))
        handoff = self.given(3)
        self.assertEqual(handoff.origin.peer, ("203.0.113.9", 4711))
        self.assertTrue(handoff.prefix.startswith(b"GET "))

    def test_half_a_header(self) -> None:
        """A connection given back before its header is complete is received as a new one."""
        self.client(PROXY[:9])
        self.until(lambda: self.worker.listening.reception.waiting)
        self.drain()
        arrival = self.given_back()
        self.assertEqual((arrival.data, arrival.proxied, arrival.hops), (PROXY[:9], False, 0))

    def test_half_a_head(self) -> None:
        """A connection given back behind its header is received as one whose header was read."""
        self.client(PROXY + b"GET /")
        self.until(lambda: self.worker.listening.reception.waiting)
        self.drain()
        arrival = self.given_back()
        self.assertEqual((arrival.data, arrival.proxied), (b"GET /", True))
        self.assertEqual(arrival.origin.peer, ("203.0.113.9", 4711))


class LeaveTests(ListeningCase):
    """The end."""

    def setUp(self) -> None:
        super().setUp()
        self.open()

    def closed(self) -> bool:
        """Whether no process accepts any more."""
        return [acceptor.fileno() for acceptor in self.worker.listening.acceptors] == [-1]

    def test_draining(self) -> None:
        """A worker that drains accepts no more; what comes then waits for the next that accepts."""
        self.drain()
        self.assertTrue(self.closed())
        client = self.client(get())
        self.reactor.settle()
        self.assertIsNone(received(client))
        self.listener.accept()[0].close()

    def test_half_a_head(self) -> None:
        """A client with half a head goes to the front desk, with what it said."""
        half, silent = self.client(b"GET / HT"), self.client()
        self.until(lambda: self.worker.listening.reception.waiting == 2)
        self.drain()
        self.given(FRONT_DESK, 2)
        arrivals = [arrival_of(sock, handoff) for sock, handoff in self.boxes[FRONT_DESK].got]
        found = {arrival.origin.peer: arrival for arrival in arrivals}
        self.assertEqual(found[half.getsockname()].data, b"GET / HT")
        self.assertEqual(found[silent.getsockname()].data, b"")
        self.assertEqual({(a.idle, a.hops) for a in arrivals}, {(False, 0)})
        self.assertEqual(self.worker.listening.reception.waiting, 0)

    def test_final(self) -> None:
        """When the cluster stops, clients in the backlog are served; then the socket is closed."""
        self.reactor.removeReader(self.worker.listening.acceptors[0])
        self.serving.waits = True
        client = self.client(get())
        self.drain(final=True)
        self.assertTrue(self.closed())
        self.serving.protocols[0].transport.write(OK)
        self.assertEqual(self.answer(client), OK)
        self.until(lambda: ended(client))

    def come_again(self, address: object) -> Inner:
        """Serve a client that comes again at once."""
        protocol = Inner()
        self.serving.protocols.append(protocol)
        if len(self.serving.protocols) < 50:
            self.client(get())
        return protocol

    def test_final_and_they_come_again(self) -> None:
        """A client that comes again as soon as it is served is not served for ever."""
        self.patch(accepting, "shut", lambda sock: None)  # as where no door can be shut
        self.serving.factory.buildProtocol = self.come_again
        self.reactor.removeReader(self.worker.listening.acceptors[0])
        for _ in range(3):
            self.client(get())
        self.drain(final=True)
        self.assertEqual(len(self.serving.protocols), 3)
        while select.select([self.listener], [], [], 0)[0]:
            self.listener.accept()[0].close()

    def test_final_and_one_fails(self) -> None:
        """If the application fails over one of the last clients, the others are served."""
        real = self.serving.factory.buildProtocol
        self.serving.factory.buildProtocol = mock.Mock(side_effect=[ZeroDivisionError, real(None)])
        self.reactor.removeReader(self.worker.listening.acceptors[0])
        bad, good = self.client(get()), self.client(get())
        self.drain(final=True)
        self.assertEqual(self.answer(good), OK)
        self.until(lambda: ended(bad))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def told_over_a_connection(self, final: bool) -> None:
        """Have a worker learn that it is to leave while it looks whose a connection is."""
        self.reactor.removeReader(self.worker.channel)
        self.primary.sendall(encode_json(Kind.DRAIN, seconds=30.0, final=final))
        clients = [self.client(get(f"/?sid=unknown{number}")) for number in range(3)]
        self.until(self.closed)
        self.reactor.settle()
        self.assertEqual((self.flushLoggedErrors(), len(clients)), ([], 3))
        while select.select([self.listener], [], [], 0)[0]:
            self.listener.accept()[0].close()

    def test_told_over_a_connection(self) -> None:
        """A worker may learn that it is to leave from what it reads to route a connection."""
        self.told_over_a_connection(final=False)

    def test_told_over_a_connection_that_all_stop(self) -> None:
        """A worker may learn over a connection that the whole cluster stops."""
        self.told_over_a_connection(final=True)

    def test_final_half_a_head(self) -> None:
        """A client whose head is complete before the worker goes is served as well."""
        self.serving.waits = True
        stays = self.client(get())
        half = self.client(b"GET / HT")
        self.until(lambda: self.worker.connections.live and self.worker.listening.reception.waiting)
        self.drain(final=True)
        self.serving.waits = False
        half.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(self.answer(half), OK)
        self.until(lambda: ended(half))
        self.serving.protocols[0].transport.write(OK)
        self.assertEqual(self.answer(stays), OK)

    def test_final_silent(self) -> None:
        """When the cluster stops, a silent client may ask for a moment, and is served."""
        silent = self.client()
        self.until(lambda: self.worker.listening.reception.waiting)
        self.drain(final=True)
        self.assertTrue(self.reactor.running)
        silent.send(get())
        self.assertEqual(self.answer(silent), OK)
        self.until(lambda: ended(silent))
        self.assertFalse(self.reactor.running)

    def test_final_silent_for_long(self) -> None:
        """A silent client that does not ask in that moment is closed, and the worker leaves."""
        silent = self.client()
        self.until(lambda: self.worker.listening.reception.waiting)
        self.drain(final=True)
        self.reactor.advance(NEXT_REQUEST)
        self.until(lambda: ended(silent))
        self.beat(LOOK)
        self.assertFalse(self.reactor.running)

    def test_final_half_a_head_for_long(self) -> None:
        """A client that has begun its head has the time that any head has."""
        half = self.client(b"GET / HT")
        self.until(lambda: self.worker.listening.reception.waiting)
        self.drain(final=True)
        self.reactor.advance(NEXT_REQUEST)
        half.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(self.answer(half), OK)

    def test_final_and_the_door(self) -> None:
        """No connection begins at the socket any more, though it is open elsewhere."""
        self.drain(final=True)
        late = self.owned(socket.socket())
        late.setblocking(False)
        late.connect_ex(self.address)
        self.assertEqual(select.select([self.listener], [late], [], 0.1), ([], [], []))

    def test_primary_dies(self) -> None:
        """When the primary has died, a worker serves its clients, and closes its socket."""
        self.patch(os, "dup2", mock.Mock())
        self.reactor.removeReader(self.worker.listening.acceptors[0])
        client = self.client(get())
        self.boxes[FRONT_DESK].close()
        self.primary.close()
        self.assertEqual(self.answer(client), OK)
        self.assertTrue(self.closed())
        self.until(lambda: ended(client))
        self.beat(2 * HEARTBEAT)
        self.assertFalse(self.reactor.running)


class PressureTests(ListeningCase):
    """Short of descriptors."""

    def test_room(self) -> None:
        """Idle connections make room, and then accepting goes on."""
        self.open()
        clients = [self.client(get()) for _ in range(3)]
        for client in clients:
            self.assertEqual(self.answer(client), OK)
        late = self.client(get())
        with no_descriptors_left():
            self.reactor.turn()
            self.until(lambda: any(ended(client) for client in clients))
            self.assertTrue(self.worker.listening.short)
        self.reactor.advance(RESPITE)
        self.assertEqual(self.answer(late), OK)
        self.assertFalse(self.worker.listening.short)


class NoneTests(WorkerCase):
    """A worker without sockets."""

    def test_fresh(self) -> None:
        """What the primary gives it before the first request is whole is received here."""
        self.begin()
        client = self.hand(b"GET / HT", fresh=True)
        self.until(lambda: self.worker.listening.awaited)
        self.drain(final=True)
        client.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        got: list[bytes | None] = []
        self.until(lambda: got.append(received(client)) or got[-1])
        self.assertEqual((got[-1], self.serving.protocols[0].got[0][:9]), (OK, b"GET / HTT"))

    def test_fresh_and_anothers(self) -> None:
        """A fresh hand-off is given away if it turns out to be another worker's."""
        self.begin()
        client = self.hand(b"", fresh=True)
        self.until(lambda: self.worker.listening.awaited)
        self.drain(final=True)
        client.send(get(f"/?sid={self.tag(3)}"))
        self.until(lambda: self.boxes[3].read())
        self.assertEqual(self.boxes[3].read()[-1].how, How.TAG)

    def test_report(self) -> None:
        """A worker without sockets reports nothing of listening."""
        self.begin()
        self.assertNotIn("entrance", self.load())
