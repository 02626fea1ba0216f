"""
One connection's HTTP/1.1 conversation, followed from between the socket and the server.

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

The state is a pair: what the next byte from the client belongs to (`incoming.Input`), and what the
next byte from the inner protocol does (`response.ResponsePhase`). ``incoming.MOVES`` and
``incoming.PHASES`` list what may follow and which pairs there are. In the usual course:

=========  ======================  ================  ==============================================
input      response                waits for         what ends it
=========  ======================  ================  ==============================================
BOUNDARY   SILENT                  a head            `next` asks: ASKED; `remainder`: GONE
ASKED      SILENT                  `keep`            `keep`: REQUEST, ODD; `remainder`: GONE
REQUEST    HEAD, BODY, SILENT      the body's end    `next`: ANSWERING, or BOUNDARY if all is sent
ANSWERING  HEAD, BODY              the response      `wrote`: BOUNDARY, or DROP after the last
ODD        HEAD, BODY              the response      `wrote`: DROP, or TUNNEL after an upgrade
=========  ======================  ================  ==============================================
"""

from __future__ import annotations

from typing import Final

from ..replay import Replay
from .framing import Odd, TooLarge, content, request
from .head import TOO_LARGE, Head, Malformed
from .incoming import ANSWERING, ASKED, BOUNDARY, GONE, ODD, REQUEST, TUNNEL, Incoming
from .inside import AS_IT_CAME, Inside
from .response import PASSING, SILENT, Additions, Response
from .steps import INTERIM_SINCE, Ask, Begin, Content, Deliver, Known, Refuse, line_of

_BAD_BODY: Final = Malformed(
    400, "The request's chunked body or its trailers are not of the form of RFC 9112, section 7.1."
)


def fault_of(odd: Odd) -> Malformed:
    """What a request is refused with whose body is none."""
    return TOO_LARGE if isinstance(odd, TooLarge) else _BAD_BODY


