"""
What the processes of a cluster say to each other, as bytes.

Two kinds of message: a *mailbox message* is one datagram that travels with a descriptor
(`Handoff`, `Peer`, `Log`); a *control frame* is one of many on a byte stream (`Kind`).  All
integers are in network order.
"""

from __future__ import annotations

import enum
import json
import struct
from typing import Any, Final

import attrs

from ...errors import WireError

# ------------------------------------------------------------------ mailbox messages

_HANDOFF: Final = 1
_PEER: Final = 2
_LOG: Final = 3
_SECURE: Final = 1
_RESERVED: Final = 2
_FRESH: Final = 4
# type, family, flags, hops, how, listener, ports of peer and host, lengths of peer, host, server
# name, prefix
_HEADER: Final = struct.Struct("!BBBBBHHHBBBI")
_PEER_MESSAGE: Final = struct.Struct("!BQ")


@attrs.define
class Handoff:
    """
    What travels with a connection's descriptor.

    Whoever keeps it longer than its prefix may empty that.

    :param family: the descriptor's own address family (`socket.AF_INET` and so on), 0 to 255.
    :param peer: (host, port) of the client; the host is empty for a UNIX socket.
    :param host: (host, port) that the client connected to; the host is empty for a UNIX socket.
    :param listener: which `--listen` accepted it, from 0.
    :param hops: how often the connection has moved since a request was served on it, 0 to 255.
    :param how: why this worker, a `route.How`.
    :param secure: the bytes come out of TLS, which another worker ends.
    :param reserved: the pool counted this hand-off as sent, so the worker has to count it as taken.
    :param prefix: the bytes of the stream that were read already, exactly.
    :param server_name: the TLS server name (RFC 6066, section 3), or empty.
    :param fresh: nothing in the prefix was dealt with, not even a PROXY header: the connection is
        to be received as if it had just been accepted.
    """

    family: int
    peer: tuple[str, int]
    host: tuple[str, int]
    listener: int = 0
    hops: int = 0
    how: int = 0
    secure: bool = False
    reserved: bool = False
    prefix: bytes = b""
    server_name: str = ""
    fresh: bool = False

    def moved(self, prefix: bytes, served: bool, how: int) -> Handoff:
        """
        The hand-off of the same connection to its next place.

        :param prefix: the bytes read by then that nobody has dealt with.
        :param served: whether a request was served on the way, so that the hops count anew.
        :param how: why it is to move.
        """
        hops = 1 if served else min(self.hops + 1, 255)
        return Handoff(
            self.family, self.peer, self.host, self.listener, hops, how, self.secure, False,
            prefix, self.server_name,
        )  # fmt: skip


@attrs.frozen
class Peer:
    """
    The descriptor that comes along is the sending end of another worker's mailbox.

    :param worker_id: the worker that reads that mailbox.
    """

    worker_id: int


@attrs.frozen
class Log:
    """The descriptor that comes along is the access log, opened anew."""


def pack_handoff(handoff: Handoff) -> bytes:
    """
    Encode a hand-off as one mailbox message.

    :raises WireError: a number or a name does not fit its field.
    """
    peer, peer_port = handoff.peer
    host, host_port = handoff.host
    flags = (_SECURE if handoff.secure else 0) | (_RESERVED if handoff.reserved else 0)
    if handoff.fresh:
        flags |= _FRESH
    try:
        names = peer.encode(), host.encode(), handoff.server_name.encode()
        # fmt: off
        header = _HEADER.pack(
            _HANDOFF, handoff.family, flags, handoff.hops, handoff.how, handoff.listener,
            peer_port, host_port, *map(len, names), len(handoff.prefix),
        )
        # fmt: on
    except (struct.error, UnicodeEncodeError) as error:
        raise WireError(why=f"a field of a hand-off does not fit ({error})") from None
    return b"".join((header, *names, handoff.prefix))


def pack_peer(worker_id: int) -> bytes:
    """Encode the message that introduces another worker's mailbox."""
    return _PEER_MESSAGE.pack(_PEER, worker_id)


def pack_log() -> bytes:
    """Encode the message that brings the access log."""
    return bytes((_LOG,))


def unpack(message: bytes) -> Handoff | Peer | Log:
    """
    Decode one mailbox message.

    :raises WireError: it is truncated, too long, or of an unknown type.
    """
    kind = message[0] if message else 0
    if kind == _HANDOFF:
        return _unpack_handoff(message)
    if kind == _PEER and len(message) == _PEER_MESSAGE.size:
        return Peer(_PEER_MESSAGE.unpack(message)[1])
    if kind == _LOG and len(message) == 1:
        return Log()
    raise WireError(why=f"a mailbox message of {len(message)} bytes begins with {message[:8]!r}")


