"""
The conversation of a server that takes events: it is told of heads and contents, and parses none.

It takes what the gate has parsed. So there are no two opinions about where a request ends, and a
request whose end is not certain is read by `reading`, or refused.
"""

from __future__ import annotations

from typing import Final

from ..replay import Replay
from .conversation import Conversation, fault_of
from .framing import BodyKind, Odd, RequestFraming, content
from .head import Head, Malformed
from .incoming import REQUEST
from .inside import AS_IT_CAME, Inside
from .reading import again, reading
from .response import Additions
from .steps import Ask, Begin, Content, Deliver, Known, Refuse

_BAD_FRAMING: Final = Malformed(
    400,
    "The request's Content-Length and Transfer-Encoding do not tell for certain where it ends (RFC"
    " 9112, section 6.3).",
)


class EventConversation(Conversation):
    """
    Follows one connection whose inner protocol takes events (`Conversation`).

    In the place of the bytes of a request, `next` gives one `Begin`, and as much `Content` as comes
    behind that. `Deliver` comes when HTTP has ended.
    """

    __slots__ = ("_length", "_pending")

    def __init__(
        self,
        head_limit: int = 65536,
        hold_limit: int = 65536,
        first_is_ours: bool = True,
        inside: Inside = AS_IT_CAME,
        replay: Replay | None = None,
    ) -> None:
        Conversation.__init__(self, head_limit, hold_limit, first_is_ours, inside, replay)
        #: The open request's head, of which nothing has been told, or what it is refused with.
        self._pending: Head | Malformed | None = None
        self._length: int | None = 0

    def next(self) -> Deliver | Begin | Content | Ask | Refuse | None:
        """What to do now; None is to wait for more input, for output, or for `keep`."""
        if self._pending is not None and self._input is REQUEST:
            return self._in_request()
        return Conversation.next(self)

    def _show(self, head: Head, shown: bytes) -> None:
        self._held = self._held[head.size :]
        self._seen = 0
        try:
            self._pending = head if shown is head.raw else again(head, shown)
        except Odd:
            self._pending = _BAD_FRAMING

    def _take(self, framing: RequestFraming) -> None:
        Conversation._take(self, framing)
        self._length = None if framing.kind is BodyKind.CHUNKED else framing.length

    def _keep_odd(self, head: Head, additions: Additions | None) -> None:
        self._response.expect(head.method, additions, last=True)
        self._last = True
        self._interim = False
        try:
            try:
                framing = content(head)  # that of a CONNECT may be plain
                read = head
            except Odd:
                read, framing = reading(head)
        except Odd:
            self._input = REQUEST
            self._pending = _BAD_FRAMING
            return
        self._show(read, self.inside.head(read))
        self._take(framing)

    def _whole(self, known: Known, data: bytes) -> Begin:
        begin = known.begin
        size = begin.head.size
        if size == known.size:
            return begin
        return Begin(begin.head, begin.length, begin.last, data[size:], whole=True)

    def _in_request(self) -> Begin | Content | Refuse:
        head, self._pending = self._pending, None
        if isinstance(head, Malformed):
            return self.refuse(head, self.request_line.startswith(b"HEAD "))
        held, at, whole = self._held, 0, self._body is None
        pieces: list[bytes] = []
        if self._body is not None and held:
            try:
                at, whole = self._body.feed(held, 0, pieces)
            except Odd as odd:
                return self.refuse(fault_of(odd), self.request_line.startswith(b"HEAD "))
        self._held = held[at:]
        come = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        step = Content(come, whole) if head is None else self._begun(head, come, whole)
        if whole:
            self._received()
        return step

    def _begun(self, head: Head, come: bytes, whole: bool) -> Begin:
        return Begin(head, self._length, self.last or self._last, come, whole)
