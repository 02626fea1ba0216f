"""A connection under asyncio that is closed or cut off."""

from __future__ import annotations

from .native import GET, OK, SEEN, NativeCase


class AbortTests(NativeCase):
    """What an abort changes at once."""

    def test_closing(self) -> None:
        """The connection is closing as soon as it was cut off, before the loop has turned."""
        host = self.connect(GET)
        host.abort()
        self.assertEqual((host.live(), self.inner.transport.is_closing()), (False, True))

    def test_behind_output(self) -> None:
        """What was written in the same turn is sent, as by a transport that coalesces nothing."""
        self.connect(GET)
        self.inner.transport.write(OK)
        self.inner.transport.abort()
        self.assertEqual(self.received(len(SEEN)), SEEN)

    def check_ends(self, name: str) -> None:
        """What the worker calls by this name of Twisted's ends the connection."""
        host = self.connect(GET)
        getattr(host, name)()
        self.until(lambda: self.inner.calls[-1] in ("lost", "broken"))
        self.assertFalse(host.live())

    def test_cut_off_by_the_worker(self) -> None:
        """The worker cuts a connection off by Twisted's name for that."""
        self.check_ends("abortConnection")

    def test_closed_by_the_worker(self) -> None:
        """The worker closes a connection by Twisted's name for that."""
        self.check_ends("loseConnection")

    def test_before_the_transport(self) -> None:
        """A connection cut off before it has a transport is closed and let go when it has one."""
        host = self.adopt(GET)
        host.abort()
        self.take(host)
        self.until(self.ended)
        self.assertEqual((self.inner.calls, self.kept.ends), ([], 1))
        self.assertIsNot(host.gate.host, host)

    def test_let_go(self) -> None:
        """The protocol's transport keeps neither the host nor the protocol of what is over."""
        self.connect(GET)
        self.inner.transport.abort()
        self.until(lambda: self.kept.ends)
        self.assertIsNone(self.inner.transport.get_protocol())

    def test_gone(self) -> None:
        """What is given up for gone is closed, although its client is there."""
        host = self.connect(GET)
        host.gone()
        self.until(self.ended)
