"""A gate whose WebSocket may move: the handshake, the way out, and the way in."""

from __future__ import annotations

from unittest import mock

from tests.core.http.websocket.test_frames import frame
from tests.core.http.websocket.test_handshake import KEY, request, response
from tests.transport.cases import GET, OK, GateCase
from txsticky.core.http.websocket.frames import close_frame
from txsticky.core.http.websocket.passport import Passport
from txsticky.core.replay import Replay
from txsticky.transport.nowhere import NOWHERE
from txsticky.transport.websockets.mover import LOOKS, MOST_HELD, REST, SETTLE

HELLO = frame(b"hello")
REPLY = frame(b"reply", masked=False)
RESTART = close_frame(1012)
ASKED = response(b"Txsticky-Websocket: move")


class FakeMovements:
    """
    What a worker knows of moves.

    :param client: the address that clients have.
    :ivar next: the worker that goes on; 0 for none.
    :ivar passports: those that were made.
    """

    always = False

    def __init__(self, client: str = "192.0.2.7") -> None:
        self.client = client
        self.next = 5
        self.came = 0
        self.passports: list[Passport] = []

    def passport(self, handshake: bytes, client: str, replay: Replay | None) -> Passport:
        """Make a passport."""
        assert client == self.client
        self.passports.append(Passport(1 + len(self.passports), handshake, client, replay))
        return self.passports[-1]

    def arrived(self) -> None:
        """Count a WebSocket that has moved here."""
        self.came += 1

    def turn(self) -> float:
        """Return 0: a WebSocket may leave at once."""
        return 0.0

    @property
    def possible(self) -> bool:
        """Whether there is a next worker."""
        return bool(self.next)

    def heir(self, passport: Passport) -> int:
        """The next worker."""
        return self.next


class MovesCase(GateCase):
    """A gate of a worker whose WebSockets may move."""

    def make(self, hold_limit: int = 65536, secure: bool = False) -> None:
        super().make(hold_limit, secure)
        self.movements = self.policy.movements = FakeMovements()

    def open(self, answer: bytes = ASKED) -> None:
        """Open a WebSocket."""
        self.arrive(request().raw)
        self.answer(answer)

    def leave(self) -> bool:
        """Have the worker leave; returns whether the WebSocket may move."""
        self.policy.draining = True
        leaves = self.gate.drain()
        self.turn()
        return leaves

    def settle(self, seconds: float = SETTLE) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.turn()


class HandshakeTests(MovesCase):
    """The handshake."""

    def test_seen_inside(self) -> None:
        """The server inside is told by which id the application names the WebSocket."""
        self.open()
        head = request().raw
        self.assertEqual(self.got, head[:-2] + b"Txsticky-Websocket: 1\r\n\r\n")

    def test_word(self) -> None:
        """The application's word goes no further, in whatever pieces the response comes."""
        self.arrive(request().raw)
        for at in range(len(ASKED)):
            self.write(ASKED[at : at + 1])
        self.write(REPLY)
        self.assertEqual(bytes(self.host.sent), response() + REPLY)
        self.assertTrue(self.leave())

    def test_no_word(self) -> None:
        """Without a word of the application a WebSocket is to be closed, and does not move."""
        self.open(response())
        self.assertEqual(bytes(self.host.sent), response())
        self.assertFalse(self.leave())

    def test_operator(self) -> None:
        """The operator may let all move, but no session of Engine.IO."""
        self.movements.always = True
        self.open(response())
        self.assertTrue(self.leave())
        self.make()
        self.movements.always = True
        self.arrive(request(target=b"/socket.io/?EIO=4&transport=websocket").raw)
        self.answer(response())
        self.assertFalse(self.leave())

    def test_refused(self) -> None:
        """A refusal passes as it is, and the connection goes on."""
        self.arrive(request().raw)
        self.answer(OK)
        self.arrive(GET)
        self.answer(OK)
        self.assertEqual(bytes(self.host.sent), OK + OK)
        self.assertEqual(self.policy.done, 2)

    def test_secure(self) -> None:
        """Over TLS no WebSocket moves, and its handshake stays as it is."""
        self.make(secure=True)
        self.open()
        self.assertEqual((self.got, bytes(self.host.sent)), (request().raw, ASKED))
        self.assertEqual(self.movements.passports, [])


