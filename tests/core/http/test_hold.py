"""What a conversation holds of a client's bytes, and how often it looks at them."""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http import incoming
from txsticky.core.http.conversation import Conversation
from txsticky.core.http.head import parse_head


class HoldLimitTests(SynchronousTestCase):
    """The limit that is not given."""

    def test_default(self) -> None:
        """64 KiB are held where no limit is given, however small a head has to be."""
        exchange = Conversation(head_limit=100)
        exchange.feed(b"x" * 65536)
        self.assertFalse(exchange.over_hold)
        exchange.feed(b"x")
        self.assertTrue(exchange.over_hold)


class SeenTests(SynchronousTestCase):
    """What was parsed in vain is not parsed again."""

    def starts(self, *pieces: bytes) -> list[int]:
        """How many bytes each look at a head took as known."""
        exchange = Conversation()
        with mock.patch.object(incoming, "parse_head", side_effect=parse_head) as parser:
            for piece in pieces:
                exchange.feed(piece)
                exchange.next()
        return [call.args[2] for call in parser.call_args_list]

    def test_in_pieces(self) -> None:
        """A head in pieces is looked at from where the piece before has ended."""
        self.assertEqual(self.starts(b"GET / HT", b"TP/1.1\r\nA", b": b\r\n\r\n"), [0, 8, 17])

    def test_empty_lines(self) -> None:
        """Nothing is known of what stands behind empty lines, which are dropped."""
        self.assertEqual(self.starts(b"\r\n\r", b"\nGET /"), [0, 0])
