"""
The handshake of a WebSocket, kept so that another worker can be shown it again (RFC 6455, 4).

A WebSocket may move if the application, or the operator for all, says so. To the server inside
its new worker a WebSocket that has moved is one that begins; what that server answers must be what
the client was told by the first.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from attrs import frozen

from ...replay import Replay
from ..head import Head

#: Bytes of the state that an application may leave for the next worker.
STATE_LIMIT: Final = 4096
#: What begins the names of the fields by which server and application speak of a move.
PREFIX: Final = b"txsticky-"
_WEBSOCKET: Final = b"txsticky-websocket"
_STATE: Final = b"txsticky-state"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LINE: Final = re.compile(rb"([^:\r\n]+):[ \t]*([^\r\n]*?)[ \t]*\r\n")
_STATE_TEXT: Final = re.compile(rb"[\x20-\x7e]*")
#: The extension whose parameters tell how long a compressor remembers (RFC 7692, section 7.1.1).
_DEFLATE: Final = b"permessage-deflate"
_FORGETFUL_CLIENT: Final = b"client_no_context_takeover"


@frozen
class Accepted:
    """
    A 101 to the handshake of a WebSocket.

    :param head: as the client is to see it.
    :param accept: the value of its Sec-WebSocket-Accept.
    :param protocol: of its Sec-WebSocket-Protocol.
    :param extensions: of its Sec-WebSocket-Extensions.
    :param may_move: whether the WebSocket may move.
    :param state: what the application leaves for itself.
    """

    head: bytes
    accept: bytes
    protocol: bytes
    extensions: bytes
    may_move: bool
    state: bytes

    @property
    def compressed(self) -> bool:
        """Whether messages may be compressed."""
        return bool(self.extensions)

    def agrees(self, replay: Replay, key: bytes) -> bool:
        """Whether a client that was told the first answer can go on with this one."""
        told = accept_of(key), replay.protocol, replay.extensions
        return (self.accept, self.protocol, self.extensions) == told


def is_handshake(head: Head) -> bool:
    """Whether a request may begin a WebSocket (RFC 6455, section 4.2.1)."""
    if head.method != b"GET" or head.version != b"1.1":
        return False
    upgrade = head.header(b"upgrade")
    if upgrade is None or upgrade.lower() != b"websocket":
        return False
    key = head.headers(b"sec-websocket-key")
    return len(key) == 1 and head.headers(b"sec-websocket-version") == (b"13",)


def is_engine_io(head: Head) -> bool:
    """Whether a request belongs to a session of Engine.IO, which is its library's, and stays."""
    return any(part.startswith(b"EIO=") for part in head.query.split(b"&"))


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def check_state(state: bytes) -> str:
    """
    Look whether a state can travel in a header field.

    :returns: what is wrong with it; empty if nothing is.
    """
    if len(state) > STATE_LIMIT:
        return f"it has {len(state)} bytes, and may have {STATE_LIMIT}"
    if not _STATE_TEXT.fullmatch(state):
        return "it has characters other than visible ASCII and blanks"
    return ""


def speaks_of_moves(head: bytes) -> bool:
    """
    Whether the head of a response has a word for this server.

    If not, there is nothing in it to be taken off or to be obeyed: most applications say nothing.
    """
    return PREFIX in head.lower()


def read_answer(
    head: bytes, key: bytes, always: bool = False, moved: bool = False
) -> Accepted | None:
    """
    Read the head of a response to a handshake.

    :param head: from the status line to the empty line.
    :param key: the Sec-WebSocket-Key that it answers.
    :param always: whether a WebSocket may move without the application's word.
    :param moved: whether this one has, so that its client was told what one is that may.
    :returns: None if it is no 101.
    """
    line_end = head.find(b"\r\n") + 2
    if not head.startswith(b"HTTP/1.1 101"):
        return None
    fields: dict[bytes, list[bytes]] = {}
    kept = [head[:line_end]]
    for line in _LINE.finditer(head, line_end):
        name, value = line[1].lower(), line[2]
        fields.setdefault(name, []).append(value)
        if not name.startswith(PREFIX) and name != b"sec-websocket-extensions":
            kept.append(line[0])
    asked = fields.get(_WEBSOCKET)
    wanted = always if asked is None else asked == [b"move"]
    accept = b", ".join(fields.get(b"sec-websocket-accept", ()))
    extensions = b", ".join(fields.get(b"sec-websocket-extensions", ()))
    forgetful = _forgetful(extensions)
    may_move = wanted and accept == accept_of(key) and forgetful is not None
    if forgetful and (may_move or moved):
        extensions = forgetful
    if extensions:
        kept.append(b"Sec-WebSocket-Extensions: %b\r\n" % extensions)
    state = b"".join(fields.get(_STATE, ()))
    as_it_is = not may_move and not any(name.startswith(PREFIX) for name in fields)
    return Accepted(
        head if as_it_is else b"".join(kept) + b"\r\n",
        accept,
        b", ".join(fields.get(b"sec-websocket-protocol", ())),
        extensions,
        may_move,
        b"" if check_state(state) else state,
    )


def _forgetful(extensions: bytes) -> bytes | None:
    """
    Have a client's extensions compress each message for itself.

    A server may ask for that of its own accord (RFC 7692, section 7.1.1.2). Its own compressor
    may remember: that of the next worker begins anew, and refers to nothing before, which any
    client can read.

    :returns: the extensions as they are then; None if it is not known of one what it remembers.
    """
    if not extensions:
        return extensions
    if b"," in extensions:
        return None
    name, *parameters = (part.strip(b" \t") for part in extensions.split(b";"))
    if name.lower() != _DEFLATE:
        return None
    if _FORGETFUL_CLIENT in [parameter.lower() for parameter in parameters]:
        return extensions
    return extensions + b"; " + _FORGETFUL_CLIENT


def added_lines(id: int, replay: Replay | None) -> bytes:
    """
    The header lines that the server inside sees beside those of the client.

    :param id: by which the application names the WebSocket.
    :param replay: of a WebSocket that has moved.
    """
    lines = b"Txsticky-Websocket: %d\r\n" % id
    if replay is not None:
        lines += b"Txsticky-Moved: %d\r\n" % replay.moves
        if replay.state:
            lines += b"Txsticky-State: %b\r\n" % replay.state
    return lines
