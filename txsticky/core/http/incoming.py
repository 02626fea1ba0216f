"""What a client sends: held back, and released one request at a time."""

from __future__ import annotations

import enum
import re
from typing import Final

from ..replay import Replay
from .framing import BodyKind, Decoder, RequestFraming, body
from .head import NEED_DATA, Head, Malformed, parse_head
from .response import BODY, HEAD, PASSING, SILENT, ResponsePhase
from .steps import Ask, Deliver, Refuse


class Input(enum.Enum):
    """What the next byte from the client belongs to."""

    BOUNDARY = "the next request's head"
    ASKED = "a request about which nothing has been decided yet"
    REQUEST = "the body of the open request"
    ANSWERING = "a later request; the open one is delivered and not answered"
    ODD = "a request whose end is not certain"
    DROP = "nothing that is served: the last request was before"
    TUNNEL = "a protocol that is not followed"
    GONE = "another worker"


# Module names, because looking a member up in its class costs 0.1 us on Python 3.11.
BOUNDARY: Final = Input.BOUNDARY
ASKED: Final = Input.ASKED
REQUEST: Final = Input.REQUEST
ANSWERING: Final = Input.ANSWERING
ODD: Final = Input.ODD
DROP: Final = Input.DROP
TUNNEL: Final = Input.TUNNEL
GONE: Final = Input.GONE
_NO_BODY: Final = BodyKind.NONE

#: What may follow each state of the input, after one call.
MOVES: Final[dict[Input, frozenset[Input]]] = {
    BOUNDARY: frozenset({ASKED, ANSWERING, DROP, TUNNEL, GONE}),
    ASKED: frozenset({REQUEST, ODD, DROP, TUNNEL, GONE}),
    REQUEST: frozenset({BOUNDARY, ANSWERING, DROP, TUNNEL}),
    ANSWERING: frozenset({BOUNDARY, DROP, TUNNEL}),
    ODD: frozenset({DROP, TUNNEL}),
    DROP: frozenset(),
    TUNNEL: frozenset(),
    GONE: frozenset(),
}
#: The phases of the response that each state of the input goes with.
PHASES: Final[dict[Input, frozenset[ResponsePhase]]] = {
    BOUNDARY: frozenset({SILENT}),
    ASKED: frozenset({SILENT}),
    # The server may answer before it has the whole request.
    REQUEST: frozenset({HEAD, BODY, SILENT, PASSING}),
    ANSWERING: frozenset({HEAD, BODY}),
    ODD: frozenset({HEAD, BODY, PASSING}),
    DROP: frozenset({HEAD, BODY, SILENT, PASSING}),
    TUNNEL: frozenset({PASSING}),
    GONE: frozenset({SILENT}),
}

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")
_CR: Final = 13


