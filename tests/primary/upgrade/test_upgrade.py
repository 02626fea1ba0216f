"""What a cluster does when it is told to upgrade."""

from __future__ import annotations

import os
import signal
from unittest import mock

from tests.fakes import FakeProcess
from tests.shells import open_descriptors
from tests.test_cluster import ClusterCase
from txsticky.primary.upgrade import upgrade
from txsticky.primary.upgrade.trial import PASSED


class ClusterTests(ClusterCase):
    """A cluster that is told to upgrade."""

    def setUp(self) -> None:
        super().setUp()
        patcher = mock.patch("txsticky.primary.upgrade.upgrade.execute")
        self.execute = patcher.start()
        self.addCleanup(patcher.stop)

    def trial(self) -> FakeProcess:
        """Send for an upgrade; the process of its trial."""
        self.cluster.upgrade()
        return self.system.processes[-1]

    def test_upgrade(self) -> None:
        """When the new program has shown that it starts it is executed, with all descriptors."""
        self.start(workers=2)
        trial = self.trial()
        self.assertEqual(self.execute.mock_calls, [])
        trial.exit(PASSED)
        ((state, descriptors, _),) = [call.args for call in self.execute.mock_calls]
        self.assertEqual(len(state["handles"]), 2)
        self.assertTrue(set(descriptors) <= open_descriptors())

    def test_does_not_start(self) -> None:
        """If the new program does not start, the log says why, and the old one goes on."""
        self.start()
        with mock.patch("txsticky.primary.upgrade.upgrade.log") as log:
            self.trial().exit(1)
        self.assertEqual(log.error.call_args.kwargs, {"why": "it exited with code 1"})
        self.assertEqual(self.execute.mock_calls, [])
        self.connect()
        self.taken()

    def test_cannot_be_tried(self) -> None:
        """If the trial cannot be started, the old one goes on; a later upgrade is possible."""
        self.start()
        self.system.refusing = OSError("no more processes")
        self.cluster.upgrade()
        self.system.refusing = None
        self.trial().exit(PASSED)
        self.assertEqual(len(self.execute.mock_calls), 1)

    def test_cannot_be_executed(self) -> None:
        """If the execution fails, the old one goes on."""
        self.start()
        self.execute.side_effect = OSError("no such file")
        self.trial().exit(PASSED)
        self.connect()
        self.taken()

    def test_one_at_a_time(self) -> None:
        """During an upgrade there is no second one."""
        self.start()
        trial = self.trial()
        count = len(self.system.processes)
        self.cluster.upgrade()
        self.assertEqual(len(self.system.processes), count)
        trial.exit(PASSED)
        self.assertEqual(len(self.execute.mock_calls), 1)

    def test_background(self) -> None:
        """A program that has put itself into the background says why it is not upgraded."""
        self.start()
        count = len(self.system.processes)
        self.patch(upgrade, "_PROCESS", os.getpid() + 1)
        with mock.patch.object(upgrade, "log") as log:
            self.cluster.upgrade()
        self.assertIn("in the foreground (twistd --nodaemon)", log.warn.call_args.kwargs["why"])
        self.assertEqual(len(self.system.processes), count)

    def test_stop_calls_it_off(self) -> None:
        """To stop calls the upgrade off; and there is none from then on."""
        self.start()
        trial = self.trial()
        self.cluster.stop(graceful=True)
        self.assertEqual(trial.signals, [signal.SIGKILL])
        trial.exit(PASSED)
        count = len(self.system.processes)
        self.cluster.upgrade()
        self.assertEqual((len(self.system.processes), self.execute.mock_calls), (count, []))
