"""Handshakes of WebSockets as they are followed: interim responses, refusals, words for moves."""

from __future__ import annotations

from unittest import mock

from tests.core.http.websocket.test_frames import frame
from tests.core.http.websocket.test_handshake import request, response
from tests.transport.cases import GET, OK
from tests.transport.websockets.test_moves import ASKED, REPLY, MovesCase
from txsticky.core.http.head import Malformed
from txsticky.core.replay import Replay

HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
ENGINE_IO = b"/socket.io/?EIO=4&transport=websocket"


class FollowedTests(MovesCase):
    """What passes of a response."""

    def test_other_requests(self) -> None:
        """What is no handshake is not followed."""
        self.arrive(GET)
        self.assertIsNone(self.gate.upgrading)
        self.assertEqual(self.movements.passports, [])

    def test_interim(self) -> None:
        """Interim responses pass, alone or with what follows them."""
        for pieces in (
            (HINTS, ASKED),
            (HINTS + ASKED,),
            (HINTS[:9], HINTS[9:], ASKED),
            (HINTS, HINTS + ASKED + REPLY),
        ):
            self.make()
            self.arrive(request().raw)
            for piece in pieces:
                self.write(piece)
            whole = b"".join(pieces)
            self.assertEqual(self.host.sent, whole.replace(ASKED, response()))
            self.assertIsNotNone(self.gate.mover)

    def test_withheld(self) -> None:
        """A response in pieces waits whole for what was bound before it."""
        self.arrive(request().raw)
        self.policy.unconfirmed = 1
        self.write(ASKED[:10])
        self.write(ASKED[10:])
        self.assertEqual(self.host.sent, b"")
        self.policy.confirm()
        self.assertEqual(self.host.sent, response())

    def test_endless_head(self) -> None:
        """A head without end passes as it is, and is not followed."""
        self.arrive(request().raw)
        with mock.patch.object(type(self.gate.exchange), "head_limit", 10):
            self.write(ASKED[:30])
        self.assertEqual((self.host.sent, self.gate.upgrading), (ASKED[:30], None))

    def test_moved(self) -> None:
        """Behind the repeated handshake the client of a WebSocket is not told to come anew."""
        head = request().raw
        self.gate.exchange.replay = Replay(head=head, moves=1)
        self.arrive(head)
        self.answer(ASKED + REPLY)
        self.close()
        self.assertEqual((self.host.sent, self.gate.upgrading), (REPLY, None))

    def test_too_late(self) -> None:
        """A response that comes when the connection serves nothing more opens no WebSocket."""
        self.arrive(request().raw)
        self.gate.exchange.refuse(Malformed(400, "This is no frame."), False)
        self.answer(ASKED)
        self.assertEqual((self.host.sent, self.gate.mover), (b"", None))

    def test_nothing_moves(self) -> None:
        """Where no WebSocket moves, none is followed."""
        self.policy.movements = None
        self.arrive(request().raw)
        self.answer(response())
        self.assertEqual((self.got, self.host.sent), (request().raw, response()))
        self.assertIsNone(self.gate.mover)

    def test_refused_with_a_word(self) -> None:
        """A refusal in which the word for moves stands passes as it is."""
        refusal = OK.replace(b"OK\r\n", b"OK\r\nTxsticky-Websocket: move\r\n", 1)
        self.arrive(request().raw)
        self.answer(refusal)
        self.assertEqual((self.host.sent, self.policy.done), (refusal, 1))
        self.assertIsNone(self.gate.upgrading)

    def test_passport(self) -> None:
        """The passport keeps what the client was told of protocols, and the state that is left."""
        self.arrive(request(b"Sec-WebSocket-Protocol: chat").raw)
        self.answer(
            response(
                b"Sec-WebSocket-Protocol: chat",
                b"Txsticky-Websocket: move",
                b"Txsticky-State: at 5",
            )
        )
        left = self.movements.passports[0].leave(1, 0)
        self.assertEqual((left.protocol, left.state), (b"chat", b"at 5"))

    def test_messages(self) -> None:
        """A message that comes with the response is followed: inside it nothing moves."""
        self.arrive(request().raw)
        self.answer(ASKED + REPLY[:3])
        self.leave()
        self.settle()
        self.assertIsNone(self.host.departed)
        self.write(REPLY[3:])
        self.settle()
        self.assertEqual(self.host.departed, (5, b""))

    def test_engine_io(self) -> None:
        """A session of Engine.IO does not move, though its server asks for it."""
        self.arrive(request(target=ENGINE_IO).raw)
        self.answer(ASKED)
        self.assertIsNone(self.gate.mover)
        self.arrive(frame(b"hello"))
        self.assertEqual(self.host.delivered[-1], frame(b"hello"))


class MayMoveTests(MovesCase):
    """What is known before the response."""

    def may_move(self, always: bool, target: bytes = b"/ws", moved: bool = False) -> bool:
        """Whether a WebSocket may move whose request has come."""
        self.make()
        self.movements.always = always
        head = request(target=target).raw
        if moved:
            self.gate.exchange.replay = Replay(head=head, moves=1)
        self.arrive(head)
        assert self.gate.upgrading is not None
        return self.gate.upgrading.may_move

    def test_may_move(self) -> None:
        """A WebSocket may move that has moved before, or for which the operator has the word."""
        self.assertIs(self.may_move(False), False)
        self.assertIs(self.may_move(True), True)
        self.assertIs(self.may_move(False, moved=True), True)

    def test_engine_io(self) -> None:
        """No session of Engine.IO may move."""
        self.assertIs(self.may_move(True, ENGINE_IO), False)
        self.assertIs(self.may_move(True, ENGINE_IO, moved=True), False)
