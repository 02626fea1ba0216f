"""The handshakes of WebSockets that may move."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.inside import AS_IT_CAME, Inside
from txsticky.core.http.websocket.handshake import (
    STATE_LIMIT,
    Accepted,
    accept_of,
    added_lines,
    check_state,
    is_engine_io,
    is_handshake,
    read_answer,
    speaks_of_moves,
)
from txsticky.core.http.websocket.passport import Passport
from txsticky.core.replay import Replay

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # both are the example of RFC 6455, section 1.3


def request(*lines: bytes, target: bytes = b"/ws", method: bytes = b"GET") -> Head:
    """The head of a handshake, with further lines."""
    usual = (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + KEY,
    )
    raw = b"\r\n".join((b"%b %b HTTP/1.1" % (method, target), *usual, *lines, b"", b""))
    head = parse_head(raw, 65536)
    assert isinstance(head, Head)
    return head


def response(*lines: bytes, status: bytes = b"101 Switching Protocols") -> bytes:
    """The head of a response to a handshake, with further lines."""
    accept = b"Sec-WebSocket-Accept: " + ACCEPT
    return b"\r\n".join((b"HTTP/1.1 " + status, accept, *lines, b"", b""))


def answer(*lines: bytes, **options: bool) -> Accepted:
    """A 101, read."""
    read = read_answer(response(*lines), KEY, **options)
    assert read is not None
    return read


class RequestTests(SynchronousTestCase):
    """The request."""

    def test_handshake(self) -> None:
        """A GET with one key and version 13 may begin a WebSocket; nothing else may."""
        self.assertTrue(is_handshake(request()))
        self.assertFalse(is_handshake(request(method=b"POST")))
        plain = parse_head(b"GET / HTTP/1.1\r\n\r\n", 65536)
        assert isinstance(plain, Head)
        self.assertFalse(is_handshake(plain))
        self.assertFalse(is_handshake(request(b"Sec-WebSocket-Key: x")))
        self.assertFalse(is_handshake(request(b"Sec-WebSocket-Version: 8")))

    def test_other_protocol(self) -> None:
        """A request that asks for another protocol begins no WebSocket."""
        raw = request().raw.replace(b"websocket", b"h2c")
        other = parse_head(raw, 65536)
        assert isinstance(other, Head)
        self.assertEqual(other.header(b"upgrade"), b"h2c")
        self.assertFalse(is_handshake(other))

    def test_engine_io(self) -> None:
        """A session of Engine.IO is told by its query."""
        self.assertTrue(is_engine_io(request(target=b"/socket.io/?EIO=4&transport=websocket")))
        self.assertFalse(is_engine_io(request(target=b"/ws?a=EIO=4")))

    def test_forged(self) -> None:
        """What only this server may say is taken off, whatever the server inside can do."""
        forged = request(b"Txsticky-Moved: 1", b"txsticky_state: x", b"TXSTICKY-Websocket: 1")
        for inside in (AS_IT_CAME, Inside(websocket_only=True, absolute=False)):
            self.assertEqual(inside.head(forged), request().raw)
        other = request(b"Txstickyness: 1")
        self.assertEqual(AS_IT_CAME.head(other), other.raw)

    def test_added(self) -> None:
        """The server inside is told the id, and of a WebSocket that has moved how often."""
        self.assertEqual(added_lines(7, None), b"Txsticky-Websocket: 7\r\n")
        moved = Replay(head=b"", moves=2, state=b"at 5")
        self.assertEqual(
            added_lines(8, moved),
            b"Txsticky-Websocket: 8\r\nTxsticky-Moved: 2\r\nTxsticky-State: at 5\r\n",
        )


class AnswerTests(SynchronousTestCase):
    """The response."""

    def test_accept(self) -> None:
        """The accept follows from the key alone (RFC 6455, section 1.3)."""
        self.assertEqual(accept_of(KEY), ACCEPT)

    def test_no_101(self) -> None:
        """Another status opens no WebSocket."""
        self.assertIsNone(read_answer(response(status=b"200 OK"), KEY))

    def test_closed(self) -> None:
        """Without a word of application or operator a WebSocket does not move; the head stays."""
        read = answer(b"Sec-WebSocket-Extensions:permessage-deflate")
        self.assertFalse(read.may_move)
        self.assertEqual(read.head, response(b"Sec-WebSocket-Extensions:permessage-deflate"))

    def test_word(self) -> None:
        """The application's word is taken off, and counts more than the operator's."""
        read = answer(b"txsticky-websocket: move", b"A: b")
        self.assertEqual((read.may_move, read.head), (True, response(b"A: b")))
        self.assertTrue(answer(always=True).may_move)
        self.assertFalse(answer(b"Txsticky-Websocket: close", always=True).may_move)

    def test_speaks_of_moves(self) -> None:
        """Whether there is a word for this server is told before the head is read."""
        self.assertTrue(speaks_of_moves(response(b"TXSTICKY-State: here")))
        self.assertFalse(speaks_of_moves(response(b"Server: txsticky")))

    def test_wrong_accept(self) -> None:
        """A WebSocket with another accept does not move: its client will not take it."""
        self.assertFalse(answer(b"Sec-WebSocket-Accept: x", always=True).may_move)

    def test_state(self) -> None:
        """A state in the response is kept and taken off; if it is too long it is only taken off."""
        read = answer(b"Txsticky-State: here", always=True)
        self.assertEqual((read.state, read.head), (b"here", response()))
        long = answer(b"Txsticky-State: " + b"x" * (STATE_LIMIT + 1), always=True)
        self.assertEqual((long.state, long.head), (b"", response()))

    def test_compression(self) -> None:
        """The client of a WebSocket that may move is asked to compress each message for itself."""
        line = b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12"
        asked = line + b"; client_no_context_takeover"
        read = answer(line, always=True)
        self.assertEqual((read.head, read.compressed), (response(asked), True))
        self.assertEqual(answer(asked, always=True).head, response(asked))
        self.assertEqual(answer(line).extensions, line.partition(b": ")[2])

    def test_subprotocols(self) -> None:
        """Several subprotocols are one list."""
        lines = (b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: b")
        self.assertEqual(answer(*lines).protocol, b"a, b")

    def test_unknown_extensions(self) -> None:
        """A WebSocket does not move with extensions that may remember anything."""
        for value in (b"x-other", b"permessage-deflate, x-other"):
            self.assertFalse(answer(b"Sec-WebSocket-Extensions: " + value, always=True).may_move)

    def test_agrees(self) -> None:
        """A client can go on only with the subprotocol and the extensions that it was told."""
        chat = b"Sec-WebSocket-Protocol: chat"
        deflate = b"Sec-WebSocket-Extensions: permessage-deflate"
        passport = Passport(1, request().raw, "", None)
        passport.accepted(answer(chat, deflate, always=True))
        replay = passport.leave(3, 9)
        self.assertEqual((replay.moves, replay.source, replay.given), (1, 3, 9))
        for lines, agrees in (
            ((chat, deflate), True),
            ((deflate,), False),
            ((chat,), False),
            ((chat, deflate, b"Sec-WebSocket-Accept: x"), False),
        ):
            read = answer(*lines, moved=True)
            self.assertEqual(read.agrees(replay, KEY), agrees, lines)

    def test_passport(self) -> None:
        """What the application left counts more than what its response said; moves add up."""
        passport = Passport(1, b"head", "", Replay(head=b"head", moves=4))
        passport.accepted(answer(b"Txsticky-State: first", always=True))
        self.assertEqual(passport.leave(1, 0).state, b"first")
        passport.state = b"second"
        passport.accepted(answer(b"Txsticky-State: first", always=True))
        replay = passport.leave(1, 0)
        self.assertEqual((replay.state, replay.moves), (b"second", 5))

    def test_what_is_no_state(self) -> None:
        """A state is short, and of characters that a header field can have."""
        self.assertEqual(check_state(b"x" * STATE_LIMIT), "")
        for state in (b"x" * (STATE_LIMIT + 1), b"a\r\nb", b"\xff"):
            self.assertTrue(check_state(state))
