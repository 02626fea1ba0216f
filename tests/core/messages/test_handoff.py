"""Mailbox messages: what travels with a descriptor."""

from __future__ import annotations

import socket

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.how import How
from txsticky.core.messages.handoff import (
    Handoff,
    Log,
    Peer,
    pack_handoff,
    pack_log,
    pack_peer,
    pack_replay,
    unpack,
    unpack_replay,
)
from txsticky.core.messages.origin import NOWHERE, Origin, Stage
from txsticky.core.replay import Replay
from txsticky.errors import WireError

HANDOFF = Handoff(
    family=socket.AF_INET6,
    origin=Origin(("fe80::1%eth0", 65535), ("::1", 8080), secure=True),
    prefix=b"GET / HTTP/1.1\r\n\r\n\x00\xff",
    how=How.HIT,
    hops=2,
    reserved=True,
)
HERE = Origin(NOWHERE)

names = st.text(max_size=40).filter(lambda text: len(text.encode("utf-8", "replace")) < 256)
addresses = st.tuples(names, st.integers(0, 65535))
octets = st.integers(0, 255)
handoffs = st.builds(
    Handoff,
    family=octets,
    origin=st.builds(Origin, addresses, addresses, st.booleans()),
    prefix=st.binary(max_size=300),
    how=st.sampled_from(How),
    hops=octets,
    reserved=st.booleans(),
    fresh=st.booleans(),
)


class HandoffTests(SynchronousTestCase):
    """Connections."""

    @given(handoffs)
    @settings(deadline=None)
    def test_round_trip(self, handoff: Handoff) -> None:
        """Whatever fits its field arrives as it was sent."""
        self.assertEqual(unpack(pack_handoff(handoff)), handoff)

    def test_large_prefix(self) -> None:
        """A prefix of 256 KiB arrives whole."""
        prefix = bytes(range(256)) * 1024
        message = unpack(pack_handoff(Handoff(family=2, origin=HERE, prefix=prefix)))
        assert isinstance(message, Handoff)
        self.assertEqual(message.prefix, prefix)

    def test_every_truncation(self) -> None:
        """A hand-off that lost its end is refused, wherever it was cut."""
        whole = pack_handoff(HANDOFF)
        for size in range(len(whole)):
            self.assertRaises(WireError, unpack, whole[:size])

    def test_excess(self) -> None:
        """Bytes behind the prefix are refused, not taken for its end."""
        error = self.assertRaises(WireError, unpack, pack_handoff(HANDOFF) + b"x")
        self.assertIn("its header says", str(error))

    @given(st.binary(max_size=60))
    @settings(deadline=None)
    def test_garbage(self, message: bytes) -> None:
        """Any bytes are a message or a WireError."""
        try:
            unpack(message)
        except WireError:
            pass

    def test_names_that_are_not_utf8(self) -> None:
        """A damaged name is a WireError."""
        message = pack_handoff(Handoff(family=2, origin=Origin(("host", 1))))
        self.assertRaises(WireError, unpack, message.replace(b"host", b"\xff\xfe\xfd\xfc"))

    def test_out_of_range(self) -> None:
        """What does not fit its field is refused by the sender."""
        for unfit in (
            Handoff(family=256, origin=HERE),
            Handoff(family=2, origin=Origin(("", 65536))),
            Handoff(family=2, origin=Origin(NOWHERE, ("", -1))),
            Handoff(family=2, origin=HERE, hops=256),
            Handoff(family=2, origin=Origin(("a" * 256, 0))),
            Handoff(family=2, origin=Origin(("\ud800", 0))),
        ):
            self.assertRaises(WireError, pack_handoff, unfit)

    def test_stage(self) -> None:
        """A connection is fresh, or brings the beginning of a request, or is between two."""
        fresh = Handoff(family=2, origin=HERE, prefix=b"PROXY", fresh=True)
        routed = Handoff(family=2, origin=HERE, prefix=b"GET")
        stages = [made.stage for made in (fresh, routed, Handoff(family=2, origin=HERE))]
        self.assertEqual(stages, [Stage.FRESH, Stage.ROUTED, Stage.IDLE])

    def test_moved(self) -> None:
        """A connection that moves keeps its origin; hops begin anew once a request was served."""
        moved = HANDOFF.moved(b"POST", served=False, how=How.TAG)
        self.assertEqual(
            (moved.origin, moved.prefix, moved.hops, moved.how, moved.reserved),
            (HANDOFF.origin, b"POST", 3, How.TAG, False),
        )
        self.assertEqual(HANDOFF.moved(b"", served=True, how=How.NEW).hops, 1)

    def test_hops_end(self) -> None:
        """Hops stay within their field."""
        far = Handoff(family=2, origin=HERE, hops=255)
        self.assertEqual(far.moved(b"", served=False, how=How.NEW).hops, 255)