def _unpack_handoff(message: bytes) -> Handoff:
    try:
        # fmt: off
        (_, family, flags, hops, how, listener, peer_port, host_port,
         peer_size, host_size, name_size, size) = _HEADER.unpack_from(message)
        # fmt: on
        peer_end = _HEADER.size + peer_size
        host_end = peer_end + host_size
        name_end = host_end + name_size
        if name_end + size != len(message):
            raise WireError(
                why=f"a hand-off has {len(message)} bytes where its header says {name_end + size}"
            )
        return Handoff(
            family,
            (message[_HEADER.size : peer_end].decode(), peer_port),
            (message[peer_end:host_end].decode(), host_port),
            listener,
            hops,
            how,
            bool(flags & _SECURE),
            bool(flags & _RESERVED),
            message[name_end:],
            message[host_end:name_end].decode(),
            bool(flags & _FRESH),
        )
    except (struct.error, UnicodeDecodeError) as error:
        raise WireError(why=f"a hand-off of {len(message)} bytes is damaged ({error})") from None


# -------------------------------------------------------------------- control frames


class Kind(enum.IntEnum):
    """What a control frame is about; the arrows say who sends it."""

    BOOT = 1  # primary -> worker: the configuration
    READY = 2  # worker -> primary: the application is loaded and started
    FAILED = 3  # worker -> primary: it does not load, and why
    LOAD = 4  # worker -> primary: live connections, hand-offs taken, event-loop lag
    POOL = 5  # primary -> worker: the pool's view
    BIND = 6  # worker -> primary -> workers: a key belongs to a worker
    BOUND = 7  # primary -> worker: every worker knows the binding
    FREE = 8  # worker -> primary -> workers: the key belongs to nobody
    DRAIN = 9  # primary -> worker: finish what you hold, give the rest away
    DONE = 10  # worker -> primary: drained
    GO = 11  # primary -> worker: leave now
    ROTATE = 12  # primary -> worker: reopen the logs; worker -> primary: hand me the log anew
    PUBLISH = 13  # worker -> primary: a bus message
    SUBSCRIBE = 14  # worker -> primary: this worker listens to a topic
    UNSUBSCRIBE = 15  # worker -> primary: it does so no longer
    MESSAGE = 16  # primary -> worker: a bus message
    RETIRE = 17  # worker -> primary: it has served its share, replace it
    LOST = 18  # primary -> worker: so many messages of a topic did not reach it
    ACCEPT = 19  # primary -> worker: accept on your own sockets
    DEAF = 20  # worker -> primary: its mailbox has ended, and it leaves


#: The longest topic of the bus, in bytes.
TOPIC_LIMIT: Final = 0xFFFF

_FRAME: Final = struct.Struct("!IB")
_KINDS: Final = {int(kind): kind for kind in Kind}
_json_encoder: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def encode(kind: Kind, body: bytes = b"") -> bytes:
    """Encode one control frame: length of the body, kind, body."""
    return _FRAME.pack(len(body), kind) + body


def encode_json(kind: Kind, **fields: Any) -> bytes:
    """Encode one control frame whose body is a JSON object."""
    return encode(kind, _json_encoder.encode(fields).encode("utf-8", "surrogatepass"))


def decode_json(body: bytes) -> dict[str, Any]:
    """
    Decode the body that `encode_json` made.

    :raises WireError: it is no JSON object.
    """
    try:
        fields = json.loads(body.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise WireError(why=f"a control frame is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise WireError(why=f"a control frame is JSON, but no object: {body[:40]!r}")
    return fields


def pack_message(topic: bytes, message: bytes) -> bytes:
    """
    Encode the body of a bus message, published or delivered.

    :param topic: at most `TOPIC_LIMIT` bytes.
    """
    return b"".join((len(topic).to_bytes(2, "big"), topic, message))


def unpack_message(body: bytes) -> tuple[bytes, bytes]:
    """Undo `pack_message`: the topic and the message."""
    end = 2 + int.from_bytes(body[:2], "big")
    return body[2:end], body[end:]


class FrameReader:
    """
    Cuts a byte stream into control frames.

    :param limit: the longest body that is accepted, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._wanted = _FRAME.size  # no frame can be complete before so many bytes are here

    @property
    def remainder(self) -> bytes:
        """The bytes of a frame that is not complete."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """
        Take the next bytes of the stream.

        :returns: the frames that are complete now, in their order.
        :raises WireError: a body is longer than the limit or a kind is unknown; the stream is of
            no more use.
        """
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._wanted:
            return []
        frames: list[tuple[Kind, bytes]] = []
        start = 0
        while True:
            body = start + _FRAME.size
            if len(buffer) < body:
                self._wanted = _FRAME.size
                break
            size, number = _FRAME.unpack_from(buffer, start)
            if size > self._limit:
                raise WireError(
                    why=f"a control frame of {size} bytes is over the limit of {self._limit}"
                )
            kind = _KINDS.get(number)
            if kind is None:
                raise WireError(why=f"a control frame has the unknown kind {number}")
            if len(buffer) < body + size:
                self._wanted = _FRAME.size + size
                break
            frames.append((kind, bytes(buffer[body : body + size])))
            start = body + size
        del buffer[:start]
        return frames
