"""One connection's HTTP/1.1 conversation, followed from between the socket and the server.

The gate gives every byte that a client sends to `Conversation.feed` and every byte that the inner
protocol writes to `Conversation.wrote`. In return the conversation releases the input one request
at a time and says when the connection stands between two requests, with the next head complete and
not a byte of it seen by the inner protocol: only there can a connection move.

Nothing is ever changed but for header lines added on demand and what `inside` changes in a request,
and nothing is guessed. A request whose end is not certain is the last of its connection: the inner
protocol gets what comes as it is, is told to close, and nothing behind it is served. What can be no
request is refused. Because the inner protocol gets request N+1 only after it has answered request
N, a difference of opinion about framing can cost a connection but cannot smuggle a request past the
routing. A tunnel is what HTTP has ended on: after an upgrade, or where the server speaks first.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from .framing import BodyKind, Decoder, Odd, RequestFraming, TooLarge, body, content, request
from .head import NEED_DATA, TOO_LARGE, Head, Malformed, parse_head
from .inside import AS_IT_CAME, Inside
from .response import PASSING, SILENT, Response, ResponsePhase
from .steps import INTERIM_SINCE, Ask, Deliver, Known, Refuse, line_of


class _Input(enum.Enum):
    """What the next byte from the client belongs to."""

    BOUNDARY = "the next request's head"
    ASKED = "a request that nobody has decided about yet"
    REQUEST = "the body of the open request"
    ANSWERING = "a later request; the open one is delivered and not answered"
    ODD = "a request whose end is not certain"
    DROP = "nothing that is served: the last request was before"
    TUNNEL = "not our business"
    GONE = "another worker"


# Module names, because looking a member up in its class costs 0.1 us on Python 3.11.
_BOUNDARY: Final = _Input.BOUNDARY
_ASKED: Final = _Input.ASKED
_REQUEST: Final = _Input.REQUEST
_ANSWERING: Final = _Input.ANSWERING
_ODD: Final = _Input.ODD
_DROP: Final = _Input.DROP
_TUNNEL: Final = _Input.TUNNEL
_GONE: Final = _Input.GONE
_NONE: Final = BodyKind.NONE
_CHUNKED: Final = BodyKind.CHUNKED

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")
_CR: Final = 13
_BAD_BODY: Final = Malformed(
    400, "The request's chunked body or its trailers are not of the form of RFC 9112, section 7.1."
)


class Conversation:
    """Follows one connection; pure state, in which nothing happens but by a call.

    Pull with `next` after every `feed` and, once control is back from the inner protocol, after
    every `wrote`, until it returns None.

    Args:
        head_limit: the largest request head that is looked at, in bytes.
        hold_limit: how many bytes may be held back before `over_hold` asks for a pause.
        first_is_ours: the first request has been routed here.
        inside: what the inner protocol is to see of a head.

    Attributes:
        request_line: of the last request that was kept.
        over: nothing more is served and nothing is to be sent: the connection is to be closed.
        request_open: a request was begun, and its response has not come to its end.
        finished_request: the open request was delivered in full. Together with `request_open`: a
            client that sends no more is still owed a response.
        last: the client said that no request follows: ``Connection: close``, or HTTP/1.0.
    """

    __slots__ = (
        "_asked",
        "_body",
        "_first",
        "_head_limit",
        "_held",
        "_hold_limit",
        "_input",
        "_interim",
        "_last",
        "_refused",
        "_response",
        "_seen",
        "finished_request",
        "inside",
        "last",
        "over",
        "request_line",
        "request_open",
    )

    def __init__(
        self,
        head_limit: int = 65536,
        hold_limit: int = 65536,
        first_is_ours: bool = True,
        inside: Inside = AS_IT_CAME,
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
        self._last = False  # the open request is odd
        self._refused = False
        self.inside = inside
        self.request_line = b""
        self.over = False
        self.request_open = False
        self.finished_request = False
        self.last = False

    @property
    def body_due(self) -> bool:
        """The client owes the rest of a request whose head has come."""
        return self._input is _REQUEST

    @property
    def tunnel(self) -> bool:
        """The connection never moves again, and no byte of either direction need pass here."""
        return self._input is _TUNNEL and self._response.phase is PASSING

    @property
    def upgraded(self) -> bool:
        """HTTP has ended: a 101 was written, or a 2xx to CONNECT."""
        return self._response.upgraded

    @property
    def surplus(self) -> bool:
        """The inner protocol wrote more than its response has, which was cut off."""
        return self._response.surplus

    @property
    def unfinished(self) -> bool:
        """A response is due or under way that has an end other than the connection's."""
        return self.request_open and self._response.phase is not PASSING

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
        if self._input is _DROP:
            return
        self._held = self._held + data if self._held else data

    def next(self) -> Deliver | Ask | Refuse | None:
        """What to do now; None is to wait for more input, for output, or for `keep`."""
        if not self._held:
            return None
        state = self._input
        if state is _BOUNDARY:
            return self._at_boundary()
        if state is _REQUEST:
            return self._in_request()
        if state is _TUNNEL or state is _ODD:
            return self._release(len(self._held))
        return None

    def keep(self, inject: bytes = b"") -> None:
        """The request asked about is served here.

        If the inner protocol has written without being asked since, the connection is a tunnel
        already and stays one, or is over.

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
        if self.surplus:
            self._end()
            return
        self._asked = None
        self.request_open = True
        self.request_line = line_of(head)
        try:
            framing = request(head)
        except Odd:
            self._keep_odd(head, inject)
            return
        self._response.expect(head.method, inject)
        self._show(head, self.inside.head(head))
        self._take(framing)
        self._interim = head.version == INTERIM_SINCE
        self.last = framing.last

    def _take(self, framing: RequestFraming) -> None:
        """The body of the open request comes, if it has one."""
        self._body = None
        if framing.kind is not _NONE:
            self._body = body(framing.kind, framing.length, self._head_limit)
        self._input = _REQUEST

    def _keep_odd(self, head: Head, inject: bytes) -> None:
        """The end of the request is not certain: nothing behind it is served."""
        self._response.expect(head.method, inject, last=True)
        self._last = True
        self._interim = False
        if head.method == b"CONNECT":
            try:
                self._take(content(head))
            except Odd:
                pass
            else:  # what follows it is held until the response
                self._show(head, self.inside.head(head))
                return
        self._show(head, self.inside.head(head, last=True))
        self._input = _ODD
        # Perhaps, and the client that sends no more is to get its response.
        self.finished_request = True

    def _show(self, head: Head, shown: bytes) -> None:
        """Let the inner protocol see this head in the place of the one that came."""
        if shown is not head.raw:
            self._held = shown + self._held[head.size :]
        self._seen = len(shown) if shown is not head.raw else head.size

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
        self.request_line = known.line
        self._input = _ANSWERING
        self.request_open = self.finished_request = True
        self.last = known.last
        return True

    def remainder(self) -> bytes:
        """End the conversation and return the held bytes, with which the connection moves.

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
            The bytes to send. They differ from `data` around a head to which lines are added (an
            incomplete one is kept until the rest of it comes), and where the inner protocol wrote
            more than its response has: that is cut off.
        """
        response = self._response
        phase = response.phase
        if phase is PASSING or self._input is _GONE:
            return data
        if self.over:
            response.surplus = not self._refused
            return b""
        data = response.follow(data)
        phase = response.phase
        if phase is PASSING:
            if response.upgraded or not self.request_open:
                self._let_go()
            elif self._input is _ANSWERING:
                self._drop()  # the response ends with the connection
        elif response.surplus:
            # More of it may come, and would be taken for a part of the next response. A request
            # that nobody has decided about is on its way to another worker, where none can come.
            if self._input is not _ASKED:
                self._end()
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

    def _at_boundary(self) -> Ask | Refuse | None:
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
            return self._refuse(head, head_only=False)
        self._asked = head
        self._input = _ASKED
        first, self._first = self._first, False
        return Ask(head, first)

    def _in_request(self) -> Deliver | Refuse:
        at, self._seen = self._seen, 0
        done = True
        if self._body is not None:
            try:
                at, done = self._body.feed(self._held, at)
            except Odd as odd:
                fault = TOO_LARGE if isinstance(odd, TooLarge) else _BAD_BODY
                return self._refuse(fault, self.request_line.startswith(b"HEAD "))
        step = self._release(at)
        if done:
            self.finished_request = True
            self._input = _ANSWERING
            self._request_ended(self._response.phase)
        return step

    def _request_ended(self, phase: ResponsePhase) -> None:
        if phase is SILENT:
            self._settle()
        elif phase is PASSING:
            self._drop()

    def _settle(self) -> None:
        """Request and response are complete: a boundary, unless nothing may follow."""
        if self.last or self._last or self._response.closes:
            self._end()
            return
        self.request_open = self.finished_request = False
        self._input = _BOUNDARY

    def _refuse(self, fault: Malformed, head_only: bool) -> Refuse:
        begun = self._response.started and self.request_open
        self._end()
        self._refused = True
        return Refuse(None if begun else fault, head_only)

    def _end(self) -> None:
        """Nothing more is served, and all has been sent."""
        self.request_open = self.finished_request = False
        self.over = True
        self._drop()

    def _drop(self) -> None:
        """What comes from now on is no request that is served."""
        self._input = _DROP
        self._held = b""
        self._asked = None

    def _let_go(self) -> None:
        """Become a tunnel."""
        self.request_open = False
        self._input = _TUNNEL