class Incoming:
    """
    The bytes that a client has sent, and how far they have been released.

    :param head_limit: the largest request head that is looked at, in bytes.
    :param hold_limit: how many bytes may be held back before `over_hold` asks for a pause.
    :param first_is_ours: whether the first request has been routed here.
    :param replay: of a WebSocket that has moved here, whose handshake is the first request.
    :ivar replay: the same.
    """

    __slots__ = (
        "_asked",
        "_body",
        "_first",
        "_head_limit",
        "_held",
        "_hold_limit",
        "_input",
        "_seen",
        "replay",
    )

    def __init__(
        self, head_limit: int, hold_limit: int, first_is_ours: bool, replay: Replay | None = None
    ) -> None:
        self._head_limit = head_limit
        # A head has to fit, or the client would be paused for ever in the middle of it.
        self._hold_limit = hold_limit if hold_limit > head_limit else head_limit
        self._first = first_is_ours
        self.replay = replay
        self._input: Input = BOUNDARY
        self._held = b""
        # How many held bytes are known: at a boundary those parsed in vain, in a request its head.
        self._seen = 0
        self._asked: Head | None = None
        self._body: Decoder | None = None

    @property
    def body_due(self) -> bool:
        """Whether the client owes the rest of a request whose head has come."""
        return self._input is REQUEST

    @property
    def due(self) -> int:
        """How many bytes are certain to come of the open request, behind those released."""
        body = self._body
        return body.left if body is not None and self._input is REQUEST else 0

    @property
    def tunnel(self) -> bool:
        """Whether HTTP has ended: nothing is followed here, and bytes need not pass."""
        return self._input is TUNNEL

    @property
    def idle(self) -> bool:
        """Whether the connection stands at a boundary with nothing held: it can move as it is."""
        return self._input is BOUNDARY and not self._held

    @property
    def first_is_ours(self) -> bool:
        """Whether the next request is the first, about which was decided elsewhere."""
        return self._first

    @property
    def held(self) -> int:
        """How many bytes from the client have not been released."""
        return len(self._held)

    @property
    def over_hold(self) -> bool:
        """Whether more is held than allowed: nothing is to be read until some is released."""
        return len(self._held) > self._hold_limit

    @property
    def head_limit(self) -> int:
        """The largest request head that is looked at, in bytes."""
        return self._head_limit

    def feed(self, data: bytes) -> None:
        """
        Take bytes from the client.

        :raises RuntimeError: the connection was handed off; these bytes would be lost.
        """
        if self._input is GONE:
            raise RuntimeError("Bytes were read from a connection after its hand-off.")
        if self._input is DROP:
            return
        self._held = self._held + data if self._held else data

    def remainder(self) -> bytes:
        """
        End the conversation and return the held bytes, with which the connection moves.

        :raises RuntimeError: the connection is not at a boundary.
        """
        if self._input is not BOUNDARY and self._input is not ASKED:
            raise RuntimeError("A connection can be handed off only between two requests.")
        held, self._held = self._held, b""
        self._asked = None
        self._input = GONE
        return held

    def let_go(self) -> bytes:
        """
        Return the held bytes of a tunnel, with which the connection moves.

        :raises RuntimeError: the connection is no tunnel.
        """
        if self._input is not TUNNEL:
            raise RuntimeError("A conversation was left that has not ended.")
        held, self._held = self._held, b""
        return held

    def _release(self, size: int) -> Deliver:
        held = self._held
        if size == len(held):
            self._held = b""
            return Deliver(held)
        self._held = held[size:]
        return Deliver(held[:size])

    def _at_boundary(self) -> Ask | Refuse | None:
        """Look for the next head; ask about it if it is complete."""
        held = self._held
        if held[0] == _CR:
            empty = _EMPTY_LINES.match(held)
            if empty is not None:
                held = self._held = held[empty.end() :]
                self._seen = 0
        head = parse_head(held, self._head_limit, self._seen)
        if head is NEED_DATA:
            self._seen = len(held)
            return None
        if isinstance(head, Malformed):
            return self.refuse(head, head_only=False)
        self._asked = head
        self._input = ASKED
        first, self._first = self._first, False
        return Ask(head, first)

    def _show(self, head: Head, shown: bytes) -> None:
        """Let the inner protocol see this head in the place of the one that came."""
        if shown is not head.raw:
            self._held = shown + self._held[head.size :]
        self._seen = len(shown) if shown is not head.raw else head.size

    def _take(self, framing: RequestFraming) -> None:
        """Expect the body of the open request, if it has one."""
        self._body = None
        if framing.kind is not _NO_BODY:
            self._body = body(framing.kind, framing.length, self._head_limit)
        self._input = REQUEST

    def refuse(self, fault: Malformed, head_only: bool) -> Refuse:
        """Serve nothing more, for what came cannot be served."""
        raise NotImplementedError

    def _drop(self) -> None:
        """Serve no request that comes from now on."""
        self._input = DROP
        self._held = b""
        self._asked = None
