"""What an asyncio protocol on a transport of Twisted shares with it, and when it lets go."""

from __future__ import annotations

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txsticky.serve.asgi.facade import LIMITS, FacadeFactory

from .test_facade import Inner, Outside


class LimitsTests(SynchronousTestCase):
    """Buffer limits."""

    def test_twisteds(self) -> None:
        """The limits that are told are those of Twisted's transports."""
        self.assertEqual(LIMITS, (0, FileDescriptor.bufferSize))


class OverTests(SynchronousTestCase):
    """The connection is over."""

    def test_let_go(self) -> None:
        """The protocol's transport keeps neither the host nor the connection."""
        inner = Inner()
        host = FacadeFactory(lambda: inner, None).buildProtocol(None)
        host.makeConnection(Outside())  # type: ignore[arg-type]
        self.assertFalse(inner.transport.is_closing())
        host.connectionLost(Failure(ConnectionDone()))
        self.assertIsNone(inner.transport._host)
        self.assertTrue(inner.transport.is_closing())
