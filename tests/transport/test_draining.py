"""A worker that is leaving gives its idle connections away."""

from __future__ import annotations

from tests.transport.cases import OK, SWITCHING, UPGRADE, GateCase, to


class DrainTests(GateCase):
    """A worker that leaves."""

    def drain(self) -> bool:
        """Have the worker begin to leave; returns whether the connection left at once."""
        self.policy.draining = True
        return self.gate.drain()

    def test_odd_request(self) -> None:
        """An odd request is answered first; then its connection, which cannot move, is closed."""
        odd = b"GET / HTTP/1.1\r\nX: a\x01b\r\n\r\n"
        self.arrive(odd)
        self.assertFalse(self.drain())
        self.answer(OK[:20])
        self.assertFalse(self.host.closing)
        self.answer(OK[20:])
        self.assertTrue(self.host.halved)
        self.assertIn(b"Connection: close", self.host.sent)
        self.assertIsNone(self.host.departed)

    def test_fresh(self) -> None:
        """A connection that has sent nothing yet is given away."""
        self.assertTrue(self.drain())
        self.assertEqual(self.host.departed, (0, b""))

    def test_idle(self) -> None:
        """A connection that is between two requests is given away."""
        self.arrive(to(1))
        self.answer()
        self.assertTrue(self.drain())
        self.assertEqual(self.host.departed, (0, b""))

    def test_busy(self) -> None:
        """A connection that is in a request is given away when that is answered."""
        self.arrive(to(1))
        self.assertFalse(self.drain())
        self.answer()
        self.assertEqual((self.host.departed, self.host.sent), ((0, b""), OK))

    def test_in_a_head(self) -> None:
        """A connection that is in a head stays until the head is complete and asked about."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(0)[:10])
        self.assertFalse(self.drain())
        self.arrive(to(0)[10:])
        self.assertEqual(self.host.departed, (0, to(0)))

    def test_pinned(self) -> None:
        """A request that is pinned here is still served, and then its connection leaves."""
        self.arrive(to(1))
        self.answer()
        self.arrive(to(1)[:10])
        self.drain()
        self.arrive(to(1)[10:])
        self.assertEqual(self.got, 2 * to(1))
        self.answer()
        self.assertEqual(self.host.departed, (0, b""))

    def test_tunnel(self) -> None:
        """A WebSocket cannot be given away."""
        self.arrive(UPGRADE)
        self.answer(SWITCHING)
        self.assertFalse(self.drain())
        self.arrive(b"frame")
        self.assertIsNone(self.host.departed)

    def test_flush(self) -> None:
        """A connection leaves when its output is in the kernel."""
        self.arrive(to(1))
        self.host.buffered = 10
        self.answer()
        self.assertTrue(self.drain())
        self.assertIsNone(self.host.departed)
        self.assertFalse(self.drain())  # it is on its way
        self.host.drained()
        self.assertEqual(self.host.departed, (0, b""))

    def test_closing(self) -> None:
        """A connection that is being closed is left alone."""
        self.arrive(to(1))
        self.host.buffered = 10
        self.answer()
        self.close()
        self.assertFalse(self.drain())
