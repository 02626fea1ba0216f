"""What is kept of a WebSocket's handshake."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.websocket.passport import Passport


class PassportTests(SynchronousTestCase):
    """A WebSocket's passport."""

    def setUp(self) -> None:
        self.passport = Passport(7, b"GET / HTTP/1.1\r\n\r\n", "192.0.2.7", None)

    def test_stays(self) -> None:
        """A WebSocket is at work until the last that had it stay lets go, in whatever order."""
        self.assertIs(self.passport.at_work, False)
        first, second = self.passport.stay(), self.passport.stay()
        first()
        first()
        self.assertIs(self.passport.at_work, True)
        second()
        self.assertIs(self.passport.at_work, False)

    def test_busy(self) -> None:
        """A WebSocket is at work as well while what serves it says so."""
        self.passport.busy = lambda: True
        self.assertIs(self.passport.at_work, True)

    def test_before_the_answer(self) -> None:
        """Before its client was told anything a passport has no subprotocol or state."""
        replay = self.passport.leave(3, 4)
        self.assertEqual((replay.protocol, replay.extensions, replay.state), (b"", b"", b""))
        self.assertEqual((replay.head, replay.source, replay.given), (self.passport.head, 3, 4))
        self.assertEqual(replay.moves, 1)
