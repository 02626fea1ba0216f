"""How a connection under asyncio begins, and how it is read, on asyncio and on uvloop."""

from __future__ import annotations

from unittest import mock

from .native import ELSEWHERE, GET, OK, NativeCase


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

    def test_over_before(self) -> None:
        """A connection that is over before it begins does not begin."""
        host = self.adopt(GET)
        self.inner.on["made"] = host.gone
        with mock.patch.object(self.kept, "delivered") as delivered:
            self.take(host)
            self.until(self.ended)
        delivered.assert_not_called()
        self.assertEqual((self.inner.got, self.kept.ends), (b"", 1))

    def test_end_before(self) -> None:
        """A client that has ended its side by then is owed the answer to what was read of it."""
        host = self.adopt(GET)
        stays: list[bool] = []
        self.inner.on["made"] = lambda: stays.append(host.eof_received())
        self.take(host)
        self.assertEqual((stays, self.inner.got), ([True], GET))

    def test_read_before(self) -> None:
        """What the loop has read by then goes along if the first bytes take the connection away."""
        host = self.adopt(GET + ELSEWHERE)
        self.inner.on["made"] = lambda: host.data_received(b"more")
        self.inner.on["data"] = lambda: self.inner.transport.write(OK)
        self.take(host)
        self.until(lambda: self.kept.left)
        sock, _, held = self.kept.left
        sock.close()
        self.assertEqual(held, ELSEWHERE + b"more")

    def test_not_paused_any_more(self) -> None:
        """A protocol that pauses when it is connected, and goes on at once, gets all there is."""

        def made() -> None:
            self.inner.transport.pause_reading()
            self.inner.transport.resume_reading()

        self.inner.on["made"] = made
        self.connect(GET[:9])
        self.send(GET[9:])
        self.assertEqual(self.inner.got, GET)

    def test_paused(self) -> None:
        """A protocol that pauses when it is connected leaves the client's bytes in the kernel."""
        self.inner.on["made"] = lambda: self.inner.transport.pause_reading()
        host = self.connect()
        self.assertFalse(host.native.is_reading())


class ReadingTests(NativeCase):
    """A client that is not read for a while."""

    def test_again(self) -> None:
        """A client is read again after it was not, and not in between, however often."""
        host = self.connect(GET)
        self.inner.transport.write(OK)
        self.turn()
        for _ in range(2):
            self.inner.got = b""
            host.stop_reading()
            self.client.sendall(GET)
            self.turn()
            self.assertEqual(self.inner.got, b"")
            host.start_reading()
            self.until(lambda: self.inner.got == GET)
            self.inner.transport.write(OK)
            self.turn()


class UvloopBeginTests(BeginTests):
    """On uvloop."""

    loop_name = "uvloop"


class UvloopReadingTests(ReadingTests):
    """On uvloop."""

    loop_name = "uvloop"
