"""The response to a request that is refused."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.http.refusal import refusal

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


class RefusalTests(SynchronousTestCase):
    """A refusal, as bytes."""

    def test_whole(self) -> None:
        """A refusal is a complete response, and the last of its connection."""
        self.assertEqual(
            refusal(400, "No.", DATE),
            b"HTTP/1.1 400 Bad Request\r\n"
            b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 4\r\n"
            b"Connection: close\r\n"
            b"\r\n"
            b"No.\n",
        )

    def test_retry_after(self) -> None:
        """A refusal may say when to try again."""
        self.assertIn(b"\r\nRetry-After: 7\r\n", refusal(503, "Later.", DATE, 7))
        self.assertNotIn(b"Retry-After", refusal(503, "Later.", DATE))

    def test_head(self) -> None:
        """The refusal of a HEAD has no body, and the length of the one that GET would have."""
        whole, head = (refusal(408, "Late.", DATE, head_only=only) for only in (False, True))
        self.assertEqual(head + b"Late.\n", whole)

    def test_length(self) -> None:
        """The length of the body is counted in bytes."""
        self.assertIn(b"\r\nContent-Length: 3\r\n", refusal(400, "é", DATE))
