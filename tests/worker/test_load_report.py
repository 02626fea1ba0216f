"""The report of load: when it is sent, and what of it the worker counts."""

from __future__ import annotations

import random
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from txsticky.config import Config
from txsticky.core.messages.from_worker import Beat, Load, Replace, Used
from txsticky.worker.load_report import (
    HEARTBEAT,
    IDLE_HEARTBEAT,
    REPORT_SOON,
    USED_AT_ONCE,
    LoadReport,
    idle_heartbeat,
    retirement,
)


class ReportTests(SynchronousTestCase):
    """The report of a worker."""

    def setUp(self) -> None:
        self.system = FakeSystem()
        self.channel = mock.Mock(behind=False)
        self.used: list[bytes] = []
        self.live = 0
        self.report = LoadReport(
            self.channel,
            self.system,
            lambda lag: Load(lag=lag, live=self.live),
            self.take_used,
            idle=IDLE_HEARTBEAT,
            retire_after=3,
        )

    def take_used(self) -> list[bytes]:
        """What the table would say."""
        used, self.used = self.used, []
        return used

    def sent(self) -> list[object]:
        """What the primary was told."""
        return [call.args[0] for call in self.channel.send.call_args_list]

    def test_soon_and_together(self) -> None:
        """Changes are reported soon, many in one report."""
        for _ in range(5):
            self.report.changed()
        self.assertEqual(self.sent(), [])
        self.system.reactor.advance(REPORT_SOON)
        self.assertEqual(self.sent(), [Load()])
        self.live = 1
        self.report.changed()
        self.system.reactor.advance(REPORT_SOON)
        self.assertEqual(len(self.sent()), 2)

    def test_how_soon(self) -> None:
        """A change is reported within a twentieth of a second."""
        self.report.changed()
        self.system.reactor.advance(0.05)
        self.assertEqual(self.sent(), [Load()])

    def test_heartbeat(self) -> None:
        """While something changes there is a report at each heartbeat."""
        self.report.start()
        for number in range(10):
            self.live = number + 1
            self.system.reactor.advance(HEARTBEAT)
        self.assertEqual([type(frame) for frame in self.sent()], [Load] * 11)

    def test_idle(self) -> None:
        """While nothing changes the sign of life only says so, and comes less often."""
        self.report.start()
        self.system.reactor.pump([HEARTBEAT, *[IDLE_HEARTBEAT / 4] * 20])
        self.assertEqual(self.sent(), [Load(), *[Beat()] * 6])
        self.live = 1
        self.report.changed()
        self.system.reactor.pump([REPORT_SOON])
        self.assertEqual(self.sent()[-1], Load(live=1))

    def test_idle_and_late(self) -> None:
        """A lag that counts as load is reported, and so is its end."""
        self.report.start()
        self.system.reactor.advance(HEARTBEAT + 0.5)
        self.system.reactor.advance(HEARTBEAT)
        self.assertEqual(self.sent(), [Load(), Load(lag=0.5), Load()])

    def test_old_primary(self) -> None:
        """A primary that does not understand the short form gets the whole report each time."""
        report = LoadReport(self.channel, self.system, lambda lag: Load(lag=lag))
        report.start()
        self.system.reactor.pump([HEARTBEAT] * 3)
        self.assertEqual(self.sent(), [Load()] * 4)

    def test_used(self) -> None:
        """The keys that were used go before the report of the heartbeat, not too many at once."""
        keys = self.used = [b"%d" % number for number in range(USED_AT_ONCE + 1)]
        self.report.start()
        self.assertEqual(self.sent(), [Used(keys[:-1]), Used(keys[-1:]), Load()])

    def test_used_behind(self) -> None:
        """A primary that is behind is told the keys later."""
        self.used, self.channel.behind = [b"key"], True
        self.report.start()
        self.assertEqual(self.used, [b"key"])

    def test_lag(self) -> None:
        """The report says how late the event loop was."""
        self.report.start()
        self.system.reactor.advance(HEARTBEAT + 1.0)
        self.system.reactor.advance(REPORT_SOON)
        self.assertEqual(self.sent()[-1], Load(lag=1.0))

    def test_behind(self) -> None:
        """A primary that is behind is told nothing; the next report says all."""
        self.channel.behind = True
        self.report.send()
        self.assertEqual(self.sent(), [])
        self.channel.behind = False
        self.report.changed()
        self.system.reactor.advance(REPORT_SOON)
        self.assertEqual(self.sent(), [Load()])

    def test_retires(self) -> None:
        """After so many requests the worker asks to be replaced, once."""
        for _ in range(5):
            self.report.request_done()
        self.assertEqual((self.report.requests, self.sent()), (5, [Replace()]))


class IdleHeartbeatTests(SynchronousTestCase):
    """How often an idle worker gives a sign of life."""

    def test_twice_before_suspicion(self) -> None:
        """An idle worker gives two signs of life in the time to suspicion."""
        for timeout, seconds in ((0, 1.0), (2.0, 0.5), (3.0, 0.75), (30.0, 1.0)):
            self.assertEqual(idle_heartbeat(Config(worker_timeout=timeout)), seconds)


class RetirementTests(SynchronousTestCase):
    """After how many requests a worker asks to be replaced."""

    def test_never(self) -> None:
        """Without a number a worker never asks to be replaced."""
        self.assertEqual(retirement(Config(max_requests_jitter=5), mock.Mock()), 0)

    def test_chance(self) -> None:
        """The number is that of the configuration, and by chance a little more."""
        config, rng = Config(max_requests=100, max_requests_jitter=5), random.Random(0)
        limits = {retirement(config, rng.randint) for _ in range(200)}
        self.assertEqual(limits, set(range(100, 106)))
