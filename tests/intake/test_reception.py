"""The peek: what is read, waited for, refused and given up before a connection is anybody's."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from typing import Any
from unittest import mock

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.shells import ShellCase, ended, is_open, no_descriptors_left, received
from txsticky.config import Config
from txsticky.core.http.head import Head
from txsticky.core.http.refusal import LINGER
from txsticky.intake.acceptor import BATCH, RESPITE, Acceptor
from txsticky.intake.arrival import Arrival
from txsticky.intake.expectations import Expectations, expectations_for
from txsticky.intake.reception import Reception
from txsticky.system.deadlines import Deadlines
from txsticky.testing import FakeSystem

GET = b"GET /chat?sid=1 HTTP/1.1\r\nHost: example\r\n\r\n"
PROXY = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n"
PROXY_2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"
    + bytes([203, 0, 113, 9, 192, 0, 2, 1])
    + struct.pack("!HH", 4711, 80)
    + b"\x04\0\x01x"
)


@attrs.define
class Limits:
    """What the operator allows."""

    head_timeout: float = 10.0
    head_limit: int = 4096
    keep_alive: float = 60.0


class PeekCase(ShellCase):
    """
    A reception, and what it placed.

    :ivar placed: the arrivals that can be handed off.
    """

    def setUp(self) -> None:
        super().setUp()
        self.system = FakeSystem(reactor=self.reactor)
        self.placed: list[Arrival] = []
        self.reception = Reception(self.system, Limits(), self.place)
        self.addCleanup(self.close)

    def place(self, arrival: Arrival) -> None:
        """Take an arrival."""
        self.placed.append(arrival)

    def expect(self, **fields: Any) -> None:
        """Change what clients are expected to send."""
        self.reception.expectations = attrs.evolve(self.reception.expectations, **fields)

    def close(self) -> None:
        """Give up what is here."""
        for arrival in self.placed:
            arrival.sock.close()
        self.reception.close()
        self.assertEqual(self.reactor.getReaders() + self.reactor.getWriters(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def arrive(self, data: bytes = b"", **fields: object) -> socket.socket:
        """Have a connection arrive with some bytes read; returns the client's end."""
        server, client = self.pair()
        peer = fields.pop("peer", ("192.0.2.7", 50000))
        self.arrival = Arrival(server, peer, data=data, **fields)  # type: ignore[arg-type]
        self.reception.receive(self.arrival)
        return client

    def say(self, client: socket.socket, data: bytes) -> None:
        """Send something, and let it be looked at."""
        client.sendall(data)
        self.reactor.settle()

    def status(self, client: socket.socket) -> int:
        """The status of the one response that a client has got, which has to be complete."""
        data = received(client) or b""
        self.assertTrue(ended(client), "the response is not the end")
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        self.assertEqual(int(fields["content-length"]), len(body))
        self.assertEqual(fields["connection"], "close")
        self.assertIn("date", fields)
        found = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z ]+", lines[0])
        assert found is not None, lines[0]
        return int(found[1])

    def watched(self) -> int:
        """How many descriptors the reactor watches."""
        return len({*self.reactor.getReaders(), *self.reactor.getWriters()})


