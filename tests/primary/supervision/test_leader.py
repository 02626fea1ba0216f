"""The primary appoints the leader."""

from __future__ import annotations

from typing import Any

from tests.primary.cases import PrimaryCase
from tests.primary.upgrade.test_state import HandoverCase
from tests.raw_frames import Kind, decode_json
from tests.shells import PlayedWorker
from txsticky.core.lifecycle.leadership import LEASE
from txsticky.primary.upgrade.state import UpgradeState


def ready(worker: PlayedWorker) -> None:
    """Have a worker of today get ready."""
    worker.send_json(Kind.READY, interface="web", http=True, appointable=True)


def led(worker: PlayedWorker) -> list[dict[str, Any]]:
    """What a worker was told of its appointment since the last call."""
    return [decode_json(body) for body in worker.told(Kind.LEAD)]


class LeaderTests(PrimaryCase):
    """Workers that are appointed."""

    options = {"worker_timeout": 0.0}

    def setUp(self) -> None:
        super().setUp()
        for _ in range(2):
            ready(self.spawn())
            self.reactor.settle()
        self.one, self.two = self.workers

    def test_first(self) -> None:
        """The first worker that is ready leads, and no other."""
        self.assertEqual(self.primary.leader.id, 1)
        self.assertEqual(led(self.one), [{"term": 1, "until": LEASE}])
        self.assertEqual(led(self.two), [])
        self.assertTrue(self.one.boot["appoints"])

    def test_renewed(self) -> None:
        """The signs of life of the leader renew its lease."""
        led(self.one)
        self.reactor.advance(5.0)
        self.one.report()
        self.reactor.settle()
        self.assertEqual(led(self.one), [{"term": 1, "until": 5.0 + LEASE}])

    def test_silent(self) -> None:
        """When the lease is over another worker leads, at that one's next sign of life."""
        self.reactor.advance(LEASE)
        self.two.report()
        self.reactor.settle()
        self.assertEqual(led(self.two), [{"term": 2, "until": 2 * LEASE}])
        self.assertEqual(self.primary.leader.id, 2)

    def test_resigns(self) -> None:
        """When the leader resigns another worker leads at once."""
        self.primary.workers.retire(1, 30.0, False)
        self.reactor.settle()
        self.assertEqual(led(self.two), [])
        self.one.send_json(Kind.RESIGN, term=1)
        self.reactor.settle()
        self.assertEqual(led(self.two), [{"term": 2, "until": LEASE}])

    def test_dies(self) -> None:
        """When the leader's process ends another worker leads at once."""
        self.one.die()
        self.reactor.settle()
        self.assertEqual(led(self.two), [{"term": 2, "until": LEASE}])

    def test_last(self) -> None:
        """Where no worker is left none leads."""
        self.one.die()
        self.two.die()
        self.reactor.settle()
        self.assertIsNone(self.primary.leader.id)

    def test_suspect(self) -> None:
        """A worker that is suspect is not appointed."""
        self.primary.workers.suspect(2, True)
        self.one.die()
        self.reactor.settle()
        self.assertEqual(led(self.two), [])


class OlderWorkerTests(PrimaryCase):
    """Workers of version 0.1.0, beside one of today."""

    def test_not_appointed(self) -> None:
        """A worker that would not understand it is told nothing."""
        old, new = self.spawn(), self.spawn()
        old.ready()
        self.reactor.settle()
        old.report()
        self.reactor.settle()
        self.assertIsNone(self.primary.leader.id)
        ready(new)
        self.reactor.settle()
        self.assertEqual((led(old), [each["term"] for each in led(new)]), ([], [1]))


class UpgradedTests(HandoverCase):
    """The program changes, and the leader stays."""

    def spawn(self) -> PlayedWorker:
        worker = super().spawn()
        ready(worker)
        self.reactor.settle()
        return worker

    def test_stays(self) -> None:
        """The leader leads on, and when it ends the next term follows."""
        one, two = self.spawn(), self.spawn()
        led(one)
        self.take_over()
        self.reactor.settle()
        self.assertEqual(self.primary.leader.id, 1)
        self.reactor.advance(2.0)
        one.report()
        self.reactor.settle()
        self.assertEqual([each["term"] for each in led(one)], [1])
        one.send_json(Kind.RESIGN, term=1)
        self.primary.workers.retire(1, 30.0, False)
        self.reactor.settle()
        self.assertEqual([each["term"] for each in led(two)], [2])

    def test_vacant(self) -> None:
        """A post that was vacant is filled at once."""
        one = self.spawn()
        self.primary.workers.retire(1, 30.0, False)
        one.send_json(Kind.RESIGN, term=1)
        self.reactor.settle()
        self.take_over()
        two = self.spawn()
        self.assertEqual([each["term"] for each in led(two)], [2])

    def test_older_program(self) -> None:
        """A program before that knew of no leader leaves workers that are not appointed."""
        self.spawn()
        fields = self.look()[0].write()
        del fields["leader"]
        self.primary.leader.restore(UpgradeState.read(fields).leader)
        self.assertEqual(UpgradeState.read(fields).leader, {})
