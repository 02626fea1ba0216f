"""Where a connection comes from."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.messages.origin import Origin


class OriginTests(SynchronousTestCase):
    """What is known of it."""

    def test_peer_alone(self) -> None:
        """With its peer alone it was connected nowhere, and its bytes came as they are."""
        peer = ("192.0.2.1", 5000)
        self.assertEqual(Origin(peer), Origin(peer, ("", 0), secure=False))
