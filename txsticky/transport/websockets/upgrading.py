"""
The handshake of a WebSocket, from its request to its response, where the WebSocket may move.

The response tells whether it may, and what its client is told. A WebSocket that has moved here has
had its response: the one that is given here is compared with it and swallowed.
"""

from __future__ import annotations

from typing import Final, Protocol

from ...core.http.head import Head, Malformed
from ...core.http.websocket.frames import SERVICE_RESTART, close_frame
from ...core.http.websocket.handshake import (
    added_lines,
    is_engine_io,
    is_handshake,
    read_answer,
    speaks_of_moves,
)
from ...core.http.websocket.passport import Passport
from .movements import WebSockets
from .mover import Movable, Mover

_DISAGREE: Final = Malformed(400, "The answer to the handshake is another one than before.")


class Upgradable(Movable, Protocol):
    """
    What an upgrade needs of its gate.

    :ivar upgrading: the upgrade itself, until its response is complete.
    :ivar mover: follows a WebSocket that may move.
    """

    upgrading: Upgrading | None
    mover: Mover | None


class Upgrading:
    """
    One handshake, whose request was delivered.

    :param gate: the gate that watches the connection.
    :param movements: what the worker knows of moves.
    :param head: the request's.
    """

    __slots__ = ("_begun", "_head", "_movements", "passport")

    def __init__(self, gate: Movable, movements: WebSockets, head: Head) -> None:
        self.passport: Passport = movements.passport(head.raw, gate.client, gate.exchange.replay)
        self._movements = movements
        self._head = head
        self._begun = b""

    @property
    def lines(self) -> bytes:
        """What the server inside is to see beside the client's header."""
        return added_lines(self.passport.id, self.passport.replay)

    @property
    def moved(self) -> bool:
        """Whether the client has had its response, from another worker."""
        return self.passport.replay is not None

    @property
    def may_move(self) -> bool:
        """Whether the WebSocket may move, as far as can be told before the response."""
        return (self.moved or self._movements.always) and not is_engine_io(self._head)

    def wrote(self, gate: Upgradable, data: bytes) -> bytes:
        """
        Follow what the server inside writes until the response is complete.

        :returns: what is to be sent.
        """
        exchange = gate.exchange
        data = self._begun + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) <= exchange.head_limit:
                self._begun = data
                return b""
            return self._failed(gate) if self.moved else self._not_followed(gate, data)
        self._begun = b""
        head, rest = data[:end], data[end:]
        if head.startswith(b"HTTP/1.1 1") and not head.startswith(b"HTTP/1.1 101"):
            sent = exchange.wrote(head)
            rest = self.wrote(gate, rest) if rest else b""
            return rest if self.moved else sent + rest
        return self._answered(gate, head, rest)

    def _answered(self, gate: Upgradable, head: bytes, rest: bytes) -> bytes:
        passport, movements = self.passport, self._movements
        if not (self.moved or movements.always or speaks_of_moves(head)):
            return self._not_followed(gate, head + rest)
        key = self._head.header(b"sec-websocket-key") or b""
        answer = read_answer(head, key, movements.always, self.moved)
        replay = passport.replay
        if answer is None or (replay is not None and not answer.agrees(replay, key)):
            return self._failed(gate) if self.moved else self._not_followed(gate, head + rest)
        gate.upgrading = None
        sent = gate.exchange.wrote(answer.head)
        if answer.may_move and not is_engine_io(self._head) and gate.exchange.upgraded:
            passport.accepted(answer)
            gate.mover = Mover(gate, movements, passport, answer.compressed)
            gate.mover.wrote(rest)
        if self.moved:
            movements.arrived()
            return rest
        return sent + rest

    def _not_followed(self, gate: Upgradable, data: bytes) -> bytes:
        gate.upgrading = None
        return gate.exchange.wrote(data)

    def _failed(self, gate: Upgradable) -> bytes:
        """Have the client come anew (code 1012): it cannot go on with this server."""
        gate.upgrading = None
        gate.exchange.refuse(_DISAGREE, head_only=False)
        return close_frame(SERVICE_RESTART)


def upgrading(gate: Movable, movements: WebSockets | None, head: Head) -> Upgrading | None:
    """
    The upgrade that a request begins.

    :param movements: what the worker knows of moves; None where nothing moves.
    :param head: the request's.
    :returns: None if the request is no handshake of a WebSocket.
    """
    if movements is None or not (gate.exchange.replay is not None or is_handshake(head)):
        return None
    return Upgrading(gate, movements, head)
