"""
Control frames as bytes, made and read without the codec of `txsticky.core.messages`.

Tests speak to a process with it as a process of version 0.1.0 would.
"""

from __future__ import annotations

import enum
import json
import struct
from typing import Any, Final


class Kind(enum.IntEnum):
    """What a control frame is about; the arrows say who sends it."""

    BOOT = 1  # primary -> worker: the configuration
    READY = 2  # worker -> primary: the application is loaded and started
    FAILED = 3  # worker -> primary: it does not load, and why
    LOAD = 4  # worker -> primary: live connections, hand-offs taken, event-loop lag
    POOL = 5  # primary -> worker: the pool's view
    BIND = 6  # worker -> primary -> workers: a key belongs to a worker
    BOUND = 7  # primary -> worker: every worker knows the binding
    FREE = 8  # worker -> primary -> workers: the key belongs to no worker
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
    LEAD = 30  # primary -> worker: it leads, until a time
    RESIGN = 31  # worker -> primary: it has ended what it did as the leader
    OUTAGE = 52  # primary -> worker: since when messages do not leave the machine
    GAP = 53  # primary -> worker: from when to when messages of others may be missing


#: The longest topic of the bus, in bytes.
TOPIC_LIMIT: Final = 0xFFFF

_FRAME: Final = struct.Struct("!IB")
_json_encoder: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def encode(kind: Kind, body: bytes = b"") -> bytes:
    """Encode one control frame: length of the body, kind, body."""
    return _FRAME.pack(len(body), kind) + body


def encode_json(kind: Kind, **fields: Any) -> bytes:
    """Encode one control frame whose body is a JSON object."""
    return encode(kind, _json_encoder.encode(fields).encode("utf-8", "surrogatepass"))


def decode_json(body: bytes) -> dict[str, Any]:
    """Decode the body that `encode_json` made."""
    fields = json.loads(body.decode("utf-8", "surrogatepass"))
    assert isinstance(fields, dict), body
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

    :param limit: the longest body that there may be, in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        """Take the next bytes; returns the frames that are complete now, in their order."""
        data = self._rest + data
        frames: list[tuple[Kind, bytes]] = []
        at = 0
        while len(data) - at >= _FRAME.size:
            size, number = _FRAME.unpack_from(data, at)
            assert size <= self._limit, size
            end = at + _FRAME.size + size
            if end > len(data):
                break
            frames.append((Kind(number), data[end - size : end]))
            at = end
        self._rest = data[at:]
        return frames


class Raw:
    """A control frame of any kind, with whatever body, for channels that tests speak through."""

    KIND: int

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def body(self) -> bytes:
        """The body (`txsticky.core.messages.frames.Frame`)."""
        return self.data

    @classmethod
    def of(cls, body: bytes) -> Raw:
        """Take the body as it is (`txsticky.core.messages.frames.Frame`)."""
        return cls(body)


#: A language in which every kind is a `Raw` frame.
RAW: dict[int, Any] = {int(kind): type(kind.name, (Raw,), {"KIND": int(kind)}) for kind in Kind}


def raw(kind: Kind, body: bytes = b"") -> Any:
    """Make a frame to be sent through a channel."""
    return RAW[int(kind)](body)


def raw_json(kind: Kind, **fields: Any) -> Any:
    """Make a frame with a JSON object."""
    return raw(kind, encode_json(kind, **fields)[_FRAME.size :])


def told(frame: Any) -> tuple[Kind, bytes]:
    """What a frame says: its kind and its body."""
    return Kind(frame.KIND), frame.body()