class Conversation(Incoming):
    """
    Follows one connection; pure state, in which nothing happens but by a call.

    Pull with `next` after every `feed` and, once control is back from the inner protocol, after
    every `wrote`, until it returns None.

    :param head_limit: the largest request head that is looked at, in bytes.
    :param hold_limit: how many bytes may be held back before `over_hold` asks for a pause.
    :param first_is_ours: whether the first request has been routed here.
    :param inside: what the inner protocol is to see of a head.
    :param replay: of a WebSocket that has moved here, whose handshake is the first request.
    :ivar request_line: of the last request that was kept.
    :ivar over: whether nothing more is served and nothing is to be sent: the connection is to be
        closed.
    :ivar request_open: whether a request was begun whose response has not come to its end.
    :ivar finished_request: whether the open request was delivered in full. Together with
        `request_open`: a client that sends no more is still owed a response.
    :ivar last: whether the client said that no request follows: ``Connection: close``, or HTTP/1.0.
    """

    __slots__ = (
        *("_interim", "_last", "_refused", "_response", "finished_request", "inside"),
        *("last", "over", "request_line", "request_open"),
    )

    def __init__(
        self,
        head_limit: int = 65536,
        hold_limit: int = 65536,
        first_is_ours: bool = True,
        inside: Inside = AS_IT_CAME,
        replay: Replay | None = None,
    ) -> None:
        Incoming.__init__(self, head_limit, hold_limit, first_is_ours, replay)
        self._response = Response(head_limit)
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
    def upgraded(self) -> bool:
        """Whether HTTP has ended: a 101 was written, or a 2xx to CONNECT."""
        return self._response.upgraded

    @property
    def surplus(self) -> bool:
        """Whether the inner protocol wrote more than its response has, which was cut off."""
        return self._response.surplus

    @property
    def unfinished(self) -> bool:
        """Whether a response is due or under way whose end is not that of the connection."""
        return self.request_open and self._response.phase is not PASSING

    @property
    def response_started(self) -> bool:
        """Whether bytes of the open request's final response were written."""
        return self.request_open and self._response.started

    @property
    def interim(self) -> bool:
        """
        Whether an interim response can be sent now (RFC 9110, section 15.2).

        The open request was delivered, its response has not begun, and its client must understand.
        """
        waits = self.request_open and self.finished_request and self._interim
        return waits and not self._response.started

    # ---------------------------------------------------------------- from the client

    def next(self) -> Deliver | Begin | Content | Ask | Refuse | None:
        """What to do now; None is to wait for more input, for output, or for `keep`."""
        if not self._held:
            return None
        state = self._input
        if state is BOUNDARY:
            return self._at_boundary()
        if state is REQUEST:
            return self._in_request()
        if state is TUNNEL or state is ODD:
            return self._release(len(self._held))
        return None

    def keep(self, additions: Additions | None = None, added: bytes = b"") -> None:
        """
        Serve the request here that was asked about.

        If the inner protocol has written without being asked since, the connection is a tunnel
        already and stays one, or is over.

        :param additions: says which header lines to add behind the status line of the final
            response, which may be a 101.
        :param added: header lines, each with its CR LF, for the inner protocol to see in the
            request.
        :raises RuntimeError: nothing was asked.
        """
        if self._input is TUNNEL:
            return
        head = self._asked
        if head is None:
            raise RuntimeError("A request was kept that was not asked about.")
        if self.surplus:
            self._end()
            return
        self._asked = None
        self.request_open = True
        self.request_line = line_of(head)
        try:
            framing = request(head)
        except Odd:
            self._keep_odd(head, additions)
            return
        self._response.expect(head.method, additions)
        shown = self.inside.head(head)
        self._show(head, shown[:-2] + added + shown[-2:] if added else shown)
        self._take(framing)
        self._interim = head.version == INTERIM_SINCE
        self.last = framing.last

    def _keep_odd(self, head: Head, additions: Additions | None) -> None:
        """Keep a request whose end is not certain: nothing behind it is served."""
        self._response.expect(head.method, additions, last=True)
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
        self._input = ODD
        # Perhaps, and the client that sends no more is to get its response.
        self.finished_request = True

    def begin(self, known: Known, data: bytes, first: bool = False) -> Deliver | Begin | None:
        """
        Take a request that came alone and whole, and whose answer to `Ask` is known to be keep.

        The short cut for what clients repeat: as `feed`, `next`, `keep`, `next` at a boundary.

        :param data: the request.
        :param first: whether it may be the first, which is kept in any case.
        :returns: what to do now; None if it was not taken: then nothing was done.
        """
        if self._input is not BOUNDARY or self._held or (self._first and not first):
            return None
        self._first, self.request_line = False, known.line
        self._response.expect(known.method, known.additions)
        self._input = ANSWERING
        self.request_open = self.finished_request = True
        self.last = known.last
        return self._whole(known, data)

    def _whole(self, known: Known, data: bytes) -> Deliver | Begin:
        """What to do with a request that came alone and whole."""
        return Deliver(data)

    def _in_request(self) -> Deliver | Begin | Content | Refuse:
        at, self._seen = self._seen, 0
        done = True
        if self._body is not None:
            try:
                at, done = self._body.feed(self._held, at)
            except Odd as odd:
                return self.refuse(fault_of(odd), self.request_line.startswith(b"HEAD "))
        step = self._release(at)
        if done:
            self._received()
        return step

    def _received(self) -> None:
        """The open request is delivered in full."""
        self.finished_request = True
        self._input = ANSWERING
        phase = self._response.phase
        if phase is SILENT:
            self._settle()
        elif phase is PASSING:
            self._drop()

    # --------------------------------------------------------- from the inner protocol

    def wrote(self, data: bytes) -> bytes:
        """
        Follow what the inner protocol writes; only the state changes, so any caller is safe.

        :returns: the bytes to send. They differ from `data` around a head to which lines are added
            (an incomplete one is kept until the rest of it comes), and where the inner protocol
            wrote more than its response has: that is cut off.
        """
        response = self._response
        phase = response.phase
        if phase is PASSING or self._input is GONE:
            return data
        if self.over:
            response.surplus = not self._refused
            return b""
        data = response.follow(data)
        phase = response.phase
        if phase is PASSING:
            if response.upgraded or not self.request_open:
                self._become_tunnel()
            elif self._input is ANSWERING:
                self._drop()  # the response ends with the connection
        elif response.surplus:
            # More of it may come, and would be taken for a part of the next response. A request
            # about which nothing is decided is on its way to another worker, where none can come.
            if self._input is not ASKED:
                self._end()
        elif phase is SILENT and self.finished_request:
            self._settle()
        return data

    # ------------------------------------------------------------------------ the ends

    def _settle(self) -> None:
        """Request and response are complete: a boundary, unless nothing may follow."""
        if self.last or self._last or self._response.closes:
            self._end()
        else:
            self.request_open = self.finished_request = False
            self._input = BOUNDARY

    def refuse(self, fault: Malformed, head_only: bool) -> Refuse:
        """Serve nothing more; what the inner protocol still writes goes nowhere."""
        begun = self._response.started and self.request_open
        self._end()
        self._refused = True
        return Refuse(None if begun else fault, head_only)

    def _end(self) -> None:
        """Serve nothing more; all has been sent."""
        self.request_open = self.finished_request = False
        self.over = True
        self._drop()

    def _become_tunnel(self) -> None:
        self.request_open = False
        self._input = TUNNEL
