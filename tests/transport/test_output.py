"""What a transport was given to send, and has not sent."""

from __future__ import annotations

from tests.transport.cases import ConnectionCase


class UnsentTests(ConnectionCase):
    """How much that is."""

    def test_just_written(self) -> None:
        """All that was written since the reactor last sent counts."""
        transport = self.adopt()
        transport.write(b"hello")
        transport.write(b"you")
        self.assertEqual(transport.unsent(), 8)
