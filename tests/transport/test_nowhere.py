"""What is left of a connection's gate when the connection is over."""

from __future__ import annotations

from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.core.http.websocket.test_handshake import request
from txsticky.core.how import How
from txsticky.core.routing.verdict import KEEP
from txsticky.transport.nowhere import NOWHERE


class NowhereTests(SynchronousTestCase):
    """The host and the policy of a connection that is over."""

    def test_host(self) -> None:
        """The host has neither a client nor anything to send."""
        self.assertEqual(
            (NOWHERE.live(), NOWHERE.severed(), NOWHERE.settled(7)), (False, True, True)
        )
        self.assertEqual((NOWHERE.unsent(), NOWHERE.passed(), NOWHERE.quiet()), (0, 0, 0.0))

    def test_nothing_happens(self) -> None:
        """Whatever the host is told, nothing happens, and nothing is called back."""
        called = mock.Mock()
        for told in (
            NOWHERE.deliver, NOWHERE.tell, NOWHERE.send, NOWHERE.withholds,
            NOWHERE.flush, NOWHERE.guarded, NOWHERE.when_confirmed,
        ):  # fmt: skip
            told(called)
        for told in (
            NOWHERE.stop_reading, NOWHERE.start_reading, NOWHERE.half_close, NOWHERE.dismiss,
            NOWHERE.hang_up, NOWHERE.gone, NOWHERE.request_done,
        ):  # fmt: skip
            told()
        NOWHERE.depart(3, b"held")
        NOWHERE.later(0, called).cancel()
        self.assertEqual(called.mock_calls, [])

    def test_policy(self) -> None:
        """The policy keeps requests, knows none by heart, and waits for no binding."""
        verdict = NOWHERE.whose(request(), "192.0.2.7")
        self.assertEqual((NOWHERE.how, verdict), (How.NEW, KEEP[How.NEW]))
        self.assertEqual((NOWHERE.known, NOWHERE.given, NOWHERE.hosts), ({}, {}, {}))
        self.assertEqual((NOWHERE.draining, NOWHERE.movements), (False, None))
        self.assertEqual(NOWHERE.bindings.unconfirmed, 0)
