"""The moment before the listening sockets close."""

from __future__ import annotations

from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txsticky.primary.last_in import HANDSHAKE, PATIENCE, LastIn


class LastInTests(SynchronousTestCase):
    """The wait for connections outside, which ends."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.listeners, self.over = mock.Mock(), mock.Mock()
        self.listeners.any_outside.return_value = True
        self.freed: Deferred[None] = Deferred()
        self.let_go = mock.Mock(return_value=self.freed)
        self.close = self.listeners.close
        self.reception, self.place = mock.Mock(), mock.Mock()
        self.reception.take_waiting.return_value = []
        parts = (self.listeners, self.reception, self.place)
        self.last_in = LastIn(*parts, self.clock, self.let_go, self.over)

    def called(self) -> list[str]:
        """What the listeners were told, in order."""
        return [name for name, _, _ in self.listeners.mock_calls]

    def test_none_outside(self) -> None:
        """Where no connection is outside the sockets close at once, and then it is over."""
        self.listeners.any_outside.return_value = False
        self.assertTrue(self.last_in.begin())
        self.let_go.assert_called_once_with()
        self.over.assert_not_called()
        self.freed.callback(None)
        looks = ["let_in", "any_outside", "shut", "any_outside"]
        self.assertEqual(self.called(), [*looks, "accept_all", "close"])
        self.over.assert_called_once_with()

    def test_lets_in(self) -> None:
        """Silent connections are let in before anything is looked at."""
        self.assertTrue(self.last_in.begin())
        self.assertEqual(self.called(), ["let_in", "any_outside"])

    def test_last_one(self) -> None:
        """When the last connection is in, the sockets are closed, once."""
        self.freed.callback(None)
        self.assertTrue(self.last_in.begin())
        self.clock.pump([0.1] * 3)
        self.close.assert_not_called()
        self.listeners.any_outside.return_value = False
        self.clock.advance(0.1)
        self.close.assert_called_once_with()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_patience(self) -> None:
        """Connections that are always outside are waited for so long and no longer."""
        self.freed.callback(None)
        self.last_in.begin()
        self.clock.pump([0.01] * round(PATIENCE * 100 - 5))
        self.listeners.shut.assert_not_called()
        self.clock.pump([0.01] * 10)
        self.listeners.shut.assert_called_once_with()
        self.clock.pump([0.01] * round(HANDSHAKE * 100 - 10))
        self.close.assert_not_called()
        self.clock.pump([0.01] * 10)
        self.close.assert_called_once_with()
        self.listeners.shut.assert_called_once_with()

    def test_between(self) -> None:
        """A connection that began before the door was shut is waited for as well."""
        self.freed.callback(None)
        self.listeners.any_outside.side_effect = [False, True, False]
        self.last_in.begin()
        self.close.assert_not_called()
        self.clock.advance(0.1)
        self.close.assert_called_once_with()

    def test_failures(self) -> None:
        """A failure to close or to accept is told, and the wait is over all the same."""
        self.listeners.any_outside.return_value = False
        self.listeners.accept_all.side_effect = ZeroDivisionError
        self.last_in.begin()
        self.freed.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.close.assert_called_once_with()
        self.over.assert_called_once_with()

    def test_cut_short(self) -> None:
        """A wait that is cut short closes nothing and is not over."""
        self.last_in.begin()
        self.last_in.cut_short()
        self.clock.advance(PATIENCE + 1)
        self.close.assert_not_called()

    def test_cut_short_while_sockets_close(self) -> None:
        """A wait cut short while the sockets close is not over when they have."""
        self.listeners.any_outside.return_value = False
        self.last_in.begin()
        self.last_in.cut_short()
        self.freed.callback(None)
        self.over.assert_not_called()

    def test_too_late(self) -> None:
        """After an order that is not graceful, no wait begins."""
        self.last_in.cut_short()
        self.assertFalse(self.last_in.begin())

    def test_cut_short_twice(self) -> None:
        """A second order to wait no more changes nothing."""
        self.last_in.begin()
        self.last_in.cut_short()
        self.last_in.cut_short()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cut_short_after_a_wait(self) -> None:
        """What was waited for before the sockets were closing is no more to be cut short."""
        self.last_in.begin()
        self.listeners.any_outside.return_value = False
        self.clock.advance(0.1)
        self.let_go.assert_called_once_with()
        self.last_in.cut_short()
        self.freed.callback(None)
        self.listeners.shut.assert_not_called()
        self.over.assert_not_called()

    def test_once(self) -> None:
        """A second order while it waits begins nothing."""
        self.last_in.begin()
        self.assertFalse(self.last_in.begin())
        self.listeners.let_in.assert_called_once_with()

    def test_once_cut_short(self) -> None:
        """A second order after an order that is not graceful begins nothing."""
        self.last_in.begin()
        self.last_in.cut_short()
        self.assertFalse(self.last_in.begin())

    def test_who_waits(self) -> None:
        """A client that has not asked yet gets a worker; an idle connection waits on here."""
        fresh, idle = mock.Mock(idle=False), mock.Mock(idle=True)
        self.reception.take_waiting.return_value = [fresh, idle]
        self.listeners.any_outside.return_value = False
        self.last_in.begin()
        self.place.assert_not_called()
        self.freed.callback(None)
        self.place.assert_called_once_with(fresh, False)
        self.reception.wait.assert_called_once_with(idle)
        self.over.assert_called_once_with()

    def test_one_that_fails(self) -> None:
        """A connection that fails is closed, and keeps neither the others nor the end."""
        bad, good = mock.Mock(idle=False), mock.Mock(idle=False)
        self.reception.take_waiting.return_value = [bad, good]
        self.place.side_effect = [ZeroDivisionError, None]
        self.listeners.any_outside.return_value = False
        self.last_in.begin()
        self.freed.callback(None)
        bad.sock.close.assert_called_once_with()
        good.sock.close.assert_not_called()
        self.over.assert_called_once_with()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
