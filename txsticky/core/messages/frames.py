"""
Control frames: what the primary and a worker tell each other on the channel between them.

A frame is a frozen value.  `encode` makes its bytes (length of the body, kind, body; integers in
network order), and a `FrameReader` cuts a stream into frames again.  What a kind means depends on
who sends it: `from_primary` and `from_worker` have the frames of the two languages.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Protocol, Self

import attrs

from ...errors import WireError

#: The version of what the processes tell each other. It changes when a process of this version
#: could not work with one of the version before; the first frames of both sides carry it.
PROTOCOL: Final = 1
#: The longest topic of the bus, in bytes.
TOPIC_LIMIT: Final = 0xFFFF

_FRAME: Final = struct.Struct("!IB")
_encoder: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


class Frame(Protocol):
    """What every frame has."""

    KIND: ClassVar[int]

    def body(self) -> bytes:
        """Encode what the frame says."""

    @classmethod
    def of(cls, body: bytes) -> Self:
        """
        Decode `body`.

        :raises WireError: it is damaged.
        """


# ----------------------------------------------------------------- forms of a body


class Bare:
    """A frame that says all by its kind."""

    __slots__ = ()

    def body(self) -> bytes:
        """Encode nothing (`Frame.body`)."""
        return b""

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode nothing (`Frame.of`)."""
        return cls()


class Fields:
    """A frame whose body is a JSON object with the names of its fields."""

    __slots__ = ()

    def body(self) -> bytes:
        """Encode the fields, but for those that have their defaults (`Frame.body`)."""
        usual = _defaults(type(self))
        fields = shallow(self)
        return dump(
            {n: value for n, value in fields.items() if n not in usual or value != usual[n]}
        )

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode the fields, and drop what another version adds (`Frame.of`)."""
        fields = load(body)
        made: Self = made_of(cls, fields)
        return made


@attrs.frozen
class Key:
    """A frame that is about a sticky key."""

    key: bytes

    def body(self) -> bytes:
        """Encode the key (`Frame.body`)."""
        return self.key

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode the key (`Frame.of`)."""
        return cls(body)


@attrs.frozen
class Topic:
    """A frame that is about a topic of the bus."""

    topic: bytes

    def body(self) -> bytes:
        """Encode the topic (`Frame.body`)."""
        return self.topic

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode the topic (`Frame.of`)."""
        return cls(body)


@attrs.frozen
class Published:
    """
    A frame that carries a message of the bus.

    :param topic: at most `TOPIC_LIMIT` bytes.
    """

    topic: bytes
    message: bytes

    def body(self) -> bytes:
        """Encode length of the topic, topic, message (`Frame.body`)."""
        return b"".join((len(self.topic).to_bytes(2, "big"), self.topic, self.message))

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Decode topic and message (`Frame.of`)."""
        end = 2 + int.from_bytes(body[:2], "big")
        return cls(body[2:end], body[end:])


Language = Mapping[int, type[Frame]]


def language(*frames: type[Frame]) -> Language:
    """Make the language of one side: its frames by their kinds."""
    return {frame.KIND: frame for frame in frames}


# ------------------------------------------------------------------------- codec


def encode(frame: Frame) -> bytes:
    """Encode one frame."""
    body = frame.body()
    return _FRAME.pack(len(body), frame.KIND) + body


def dump(fields: dict[str, Any]) -> bytes:
    """Encode fields as a JSON object."""
    return _encoder.encode(fields).encode("utf-8", "surrogatepass")


def load(body: bytes) -> dict[str, Any]:
    """
    Decode a JSON object.

    :raises WireError: it is none.
    """
    try:
        fields = json.loads(body.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise WireError(why=f"a control frame is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise WireError(why=f"a control frame is JSON, but no object: {body[:40]!r}")
    return fields


def _defaults(kind: Any) -> dict[str, Any]:
    """Return the defaults of those fields of a frame that have one."""
    found = {}
    for field in attrs.fields(kind):
        default = field.default
        if default is not attrs.NOTHING:
            found[field.name] = default.factory() if hasattr(default, "factory") else default
    return found


#: The names of the fields of each kind of frame that came up so far: reports come often.
_names: dict[Any, tuple[str, ...]] = {}


def names_of(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of a frame."""
    names = _names.get(kind)
    if names is None:
        names = _names[kind] = tuple(field.name for field in attrs.fields(kind))
    return names


def shallow(frame: Any) -> dict[str, Any]:
    """Return the fields of a frame by their names."""
    return {name: getattr(frame, name) for name in names_of(type(frame))}


def made_of(kind: Any, fields: dict[str, Any]) -> Any:
    """
    Make a frame of those of `fields` that it has; the others are another version's.

    :raises WireError: one is missing.
    """
    try:
        return kind(**{name: fields[name] for name in names_of(kind) if name in fields})
    except TypeError as error:
        raise WireError(why=f"a control frame lacks a field ({error})") from None


class FrameReader:
    """
    Cuts a byte stream into control frames.

    :param language: what the other end says.
    :param limit: the longest body that is accepted, in bytes.
    """

    def __init__(self, language: Language, limit: int) -> None:
        self._language = language
        self._limit = limit
        self._buffer = bytearray()
        self._wanted = _FRAME.size  # no frame can be complete before so many bytes are here

    @property
    def remainder(self) -> bytes:
        """The bytes of a frame that is not complete."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Iterable[Frame]:
        """
        Take the next bytes of the stream.

        :returns: the frames that are complete now, in their order.
        :raises WireError: a body is longer than the limit or damaged, or a kind is unknown; the
            stream is of no more use.
        """
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._wanted:
            return []
        frames: list[Frame] = []
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
            kind = self._language.get(number)
            if kind is None:
                raise WireError(why=f"a control frame has the unknown kind {number}")
            if len(buffer) < body + size:
                self._wanted = _FRAME.size + size
                break
            frames.append(kind.of(bytes(buffer[body : body + size])))
            start = body + size
        del buffer[:start]
        return frames
