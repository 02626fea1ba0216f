"""Where a connection comes from."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.messages.origin import Origin


class OriginTests(SynchronousTestCase):
    """The fields of an origin."""

    def test_peer_alone(self) -> None:
        """An origin of its peer alone has no address of this end, and is not secure."""
        peer = ("192.0.2.1", 5000)
        self.assertEqual(Origin(peer), Origin(peer, ("", 0), secure=False))
