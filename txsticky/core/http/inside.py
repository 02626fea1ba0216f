"""
What the server inside is to see of a request's head, where that is not the head as it came.

Three things are changed because RFC 9110 or 9112 says so and not every server does it:

* an offer to upgrade that the server inside cannot take is ignored (RFC 9110, section 7.8): its
  fields are taken off, because parsers believe that HTTP ends with such a head;
* a target in absolute form becomes one in origin form, and its authority is the Host (RFC 9112,
  section 3.2.2);
* a request whose end is not certain is the last of its connection (RFC 9112, section 6.3), and the
  server inside is told so.

And fields whose names begin with ``Txsticky-`` are taken off: only this server may say them.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from .head import Head
from .response import LAST

#: By how many bytes more than the gate the server inside has to allow in a head, for what is added.
ADDED: Final = 6144
#: Protocols that no server inside begins in this way (RFC 9113, section 3.1, has dropped them).
_OBSOLETE: Final = frozenset({b"h2c", b"h2", b"http/2.0", b"tls/1.0"})
_WEBSOCKET: Final = b"websocket"
_FIELD: Final = re.compile(rb"([^:\r]+):[ \t]*((?:[^\r]|\r\n[ \t])*)\r\n")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)(.*)", re.IGNORECASE)
#: As it is told apart; `_` and `-` are the same to CGI, and so to WSGI (RFC 3875, section 4.1.18).
_OURS: Final = b"txsticky"


@frozen
class Inside:
    """
    What the server inside can do.

    :param websocket_only: the one protocol that it upgrades to is WebSocket, by a GET (RFC 6455,
        section 4.1); if not, it may know others.
    :param absolute: it makes sense of a target in absolute form itself.
    """

    websocket_only: bool = False
    absolute: bool = True

    def head(self, head: Head, last: bool = False) -> bytes:
        """
        The head as the server inside is to see it; ``head.raw`` itself if nothing changes.

        :param head: as the client sent it.
        :param last: the server inside is to close the connection behind its response.
        """
        upgrade = head.header(b"upgrade")
        forged = head.has_prefix(_OURS)
        plain = self.absolute or head.target[:1] == b"/"
        if upgrade is None and not last and plain and not forged:
            return head.raw
        line, fields = head.raw[: head.fields_at], head.raw[head.fields_at : -2]
        if forged:
            fields = _FIELD.sub(_but_ours, fields)
        if upgrade is not None:
            fields = self._without_offer(head, fields)
        absolute = None if self.absolute else _ABSOLUTE.fullmatch(head.target)
        if absolute is not None:
            authority, rest = absolute.groups()
            target = rest if rest[:1] == b"/" else b"/" + rest
            line = b"%b %b HTTP/%b\r\n" % (head.method, target, head.version)
            host = b"Host: %b\r\n" % authority.rpartition(b"@")[2]
            fields = host + _without(fields, b"host")
        says_so = head.version == b"1.0" or (head.header(b"connection") or b"").lower() == b"close"
        if last and not says_so and b"\nupgrade:" not in b"\n" + fields.lower():
            fields = LAST + fields  # unless it may become another protocol
        return b"%b%b\r\n" % (line, fields)

    def _without_offer(self, head: Head, fields: bytes) -> bytes:
        """The fields without the protocols that the server inside cannot upgrade to."""
        lines = head.headers(b"upgrade")
        if lines == (_WEBSOCKET,) and self._knows(head.method, _WEBSOCKET):
            return fields  # as most offers are
        values = b",".join(lines).split(b",")
        offered = [value.strip(b" \t") for value in values]
        granted = [value for value in offered if self._knows(head.method, value.lower())]
        if granted == offered:
            return fields
        kept = b"".join(b"Upgrade: %b\r\n" % value for value in granted[:1])
        gone = {b"http2-settings"} if granted else {b"http2-settings", b"upgrade"}
        options = b",".join(head.headers(b"connection")).split(b",")
        stay = [o for o in (o.strip(b" \t") for o in options) if o and o.lower() not in gone]
        if stay:
            kept += b"Connection: %b\r\n" % b", ".join(stay)
        return _without(fields, b"upgrade", b"http2-settings", b"connection") + kept

    def _knows(self, method: bytes, protocol: bytes) -> bool:
        if self.websocket_only:
            return protocol == _WEBSOCKET and method == b"GET"
        return protocol.partition(b"-")[0] not in _OBSOLETE


def _but_ours(line: re.Match[bytes]) -> bytes:
    name = line[1].lower().replace(b"_", b"-")
    return b"" if name == _OURS or name.startswith(_OURS + b"-") else line[0]


def _without(fields: bytes, *names: bytes) -> bytes:
    """Header lines without those of these names, given in lower case."""
    return _FIELD.sub(lambda line: b"" if line[1].lower() in names else line[0], fields)


#: A server of which nothing is known.
AS_IT_CAME: Final = Inside()
