"""What a worker knows of its cluster."""

from __future__ import annotations

from unittest import mock

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.worker.cases import view
from txsticky.config import Config
from txsticky.core.messages.from_primary import Boot
from txsticky.core.routing.pool import Pool
from txsticky.worker.view import ClusterView


class ViewCase(SynchronousTestCase):
    """The view of worker 2 of three."""

    def setUp(self) -> None:
        self.changed = mock.Mock()
        self.view = view(self.changed)

    def pool(self, *gone: int, added: int = 0) -> Pool:
        """The pool anew, without these workers and perhaps with one more."""
        pool = Pool.from_view(self.view.pool.view())
        for id in gone:
            pool.set_gone(id)
        if added:
            pool.add(added, 1)
        return pool


class BootTests(ViewCase):
    """The beginning."""

    def test_of(self) -> None:
        """The first frame says who the worker is, and what the cluster is like."""
        boot = Boot(
            id=3,
            slot=7,
            generation=1,
            mailbox=-1,
            front_desk=-1,
            config={},
            secret="00" * 16,
            pool=self.view.pool.view(),
            table_limit=10,
            table_ttl=60.0,
        )
        made = ClusterView.of(boot, Config(), self.changed)
        self.assertEqual((made.id, made.slot, len(made.table)), (3, 7, 0))
        self.assertEqual([member.id for member in made.pool.members], [1, 2, 3])
        self.assertEqual((made.draining, made.final), (False, False))
        self.assertFalse(made.router.in_words, "as version 0.1.0, which does not say it")
        told = attrs.evolve(boot, in_words=True)
        self.assertTrue(ClusterView.of(told, Config(), self.changed).router.in_words)
        made.bind_all([b"%d" % number for number in range(11)], 1, 0.0)
        self.assertEqual(len(made.table), 10)
        self.assertEqual([made.table.find(b"10", now) for now in (0.0, 61.0)], [1, None])


class UpdateTests(ViewCase):
    """The pool changes."""

    def test_gone(self) -> None:
        """A worker that is gone is told, and its keys belong to no worker."""
        self.view.bind(b"key", 3, 0.0)
        self.assertEqual(self.view.update(self.pool(3), ()), {3})
        self.assertIsNone(self.view.table.find(b"key", 0.0))

    def test_mailbox_of_a_worker_that_is_gone(self) -> None:
        """A mailbox that came after its worker had gone is told, once the pool has a newer one."""
        self.assertEqual(self.view.update(self.pool(), (0, 1, 3, 4)), set())
        self.assertEqual(self.view.update(self.pool(added=5), (0, 1, 3, 4)), {4})

    def test_mailbox_of_the_first_worker(self) -> None:
        """A mailbox of the very first worker that came after that one had gone is told as well."""
        self.assertEqual(self.view.update(self.pool(1), ()), {1})
        self.assertEqual(self.view.update(self.pool(), (0, 1, 3)), {1})

    def test_spread(self) -> None:
        """What spreads idle connections is told what the pool was, and is, when it has changed."""
        before, after = self.view.pool, self.pool(3)
        self.view.spread = spread = mock.Mock()
        self.view.update(self.pool(), ())
        self.assertEqual(spread.changed.call_count, 0)
        self.view.pool = before
        self.view.update(after, ())
        spread.changed.assert_called_once_with(before, after)

    def test_itself(self) -> None:
        """The worker itself is never among those that are gone."""
        self.assertEqual(self.view.update(self.pool(2), ()), set())

    def test_decided_anew(self) -> None:
        """Decisions are made anew when the pool has changed, not because of its loads."""
        self.view.update(self.pool(), ())
        self.assertEqual(self.changed.call_count, 0)
        self.view.update(self.pool(3), ())
        self.assertEqual(self.changed.call_count, 1)


class ChangeTests(ViewCase):
    """Other changes, of which each has decisions made anew."""

    def test_bindings(self) -> None:
        """Keys are bound and freed, and all of them forgotten."""
        self.view.bind(b"1", 3, 0.0)
        self.view.bind(b"2", 3, 0.0)
        self.view.free(b"1")
        self.assertEqual(self.view.table.items(), [(b"2", 3)])
        self.view.update(self.view.pool, (), anew=True)
        self.assertEqual((self.view.table.items(), self.changed.call_count), ([], 4))

    def test_together(self) -> None:
        """Many keys are bound at once."""
        self.view.bind_all([b"1", b"2"], 3, 0.0)
        self.assertEqual(self.view.table.items(), [(b"1", 3), (b"2", 3)])
        self.assertEqual(self.changed.call_count, 1)

    def test_told_again(self) -> None:
        """A key that was used elsewhere lives on, and no decision is made anew for it."""
        self.view.bind(b"1", 3, 0.0)
        self.changed.reset_mock()
        self.view.bind(b"1", 3, 3599.0)
        self.assertEqual(self.view.table.find(b"1", 3600.0), 3)
        self.changed.assert_not_called()

    def test_drain(self) -> None:
        """A view says that its worker drains, and decisions are made anew."""
        self.view.drain()
        self.assertEqual((self.view.draining, self.changed.call_count), (True, 1))

    def test_withdraw(self) -> None:
        """When the worker is withdrawn, no key leads to it."""
        self.view.bind(b"key", 2, 0.0)
        self.view.withdraw()
        self.assertEqual((len(self.view.table), self.view.pool.reachable(2)), (0, False))
        self.assertEqual(self.changed.call_count, 2)


class OthersTests(ViewCase):
    """Whether another worker could serve."""

    def test_others(self) -> None:
        """Another worker could serve as long as one is ready."""
        self.assertTrue(self.view.others)
        for id in (1, 3):
            self.view.pool.set_draining(id)
        self.assertFalse(self.view.others)

    def test_final(self) -> None:
        """No other worker could serve while the whole cluster stops."""
        self.view.final = True
        self.assertFalse(self.view.others)
