"""
How a request is read whose end has more than one reading, where this process is the one to read it.

It is answered, where twisted.web answers it, and is the last of its connection in any case (RFC
9112, section 6.3). Nothing is guessed about its end: where two header lines tell of it, or a coding
is not known, it is refused.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from .framing import BodyKind, Odd, RequestFraming, told_by
from .head import Head, parse_head

#: RFC 9112, section 5.2: what is folded is replaced by blanks, or refused.
_FOLD: Final = re.compile(rb"\r\n[ \t]+")
_FRAMING_FIELD: Final = re.compile(rb"\n(content-length|transfer-encoding):[ \t]*+([^\r]*)")


def reading(head: Head) -> tuple[Head, RequestFraming]:
    """
    Read the head of a request for which `framing.request` or `framing.content` raises `Odd`.

    :returns: the head without folded lines, and where the request ends.
    :raises Odd: it has to be refused.
    """
    head = unfolded(head)
    kind, length = BodyKind.NONE, 0
    told = False
    for name, value in _FRAMING_FIELD.findall(head.raw[head.fields_at - 2 :].lower()):
        value = value.strip(b" \t")
        if name == b"transfer-encoding" and value == b"identity":
            continue  # RFC 7230, appendix A.2: of no meaning any more
        if told:
            raise Odd("more than one Content-Length or Transfer-Encoding")
        told = True
        kind, length = told_by(name, value)
    return head, RequestFraming(kind, length, last=True)


def unfolded(head: Head) -> Head:
    """
    The head with every folded line made one line.

    :raises Odd: what comes of it is no head.
    """
    fields = head.raw[head.fields_at :]
    plain = _FOLD.sub(b" ", fields)
    return head if plain == fields else again(head, head.raw[: head.fields_at] + plain)


def again(head: Head, raw: bytes) -> Head:
    """
    The head that a changed one is.

    :param head: as it came.
    :param raw: as it is to be seen.
    :returns: it, its size that of `head`: what it took of the input.
    :raises Odd: this is no head.
    """
    changed = parse_head(raw, len(raw))
    if not isinstance(changed, Head):
        raise Odd("what is left of the head is none")
    return attrs.evolve(changed, size=head.size)
