"""A connection under asyncio that is cut off at once."""

from __future__ import annotations

from tests.serve.asgi.test_native import GET, OK, NativeCase


class AbortTests(NativeCase):
    """What an abort changes at once."""

    def test_closing(self) -> None:
        """The connection is closing as soon as it was cut off, before the loop has turned."""
        host = self.connect(GET)
        host.abort()
        self.assertEqual((host.live(), self.inner.transport.is_closing()), (False, True))

    def test_read_again(self) -> None:
        """The client is read again after it was not, as often as that happens."""
        host = self.connect(GET)
        self.inner.transport.write(OK)
        self.turn()
        for _ in range(2):
            host.stop_reading()
            self.turn()
            host.start_reading()
            self.turn()
            self.inner.got = b""
            self.send(GET)
            self.inner.transport.write(OK)
            self.turn()
            self.assertEqual(self.inner.got, GET)
