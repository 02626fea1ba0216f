"""Starting a worker's process."""

from __future__ import annotations

import os
from unittest import mock

import attrs

from tests.primary.cases import PrimaryCase
from tests.raw_frames import Kind
from tests.shells import (
    PlayedWorker,
    open_descriptors,
)
from txsticky.config import Config
from txsticky.errors import MailboxFull
from txsticky.primary.supervision.provision import Provision
from txsticky.system.trust import Identity


class SpawnTests(PrimaryCase):
    """Starting a worker."""

    def test_command(self) -> None:
        """A worker is a fresh interpreter that inherits its channel, mailbox and front desk."""
        before = open_descriptors()
        self.primary.workers.spawn(7, 3, 2)
        (process,) = self.system.processes
        self.assertEqual(process.arguments[:3], ["-P", "-m", "txsticky.worker.process"])
        self.assertEqual(len(process.inherited), 3)
        self.assertIn(int(process.arguments[3]), process.inherited)
        self.assertIsNone(process.identity)
        worker = PlayedWorker(process)
        self.assertEqual((worker.boot["id"], worker.boot["slot"]), (7, 3))
        self.assertEqual(worker.boot["generation"], 2)
        worker.die()
        self.reactor.settle()
        self.assertEqual(open_descriptors(), before)

    def test_boot(self) -> None:
        """The first frame says all that the worker has to know."""
        self.start(1)
        boot = self.spawn().boot
        self.assertEqual(Config.from_json(boot["config"]), self.config)
        self.assertEqual(bytes.fromhex(boot["secret"]), self.primary.seed.secret)
        self.assertTrue(boot["in_words"])
        self.assertEqual(
            [m[:3] for m in boot["pool"]["members"]], [[1, 1, "ready"], [2, 2, "starting"]]
        )

    def test_channel_is_not_shared(self) -> None:
        """No other process holds the worker's end of its channel, so its end is seen at once."""
        worker = self.spawn()
        worker.ready()
        self.reactor.settle()
        worker.channel.close()
        self.reactor.settle()
        self.assertIsNone(self.primary.pool.get(worker.id))

    def test_refused(self) -> None:
        """A process that cannot be started leaves nothing behind."""
        before = open_descriptors()
        self.system.refusing = OSError("no more processes")
        self.assertRaises(OSError, self.primary.workers.spawn, 1, 1, 1)
        self.assertEqual((len(self.primary.pool), self.primary.workers.handles), (0, {}))
        self.assertEqual((open_descriptors(), self.reactor.getReaders()[1:]), (before, []))

    def test_output(self) -> None:
        """What the worker prints is logged under its name."""
        worker = self.spawn()
        with mock.patch("txsticky.primary.supervision.output.log") as log:
            worker.process.say("[warn] it is late")
        event = log.emit.call_args
        self.assertEqual(event.args[0].name, "warn")
        self.assertEqual(event.args[1].format(**event.kwargs), "worker 1: it is late")


class ProvidedTests(PrimaryCase):
    """Workers that run as another user, with an access log that only root may open."""

    def provision(self, config: Config) -> Provision:
        """An access log, and another user."""
        folder = self.mktemp()
        os.mkdir(folder)
        self.path = os.path.join(folder, "log")
        self.identity = mock.Mock(spec=Identity)
        self.identity.may_write.return_value = False
        self.provided = Provision(attrs.evolve(config, access_log=self.path), self.identity)
        self.provided.open()
        return self.provided

    def test_given(self) -> None:
        """What only root may open, a worker gets at its start; and it is that user."""
        path = self.path
        worker = self.spawn()
        self.assertIs(worker.process.identity, self.identity)
        log = worker.process.inherited[worker.boot["access_log"]]
        self.assertTrue(os.path.samestat(os.fstat(log), os.stat(path)))
        worker.ready()

    def test_rotated(self) -> None:
        """After a rotation all get the new one, and a worker that asks gets one, too."""
        path = self.path
        self.start()
        for act, given in (
            (self.primary.workers.rotate_logs, [1, 1]),
            (lambda: self.workers[1].send(Kind.ROTATE), [1, 2]),
        ):
            os.rename(path, path + ".old")
            act()
            self.reactor.settle()
            for worker in self.workers:
                worker.take()
            self.assertEqual([len(worker.logs) for worker in self.workers], given)
            log = self.workers[1].logs[-1]
            self.assertTrue(os.path.samestat(os.fstat(log), os.stat(path)))

    def test_log_of_the_dead(self) -> None:
        """An access log that a worker had not taken when it died is closed."""
        path = self.path
        self.start()
        os.rename(path, path + ".old")
        self.primary.workers.rotate_logs()
        self.workers[0].die(-9)
        self.reactor.settle()
        self.workers[1].take()
        self.workers[1].drop()
        new = os.stat(path)
        still = [n for n in open_descriptors() if os.path.samestat(os.fstat(n), new)]
        self.assertEqual(still, [self.provided.log])

    def test_full_mailbox(self) -> None:
        """If a mailbox takes nothing, that is said, and nothing stays open."""
        self.start()
        handle = self.primary.workers.handles[1]
        before = open_descriptors()
        with (
            mock.patch.object(handle.mailbox.box, "write", side_effect=MailboxFull(queued=1)),
            mock.patch("txsticky.primary.supervision.worker_mailbox.log") as log,
        ):
            handle.mailbox.hand_log(self.provided.log)
        self.assertEqual(log.error.call_args.kwargs, {"worker": "worker 1"})
        self.assertEqual(open_descriptors(), before)
