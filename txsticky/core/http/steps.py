"""What a `Conversation` has its caller do next, and what it can be told of a request before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from attrs import define

from .framing import BodyKind, Odd, request
from .inside import AS_IT_CAME, Inside

if TYPE_CHECKING:
    from ..how import How
    from .head import Head, Malformed
    from .response import Additions

#: The longest request that is worth recognizing by the letters of its head, in bytes.
MEMORABLE: Final = 2048
#: The version whose clients have to understand interim responses (RFC 9110, section 15.2).
INTERIM_SINCE: Final = b"1.1"


@define
class Deliver:
    """Give `data` to the inner protocol now."""

    data: bytes


@define
class Begin:
    """
    Tell the inner protocol that a request has begun, and what has come of it.

    :param head: the request's, as the inner protocol is to see it.
    :param length: of the content in bytes; None if it comes in chunks, 0 if there is none.
    :param last: nothing follows the request.
    :param content: what has come of the content, decoded.
    :param whole: that is all of it.
    """

    head: Head
    length: int | None
    last: bool
    content: bytes
    whole: bool

    def tell(self, protocol: TakesEvents) -> None:
        """Tell the inner protocol."""
        protocol.begun(self)


@define
class Content:
    """
    Tell the inner protocol what more has come of the request.

    :param content: decoded; empty if only the end has come.
    :param whole: that is the end of it.
    """

    content: bytes
    whole: bool

    def tell(self, protocol: TakesEvents) -> None:
        """Tell the inner protocol."""
        protocol.continued(self)


class TakesEvents(Protocol):
    """An inner protocol that is told of requests."""

    def begun(self, step: Begin) -> None:
        """Take a request, of which the head has come, and perhaps more."""

    def continued(self, step: Content) -> None:
        """Take what more has come of the request."""


@define
class Ask:
    """
    A request head is complete: decide where it belongs.

    The inner protocol has seen nothing of it.

    :param head: the head.
    :param first: this is the first request of a connection that was routed by it already: keep it.
    """

    head: Head
    first: bool


@define
class Refuse:
    """
    Answer in the inner protocol's place, and close the connection.

    :param fault: what to answer with; None where a response has begun already, which cannot be
        ended.
    :param head_only: the request's method is HEAD.
    """

    fault: Malformed | None
    head_only: bool = False


@define
class Known:
    """
    A request whose head was seen before, to the letter (`Conversation.begin`).

    :param method: its method.
    :param line: its request line, without the CR LF.
    :param last: nothing may follow it.
    :param how: how it is routed.
    :param size: of head and body, in bytes.
    :param begin: tells of it, without its content.
    :param additions: what is to be added to its response.
    """

    method: bytes
    last: bool
    how: How
    size: int
    line: bytes
    begin: Begin
    additions: Additions | None = None


def known(
    head: Head, how: How, inside: Inside = AS_IT_CAME, additions: Additions | None = None
) -> Known | None:
    """
    What to remember of a request of plain HTTP/1.1 that the server inside is to see as it came.

    :param additions: what is to be added to its response.
    :returns: None if its length is not told, its head is changed, or it may be the last of HTTP.
    """
    try:
        framing = request(head)
    except Odd:
        return None
    if (
        framing.kind is BodyKind.CHUNKED
        or head.size != len(head.raw)
        or head.version != INTERIM_SINCE
    ):
        return None
    if inside.head(head) is not head.raw or head.header(b"upgrade") is not None:
        return None
    size, last = head.size + framing.length, framing.last
    begin = Begin(head, framing.length, last, b"", whole=True)
    return Known(head.method, last, how, size, line_of(head), begin, additions)


def line_of(head: Head) -> bytes:
    """The request line, without its CR LF."""
    return head.raw[: head.fields_at - 2]
