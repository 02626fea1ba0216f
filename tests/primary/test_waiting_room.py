"""The waiting room: who waits, for how long, and who has gone meanwhile."""

from __future__ import annotations

import errno
import select
import socket
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import FakeSystem
from tests.shells import ShellCase, ended, received
from txsticky.core.http.head import Head, parse_head
from txsticky.core.messages.origin import Origin
from txsticky.intake.arrival import Arrival
from txsticky.primary.waiting_room import ASK, WaitingRoom

WAIT = 30.0
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class RoomCase(ShellCase):
    """A waiting room for four."""

    whole = False

    def setUp(self) -> None:
        super().setUp()
        self.system = FakeSystem(reactor=self.reactor)
        self.refused: list[tuple[Arrival, str]] = []
        self.late: list[Arrival] = []
        self.room = self.make(WAIT)
        self.addCleanup(lambda: self.room.close())

    def make(self, seconds: float) -> WaitingRoom:
        """Make a waiting room."""
        return WaitingRoom(
            self.system,
            seconds,
            4,
            lambda arrival, why: self.refused.append((arrival, why)),
            self.late.append,
            self.whole,
        )

    def arrive(
        self, data: bytes = GET, secure: bool = False, **fields: Any
    ) -> tuple[Arrival, socket.socket]:
        """A connection over TCP with these bytes read, and its client."""
        server, client = self.connected()
        head = parse_head(data, 65536)
        found = head if isinstance(head, Head) else None
        origin = Origin(("127.0.0.1", 1), secure=secure)
        return Arrival(server, origin, data=data, head=found, **fields), client

    def wait(self, *arguments: Any, **fields: Any) -> tuple[Arrival, socket.socket]:
        """Have a connection wait."""
        arrival, client = self.arrive(*arguments, **fields)
        self.room.admit(arrival)
        return arrival, client


class RoomTests(RoomCase):
    """The connections that wait."""

    def test_order(self) -> None:
        """All connections leave in their order; the room is empty and unwatched then."""
        arrivals = [self.wait()[0] for _ in range(3)]
        self.assertEqual((len(self.room), self.room.arrivals()), (3, arrivals))
        self.assertEqual(self.room.take_all(), arrivals)
        self.assertEqual((len(self.room), self.reactor.getReaders()), (0, []))

    def test_limit(self) -> None:
        """When as many wait as may, the next is refused; one let in before is added."""
        for _ in range(4):
            self.wait()
        arrival, _ = self.wait()
        self.assertEqual([each for each, _ in self.refused], [arrival])
        self.assertIn("too many", self.refused[0][1])
        self.room.add(arrival)
        self.assertEqual(len(self.room), 5)

    def test_no_wait(self) -> None:
        """Where no time is given no connection waits."""
        self.room = self.make(0.0)
        arrival, _ = self.wait()
        self.assertEqual(self.refused, [(arrival, "No worker is ready.")])
        self.assertEqual(len(self.room), 0)

    def test_late(self) -> None:
        """Each connection has its own time, and is out when that is over."""
        first, _ = self.wait()
        self.reactor.advance(WAIT - 1)
        second, _ = self.wait()
        self.assertEqual(self.late, [])
        self.reactor.advance(1)
        self.assertEqual((self.late, self.room.arrivals()), ([first], [second]))
        self.reactor.advance(WAIT - 1)
        self.assertEqual((self.late, len(self.room)), ([first, second], 0))

    def test_back_again(self) -> None:
        """A connection that is late may come back at once, with all its time."""
        arrival, _ = self.arrive()
        self.room._late = self.room.admit
        self.room.admit(arrival)
        for _ in range(3):
            self.reactor.advance(WAIT)
            self.assertEqual(self.room.arrivals(), [arrival])

    def test_close(self) -> None:
        """When the room closes, so do the connections that wait."""
        _, client = self.wait()
        self.room.close()
        self.assertTrue(ended(client))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_no_descriptors(self) -> None:
        """Without a descriptor to watch them connections wait unwatched, until the next comes."""
        refusal = OSError(errno.EMFILE, "too many open files")
        with mock.patch("txsticky.primary.waiting_room.select.epoll", side_effect=refusal):
            first, gone = self.wait()
        self.assertEqual(self.room.arrivals(), [first])
        self.assertEqual(self.reactor.getReaders(), [])
        gone.close()
        second, _ = self.wait(b"GET / HTTP/1.0\r\n\r\n")
        self.until(lambda: self.room.arrivals() == [second])


