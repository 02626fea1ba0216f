"""Refused connections: what their clients get, and how long they linger."""

from __future__ import annotations

import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shells import ended, is_open, received
from txsticky.core.http.refusal import LINGER
from txsticky.core.messages.origin import NOWHERE, Origin
from txsticky.intake.arrival import Arrival

from .cases import GET, PROXY, PROXY_2, PeekCase


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
        self.reception.receive(Arrival(server, Origin(("192.0.2.7", 1)), data=b"BAD\r\n"))
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
        self.reception.refuse(Arrival(server, Origin(NOWHERE)), 503, "No.")
        self.assertEqual((server.fileno(), self.watched()), (-1, 0))

    def test_behind_an_earlier_response(self) -> None:
        """On a connection that has moved, the refusal follows an earlier response, complete."""
        server, client = self.pair()
        sent = 0
        with self.assertRaises(BlockingIOError):
            while True:
                sent += server.send(bytes(10_000))
        self.reception.refuse(Arrival(server, Origin(NOWHERE), hops=3), 503, "No.")
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
        self.reception.refuse(Arrival(server, Origin(NOWHERE), hops=3), 503, "No.")
        self.reactor.settle()
        self.reactor.advance(LINGER)
        self.assertEqual((server.fileno(), self.watched()), (-1, 0))

    def test_turn_away(self) -> None:
        """A client that cannot be served is refused with 503 and Retry-After."""
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
                verdicts.append((self.arrival.origin.peer, self.placed[0].data + rest))
                self.placed.pop().sock.close()
            else:
                verdicts.append((self.arrival.origin.peer, self.status(client)))
            client.close()
        self.assertEqual(verdicts[0], verdicts[1])
