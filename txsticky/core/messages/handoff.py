"""
Mailbox messages: each is one datagram that travels with a descriptor.

A `Handoff` comes with a connection, a `Peer` with the sending end of another worker's mailbox, a
`Log` with the access log.  The `Handoff` of a WebSocket that moves follows its `Replay`.  All
integers are in network order.  The header of a hand-off has two fields that version 0.1.0 fills,
and that are zero now: both versions read each other's messages.
"""

from __future__ import annotations

import struct
from typing import Final

import attrs

from ...errors import WireError
from ..how import How
from ..replay import Replay
from .origin import NOWHERE, Address, Origin, Stage

_HANDOFF: Final = 1
_PEER: Final = 2
_LOG: Final = 3
_MOVED: Final = 50
_SECURE: Final = 1
_RESERVED: Final = 2
_FRESH: Final = 4
# type, family, flags, hops, how, unused, ports of peer and host, lengths of peer, host, unused,
# prefix
_HEADER: Final = struct.Struct("!BBBBB2xHHBBBI")
_HEADER_SIZE: Final = _HEADER.size
_PEER_MESSAGE: Final = struct.Struct("!BQ")
# type, moves, lengths of head, subprotocol, extensions, state; source, given
_REPLAY: Final = struct.Struct("!BIIHHHQQ")
#: A message to the front desk need not say why; earlier versions write 0 then.
_HOWS: Final = {int(how): how for how in How}
#: The most hops that a message can tell.
MOST_HOPS: Final = 255


@attrs.define(kw_only=True, unsafe_hash=True)
class Handoff:
    """
    What travels with a connection's descriptor.

    :param family: the descriptor's own address family (`socket.AF_INET` and so on), 0 to 255.
    :param prefix: the bytes of the stream that were read already, exactly.
    :param hops: how often the connection has moved since a request was served on it, 0 to 255.
    :param reserved: the pool counted this hand-off as sent, so the worker has to count it as taken.
    :param fresh: nothing in the prefix was dealt with (`Stage.FRESH`).
    :param replay: of a WebSocket that moves: by it the worker is shown the handshake, before the
        prefix.
    """

    family: int
    origin: Origin
    prefix: bytes = b""
    how: How = How.NEW
    hops: int = 0
    reserved: bool = False
    fresh: bool = False
    replay: Replay | None = None

    @property
    def stage(self) -> Stage:
        """How far the connection has been dealt with."""
        if self.fresh:
            return Stage.FRESH
        # A WebSocket is never between two requests, whatever it brings.
        return Stage.ROUTED if self.prefix or self.replay is not None else Stage.IDLE

    def shown(self) -> Handoff:
        """Return the same with all in the prefix that its protocol is to be shown."""
        if self.replay is None:
            return self
        return attrs.evolve(self, prefix=self.replay.head + self.prefix)

    def begun(self) -> Handoff:
        """Return the same without the prefix, which the connection's transport has by now."""
        return Handoff(
            family=self.family, origin=self.origin, how=self.how, hops=self.hops, fresh=self.fresh
        )

    def moved(self, prefix: bytes, served: bool, how: How, replay: Replay | None = None) -> Handoff:
        """
        Return the hand-off of the same connection to its next place.

        :param prefix: the bytes read by then that no process has dealt with.
        :param served: whether a request was served on the way, so that the hops count anew.
        :param how: why the connection moves.
        :param replay: of a WebSocket.
        """
        return Handoff(
            family=self.family,
            origin=self.origin,
            prefix=prefix,
            how=how,
            hops=1 if served else min(self.hops + 1, MOST_HOPS),
            replay=replay,
        )


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
    origin = handoff.origin
    peer, peer_port = origin.peer
    host, host_port = origin.host
    flags = (_SECURE if origin.secure else 0) | (_RESERVED if handoff.reserved else 0)
    if handoff.fresh:
        flags |= _FRESH
    prefix = handoff.prefix
    try:
        names = peer.encode(), host.encode()
        # fmt: off
        header = _HEADER.pack(
            _HANDOFF, handoff.family, flags, handoff.hops, handoff.how,
            peer_port, host_port, *map(len, names), 0, len(prefix),
        )
        # fmt: on
    except (struct.error, UnicodeEncodeError) as error:
        raise WireError(why=f"a field of a hand-off does not fit ({error})") from None
    replay = b"" if handoff.replay is None else pack_replay(handoff.replay)
    return b"".join((replay, header, *names, prefix))


def pack_replay(replay: Replay) -> bytes:
    """
    Encode what goes with a WebSocket.

    :raises WireError: a number or a text does not fit its field.
    """
    texts = replay.head, replay.protocol, replay.extensions, replay.state
    try:
        header = _REPLAY.pack(_MOVED, replay.moves, *map(len, texts), replay.source, replay.given)
    except struct.error as error:
        raise WireError(why=f"a field of a replay does not fit ({error})") from None
    return b"".join((header, *texts))


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
    if kind == _MOVED:
        replay, rest = unpack_replay(message)
        return attrs.evolve(_unpack_handoff(rest), replay=replay)
    if kind == _PEER and len(message) == _PEER_MESSAGE.size:
        return Peer(_PEER_MESSAGE.unpack(message)[1])
    if kind == _LOG and len(message) == 1:
        return Log()
    raise WireError(why=f"a mailbox message of {len(message)} bytes begins with {message[:8]!r}")


def unpack_replay(message: bytes) -> tuple[Replay, bytes]:
    """
    Decode what goes with a WebSocket, and return what follows it.

    :raises WireError: it is damaged.
    """
    try:
        _, moves, *sizes, source, given = _REPLAY.unpack_from(message)
    except struct.error as error:
        raise WireError(why=f"a replay of {len(message)} bytes is damaged ({error})") from None
    at, texts = _REPLAY.size, []
    for size in sizes:
        texts.append(message[at : at + size])
        at += size
    if at > len(message):
        raise WireError(why=f"a replay has {len(message)} bytes where its header says {at}")
    head, protocol, extensions, state = texts
    replay = Replay(
        head=head,
        protocol=protocol,
        extensions=extensions,
        moves=moves,
        state=state,
        source=source,
        given=given,
    )
    return replay, message[at:]


#: The address that the client before connected to: it is one object for all that follow.
_last: tuple[bytes, int, Address] = b"", 0, NOWHERE


def _own(name: bytes, port: int) -> Address:
    global _last
    last_name, last_port, address = _last
    if name != last_name or port != last_port:
        address = name.decode(), port
        _last = name, port, address
    return address


def _unpack_handoff(message: bytes) -> Handoff:
    try:
        # fmt: off
        (_, family, flags, hops, how, peer_port, host_port,
         peer_size, host_size, unused, size) = _HEADER.unpack_from(message)
        # fmt: on
        peer_end = _HEADER_SIZE + peer_size
        host_end = peer_end + host_size
        start = host_end + unused
        if start + size != len(message):
            raise WireError(
                why=f"a hand-off has {len(message)} bytes where its header says {start + size}"
            )
        return Handoff(
            family=family,
            origin=Origin(
                (message[_HEADER_SIZE:peer_end].decode(), peer_port),
                _own(message[peer_end:host_end], host_port),
                flags & _SECURE != 0,
            ),
            prefix=message[start:],
            how=_HOWS.get(how, How.NEW),
            hops=hops,
            reserved=flags & _RESERVED != 0,
            fresh=flags & _FRESH != 0,
        )
    except (struct.error, ValueError) as error:
        raise WireError(why=f"a hand-off of {len(message)} bytes is damaged ({error})") from None
