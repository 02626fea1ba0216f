"""The dispatcher without a primary, and the first start without one."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from tests.shells import ShellCase
from txsticky.config import Config
from txsticky.core.messages.handoff import Handoff, unpack
from txsticky.core.messages.origin import Origin
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.table import Table
from txsticky.errors import MailboxFull
from txsticky.intake.arrival import Arrival
from txsticky.primary.beginning import OTHERS, Beginning
from txsticky.primary.dispatcher import Dispatcher

PEER = ("192.0.2.7", 50000)


class DispatcherCase(ShellCase):
    """A dispatcher with one worker, which is ready."""

    def setUp(self) -> None:
        super().setUp()
        self.pool = Pool()
        self.pool.add(1, 1)
        self.pool.set_ready(1)
        self.mailbox = mock.Mock()
        self.beginning = SimpleNamespace(under_way=False, holds=lambda: True)
        self.parked: list[Arrival] = []
        self.refused: list[tuple[Arrival, str]] = []
        self.expects = False
        self.dispatcher = Dispatcher(
            Config().router(bytes(16)),
            self.pool,
            Table(10, 10.0),
            {1: SimpleNamespace(mailbox=self.mailbox)},
            self.beginning,  # type: ignore[arg-type]
            FakeSystem(),
            park=self.parked.append,
            expects=lambda: self.expects,
            refuse=lambda arrival, reason: self.refused.append((arrival, reason)),
        )

    def place(self) -> Arrival:
        """Place a connection."""
        sock, _ = self.pair()
        arrival = Arrival(sock, Origin(PEER), data=b"GET")
        self.dispatcher.place(arrival)
        return arrival

    def test_handed(self) -> None:
        """The worker's mailbox gets descriptor and bytes, and the pool counts the connection."""
        sock, _ = self.pair()
        number = sock.fileno()
        self.dispatcher.place(Arrival(sock, Origin(PEER), data=b"GET"))
        ((descriptor, message),) = [call.args for call in self.mailbox.hand.call_args_list]
        handoff: Any = unpack(message)
        self.assertIsInstance(handoff, Handoff)
        self.assertEqual((descriptor, handoff.prefix, handoff.origin.peer), (number, b"GET", PEER))
        self.assertEqual((sock.fileno(), self.pool.members[0].sent), (-1, 1))
        self.assertEqual(sum(self.dispatcher.routes.values()), 1)
        os.close(number)

    def test_full(self) -> None:
        """If the mailbox takes no more the connection is refused, and not counted."""
        self.mailbox.hand.side_effect = MailboxFull(queued=3)
        arrival = self.place()
        self.assertIs(self.refused[0][0], arrival)
        self.assertEqual(self.pool.members[0].sent, 0)

    def test_first_start(self) -> None:
        """During the first start a connection is parked, though a worker is ready."""
        self.beginning.under_way = True
        self.assertEqual(self.parked, [self.place()])

    def test_no_worker(self) -> None:
        """Without a worker a connection is parked if one is expected, and else refused."""
        self.pool.set_gone(1)
        arrival = self.place()
        self.assertEqual([refused for refused, _ in self.refused], [arrival])
        self.expects = True
        self.assertEqual(self.parked, [self.place()])


class BeginningTests(SynchronousTestCase):
    """The first start of two workers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pool = Pool()
        self.over = mock.Mock()
        self.beginning = Beginning(self.pool, 2, 40.0, self.clock, self.over)
        for id in (1, 2):
            self.pool.add(id, id)

    def ready(self, id: int) -> None:
        """Have a worker get ready."""
        self.pool.set_ready(id)
        self.beginning.look()

    def test_all(self) -> None:
        """The first start is over when all workers are ready, and leaves no call behind."""
        self.ready(1)
        self.assertTrue(self.beginning.holds())
        self.ready(2)
        self.assertEqual((self.over.call_count, self.beginning.holds()), (1, False))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_some(self) -> None:
        """The first start is over when the first worker has waited for the others."""
        self.ready(1)
        self.clock.advance(OTHERS)
        self.assertEqual((self.over.call_count, self.beginning.under_way), (1, False))

    def test_gone(self) -> None:
        """The first start goes on if the worker that waited has gone."""
        self.ready(1)
        self.pool.set_gone(1)
        self.clock.advance(OTHERS)
        self.assertEqual((self.over.call_count, self.beginning.under_way), (0, True))

    def test_abandoned(self) -> None:
        """A stop ends the first start, with the workers that are ready, or without any."""
        self.beginning.abandon()
        self.assertEqual((self.over.call_count, self.beginning.under_way), (0, False))

    def test_no_patience(self) -> None:
        """With --queue-timeout 0 nothing waits for the others."""
        beginning = Beginning(self.pool, 2, 0, self.clock, self.over)
        self.assertTrue(beginning.holds())
        self.pool.set_ready(1)
        self.assertFalse(beginning.holds())
