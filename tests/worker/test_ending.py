"""The end of a worker: its application stops, then its event loop, in the time that there is."""

from __future__ import annotations

import os
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from tests.shells import open_descriptors
from txsticky.worker.ending import End, discard_output


class EndTests(SynchronousTestCase):
    """The end of one worker, whose application stops when the test says so."""

    def setUp(self) -> None:
        self.system = FakeSystem()
        self.reactor = self.system.reactor
        self.stopped: Deferred[None] = Deferred()
        self.seconds: list[float] = []
        self.end = End(self.system, self.stop)
        self.end.within(30.0)

    def stop(self, seconds: float) -> Deferred[None]:
        """Stop the application."""
        self.seconds.append(seconds)
        return self.stopped

    def test_in_order(self) -> None:
        """The event loop stops once the application has."""
        self.end.begin(0)
        self.assertEqual((self.end.begun, self.seconds, self.reactor.running), (True, [30.0], True))
        self.stopped.callback(None)
        self.assertEqual((self.reactor.running, self.end.status), (False, 0))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_before(self) -> None:
        """An end that has not begun has the exit code 0."""
        end = End(self.system, self.stop)
        self.assertEqual((end.begun, end.status), (False, 0))

    def test_overdue(self) -> None:
        """Once the time is over, the application has none to stop, and is not waited for."""
        self.reactor.advance(31.0)
        self.end.begin(0)
        self.assertEqual(self.seconds, [0.0])
        self.reactor.advance(0)
        self.assertFalse(self.reactor.running)
        self.stopped.callback(None)

    def test_hurried_to_the_utmost(self) -> None:
        """An end that is to be now is now."""
        self.end.begin(0)
        self.reactor.advance(2.0)
        self.end.within(0.0)
        self.reactor.advance(0)
        self.assertFalse(self.reactor.running)

    def test_slow(self) -> None:
        """An application that does not stop is waited for until its time is over."""
        self.end.begin(0)
        self.reactor.advance(29.9)
        self.assertTrue(self.reactor.running)
        self.reactor.advance(0.1)
        self.assertFalse(self.reactor.running)
        self.stopped.callback(None)

    def test_hurried(self) -> None:
        """An end that is hurried has the shorter time, and keeps it when told of a longer one."""
        self.end.begin(0)
        self.reactor.advance(2.0)
        self.end.within(5.0)
        self.end.within(60.0)
        self.reactor.advance(5.0)
        self.assertFalse(self.reactor.running)

    def test_rest(self) -> None:
        """The application has what is left of the time."""
        self.reactor.advance(28.0)
        self.end.within(10.0)
        self.end.begin(0)
        self.assertEqual(self.seconds, [2.0])

    def test_failing(self) -> None:
        """An application that fails to stop is logged."""
        self.end.begin(0)
        self.stopped.errback(Failure(ZeroDivisionError()))
        self.assertFalse(self.reactor.running)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stopped_from_outside(self) -> None:
        """An application that has stopped the event loop itself does no harm."""
        self.end.begin(0)
        self.reactor.stop()
        self.stopped.callback(None)
        self.assertEqual(self.end.status, 0)

    def test_status(self) -> None:
        """The exit code is the highest that was told."""
        self.end.status = 1
        self.end.begin(0)
        self.assertEqual(self.end.status, 1)
        self.end.begin(3)
        self.assertEqual(self.end.status, 3)
        self.stopped.callback(None)


class OutputTests(SynchronousTestCase):
    """The output of a worker whose primary is gone."""

    def test_discarded(self) -> None:
        """Both streams lead nowhere, and no descriptor is left over."""
        dup2, before = mock.Mock(), open_descriptors()
        self.patch(os, "dup2", dup2)
        discard_output()
        (quiet, first), (same, second) = (call.args for call in dup2.call_args_list)
        self.assertEqual((first, second, same), (1, 2, quiet))
        self.assertEqual(open_descriptors(), before)