class GoneTests(RoomCase):
    """Clients that go away."""

    def test_reset(self) -> None:
        """A connection that is reset is dropped, and its descriptor closed."""
        arrival, client = self.wait()
        other, _ = self.wait()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        self.until(lambda: self.room.arrivals() == [other])
        self.assertEqual(arrival.sock.fileno(), -1)

    def test_closed(self) -> None:
        """A client that has closed is asked whether it is there, and answers with a reset."""
        arrival, client = self.wait()
        client.close()
        self.until(lambda: not len(self.room))
        self.assertEqual((arrival.sock.fileno(), self.late), (-1, []))

    def test_half_closed(self) -> None:
        """A client that only sends no more stays, and has been asked once."""
        arrival, client = self.wait()
        client.shutdown(socket.SHUT_WR)
        self.until(lambda: received(client) == ASK)
        self.reactor.settle()
        self.assertIsNone(received(client))
        self.assertEqual(self.room.take_all(), [arrival])

    def test_half_closed_of_1_0(self) -> None:
        """A client of HTTP/1.0 cannot be asked, nor one that speaks something else: they stay."""
        for data in (b"GET / HTTP/1.0\r\n\r\n", b"HELLO\r\n", b""):
            arrival, client = self.wait(data)
            client.shutdown(socket.SHUT_WR)
            self.reactor.settle()
            self.assertIsNone(received(client))
            self.assertEqual(self.room.take_all(), [arrival])

    def test_unread(self) -> None:
        """What a client sends meanwhile is left for its worker, and does not wake the primary."""
        arrival, client = self.wait()
        client.sendall(b"x" * 1000)
        self.assertEqual(self.reactor.turn(), 0)
        self.assertEqual(self.room.take_all(), [arrival])
        self.assertEqual(received(arrival.sock), b"x" * 1000)

    def test_just_before(self) -> None:
        """A client that has gone when all are taken out is not among them."""
        arrivals = [self.wait(b"\x16\x03", secure=True) for _ in range(3)]
        _, gone = arrivals[1]
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gone.close()
        poll = select.poll()
        poll.register(arrivals[1][0].sock, select.POLLRDHUP)
        poll.poll(10_000)
        self.assertEqual(self.room.take_all(), [arrivals[0][0], arrivals[2][0]])

    def test_full_of_output(self) -> None:
        """A client that cannot be asked, for output is on its way, stays."""
        arrival, client = self.wait()
        filled = 0
        try:
            while True:
                filled += arrival.sock.send(bytes(1 << 16))
        except BlockingIOError:
            pass
        client.shutdown(socket.SHUT_WR)
        self.reactor.settle()
        self.assertEqual(self.room.take_all(), [arrival])
        self.assertGreater(filled, 0)


class TlsTests(RoomCase):
    """Behind --tls-cert."""

    whole = True

    def test_within_the_handshake(self) -> None:
        """A client that sends no more before the handshake is over has gone."""
        _, client = self.wait(b"\x16\x03\x01")
        client.shutdown(socket.SHUT_WR)
        self.until(lambda: not len(self.room))
        self.assertTrue(ended(client))

    def test_behind_it(self) -> None:
        """A request that a worker has decrypted is one of HTTP."""
        arrival, client = self.wait(GET, secure=True)
        client.shutdown(socket.SHUT_WR)
        self.until(lambda: received(client) == ASK)
        self.assertEqual(self.room.take_all(), [arrival])


#: What happens: a client comes, closes its sending side or goes; time passes; all are taken out.
_EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.just(0)),
        st.tuples(st.sampled_from(["half", "go"]), st.integers(0, 20)),
        st.tuples(st.just("time"), st.sampled_from([1, 10, 31])),
        st.tuples(st.just("take"), st.just(0)),
    ),
    max_size=25,
)


class AnyOrderTests(RoomCase):
    """Any order of events."""

    @given(_EVENTS)
    @settings(max_examples=60, deadline=None)
    def test_nothing_is_lost(self, events: list[tuple[str, int]]) -> None:
        """Each connection that comes is taken out, late, refused or gone, once and in time."""
        self.room.take_all()
        self.late.clear()
        self.refused.clear()
        waiting: dict[Arrival, tuple[float, socket.socket]] = {}
        clients: list[tuple[Arrival, socket.socket]] = []
        for what, which in events:
            now = self.reactor.seconds()
            if what == "come":
                arrival, client = self.wait()
                clients.append((arrival, client))
                if len(waiting) < 4:
                    waiting[arrival] = (now + WAIT, client)
                else:
                    self.assertEqual(self.refused.pop()[0], arrival)
            elif what == "time":
                self.reactor.advance(which)
                over = [a for a, (due, _) in waiting.items() if due <= now + which]
                self.assertEqual(self.late, over)
                self.late.clear()
                for arrival in over:
                    del waiting[arrival]
            elif what == "take":
                self.assertEqual(self.room.take_all(), list(waiting))
                waiting.clear()
            elif clients:
                arrival, client = clients.pop(which % len(clients))
                if what == "half":
                    client.shutdown(socket.SHUT_WR)
                    self.reactor.settle()
                else:
                    client.close()
                    if waiting.pop(arrival, None):
                        self.until(lambda gone=arrival: gone not in self.room.arrivals())
            self.assertEqual(self.room.arrivals(), list(waiting))
        self.assertEqual(self.refused, [])
