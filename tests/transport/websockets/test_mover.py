"""What a mover holds, and what it does when its connection is closed meanwhile."""

from __future__ import annotations

from unittest import mock

from tests.core.http.websocket.test_frames import frame
from tests.core.http.websocket.test_handshake import request
from tests.transport.websockets.test_moves import HELLO, REPLY, FakeMovements, MovesCase
from txsticky.core.http.websocket.frames import close_frame
from txsticky.transport.websockets.mover import LOOKS, MOST_HELD, REST, Mover


class MoverCase(MovesCase):
    """A WebSocket whose mover is asked."""

    @property
    def mover(self) -> Mover:
        """The gate's mover."""
        assert self.gate.mover is not None
        return self.gate.mover

    @property
    def input(self) -> bytes:
        """What the application got behind the handshake."""
        return b"".join(self.host.delivered[1:])

    def calls(self) -> int:
        """How many calls are to come."""
        return len(self.clock.getDelayedCalls())

    def held(self) -> None:
        """Have the input of an open WebSocket held behind a message."""
        self.open()
        self.arrive(HELLO)
        self.leave()
        self.assertFalse(self.host.reading)


class HeldTests(MoverCase):
    """What is held, and what is not."""

    def test_long_message(self) -> None:
        """What follows the end of a long message is held, and the message is delivered."""
        long = frame(b"x" * (MOST_HELD - 1000))
        self.open()
        self.arrive(long[:3])
        self.leave()
        self.arrive(long[3:] + HELLO[:4])
        self.assertTrue(self.input == long)
        self.settle()
        self.assertEqual(self.host.departed, (5, HELLO[:4]))

    def test_too_much(self) -> None:
        """More than can travel is delivered in its order."""
        much = HELLO * (MOST_HELD // len(HELLO) + 2)
        self.open()
        self.arrive(much[:3])
        self.leave()
        self.arrive(much[3:] + HELLO[:5])
        self.assertTrue(self.input == much + HELLO[:5])

    def test_too_much_later(self) -> None:
        """More than can travel keeps the WebSocket here, also if it came behind the hold."""
        self.held()
        much = HELLO * (MOST_HELD // len(HELLO) + 2)
        self.gate.arrived(much)
        for _ in range(LOOKS):
            self.settle()
        self.assertIsNone(self.host.departed)
        self.assertTrue(self.input == HELLO + much)

    def test_close_in_pieces(self) -> None:
        """A close frame that ends the wait is delivered, with whatever follows it."""
        close = frame(b"", 8)
        self.open()
        self.arrive(close[:1])
        self.leave()
        self.arrive(close[1:] + b"more")
        self.arrive(b"and more")
        self.assertEqual(self.input, close + b"moreand more")

    def test_looks(self) -> None:
        """The input is held for so many looks, and as many again after a rest."""
        self.host.dealt_with = 0
        self.held()
        for _ in range(2):
            for _ in range(LOOKS - 1):
                self.settle()
            self.assertFalse(self.host.reading)
            self.settle()
            self.assertTrue(self.host.reading)
            self.settle(REST)
            self.assertFalse(self.host.reading)


class NowTests(MoverCase):
    """A WebSocket that is to leave now, or is closed."""

    def test_unasked(self) -> None:
        """A WebSocket that was not asked to leave before leaves at once."""
        self.open()
        self.assertTrue(self.mover.leave_now())
        self.assertEqual(self.host.departed, (5, b""))

    def test_inside_a_message(self) -> None:
        """Inside a message of its client a WebSocket does not leave at once."""
        self.open()
        self.arrive(HELLO[:3])
        self.assertFalse(self.mover.leave_now())
        self.assertEqual((self.host.departed, self.host.reading), (None, True))

    def test_in_vain(self) -> None:
        """A WebSocket that cannot leave now has no call to come."""
        self.held()
        self.write(REPLY[:3])
        self.assertFalse(self.mover.leave_now())
        self.assertEqual(self.calls(), 0)

    def test_unsent(self) -> None:
        """A WebSocket whose output is not in the kernel does not leave at once."""
        self.open()
        self.host.buffered = 10
        self.assertFalse(self.mover.leave_now())
        self.assertFalse(self.gate.leaving)

    def test_leaves_already(self) -> None:
        """A WebSocket that waits for its output to leave is leaving."""
        self.open()
        self.host.buffered = 10
        self.leave()
        self.assertTrue(self.mover.leave_now())

    def test_no_heir(self) -> None:
        """A WebSocket that no worker takes does not leave, though one might have."""
        self.open()
        with mock.patch.object(FakeMovements, "heir", return_value=0):
            self.assertFalse(self.mover.leave_now())
        self.assertTrue(self.host.reading)


class WaitTests(MoverCase):
    """What changes while a WebSocket waits to leave."""

    def test_asked_twice(self) -> None:
        """A WebSocket that has nowhere to go and is asked again has one call to come."""
        self.open()
        self.movements.next = 0
        self.leave()
        self.assertTrue(self.mover.leave())
        self.assertEqual(self.calls(), 1)

    def test_impossible(self) -> None:
        """A WebSocket that cannot go any more when it is looked at does not begin to."""
        self.held()
        with mock.patch.object(FakeMovements, "possible", False):
            self.settle()
        self.assertFalse(self.gate.leaving)

    def test_closing(self) -> None:
        """A connection that is being closed is neither moved nor looked at again."""
        for dealt_with in (0, 1):
            self.make()
            self.host.dealt_with = dealt_with
            self.held()
            self.host.buffered = 10
            self.close()
            self.settle()
            self.assertEqual((self.gate.leaving, self.calls()), (False, 0))

    def test_close_frame(self) -> None:
        """A WebSocket that the application closes is not tried again."""
        self.held()
        self.write(close_frame(1000))
        self.settle()
        self.assertEqual(self.calls(), 0)

    def test_closed_while_leaving(self) -> None:
        """A connection that is closed behind what is withheld does not move, and is left alone."""
        self.open()
        self.host.buffered = 10
        self.leave()
        self.policy.unconfirmed = 1
        self.write(REPLY)
        self.close()
        self.host.drained()
        self.assertEqual((self.host.departed, self.calls()), (None, 0))
        self.policy.confirm()
        self.assertTrue(self.host.lost)

    def test_aborted_while_leaving(self) -> None:
        """A connection that is aborted does not move when its output has left."""
        self.open()
        self.host.buffered = 10
        self.leave()
        self.host.closing = True
        self.host.drained()
        self.assertIsNone(self.host.departed)

    def test_written_at_last(self) -> None:
        """A WebSocket does not depart with output that came when the rest had left."""
        self.open()
        self.host.buffered = 10
        self.leave()
        flushed, self.host.flushed = self.host.flushed, None
        assert flushed is not None
        flushed()
        self.assertEqual((self.host.departed, self.gate.leaving), (None, False))
        self.assertEqual(self.got, self.host.delivered[0])
        self.assertTrue(self.got.startswith(request().raw[:-2]))
