"""The workers as the primary has them, without a primary: which of them accept, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from txsticky.core.messages.from_worker import Ready
from txsticky.core.routing.pool import Pool
from txsticky.primary.supervision.suspicion import MUTE, Suspicions
from txsticky.primary.supervision.workers import Workers


class WorkersCase(SynchronousTestCase):
    """
    Three workers, with the ids and slots 1 to 3, and nothing around them.

    :ivar listeners: writes down in which slots workers accept.
    """

    def setUp(self) -> None:
        self.pool = Pool()
        self.beginning = SimpleNamespace(under_way=False)
        self.listeners = mock.Mock()
        self.replication = mock.Mock(join=lambda handle, together, done: done())
        self.spawner = mock.Mock()
        self.withdrawn: list[int] = []
        self.workers = Workers(
            FakeSystem(),
            self.pool,
            self.spawner,
            Suspicions(self.pool, lambda: self.workers.attend()),
            self.replication,
            self.beginning,  # type: ignore[arg-type]
            self.listeners,
            10,
            {},
            heard=mock.Mock(),
            bus=mock.Mock(forget=self.withdrawn.append),
            leaving=mock.Mock(),
            exited=mock.Mock(),
        )
        for id in (1, 2, 3):
            self.spawn(id, id)

    def spawn(self, id: int, slot: int) -> Any:
        """Start a worker."""
        self.workers.spawn(id, slot, 1)
        handle: Any = self.workers.handles[id]
        handle.listens = True
        handle.channel = mock.Mock()
        return handle

    def ready(self, *ids: int) -> None:
        """Have workers ready."""
        for id in ids:
            self.workers.ready(self.workers.handles[id], Ready("web", True), mock.Mock())

    def told(self, id: int) -> list[str]:
        """What a worker was told."""
        handle: Any = self.workers.handles[id]
        return [type(call.args[0]).__name__ for call in handle.channel.send.call_args_list]

    def slots(self) -> set[int]:
        """The slots in which workers accept, as the listeners know."""
        slots: set[int] = self.listeners.attend.call_args.args[0]
        return slots


class AcceptTests(WorkersCase):
    """Which workers accept."""

    def test_ready(self) -> None:
        """A worker that is ready is told once to accept."""
        self.ready(2)
        self.workers.attend()
        self.assertEqual((self.told(1), self.told(2), self.slots()), ([], ["Accept"], {2}))

    def test_beginning(self) -> None:
        """No worker is told to accept before connections are routed."""
        self.beginning.under_way = True
        self.ready(2)
        self.assertEqual(self.told(2), [])
        self.listeners.attend.assert_not_called()

    def test_without_sockets(self) -> None:
        """A worker that has no sockets is not told to accept."""
        self.workers.handles[2].listens = False
        self.ready(2)
        self.assertEqual((self.told(2), self.slots()), ([], set()))

    def test_suspect(self) -> None:
        """A suspect worker does not accept alone; later it need not be told again."""
        self.ready(1, 2, 3)
        self.workers.suspect(2, True)
        self.assertEqual(self.slots(), {1, 3})
        self.workers.suspect(2, False)
        self.assertEqual((self.slots(), self.told(2)), ({1, 2, 3}, ["Accept"]))

    def test_draining(self) -> None:
        """A worker that drains accepts no more, unlike its successor."""
        self.ready(1, 2, 3)
        self.workers.retire(1, 5.0, final=False)
        self.assertEqual((self.slots(), self.told(1)), ({2, 3}, ["Accept", "BeginDrain"]))
        self.spawn(4, 1)
        self.ready(4)
        self.assertEqual((self.slots(), self.told(4)), ({1, 2, 3}, ["Accept"]))


class LeaveTests(WorkersCase):
    """Workers to which nothing is routed any more."""

    def test_withdrawn(self) -> None:
        """Pool, replication and suspicions know nothing of such a worker, and the bus is told."""
        self.ready(1, 2)
        self.workers.suspect(1, True)
        handle = self.workers.handles[1]
        self.workers.withdraw(handle)
        self.assertFalse(handle.ready)
        self.assertIsNone(self.pool.get(1))
        self.assertEqual(self.workers.suspicions.of(1), ())
        self.assertEqual(self.replication.leave.call_args_list, [mock.call(1)])
        self.assertEqual((self.withdrawn, self.slots()), ([1], {2}))

    def test_no_suspicion_of_what_has_gone(self) -> None:
        """What is held against a worker that is gone is not kept."""
        self.workers.withdraw(self.workers.handles[1])
        self.workers.suspect(1, True, MUTE)
        self.assertEqual(self.workers.suspicions.of(1), ())

    def test_not_started(self) -> None:
        """A worker whose process cannot be started is in no list."""
        self.spawner.start.side_effect = OSError("no more processes")
        self.assertRaises(OSError, self.workers.spawn, 9, 9, 1)
        self.assertIsNone(self.pool.get(9))
        self.assertNotIn(9, self.workers.handles)
