"""One connection's HTTP/1.1 conversation, followed from between the socket and the server.

The gate gives every byte that a client sends to `Exchange.feed` and every byte that the inner
protocol writes to `Exchange.wrote`. In return the exchange releases the input one request at a
time and says when the connection stands between two requests, with the next head complete and
not a byte of it seen by the inner protocol: only there can a connection move.

Nothing is ever changed but for header lines added on demand, and nothing is guessed: whatever is
not plain RFC 9112, in either direction, makes the connection a tunnel that never moves again.
Because the inner protocol gets request N+1 only after it has answered request N, a difference of
opinion about framing can cost a move but cannot smuggle a request past the routing.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final

from attrs import define

from .framing import Decoder, Kind, Odd, body, request
from .head import NEED_DATA, Head, Malformed, parse_head
from .response import PASSING, SILENT, Response

if TYPE_CHECKING:
    from .route import How


@define
class Deliver:
    """Give `data` to the inner protocol now."""

    data: bytes


@define
class Ask:
    """A request head is complete, and the inner protocol has seen nothing of it: whose is it?

    Args:
        head: the head.
        first: this is the first request of a connection that was routed by it already: keep it.
    """

    head: Head
    first: bool


@define
class Known:
    """A request whose head was seen before, to the letter (`Exchange.begin`).

    Args:
        method: its method.
        last: nothing may follow it.
        how: how it is routed.
        size: of head and body, in bytes.
    """

    method: bytes
    last: bool
    how: How
    size: int


def known(head: Head, how: How) -> Known | None:
    """What to remember of a request of plain HTTP/1.1; None if its length is not told."""
    try:
        framing = request(head)
    except Odd:
        return None
    if framing.kind is _CHUNKED or head.size != len(head.raw) or head.version != _INTERIM_SINCE:
        return None
    return Known(head.method, framing.last, how, head.size + framing.length)


class _Input(enum.Enum):
    """What the next byte from the client belongs to."""

    BOUNDARY = "the next request's head"
    ASKED = "a request that nobody has decided about yet"
    REQUEST = "the body of the open request"
    ANSWERING = "a later request; the open one is delivered and not answered"
    TUNNEL = "not our business"
    GONE = "another worker"


# Module names, because looking a member up in its class costs 0.1 us on Python 3.11.
_BOUNDARY: Final = _Input.BOUNDARY
_ASKED: Final = _Input.ASKED
_REQUEST: Final = _Input.REQUEST
_ANSWERING: Final = _Input.ANSWERING
_TUNNEL: Final = _Input.TUNNEL
_GONE: Final = _Input.GONE
_NONE: Final = Kind.NONE
_CHUNKED: Final = Kind.CHUNKED

#: The longest request that is worth recognizing by the letters of its head, in bytes.
MEMORABLE: Final = 2048
#: The version whose clients have to understand interim responses (RFC 9110, section 15.2).
_INTERIM_SINCE: Final = b"1.1"
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")
_CR: Final = 13


class Exchange:
    """Follows one connection; pure state, in which nothing happens but by a call.

    Pull with `next` after every `feed` and, once control is back from the inner protocol, after
    every `wrote`, until it returns None.

    Args:
        head_limit: the largest request head that is looked at, in bytes.
        hold_limit: how many bytes may be held back before `over_hold` asks for a pause.
        first_is_ours: the first request has been routed here.

    Attributes:
        request_open: a request was begun, and its response has not come to its end.
        finished_request: the open request was delivered in full. Together with `request_open`: a
            client that sends no more is still owed a response.
        last: the client said that no request follows: ``Connection: close``, or HTTP/1.0.
        due: the connection is a tunnel in which a response is due or under way, as far as can be
            known: it is not to be cut off.
        spent: the connection is a tunnel, not for another protocol, in which every response has
            come to its end.
    """

    __slots__ = (
        "_asked",
        "_beside",
        "_body",
        "_first",
        "_head_limit",
        "_held",
        "_hold_limit",
        "_input",
        "_interim",
        "_response",
        "_seen",
        "due",
        "finished_request",
        "last",
        "request_open",
        "spent",
    )

    def __init__(
        self, head_limit: int = 65536, hold_limit: int = 65536, first_is_ours: bool = True
    ) -> None:
        self._head_limit = head_limit
        # A head has to fit, or the client would be paused for ever in the middle of it.
        self._hold_limit = max(hold_limit, head_limit)
        self._first = first_is_ours
        self._input: _Input = _BOUNDARY
        self._response = Response(head_limit)
        self._held = b""
        # How many held bytes are known: at a boundary those parsed in vain, in a request its head.
        self._seen = 0
        self._asked: Head | None = None
        self._body: Decoder | None = None
        self._interim = True  # as for what is `Known`
        # Follows the responses in a tunnel that an odd request has made.
        self._beside: Response | None = None
        self.due = self.spent = False
        self.request_open = False
        self.finished_request = False
        self.last = False

    @property
    def tunnel(self) -> bool:
        """The connection never moves again, and no byte of either direction need pass here."""
        return self._input is _TUNNEL and self._response.phase is PASSING

    @property
    def lasting(self) -> bool:
        """The connection is a tunnel in which no response is due, such as a WebSocket: it may last
        for as long as its ends like.
        """
        return self.tunnel and not self.due

    @property
    def idle(self) -> bool:
        """The connection stands at a boundary with nothing held: it can move as it is."""
        return self._input is _BOUNDARY and not self._held

    @property
    def held(self) -> int:
        """How many bytes from the client have not been released."""
        return len(self._held)

    @property
    def over_hold(self) -> bool:
        """More is held than allowed: read nothing from the client until some is released."""
        return len(self._held) > self._hold_limit

    @property
    def response_started(self) -> bool:
        """Bytes of the open request's final response were written."""
        return self.request_open and self._response.started

    @property
    def interim(self) -> bool:
        """An interim response can be sent now: the open request was delivered, its response has
        not begun, and its client is to understand.
        """
        waits = self.request_open and self.finished_request and self._interim
        return waits and not self._response.started

    def feed(self, data: bytes) -> None:
        """Take bytes from the client.

        Raises:
            RuntimeError: the connection was handed off; these bytes would be lost.
        """
        if self._input is _GONE:
            raise RuntimeError("Bytes were read from a connection after its hand-off.")
        self._held = self._held + data if self._held else data

    def next(self) -> Deliver | Ask | None:
        """What to do now; None is to wait for more input, for output, or for `keep`."""
        if not self._held:
            return None
        state = self._input
        if state is _BOUNDARY:
            return self._at_boundary()
        if state is _REQUEST:
            return self._in_request()
        if state is _TUNNEL:
            return self._release(len(self._held))
        return None

    def keep(self, inject: bytes = b"") -> None:
        """The request asked about is served here.

        If the inner protocol has written without being asked since, the connection is a tunnel
        already and stays one.

        Args:
            inject: header lines, each with its CR LF, to add behind the status line of the final
                response, which may be a 101; empty for none.

        Raises:
            RuntimeError: nothing was asked.
        """
        if self._input is _TUNNEL:
            return
        head = self._asked
        if head is None:
            raise RuntimeError("A request was kept that nobody asked about.")
        self._asked = None
        self._response.expect(head.method, inject)
        try:
            framing = request(head)
        except Odd:
            self._overhear()
            self._let_go()
            return
        self._body = None if framing.kind is _NONE else body(framing.kind, framing.length)
        self._seen = head.size
        self._input = _REQUEST
        self.request_open = True
        self._interim = head.version == _INTERIM_SINCE
        self.last = framing.last

    def begin(self, known: Known) -> bool:
        """Take a request that came alone and whole, and whose answer to `Ask` is known to be keep.

        The short cut for what a kept-alive client sends again and again: the same as `feed`,
        `next`, `keep` and `next`, if this is a boundary.

        Returns:
            Whether it was taken: then the caller delivers its bytes. If not, nothing was done.
        """
        if self._input is not _BOUNDARY or self._held or self._first:
            return False
        self._response.expect(known.method, b"")
        self._input = _ANSWERING
        self.request_open = self.finished_request = True
        self.last = known.last
        return True

    def remainder(self) -> bytes:
        """End this exchange; the connection moves with the bytes returned, which nobody has seen.

        Raises:
            RuntimeError: the connection is not at a boundary.
        """
        if self._input is not _BOUNDARY and self._input is not _ASKED:
            raise RuntimeError("A connection can be handed off only between two requests.")
        held, self._held = self._held, b""
        self._asked = None
        self._input = _GONE
        return held

    def wrote(self, data: bytes) -> bytes:
        """Follow what the inner protocol writes; only the state changes, so any caller is safe.

        Returns:
            The bytes to send. They differ from `data` only around a status line to which `keep`
            wanted lines added: those are added, and an incomplete status line is kept until the
            rest of it comes.
        """
        response = self._response
        phase = response.phase
        if self._beside is not None:
            self._overheard(self._beside, data)
        if phase is PASSING or self._input is _GONE:
            return data
        data = response.follow(data)
        phase = response.phase
        if self._input is _TUNNEL:
            response.release()
        elif phase is PASSING:
            self._let_go()
            self.request_open = self.due = response.until_close
        elif phase is SILENT and self.finished_request:
            self._settle()
        return data

    def _release(self, size: int) -> Deliver:
        held = self._held
        if size == len(held):
            self._held = b""
            return Deliver(held)
        self._held = held[size:]
        return Deliver(held[:size])

    def _at_boundary(self) -> Deliver | Ask | None:
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
            # It may make more sense to the inner protocol.
            self._response.expect(_method(held), b"")
            self._overhear()
            self._let_go()
            return self._release(len(held))
        self._asked = head
        self._input = _ASKED
        first, self._first = self._first, False
        return Ask(head, first)

    def _in_request(self) -> Deliver:
        at, self._seen = self._seen, 0
        done = True
        if self._body is not None:
            try:
                at, done = self._body.feed(self._held, at)
            except Odd:
                self._overhear()
                self._let_go()
                return self._release(len(self._held))
        if done:
            self.finished_request = True
            self._input = _ANSWERING
            if self._response.phase is SILENT:
                self._settle()
        return self._release(at)

    def _settle(self) -> None:
        """Request and response are complete: a boundary, unless nothing may follow."""
        self.request_open = self.finished_request = False
        self._input = _BOUNDARY
        if self.last or self._response.closes:
            self._let_go()

    def went_on(self, data: bytes) -> None:
        """The client has sent more, in a tunnel that was `spent`: another response is due."""
        self.due, self.spent = True, False
        if self._beside is not None:
            self._beside.expect(_method(data), b"")

    def _overhear(self) -> None:
        """The connection becomes a tunnel while a response is due: follow that, to know its end."""
        self._beside = self._response.alike()
        self.due = True

    def _overheard(self, beside: Response, data: bytes) -> None:
        if beside.phase is SILENT:
            beside.expect(b"", b"")  # the client sent several requests at once
        beside.follow(data)
        self.spent = beside.phase is SILENT
        # Where the end cannot be known, the response lasts until the connection closes.
        self.due = not (self.spent or beside.switched)
        if beside.phase is PASSING:
            self._beside = None

    def _let_go(self) -> None:
        """Become a tunnel."""
        self.request_open = False
        self._input = _TUNNEL
        self._response.release()


def _method(data: bytes) -> bytes:
    """What looks like the method of an odd request."""
    return data[: max(data.find(b" "), 0)]
