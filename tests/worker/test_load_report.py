"""The report of load: when it is sent, and what of it the worker counts."""

from __future__ import annotations

import random
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from txsticky.config import Config
from txsticky.core.messages.from_worker import Load, Replace, Used
from txsticky.worker.load_report import (
    HEARTBEAT,
    REPORT_SOON,
    USED_AT_ONCE,
    LoadReport,
    retirement,
)


class ReportTests(SynchronousTestCase):
    """The report of a worker."""

    def setUp(self) -> None:
        self.system = FakeSystem()
        self.channel = mock.Mock(behind=False)
        self.used: list[bytes] = []
        self.report = LoadReport(
            self.channel, self.system, lambda lag: Load(lag=lag), self.take_used, 3
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
        self.report.changed()
        self.system.reactor.advance(REPORT_SOON)
        self.assertEqual(len(self.sent()), 2)

    def test_heartbeat(self) -> None:
        """Without a change there is a report at each heartbeat."""
        self.report.start()
        for _ in range(100):
            self.system.reactor.advance(HEARTBEAT / 10)
        self.assertEqual(len(self.sent()), 10)

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


class RetirementTests(SynchronousTestCase):
    """After how many requests a worker asks to be replaced."""

    def test_never(self) -> None:
        """Without a number it never does."""
        self.assertEqual(retirement(Config(max_requests_jitter=5), mock.Mock()), 0)

    def test_chance(self) -> None:
        """The number is that of the configuration, and by chance a little more."""
        config, rng = Config(max_requests=100, max_requests_jitter=5), random.Random(0)
        limits = {retirement(config, rng.randint) for _ in range(200)}
        self.assertEqual(limits, set(range(100, 106)))
