"""Topics of the bus in frames."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.messages.frames import TOPIC_LIMIT
from txsticky.core.messages.from_worker import Publish


class TopicTests(SynchronousTestCase):
    """How long a topic may be."""

    def test_longest(self) -> None:
        """A topic of just the limit arrives; its length has room for no byte more."""
        sent = Publish(b"t" * TOPIC_LIMIT, b"message")
        self.assertEqual(Publish.of(sent.body()), sent)
        self.assertRaises(OverflowError, Publish(b"t" * (TOPIC_LIMIT + 1), b"").body)