class LeavingTests(MovesCase):
    """The way out."""

    def test_idle(self) -> None:
        """A WebSocket over which nothing came leaves at once, and its passport tells of it."""
        self.open()
        self.assertTrue(self.leave())
        self.assertEqual(self.host.departed, (5, b""))
        passport = self.movements.passports[0]
        self.assertEqual(passport.leave(1, 0).head, request().raw)

    def test_lets_go(self) -> None:
        """The gate of a WebSocket that has left lets go of the connection and of the worker."""
        self.open()
        self.leave()
        self.assertEqual(self.host.departed, (5, b""))
        self.assertEqual((self.gate.host, self.gate.policy), (NOWHERE, NOWHERE))

    def test_asked_again(self) -> None:
        """A WebSocket that waits for its output to leave is not asked to leave twice."""
        self.open()
        self.host.buffered = 10
        self.leave()
        assert self.gate.mover is not None
        self.assertTrue(self.gate.mover.leave())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_talking(self) -> None:
        """What comes while the application may still answer is held, and goes along."""
        self.open()
        self.arrive(HELLO)
        self.leave()
        self.assertFalse(self.host.reading)
        self.gate.arrived(HELLO)  # had been read already
        self.write(REPLY)
        self.settle()
        self.assertEqual(self.host.departed, (5, HELLO))
        self.assertEqual(self.host.delivered[1:], [HELLO])

    def test_inside_a_message(self) -> None:
        """Inside a message of its client a WebSocket waits for the end, and holds what follows."""
        self.open()
        self.arrive(HELLO[:3])
        self.leave()
        self.settle(1.0)
        self.assertIsNone(self.host.departed)
        self.arrive(HELLO[3:] + HELLO[:4])
        self.settle()
        self.assertEqual(self.host.departed, (5, HELLO[:4]))

    def test_much_read(self) -> None:
        """More than can travel is not held but delivered; the next end of a message counts."""
        self.open()
        self.arrive(HELLO[:3])
        self.leave()
        much = HELLO * (MOST_HELD // len(HELLO) + 1)
        self.arrive(HELLO[3:] + much + HELLO[:5])
        self.assertTrue(self.host.reading)
        self.arrive(HELLO[5:] + HELLO)
        self.settle()
        self.assertEqual(self.host.departed, (5, HELLO))

    def test_inside_a_reply(self) -> None:
        """Inside a message to its client a WebSocket waits for the end."""
        self.open()
        self.write(REPLY[:3])
        self.leave()
        self.settle()
        self.assertIsNone(self.host.departed)
        self.write(REPLY[3:])
        self.settle()
        self.assertEqual(self.host.departed, (5, b""))

    def test_application_at_work(self) -> None:
        """A WebSocket whose application takes long gets its input meanwhile, and is tried again."""
        self.open()
        self.host.dealt_with = 0
        self.arrive(HELLO)
        self.leave()
        self.gate.arrived(HELLO)
        for _ in range(LOOKS):
            self.settle()
        self.assertEqual((self.host.delivered[1:], self.host.reading), ([HELLO, HELLO], True))
        self.host.dealt_with = 2
        self.settle(REST)
        self.settle()
        self.assertEqual(self.host.departed, (5, b""))

    def test_staying(self) -> None:
        """A WebSocket that is to stay for an answer stays until it need not."""
        self.open()
        self.arrive(HELLO)
        go = self.movements.passports[0].stay()
        second = self.movements.passports[0].stay()
        self.leave()
        self.settle()
        go()
        go()
        self.settle()
        self.assertIsNone(self.host.departed)
        second()
        self.settle()
        self.assertEqual(self.host.departed, (5, b""))

    def test_busy(self) -> None:
        """A WebSocket whose server is at work stays meanwhile."""
        self.open()
        busy = self.movements.passports[0].busy = mock.Mock(side_effect=[True, False])
        self.leave()
        self.assertIsNone(self.host.departed)
        self.settle()
        self.assertEqual((self.host.departed, busy.call_count), ((5, b""), 2))

    def test_now(self) -> None:
        """When its time is over a WebSocket leaves between two messages, answered or not."""
        self.open()
        self.host.dealt_with = 0
        self.arrive(HELLO)
        self.leave()
        assert self.gate.mover is not None
        self.assertTrue(self.gate.mover.leave_now())
        self.assertEqual(self.host.departed, (5, b""))

    def test_insists(self) -> None:
        """When little time is left a WebSocket goes at the next end of a message, in any case."""
        self.open()
        self.host.dealt_with = 0
        self.arrive(HELLO[:3])
        self.leave()
        assert self.gate.mover is not None
        self.assertTrue(self.gate.mover.insist())
        self.arrive(HELLO[3:] + HELLO[:1])
        self.settle(0)
        self.assertEqual(self.host.departed, (5, HELLO[:1]))

    def test_insists_while_held(self) -> None:
        """A held WebSocket goes at once, or as soon as the message to its client has ended."""
        self.open()
        self.host.dealt_with = 0
        self.arrive(HELLO)
        self.leave()
        self.write(REPLY[:3])
        assert self.gate.mover is not None
        self.assertTrue(self.gate.mover.insist())
        for _ in range(LOOKS + 1):
            self.settle()
        self.assertFalse(self.host.reading)
        self.write(REPLY[3:])
        self.settle()
        self.assertEqual(self.host.departed, (5, b""))

    def test_insists_in_vain(self) -> None:
        """A WebSocket that is being closed does not move, however little time is left."""
        self.open()
        self.write(close_frame(1000))
        assert self.gate.mover is not None
        self.assertFalse(self.gate.mover.insist())

    def test_not_now(self) -> None:
        """Inside a message a WebSocket does not leave at once, and its input flows again."""
        self.open()
        self.arrive(HELLO)
        self.write(REPLY[:3])
        self.leave()
        assert self.gate.mover is not None
        self.assertFalse(self.gate.mover.leave_now())
        self.assertTrue(self.host.reading)

    def test_closing(self) -> None:
        """A WebSocket that either side closes does not move, nor one that is odd."""
        for ours, theirs in ((b"", frame(b"", 8)), (close_frame(1000), b""), (b"", frame(b"", 3))):
            self.make()
            self.open()
            if theirs:
                self.arrive(theirs)
            self.write(ours)
            self.assertFalse(self.leave())

    def test_closed_while_held(self) -> None:
        """A close frame of the application while the input is held keeps the WebSocket here."""
        self.open()
        self.arrive(HELLO)
        self.leave()
        self.write(close_frame(1000))
        self.settle()
        self.assertEqual((self.host.departed, self.host.reading), (None, True))

    def test_nowhere_to_go(self) -> None:
        """Without another worker a WebSocket stays, holds nothing, and goes when there is one."""
        self.open()
        self.movements.next = 0
        self.leave()
        self.assertEqual((self.host.departed, self.host.reading), (None, True))
        self.movements.next = 6
        self.settle(REST)
        self.assertEqual(self.host.departed, (6, b""))

    def test_gone_meanwhile(self) -> None:
        """If the last other worker goes while the output leaves, the WebSocket stays."""
        self.open()
        self.host.buffered = 10
        self.leave()
        self.movements.next = 0
        self.host.drained()
        self.assertEqual((self.host.departed, self.host.reading), (None, True))

    def test_unsent(self) -> None:
        """A WebSocket leaves when all output is in the kernel, with what is written meanwhile."""
        self.open()
        self.host.buffered = 10
        self.leave()
        self.assertTrue(self.gate.leaving)
        self.write(REPLY[:3])
        self.host.drained()
        self.assertEqual((self.host.departed, self.gate.leaving), (None, False))
        self.write(REPLY[3:])
        self.settle(REST)
        self.settle()
        self.host.drained()
        self.assertEqual(self.host.departed, (5, b""))

    def test_withheld(self) -> None:
        """A WebSocket waits for a binding to be confirmed before it leaves."""
        self.open()
        self.policy.unconfirmed = 1
        self.write(REPLY)
        self.leave()
        self.settle()
        self.assertIsNone(self.host.departed)
        self.policy.confirm()
        self.settle()
        self.assertEqual(self.host.departed, (5, b""))

    def test_upgraded_in_a_drain(self) -> None:
        """A WebSocket that is accepted while the worker leaves goes as well."""
        self.policy.draining = True
        self.open()
        self.turn()
        self.assertEqual(self.host.departed, (5, b""))

    def test_over(self) -> None:
        """A connection that ends leaves no call behind."""
        self.open()
        self.arrive(HELLO)
        self.leave()
        self.host.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ArrivingTests(MovesCase):
    """The way in."""

    def moved(self, held: bytes = b"", **told: bytes) -> None:
        """Have a WebSocket move here, with bytes of its client."""
        self.gate.exchange.replay = Replay(head=request().raw, moves=2, state=b"s", **told)  # type: ignore[arg-type]
        self.arrive(request().raw + held)

    def test_shown_again(self) -> None:
        """The server inside sees the handshake; the client neither its 101 nor a gap."""
        self.moved(HELLO + HELLO[:2])
        lines = b"Txsticky-Websocket: 1\r\nTxsticky-Moved: 2\r\nTxsticky-State: s\r\n"
        self.assertEqual(self.got, request().raw[:-2] + lines + b"\r\n")
        self.answer(ASKED + REPLY)
        self.assertEqual(bytes(self.host.sent), REPLY)
        self.assertEqual(self.host.delivered[1:], [HELLO + HELLO[:2]])
        self.assertEqual((self.movements.came, self.policy.done), (1, 0))

    def test_on_and_on(self) -> None:
        """A WebSocket that has moved may move again, with the bytes that have come since."""
        self.moved()
        self.answer(ASKED)
        self.arrive(HELLO)
        self.leave()
        self.settle()
        self.assertEqual(self.host.departed, (5, b""))
        self.assertEqual(self.movements.passports[0].leave(1, 0).moves, 3)

    def test_interim(self) -> None:
        """Interim responses to a repeated handshake go no further either."""
        self.moved()
        self.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + ASKED)
        self.assertEqual(bytes(self.host.sent), b"")
        self.assertTrue(self.leave())

    def test_refused(self) -> None:
        """If the application refuses, the client is told to come anew, and the connection ends."""
        for refusal in (
            OK,
            response(b"Sec-WebSocket-Protocol: chat"),
            response(b"Sec-WebSocket-Extensions: permessage-deflate"),
            response().replace(b"Accept: ", b"Accept: x"),
        ):
            self.make()
            self.moved(HELLO)
            self.answer(refusal + b"more")
            self.assertEqual(bytes(self.host.sent), RESTART, refusal)
            self.assertTrue(self.host.halved)
            self.assertNotIn(HELLO, self.got)

    def test_closed(self) -> None:
        """If the application closes without an answer, the client is told to come anew."""
        self.moved()
        self.close()
        self.assertEqual(bytes(self.host.sent), RESTART)

    def test_other_words(self) -> None:
        """If the new application lets the WebSocket move no more, it stays here."""
        self.moved()
        self.answer(response())
        self.assertEqual((bytes(self.host.sent), self.leave()), (b"", False))

    def test_endless_head(self) -> None:
        """A head without end is no answer to a repeated handshake."""
        self.moved()
        with mock.patch.object(type(self.gate.exchange), "head_limit", 10):
            self.answer(b"HTTP/1.1 101 " + KEY)
        self.assertEqual(bytes(self.host.sent), RESTART)
