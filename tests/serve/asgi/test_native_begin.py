"""How a connection under asyncio begins, and how it is cut off."""

from __future__ import annotations

from unittest import mock

from tests.serve.asgi.test_native import GET, NativeCase


class BeginTests(NativeCase):
    """The first turn of a connection."""

    def test_once(self) -> None:
        """A connection that has begun does not begin again."""
        host = self.connect(GET)
        self.assertEqual(self.inner.got, GET)
        with mock.patch.object(self.kept, "delivered") as delivered:
            host._begin()
        delivered.assert_not_called()
        self.assertEqual(self.inner.got, GET)

    def test_cut_off(self) -> None:
        """The worker cuts it off by Twisted's name for that."""
        host = self.connect(GET)
        host.abortConnection()
        self.until(lambda: self.inner.calls[-1] in ("lost", "broken"))
        self.assertFalse(host.live())
