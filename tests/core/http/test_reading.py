"""How a request is read whose end has more than one reading."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.framing import BodyKind, Odd
from txsticky.core.http.head import Head, parse_head
from txsticky.core.http.reading import reading


class ReadingTests(SynchronousTestCase):
    """Where a request ends."""

    def head(self, *lines: str) -> Head:
        """A request with these header lines."""
        parsed = parse_head("\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode(), 65536)
        assert isinstance(parsed, Head)
        return parsed

    def test_identity(self) -> None:
        """A coding that is none tells nothing of the end, whatever else does."""
        _, framing = reading(self.head("Transfer-Encoding: identity", "Content-Length: 5"))
        self.assertEqual((framing.kind, framing.length), (BodyKind.LENGTH, 5))

    def test_unknown(self) -> None:
        """A coding whose name is but near to that of none is refused."""
        for coding in ("identity!", "!identity"):
            self.assertRaises(Odd, reading, self.head(f"Transfer-Encoding: {coding}"))