class VersionTests(SynchronousTestCase):
    """What the first version of the program writes and reads."""

    BY_THE_FIRST = (
        b"\x01\x02\x03\x03\x02\x00\x00\x9c@\x00P\x08\x08\x00\x00\x00\x00\x0510.0.0.110.0.0.9GET /"
    )
    HANDOFF = Handoff(
        family=2,
        origin=Origin(("10.0.0.1", 40000), ("10.0.0.9", 80), secure=True),
        prefix=b"GET /",
        how=How.HIT,
        hops=3,
        reserved=True,
    )

    def test_same_bytes(self) -> None:
        """Both versions write the same message of the same hand-off."""
        self.assertEqual(pack_handoff(self.HANDOFF), self.BY_THE_FIRST)

    def test_dropped_fields(self) -> None:
        """A listener's number and a server name, which the first version wrote, are read over."""
        message = (
            b"\x01\x02\x03\x03\x02\x00\x04\x9c@\x00P\x08\x08\x0c\x00\x00\x00\x05"
            b"10.0.0.110.0.0.9chat.exampleGET /"
        )
        self.assertEqual(unpack(message), self.HANDOFF)

    def test_reasons(self) -> None:
        """Every version tells a reason by the same number."""
        self.assertEqual(
            {how.name: how.value for how in How},
            {"TAG": 1, "HIT": 2, "HASH": 3, "NEW": 4, "MISS": 5},
        )

    def test_no_reason(self) -> None:
        """The first version gave no reason for what went to the front desk."""
        message = bytearray(self.BY_THE_FIRST)
        message[4] = 0
        handoff = unpack(bytes(message))
        assert isinstance(handoff, Handoff)
        self.assertEqual(handoff.how, How.NEW)


class PeerTests(SynchronousTestCase):
    """Mailboxes of other workers."""

    def test_round_trip(self) -> None:
        """A mailbox is introduced with its worker's id."""
        self.assertEqual(unpack(pack_peer(2**40)), Peer(2**40))

    def test_wrong_size(self) -> None:
        """A cut or prolonged introduction is refused."""
        self.assertRaises(WireError, unpack, pack_peer(7)[:-1])
        self.assertRaises(WireError, unpack, pack_peer(7) + b"\0")

    def test_same_bytes(self) -> None:
        """Both versions of the program write the same introduction."""
        self.assertEqual(pack_peer(7), b"\x02\0\0\0\0\0\0\0\x07")


class LogTests(SynchronousTestCase):
    """The access log, opened anew."""

    def test_round_trip(self) -> None:
        """The message of an access log is one byte, as in the first version."""
        self.assertEqual((pack_log(), unpack(pack_log())), (b"\x03", Log()))

    def test_another_byte(self) -> None:
        """One byte that begins no message is refused."""
        for kind in {*range(256)} - {3}:
            self.assertRaises(WireError, unpack, bytes((kind,)))

    def test_wrong_size(self) -> None:
        """A longer message of an access log is refused."""
        self.assertRaises(WireError, unpack, pack_log() + b"\0")


class BegunTests(SynchronousTestCase):
    """A connection that has begun."""

    def test_without_the_prefix(self) -> None:
        """A hand-off that has begun keeps all but its prefix, and was counted as taken."""
        for fresh in (False, True):
            handoff = attrs.evolve(HANDOFF, fresh=fresh)
            self.assertEqual(handoff.begun(), attrs.evolve(handoff, prefix=b"", reserved=False))


class DefaultsTests(SynchronousTestCase):
    """A hand-off of which only the origin is told."""

    def test_defaults(self) -> None:
        """By default a connection has not moved, was not read or reserved, and is new."""
        self.assertEqual(
            attrs.astuple(Handoff(family=2, origin=HERE), recurse=False),
            (2, HERE, b"", How.NEW, 0, False, False, None),
        )


class ReplayTests(SynchronousTestCase):
    """What goes with a WebSocket that moves."""

    REPLAY = Replay(
        head=b"GET / HTTP/1.1\r\n\r\n",
        protocol=b"chat",
        extensions=b"permessage-deflate",
        moves=3,
        state=b"at 5",
        source=12,
        given=34,
    )

    def test_round_trip(self) -> None:
        """A replay comes before its hand-off, and both come back as they were."""
        handoff = Handoff(family=2, origin=HERE, prefix=b"\x81\x80", replay=self.REPLAY)
        self.assertEqual(unpack(pack_handoff(handoff)), handoff)

    def test_defaults(self) -> None:
        """A replay was told no protocol, has moved this once, and left nothing."""
        replay = Replay(head=b"GET")
        self.assertEqual(attrs.astuple(replay), (b"GET", b"", b"", 1, b"", 0, 0))

    def test_stage(self) -> None:
        """A WebSocket that moves does not wait for a request, even if it brings only its replay."""
        moved = Handoff(family=2, origin=HERE, replay=self.REPLAY)
        self.assertIs(moved.stage, Stage.ROUTED)

    def test_shown(self) -> None:
        """The protocol is shown the handshake, and then what was read."""
        handoff = Handoff(family=2, origin=HERE, prefix=b"\x81", replay=self.REPLAY)
        self.assertEqual(handoff.shown().prefix, self.REPLAY.head + b"\x81")
        self.assertEqual(handoff.shown().begun(), Handoff(family=2, origin=HERE))
        plain = Handoff(family=2, origin=HERE, prefix=b"GET")
        self.assertIs(plain.shown(), plain)

    def test_replay_alone(self) -> None:
        """What goes with a WebSocket is told by itself as well, and what follows it."""
        packed = pack_replay(self.REPLAY)
        self.assertEqual(unpack_replay(packed), (self.REPLAY, b""))
        self.assertEqual(unpack_replay(packed + b"more"), (self.REPLAY, b"more"))

    def test_damaged(self) -> None:
        """A replay that is cut off, or too large to tell, is an error and no connection."""
        message = pack_handoff(Handoff(family=2, origin=HERE, replay=self.REPLAY))
        for size in (1, 20, 40, len(message) - 1):
            self.assertRaises(WireError, unpack, message[:size])
        self.assertRaises(WireError, pack_replay, Replay(head=b"", state=b"x" * 65536))