class WaitTests(PeekCase):
    """What is waited for."""

    def test_whole_head(self) -> None:
        """A connection that brings its head is placed at once; the reactor never hears of it."""
        self.arrive(GET)
        self.assertEqual(self.placed, [self.arrival])
        self.assertEqual(self.watched(), 0)
        assert self.arrival.head is not None
        self.assertEqual(self.arrival.head.target, b"/chat?sid=1")

    def test_bytes_behind_the_head(self) -> None:
        """What was read behind the head stays with the arrival."""
        self.arrive(GET + b"body and more")
        self.assertEqual(self.placed[0].data, GET + b"body and more")

    def test_half_a_head(self) -> None:
        """Half a head waits for the other half; all bytes arrive in order, once."""
        client = self.arrive(GET[:20])
        self.assertEqual((self.placed, self.reception.waiting), ([], 1))
        self.say(client, GET[20:] + b"body")
        self.assertEqual([arrival.data for arrival in self.placed], [GET + b"body"])

    def test_nothing_yet(self) -> None:
        """A silent connection waits for its first byte."""
        client = self.arrive()
        self.assertEqual(self.placed, [])
        self.say(client, GET)
        self.assertEqual([arrival.data for arrival in self.placed], [GET])

    def test_unregistered_before_it_leaves(self) -> None:
        """When a connection is placed, nothing watches it, and no deadline counts."""
        watched = []
        self.reception.place = lambda arrival: watched.append(self.watched()) or self.place(arrival)
        client = self.arrive(GET[:20])
        self.say(client, GET[20:])
        self.assertEqual((watched, self.reception.waiting), ([0], 0))

    def test_read_once(self) -> None:
        """Behind a complete head nothing more is read: the rest is for the worker to read."""
        client = self.arrive(GET[:20])
        client.sendall(GET[20:])
        self.reactor.turn()
        client.sendall(b"body")
        self.reactor.settle()
        self.assertEqual(self.placed[0].data, GET)
        self.assertEqual(self.placed[0].sock.recv(100), b"body")

    def test_drip(self) -> None:
        """A head that comes byte by byte is placed with its last byte, and not before."""
        client = self.arrive()
        for number in range(len(GET)):
            self.assertEqual(self.placed, [])
            self.say(client, GET[number : number + 1])
        self.assertEqual(self.placed[0].data, GET)

    def test_called_for_nothing(self) -> None:
        """If the reactor calls though nothing has come, the connection waits on."""
        client = self.arrive(GET[:20])
        (peek,) = self.reactor.getReaders()
        peek.doRead()
        self.assertEqual((self.reception.waiting, ended(client)), (1, False))
        self.say(client, GET[20:])
        self.assertEqual(self.placed[0].data, GET)

    def test_client_leaves(self) -> None:
        """A client that goes away before its head is complete leaves nothing behind."""
        for data in (b"", GET[:20]):
            client = self.arrive(data)
            client.close()
            self.reactor.settle()
            self.assertFalse(is_open(self.arrival.sock.fileno()) if data else False)
        self.assertEqual((self.watched(), self.reception.waiting, self.placed), (0, 0, []))
        self.assertEqual(self.arrival.sock.fileno(), -1)

    def test_client_resets(self) -> None:
        """So does one that resets the connection."""
        server, client = self.connected()
        self.reception.receive(Arrival(server, ("192.0.2.7", 1), data=GET[:20]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.until(lambda: not self.reception.waiting)
        self.assertEqual((server.fileno(), self.watched()), (-1, 0))

    def test_reactor_loses_it(self) -> None:
        """A descriptor that the reactor gives up is closed."""
        self.arrive()
        (peek,) = self.reactor.getReaders()
        peek.connectionLost(None)
        self.assertEqual((self.arrival.sock.fileno(), self.reception.waiting), (-1, 0))

    def test_take_waiting(self) -> None:
        """All who wait can be taken out, with what they have said; nothing stays registered."""
        self.arrive(GET[:5])
        first = self.arrival
        self.arrive(b"", hops=1, idle=True)
        self.arrive(b"garbage\0")  # this one is refused, not waiting
        taken = self.reception.take_waiting()
        self.addCleanup(lambda: [arrival.sock.close() for arrival in taken])
        self.assertEqual([arrival.data for arrival in taken], [GET[:5], b""])
        self.assertIs(taken[0], first)
        self.assertEqual((self.reception.waiting, self.watched()), (0, 1))

    def test_close(self) -> None:
        """Everything that waits here can be closed."""
        clients = [self.arrive(), self.arrive(GET[:5]), self.arrive(b"", hops=1, idle=True)]
        self.reception.close()
        self.assertEqual([ended(client) for client in clients], [True] * 3)
        self.assertEqual((self.watched(), self.reactor.getDelayedCalls()), (0, []))


class ExpectationsTests(PeekCase):
    """What clients are expected to say first."""

    def test_server_speaks_first(self) -> None:
        """Where nothing is expected, a silent connection is placed at once."""
        self.reception.expectations = Expectations(waits=False, parses=False, only_http=False)
        self.arrive()
        self.assertEqual(self.placed, [self.arrival])

    def test_any_bytes(self) -> None:
        """Where bytes are expected but no head, the first of them do."""
        self.reception.expectations = Expectations(waits=True, parses=False, only_http=False)
        client = self.arrive()
        self.assertEqual(self.placed, [])
        self.say(client, b"\x16\x03\x01")
        self.assertEqual([(a.data, a.head) for a in self.placed], [(b"\x16\x03\x01", None)])

    def test_no_http(self) -> None:
        """Where it need not be HTTP, what cannot be is placed without a head, not refused."""
        self.reception.expectations = Expectations(only_http=False)
        self.arrive(b"HELO example\r\n")
        self.assertEqual([(a.data, a.head) for a in self.placed], [(b"HELO example\r\n", None)])

    def test_http_all_the_same(self) -> None:
        """There, a head is still found, and waited for while the bytes may become one."""
        self.reception.expectations = Expectations(only_http=False)
        client = self.arrive(GET[:20])
        self.assertEqual(self.placed, [])
        self.say(client, GET[20:])
        self.assertIsInstance(self.placed[0].head, Head)

    def test_no_http_and_no_more(self) -> None:
        """There, what the client said before it closed its side is placed as it is."""
        self.reception.expectations = Expectations(only_http=False)
        client = self.arrive(b"hello")
        client.shutdown(socket.SHUT_WR)
        self.reactor.settle()
        self.assertEqual([(a.data, a.head) for a in self.placed], [(b"hello", None)])
        self.assertEqual((self.watched(), self.reception.waiting), (0, 0))

    def test_no_http_in_time(self) -> None:
        """There, what has not become a head in time is placed as it is."""
        self.reception.expectations = Expectations(only_http=False)
        client = self.arrive(b"hello")
        self.reactor.advance(10)
        self.assertEqual([(a.data, a.head) for a in self.placed], [(b"hello", None)])
        self.assertIsNone(received(client))

    def test_silence_where_bytes_are_expected(self) -> None:
        """Who says nothing at all in time is closed, there too."""
        self.reception.expectations = Expectations(only_http=False)
        client = self.arrive()
        self.reactor.advance(10)
        self.assertEqual((self.placed, ended(client)), ([], True))


class ExpectationsForTests(SynchronousTestCase):
    """What clients are expected to say first, by the configuration."""

    def expectations(
        self, http: bool | None, needs_head: bool = True, **options: Any
    ) -> Expectations:
        """The expectations of a cluster."""
        return expectations_for(Config(**options), needs_head, http)

    def test_http(self) -> None:
        """HTTP: a head, and nothing else."""
        expectations = self.expectations(True)
        self.assertEqual(
            (expectations.waits, expectations.parses, expectations.only_http), (True, True, True)
        )

    def test_unknown(self) -> None:
        """As long as nobody knows what it is: a head if there is one."""
        expectations = self.expectations(None)
        self.assertEqual(
            (expectations.waits, expectations.parses, expectations.only_http), (True, True, False)
        )

    def test_other(self) -> None:
        """Something else: nothing, unless a key is asked for that a head would have."""
        self.assertFalse(self.expectations(False).waits)
        self.assertTrue(self.expectations(False, sticky="cookie:a").waits)
        self.assertFalse(self.expectations(False, needs_head=False, sticky="ip").waits)

    def test_tls(self) -> None:
        """TLS: bytes, but no head in them."""
        expectations = self.expectations(True, tls_cert=["a"], tls_key=["b"])
        self.assertEqual((expectations.waits, expectations.parses), (True, False))

    def test_proxies(self) -> None:
        """PROXY headers: from trusted proxies, or this host if none are named; else from nobody."""
        self.assertIsNone(self.expectations(True).proxies)
        for trusted, host in (("", "127.0.0.1"), ("192.0.2.0/24", "192.0.2.7")):
            proxies = self.expectations(
                True, proxy_protocol=True, forwarded_allow_ips=trusted
            ).proxies
            assert proxies is not None
            self.assertEqual((proxies(host), proxies("203.0.113.9")), (True, False))


class ProxyTests(PeekCase):
    """The PROXY protocol."""

    def setUp(self) -> None:
        super().setUp()
        self.expect(proxies=lambda host: host == "192.0.2.7")

    def test_names_the_client(self) -> None:
        """The header names the client, and is taken off the bytes; versions 1 and 2."""
        for header in (PROXY, PROXY_2):
            self.arrive(header + GET)
            self.assertEqual(self.arrival.peer, ("203.0.113.9", 4711))
            self.assertEqual(self.arrival.data, GET)
        self.assertEqual(len(self.placed), 2)

    def test_unknown(self) -> None:
        """A proxy that does not name the client leaves the connection's own address."""
        self.arrive(b"PROXY UNKNOWN\r\n" + GET)
        self.assertEqual((self.arrival.peer, self.arrival.data), (("192.0.2.7", 50000), GET))

    def test_drip(self) -> None:
        """Header and head may come byte by byte."""
        client = self.arrive()
        for byte in PROXY + GET:
            self.assertEqual(self.placed, [])
            self.say(client, bytes([byte]))
        self.assertEqual((self.arrival.peer, self.arrival.data), (("203.0.113.9", 4711), GET))

    def test_missing(self) -> None:
        """Who has to send one and does not is refused."""
        self.assertEqual(self.status(self.arrive(GET)), 400)

    def test_malformed(self) -> None:
        """A header that is none is refused."""
        self.assertEqual(self.status(self.arrive(b"PROXY TCP4 nonsense\r\n" + GET)), 400)

    def test_others(self) -> None:
        """From a peer that is no proxy it is not expected, and not taken: it is bad HTTP."""
        self.arrive(GET, peer=("198.51.100.1", 1))
        self.assertEqual(len(self.placed), 1)
        client = self.arrive(PROXY + GET, peer=("198.51.100.1", 1))
        self.assertEqual((len(self.placed), self.status(client)), (1, 400))

    def test_second_header(self) -> None:
        """Only one header is taken: another one would be the client's own, and is bad HTTP."""
        self.assertEqual(self.status(self.arrive(PROXY + PROXY + GET)), 400)

    def test_given_back(self) -> None:
        """A connection that has moved is not asked for it again."""
        self.arrive(GET, hops=1)
        self.assertEqual(self.placed[0].peer, ("192.0.2.7", 50000))

    def test_alone(self) -> None:
        """Behind the header the head is still waited for."""
        client = self.arrive(PROXY)
        self.assertEqual(self.placed, [])
        self.say(client, GET)
        self.assertEqual(self.placed[0].data, GET)

    def test_server_speaks_first(self) -> None:
        """Where nothing is expected of the client, the header alone will do."""
        self.expect(waits=False, parses=False)
        client = self.arrive()
        self.assertEqual(self.placed, [])
        self.say(client, PROXY)
        self.assertEqual([(a.peer[0], a.data) for a in self.placed], [("203.0.113.9", b"")])

    def test_half_a_header_and_no_more(self) -> None:
        """Half a header is never taken for the client's bytes, whatever the application speaks."""
        self.expect(only_http=False)
        client = self.arrive(PROXY[:9])
        client.shutdown(socket.SHUT_WR)
        self.reactor.settle()
        self.assertEqual((self.placed, ended(client)), ([], True))
        client = self.arrive(PROXY[:9])
        self.reactor.advance(10)
        self.assertEqual((self.placed, self.status(client)), ([], 408))


class RefusalTests(PeekCase):
    """What is refused, and how."""

    def test_statuses(self) -> None:
        """Each kind of nonsense has its status, in a complete response."""
        for data, status in (
            (b"GET /\r\n", 400),
            (b"\0\0\0\0", 400),
            (b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nHost: x\n\n", 400),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (b"GET / HTTP/1.1\r\nA: " + b"b" * 5000, 431),
        ):
            self.assertEqual(self.status(self.arrive(data)), status, data[:20])
        self.assertEqual(self.placed, [])
        self.assertEqual(self.reception.refusals, {400: 5, 505: 1, 431: 1})

    def test_called_for_nothing(self) -> None:
        """If the reactor calls though nothing has come, the refusal's time to be read goes on."""
        self.arrive(b"\0\0\0\0")
        (lingerer,) = self.reactor.getReaders()
        lingerer.doRead()
        self.assertTrue(is_open(lingerer.fileno()))
        self.assertEqual(self.reactor.getReaders(), [lingerer])
        self.reactor.advance(LINGER)
        self.assertEqual((self.reactor.getReaders(), self.arrival.sock.fileno()), ([], -1))

    def test_before_the_head_is_complete(self) -> None:
        """A bad request line is refused at once: the rest of the head is not waited for."""
        client = self.arrive(GET[:4])
        self.say(client, b"/\r\n")
        self.assertEqual(self.status(client), 400)

    def test_head_request(self) -> None:
        """A HEAD request is refused without a body, but with the length that it would have."""
        client = self.arrive(GET.replace(b"GET", b"HEAD"))
        self.reception.refuse(self.placed.pop(), 503, "No worker is ready.")
        data = received(client) or b""
        self.assertIn(b"\r\nContent-Length: 20\r\n", data)
        self.assertTrue(data.endswith(b"\r\n\r\n"))

    def test_linger(self) -> None:
        """A refused client that goes on sending is not reset: it can read its refusal."""
        server, client = self.connected()
        self.reception.receive(Arrival(server, ("192.0.2.7", 1), data=b"BAD\r\n"))
        for _ in range(20):
            client.sendall(bytes(50_000))
            self.reactor.turn()
        self.assertEqual(self.status(client), 400)
        client.close()
        self.until(lambda: not self.watched())
        self.assertEqual(server.fileno(), -1)

    def test_linger_ends(self) -> None:
        """A client that never closes is closed after a while, however busy it is."""
        client = self.arrive(b"BAD\r\n")
        self.reactor.advance(LINGER / 2)
        self.say(client, b"more")
        self.assertEqual(self.watched(), 1)
        self.reactor.advance(LINGER / 2)
        self.assertEqual((self.watched(), self.arrival.sock.fileno()), (0, -1))

    def test_client_closes(self) -> None:
        """A refused client that closes is forgotten at once."""
        self.arrive(b"BAD\r\n").close()
        self.reactor.settle()
        self.assertEqual((self.watched(), self.arrival.sock.fileno()), (0, -1))

    def test_client_is_gone(self) -> None:
        """A client that has gone cannot be refused: its connection is closed."""
        server, client = self.pair()
        client.close()
        self.reception.refuse(Arrival(server, ("", 0)), 503, "No.")
        self.assertEqual((server.fileno(), self.watched()), (-1, 0))

    def test_behind_an_earlier_response(self) -> None:
        """On a connection that has moved, the refusal follows an earlier response, complete."""
        server, client = self.pair()
        sent = 0
        with self.assertRaises(BlockingIOError):
            while True:
                sent += server.send(bytes(10_000))
        self.reception.refuse(Arrival(server, ("", 0), hops=3), 503, "No.")
        client.shutdown(socket.SHUT_WR)  # and reads on
        got = b""
        while not ended(client):
            got += received(client) or b""
            self.reactor.turn()
        self.assertEqual(got[:sent], bytes(sent))
        head, _, body = got[sent:].partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 503 "))
        self.assertEqual(body, b"No.\n")
        self.reactor.settle()
        self.assertEqual((server.fileno(), self.watched()), (-1, 0))

    def test_behind_an_earlier_response_for_too_long(self) -> None:
        """A client that does not read is given up all the same."""
        server, _ = self.pair()
        with self.assertRaises(BlockingIOError):
            while True:
                server.send(bytes(10_000))
        self.reception.refuse(Arrival(server, ("", 0), hops=3), 503, "No.")
        self.reactor.settle()
        self.reactor.advance(LINGER)
        self.assertEqual((server.fileno(), self.watched()), (-1, 0))

    def test_turn_away(self) -> None:
        """Who cannot be served is refused with 503 and Retry-After."""
        client = self.arrive(GET)
        self.reception.turn_away(self.placed.pop(), "No worker is ready.", 1)
        self.assertEqual(self.status(client), 503)

    def test_turn_nonsense_away(self) -> None:
        """Nonsense gets the refusal that it would have got from a cluster that is ready."""
        self.expect(only_http=False)
        client = self.arrive(b"GET /\r\n")
        self.reception.turn_away(self.placed.pop(), "No worker is ready.", 1)
        self.assertEqual(self.status(client), 400)

    @settings(deadline=None, max_examples=50)
    @given(
        data=st.sampled_from(
            [
                GET + b"tail",
                b"\r\n" + GET,
                b"GET /\r\n\r\n",
                b"\x16\x03\x01\x02",
                b"GET / HTTP/1.1\r\nA: " + b"b" * 5000,
                PROXY + GET,
                PROXY_2 + GET,
            ]
        ),
        cuts=st.lists(st.integers(0, 5000), max_size=6),
        proxies=st.booleans(),
    )
    def test_any_pieces(self, data: bytes, cuts: list[int], proxies: bool) -> None:
        """However the bytes are cut, the verdict is the same, and no byte is lost or added."""
        self.expect(proxies=(lambda host: True) if proxies else None)
        verdicts = []
        for pieces in ([], sorted(min(cut, len(data)) for cut in cuts)):
            client = self.arrive()
            for begin, end in zip([0, *pieces], [*pieces, len(data)], strict=True):
                client.sendall(data[begin:end])
                self.reactor.settle()
            if self.placed:
                rest = received(self.placed[0].sock) or b""
                verdicts.append((self.arrival.peer, self.placed[0].data + rest))
                self.placed.pop().sock.close()
            else:
                verdicts.append((self.arrival.peer, self.status(client)))
            client.close()
        self.assertEqual(verdicts[0], verdicts[1])


class DeadlineTests(PeekCase):
    """How long is waited."""

    def test_nothing_sent(self) -> None:
        """Who says nothing in time is closed without a word."""
        client = self.arrive()
        self.reactor.advance(9.9)
        self.assertFalse(ended(client))
        self.reactor.advance(0.1)
        self.assertEqual((received(client), self.watched()), (b"", 0))

    def test_half_a_head(self) -> None:
        """Who sends half a head in time gets 408."""
        client = self.arrive(GET[:20])
        self.reactor.advance(9.9)
        self.assertIsNone(received(client))
        self.reactor.advance(0.1)
        self.assertEqual(self.status(client), 408)

    def test_drip(self) -> None:
        """Bytes that drip in do not prolong the time."""
        client = self.arrive(GET[:1])
        for number in range(1, 10):
            self.reactor.advance(1)
            self.say(client, GET[number : number + 1])
        self.reactor.advance(1)
        self.assertEqual(self.status(client), 408)

    def test_one_that_fails(self) -> None:
        """One that cannot be ended in its way is closed, and the others have theirs in time."""
        clients = [self.arrive(GET[:20]) for _ in range(3)]
        with mock.patch.object(
            self.reception, "refuse", side_effect=[ZeroDivisionError, mock.DEFAULT, mock.DEFAULT],
            wraps=self.reception.refuse,
        ):  # fmt: skip
            self.reactor.advance(10)
        self.assertEqual(received(clients[0]), b"")
        self.assertEqual([self.status(client) for client in clients[1:]], [408, 408])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_each_its_own(self) -> None:
        """Each connection has its own time, although one call serves all."""
        first = self.arrive()
        self.reactor.advance(4)
        second = self.arrive()
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(6)
        self.assertEqual((ended(first), ended(second)), (True, False))
        self.reactor.advance(4)
        self.assertTrue(ended(second))

    def test_ended_by_another(self) -> None:
        """One that is taken out over another whose time is over does not expire."""
        deadlines = Deadlines(self.system, 1.0)
        first, second = mock.Mock(), mock.Mock()
        first.expired.side_effect = lambda: (deadlines.discard(first), deadlines.discard(second))
        deadlines.add(first)
        deadlines.add(second)
        self.reactor.advance(1)
        self.assertEqual((first.expired.call_count, second.expired.call_count), (1, 0))

    def test_idle(self) -> None:
        """A connection given back between two requests is closed without a word when its time
        as an idle one is over."""
        client = self.arrive(b"", hops=1, idle=True)
        self.reactor.advance(59.9)
        self.assertFalse(ended(client))
        self.reactor.advance(0.1)
        self.assertEqual((received(client), self.watched()), (b"", 0))

    def test_idle_goes_on(self) -> None:
        """When its next request begins, that has the time of any head, and is placed."""
        client = self.arrive(b"", hops=1, idle=True)
        self.reactor.advance(55)
        self.say(client, GET[:20])
        self.reactor.advance(9.9)
        self.say(client, GET[20:])
        self.assertEqual([(a.data, a.hops) for a in self.placed], [(GET, 1)])

    def test_idle_goes_on_slowly(self) -> None:
        """If that head does not come in time, it gets 408, as any would."""
        client = self.arrive(b"", hops=1, idle=True)
        self.reactor.advance(5)
        self.say(client, GET[:20])
        self.reactor.advance(10)
        self.assertEqual(self.status(client), 408)

    def test_no_keep_alive(self) -> None:
        """Where idle connections are not kept, one is closed at once."""
        self.reception = Reception(self.system, Limits(keep_alive=0), self.place)
        client = self.arrive(b"", hops=1, idle=True)
        self.reactor.settle()
        self.assertTrue(ended(client))

    def test_shared_call(self) -> None:
        """Waiters that go one by one leave no call behind that spins; the rest keep theirs."""
        system = FakeSystem(reactor=self.reactor)
        deadlines = Deadlines(system, 10)
        waiters = [mock.Mock() for _ in range(3)]
        for waiter in waiters:
            waiter.expired.side_effect = lambda waiter=waiter: deadlines.discard(waiter)
            deadlines.add(waiter)
            self.reactor.advance(1)
        deadlines.discard(waiters[0])
        self.reactor.advance(7)
        self.assertEqual([w.expired.call_count for w in waiters], [0, 0, 0])
        self.reactor.advance(1)
        self.assertEqual([w.expired.call_count for w in waiters], [0, 1, 0])
        self.reactor.advance(1)
        self.assertEqual([w.expired.call_count for w in waiters], [0, 1, 1])
        self.assertEqual((len(deadlines), self.reactor.getDelayedCalls()), (0, []))

    def test_added_while_others_expire(self) -> None:
        """Who comes while the others' time ends has the whole time, and can be cleared."""
        deadlines = Deadlines(FakeSystem(reactor=self.reactor), 10)
        late, early, middle = mock.Mock(), mock.Mock(), mock.Mock()

        def expired() -> None:
            deadlines.discard(early)
            deadlines.add(late)

        early.expired.side_effect = expired
        deadlines.add(early)
        self.reactor.advance(5)
        deadlines.add(middle)
        self.reactor.advance(5)
        self.assertEqual((len(deadlines), len(self.reactor.getDelayedCalls())), (2, 1))
        deadlines.clear()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class EvictionTests(PeekCase):
    """When too many wait."""

    def test_oldest(self) -> None:
        """The one that has waited longest is given up for the newest."""
        self.reception.max_waiting = 2
        clients = [self.arrive(), self.arrive(), self.arrive()]
        self.assertEqual([ended(client) for client in clients], [True, False, False])
        self.assertEqual(self.reception.waiting, 2)

    def test_with_half_a_head(self) -> None:
        """If it had begun its request it is told so."""
        self.reception.max_waiting = 1
        client = self.arrive(GET[:20])
        self.arrive()
        self.assertEqual(self.status(client), 408)

    def test_idle(self) -> None:
        """Idle connections count and go as well."""
        self.reception.max_waiting = 1
        client = self.arrive(b"", hops=1, idle=True)
        self.arrive(b"", hops=1, idle=True)
        self.assertEqual((ended(client), self.reception.waiting), (True, 1))

    def test_nobody_to_give_up(self) -> None:
        """If nobody may wait, the newcomer is refused."""
        self.reception.max_waiting = 0
        self.assertEqual(self.status(self.arrive()), 503)

    def test_descriptor(self) -> None:
        """To free a descriptor, one that was refused already goes before one that waits."""
        waits = self.arrive(GET[:20])
        refused = self.arrive(b"BAD\r\n")
        refused_sock = self.arrival.sock
        self.reception.free_descriptors()
        self.assertEqual((refused_sock.fileno(), self.reception.waiting), (-1, 1))
        self.assertEqual(self.status(refused), 400)
        self.assertIsNone(received(waits))


class AcceptCase(PeekCase):
    """A listening socket."""

    family = socket.AF_INET

    def setUp(self) -> None:
        super().setUp()
        self.acceptor = Acceptor(self.listening(self.family), 3, self.reception)
        self.addCleanup(self.acceptor.close)
        self.acceptor.start()

    def client(self, data: bytes = b"") -> socket.socket:
        """Connect, and send something."""
        sock: socket.socket = self.owned(socket.socket(self.family))
        sock.settimeout(10)
        sock.connect(self.acceptor.sock.getsockname())
        sock.sendall(data)
        return sock

    def accept(self, number: int = 1) -> None:
        """Turn until so many more connections were accepted."""
        before = self.acceptor.accepted
        self.until(lambda: self.acceptor.accepted >= before + number)

    def place_all(self, number: int) -> None:
        """Turn until so many were placed."""
        self.until(lambda: len(self.placed) >= number)


class AcceptTests(AcceptCase):
    """Accepting."""

    def test_with_head(self) -> None:
        """A connection that brings its head is placed in the turn in which it is accepted."""
        client = self.client(GET)
        self.place_all(1)
        (arrival,) = self.placed
        self.assertEqual(arrival.peer, client.getsockname())
        self.assertEqual((arrival.data, arrival.listener, arrival.hops), (GET, 3, 0))
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_silent(self) -> None:
        """A silent one waits."""
        client = self.client()
        self.accept()
        self.assertEqual((self.placed, self.reception.waiting), ([], 1))
        client.sendall(GET)
        self.place_all(1)

    def test_not_inherited(self) -> None:
        """What is accepted is not inherited by children."""
        self.client(GET)
        self.place_all(1)
        self.assertFalse(os.get_inheritable(self.placed[0].sock.fileno()))

    def test_gone_before(self) -> None:
        """A client that has closed or reset before it was accepted leaves nothing behind."""
        self.client().close()
        reset = self.client(GET)
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset.close()
        self.accept(2)
        self.reactor.settle()
        for arrival in self.placed:
            arrival.sock.close()
        self.assertEqual(self.reception.waiting, 0)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_half_closed_behind_its_request(self) -> None:
        """A client that has sent its request and closed its side is placed: it wants an answer."""
        self.client(GET).shutdown(socket.SHUT_WR)
        self.place_all(1)
        self.assertEqual(self.placed[0].data, GET)

    def test_batch(self) -> None:
        """One turn accepts so many and no more."""
        self.acceptor.sock.listen(BATCH + 10)
        clients = [self.client(GET) for _ in range(BATCH + 5)]
        self.acceptor.doRead()
        self.assertEqual(self.acceptor.accepted, BATCH)
        self.place_all(len(clients))

    def test_smaller_batch(self) -> None:
        """Where each may be served at once, they are fewer."""
        acceptor = Acceptor(self.acceptor.sock.dup(), 3, self.reception, 2)
        self.addCleanup(acceptor.close)
        clients = [self.client(GET) for _ in range(5)]
        acceptor.doRead()
        self.assertEqual(acceptor.accepted, 2)
        self.place_all(len(clients))

    def test_stop(self) -> None:
        """Stopped, connections stay in the kernel's backlog until it starts again."""
        self.acceptor.stop()
        self.client(GET)
        self.reactor.settle()
        self.assertEqual(self.acceptor.accepted, 0)
        self.acceptor.start()
        self.place_all(1)

    def test_close(self) -> None:
        """Closed, nobody can connect any more; a second time it does nothing."""
        address = self.acceptor.sock.getsockname()
        self.acceptor.close()
        self.acceptor.close()
        with self.assertRaises(ConnectionRefusedError):
            self.owned(socket.socket()).connect(address)
        self.assertEqual(self.reactor.getReaders(), [])

    def test_defer(self) -> None:
        """The kernel can be told to hold silent connections back, or no longer."""
        option = (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
        self.acceptor.defer(True)
        self.assertGreater(self.acceptor.sock.getsockopt(*option), 0)
        self.acceptor.defer(False)
        self.assertEqual(self.acceptor.sock.getsockopt(*option), 0)

    def test_one_that_cannot_be_dealt_with(self) -> None:
        """A connection over which something fails is closed and logged; the others are served."""
        self.reception.place = mock.Mock(side_effect=[ZeroDivisionError, None])
        bad, _ = self.client(GET), self.client(GET)
        self.until(lambda: self.reception.place.call_count == 2)
        self.addCleanup(self.reception.place.call_args.args[0].sock.close)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.until(lambda: ended(bad))
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])


class IPv6AcceptTests(AcceptCase):
    """Accepting over IPv6."""

    family = socket.AF_INET6

    def test_peer(self) -> None:
        """The peer is host and port, without flow and scope."""
        client = self.client(GET)
        self.place_all(1)
        self.assertEqual(self.placed[0].peer, client.getsockname()[:2])
        self.assertEqual(self.placed[0].sock.family, socket.AF_INET6)


class MappedAcceptTests(PeekCase):
    """Accepting IPv4 clients on a socket that listens on `::`."""

    def test_peer(self) -> None:
        """The peer has its IPv4 name."""
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
        listener.listen()
        acceptor = Acceptor(listener, 0, self.reception)
        self.addCleanup(acceptor.close)
        acceptor.start()
        client = self.owned(socket.create_connection(("127.0.0.1", listener.getsockname()[1])))
        client.sendall(GET)
        self.until(lambda: self.placed)
        self.assertEqual(self.placed[0].peer, client.getsockname())


class UNIXAcceptTests(PeekCase):
    """Accepting on a UNIX socket."""

    def test_peer(self) -> None:
        """The peer has no name; TCP's options are left alone."""
        listener = socket.socket(socket.AF_UNIX)
        path = self.mktemp()
        listener.bind(path)
        listener.listen()
        acceptor = Acceptor(listener, 0, self.reception)
        self.addCleanup(acceptor.close)
        acceptor.defer(True)
        acceptor.start()
        client = self.owned(socket.socket(socket.AF_UNIX))
        client.connect(path)
        client.sendall(GET)
        self.until(lambda: self.placed)
        self.assertEqual(self.placed[0].peer, ("", 0))
        self.assertEqual(self.placed[0].sock.family, socket.AF_UNIX)


class ExhaustionTests(AcceptCase):
    """When the process is out of descriptors."""

    def rest(self) -> None:
        """Let the acceptor try once more."""
        self.reactor.advance(RESPITE)
        self.reactor.turn()

    def test_rest(self) -> None:
        """It neither spins nor closes: it rests, and goes on as soon as there is a descriptor."""
        self.client(GET)
        with no_descriptors_left():
            self.until(lambda: self.reactor.getReaders() == [])
            self.assertEqual(self.reactor.turn(), 0)
            self.rest()
            self.assertEqual(self.reactor.getReaders(), [])
        self.rest()
        self.place_all(1)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_room_cannot_be_made(self) -> None:
        """If making room fails, it goes on accepting all the same when there is a descriptor."""
        self.client(GET)
        with mock.patch.object(self.reception, "free_descriptors", side_effect=ZeroDivisionError):
            with no_descriptors_left():
                self.until(lambda: self.acceptor not in self.reactor.getReaders())
                self.rest()
            self.rest()
        self.place_all(1)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_silent_one_goes(self) -> None:
        """Who waits in silence for longest makes room for who has a request."""
        silent = [self.client(), self.client()]
        self.accept(2)
        self.client(GET)
        with no_descriptors_left():
            self.until(lambda: self.acceptor not in self.reactor.getReaders())
            self.rest()
            self.assertEqual(len(self.placed), 1)
        self.assertEqual([ended(client) for client in silent], [True, False])

    def test_half_a_head_goes(self) -> None:
        """Who has sent half a head does as well; no second one is given up before that helped."""
        slow = [self.client(GET[:20]), self.client(GET[:20])]
        self.accept(2)
        self.client(GET)
        with no_descriptors_left():
            self.until(lambda: self.acceptor not in self.reactor.getReaders())
            self.rest()
            self.rest()
            self.assertEqual(len(self.placed), 1)
        self.assertEqual([ended(client) for client in slow], [False, False])
        self.assertTrue((received(slow[0]) or b"").startswith(b"HTTP/1.1 408 "))
        self.assertIsNone(received(slow[1]))

    def test_stopped_while_it_rests(self) -> None:
        """Stopped while it rests, it does not come back by itself."""
        self.client(GET)
        with no_descriptors_left():
            self.until(lambda: self.reactor.getReaders() == [])
        self.acceptor.stop()
        self.reactor.advance(RESPITE)
        self.reactor.settle()
        self.assertEqual((self.acceptor.accepted, self.reactor.getDelayedCalls()), (0, []))

    def test_said_once(self) -> None:
        """The log says it once, not at every try."""
        with mock.patch("txsticky.intake.acceptor.log") as log:
            self.client(GET)
            with no_descriptors_left():
                self.until(lambda: self.reactor.getReaders() == [])
                self.rest()
        self.assertEqual(log.warn.call_count, 1)
        self.place_all(0)

    def test_aborted_connections(self) -> None:
        """An error that is one connection's own does not stop the others."""
        self.acceptor.sock.close()
        self.acceptor.sock = mock.Mock()
        self.acceptor.sock._accept.side_effect = [
            OSError(errno.ECONNABORTED, "aborted"),
            OSError(errno.EPERM, "firewall"),
            BlockingIOError(errno.EAGAIN, "nothing"),
        ]
        self.acceptor.doRead()
        self.assertEqual(self.acceptor.sock._accept.call_count, 3)
        self.assertEqual(self.reactor.getReaders(), [self.acceptor])

    def test_nobody_is_there(self) -> None:
        """At the limit nobody is given up, and no rest taken, while nobody wants to come in."""
        silent = self.client()
        self.accept()
        with no_descriptors_left():
            self.acceptor.doRead()
            self.assertIn(self.acceptor, self.reactor.getReaders())
        self.assertFalse(ended(silent))
