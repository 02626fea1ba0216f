"""What is told of the cluster: its state, its history, its journal, and what processes use."""

from __future__ import annotations

import json
import os
import resource
import time
from unittest import mock

import attrs
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import LogLevel
from twisted.trial.unittest import TestCase

from tests.watched import EPOCH, WatchedCase
from txsticky.admin import display, history
from txsticky.admin.history import KEPT, PERIOD, PROPORTION_KEPT, SERIES, STALE
from txsticky.admin.journal import KEPT as ENTRIES_KEPT
from txsticky.admin.journal import Journal
from txsticky.admin.state import TemplateState, shown
from txsticky.admin.usage import (
    Usage,
    descriptor_limit,
    open_descriptors,
    proportional_memory,
    usage_of,
)
from txsticky.core.how import How
from txsticky.primary.kernel_routes import IN_KERNEL


class StateTests(WatchedCase):
    """One look."""

    def test_starting(self) -> None:
        """At first all workers are starting: none serves and no traffic is wanted."""
        state = self.look()
        self.assertEqual([worker.state for worker in state.workers], ["starting"] * 2)
        self.assertEqual((state.ready, state.healthy, state.takes_traffic), (0, False, False))

    def test_ready(self) -> None:
        """With all workers ready traffic is wanted."""
        self.start()
        state = self.look()
        self.assertEqual((state.ready, state.wanted, state.interface), (2, 2, "web"))
        self.assertTrue(state.healthy and state.takes_traffic)

    def test_one_of_two(self) -> None:
        """As long as the first start is not over, one worker is health but no traffic."""
        self.start(1)
        self.assertTrue(self.look().healthy)
        self.assertFalse(self.look().takes_traffic)

    def test_stopping(self) -> None:
        """A cluster that stops wants no traffic, though its workers still serve."""
        self.start()
        self.report(1, live=1)
        self.cluster.stop(graceful=True)
        state = self.look()
        self.assertEqual((state.phase, state.takes_traffic), ("draining", False))
        self.assertTrue(state.leaves)
        self.assertEqual({worker.state for worker in state.workers}, {"draining"})

    def test_worker(self) -> None:
        """A worker is told with what it reported, what is on its way to it, and its age."""
        self.start()
        self.reactor.advance(5)
        self.primary.pool.reserve(1)
        self.report(1, live=3, requests=40, adopted=9, given=2, lag=0.25)
        worker, other = self.look().workers
        self.assertEqual((worker.worker, worker.id, worker.generation), (1, 1, 1))
        self.assertEqual((worker.pid, worker.age), (1001, 5))
        self.assertEqual((worker.connections, worker.coming), (3, 1))
        self.assertEqual((worker.requests, worker.handoffs, worker.given), (40, 9, 2))
        self.assertEqual((worker.lag, worker.suspect), (0.25, False))
        self.assertEqual((other.connections, other.coming, other.requests), (0, 0, 0))

    def test_entrance(self) -> None:
        """What a worker accepted itself is told, and its waiting connections count as waiting."""
        self.start()
        entrance = {"accepted": 7, "waiting": 2, "routes": [0, 0, 0, 5, 0], "refusals": []}
        self.report(1, entrance={**entrance, "short": False})
        state = self.look()
        self.assertEqual([worker.accepted for worker in state.workers], [7, 0])
        self.assertEqual((state.primary.waiting, state.primary.routes["NEW"]), (2, 5))

    def test_leader(self) -> None:
        """The worker that leads is told, and no other."""
        self.start()
        self.assertEqual([worker.leads for worker in self.look().workers], [False, False])
        self.primary.leader.ready(2, True)
        self.assertEqual([worker.leads for worker in self.look().workers], [False, True])

    def test_suspect(self) -> None:
        """A worker that gets nothing new is told as suspect."""
        self.start()
        self.primary.workers.suspect(2, True)
        self.assertEqual([worker.suspect for worker in self.look().workers], [False, True])

    def test_pause(self) -> None:
        """A number whose worker died is told with the seconds until the next one."""
        self.start()
        self.die_twice(-9)
        state = self.look()
        self.assertEqual([worker.worker for worker in state.workers], [1])
        (pause,) = state.pauses
        self.assertEqual((pause.worker, round(pause.seconds, 6)), (2, 0.1))
        self.assertEqual(state.exits, {-9: 2})

    def test_template(self) -> None:
        """What workers are forked from is told, with its memory."""
        process = mock.Mock(pid=77)
        seen = mock.Mock(process=process, generation=2, ready=True, preloaded=False)
        self.primary.workers.spawner.templates.all.append(seen)
        self.usages[77] = Usage(5_000_000, 1.0)
        self.patch(history, "proportional_memory", {77: 3_000_000}.get)
        (template,) = self.look().templates
        self.assertEqual(
            template,
            TemplateState(
                pid=77,
                generation=2,
                ready=True,
                preloaded=False,
                memory=5_000_000,
                proportion=3_000_000,
            ),
        )
        self.assertEqual(
            display._template(attrs.asdict(template)),
            "template pid 77, generation 2, 5.0 MB, 3.0 MB PSS",
        )

    def test_proportion(self) -> None:
        """The proportional set is looked at once in some seconds."""
        seen: list[int] = []
        self.patch(history, "proportional_memory", lambda pid: seen.append(pid) or len(seen))
        self.start()
        self.assertEqual([w.proportion for w in self.look().workers], [1, 2])
        self.assertEqual([w.proportion for w in self.look().workers], [1, 2])
        self.reactor.advance(PROPORTION_KEPT)
        self.assertEqual([w.proportion for w in self.look().workers], [3, 4])

    def test_reload(self) -> None:
        """During a reload the successor is told beside the worker that it replaces."""
        self.start()
        self.cluster.supervisor.reload()
        state = self.look()
        self.assertEqual((state.reloading, state.generation, state.reloads), (True, 2, 1))
        self.assertEqual(
            [(worker.worker, worker.id, worker.generation) for worker in state.workers],
            [(1, 1, 1), (1, 3, 2), (2, 2, 1)],
        )
        self.assertEqual(state.starts, 3)

    def test_primary(self) -> None:
        """The primary tells what it placed and refused, and what it uses."""
        self.primary.dispatcher.routes[How.TAG] = 4
        self.primary.reception.refusals[503] = 2
        self.primary.replication.table.bind(b"key", 1, 0.0)
        primary = self.look().primary
        self.assertEqual(primary.routes, {"TAG": 4, "HIT": 0, "HASH": 0, "NEW": 0, "MISS": 0})
        self.assertEqual((primary.refusals, primary.bound), ({503: 2}, 1))
        self.assertEqual((primary.accepted, primary.waiting, primary.parked), (12, 0, 0))
        self.assertEqual(primary.pid, os.getpid())

    def test_kernel_routes(self) -> None:
        """The state tells in words, beside the key, whether the kernel chooses the worker."""
        told = self.look().to_json()
        self.assertEqual(told["kernel_routes"], "")
        self.assertIn("sticky by auto, balanced", display.status(told, display.Style()))
        self.primary.listeners.routes.told = IN_KERNEL
        told = self.look().to_json()
        self.assertEqual(told["kernel_routes"], "in the kernel")
        text = display.status(told, display.Style())
        self.assertIn("sticky by auto (in the kernel), balanced", text)
        del told["kernel_routes"]  # as a server of the version before tells it
        self.assertIn("sticky by auto, balanced", display.status(told, display.Style()))

    def test_machine(self) -> None:
        """The machine is named where it has a name."""
        told = self.look().to_json()
        self.assertNotIn("on machine", display.status(told, display.Style()))
        self.cluster.config = attrs.evolve(self.cluster.config, machine="a")
        text = display.status(self.look().to_json(), display.Style())
        self.assertIn(" on machine a, running, ", text)
        del told["machine"]  # as a server of the version before tells it
        self.assertNotIn("on machine", display.status(told, display.Style()))

    def test_json(self) -> None:
        """The whole state goes through JSON."""
        self.start()
        self.die(1, 1)
        told = json.loads(json.dumps(self.look().to_json()))
        self.assertEqual(
            (told["ready"], told["app"], told["listen"]), (1, "shop:site", ["127.0.0.1:8080"])
        )
        self.assertEqual(told["exits"], {"1": 1})

    def test_events(self) -> None:
        """What happened to the workers is told, the latest first, with their numbers."""
        self.start(2)
        self.die(2, -9)
        first, second = self.look().events
        self.assertEqual((first.level, first.slot), ("error", 2))
        self.assertIn("signal 9", first.text)
        self.assertEqual((second.level, second.text), ("info", "Worker 2 (id 2) is ready."))


class AddressTests(TestCase):
    """What is listened on, as it is written."""

    def test_shown(self) -> None:
        """Each kind of address is written as operators write it."""
        for address, text in (
            (IPv4Address("TCP", "127.0.0.1", 80), "127.0.0.1:80"),
            (IPv6Address("TCP", "::1", 80), "[::1]:80"),
            (UNIXAddress(b"/run/app.sock"), "unix:/run/app.sock"),
            (HostnameAddress(b"a", 1), str(HostnameAddress(b"a", 1))),
        ):
            self.assertEqual(shown(address), text)


class HistoryTests(WatchedCase):
    """What takes more than one look."""

    def point(self) -> dict[str, float]:
        """The last point, by the names of its values."""
        return dict(zip(SERIES, self.history.points[-1], strict=True))

    def test_rate(self) -> None:
        """A worker's rate is taken between its reports, whenever the looks are."""
        self.start()
        self.reactor.advance(0.7)
        self.report(1, requests=100)
        self.reactor.advance(0.3)
        self.history.look()
        self.reactor.advance(0.9)
        self.report(1, requests=220)
        self.reactor.advance(0.1)
        self.history.look()
        self.assertAlmostEqual(self.history.pace(1).requests, 100.0)
        self.assertEqual(self.point()["requests"], 100.0)

    def test_silence(self) -> None:
        """The rate of a worker that no longer reports is kept for a moment, then it is none."""
        self.start()
        self.reactor.advance(1)
        self.report(1, requests=10)
        for _ in range(2):
            self.history.look()
            self.reactor.advance(1)
        self.assertEqual(self.history.pace(1).requests, 10.0)
        self.reactor.advance(STALE)
        self.history.look()
        self.assertEqual(self.history.pace(1).requests, 0.0)

    def test_point(self) -> None:
        """A point has the time, the connections held, and the rates of routes and refusals."""
        self.start()
        self.history.look()
        self.report(1, live=3)
        self.report(2, live=4)
        self.primary.dispatcher.routes[How.HIT] += 6
        self.primary.reception.refusals.update([400, 503, 503, 503])
        self.reactor.advance(2)
        self.history.look()
        point = self.point()
        self.assertEqual(point["time"], EPOCH + 2)
        self.assertEqual((point["connections"], point["HIT"], point["TAG"]), (7, 3.0, 0.0))
        self.assertEqual(point["refusals"], 2.0)

    def test_bounded(self) -> None:
        """Only the last minutes are kept."""
        for _ in range(KEPT + 5):
            self.reactor.advance(1)
            self.history.look()
        self.assertEqual(len(self.history.points), KEPT)
        self.assertEqual(self.history.points[0][0], EPOCH + 6)

    def test_load(self) -> None:
        """The load is processor time by the time between two looks."""
        self.start()
        self.usages[1001] = Usage(7_000_000, 1.0)
        self.history.look()
        self.assertIsNone(self.look().workers[0].load)
        self.usages[1001] = Usage(8_000_000, 2.0)
        self.reactor.advance(4)
        self.history.look()
        worker, other = self.look().workers
        self.assertEqual((worker.memory, worker.load), (8_000_000, 0.25))
        self.assertEqual((other.memory, other.load), (None, None))

    def test_totals_outlive_a_worker(self) -> None:
        """What the workers of a number did never gets less, whichever worker has gone."""
        self.start()
        self.usages[1001] = Usage(1, 1.5)
        self.report(1, requests=10, adopted=5, given=1)
        self.history.look()
        self.report(1, requests=12, adopted=6, given=2)
        self.die(1, -9)
        self.reactor.advance(0.1)
        self.start(3)
        self.report(3, requests=1, adopted=1)
        (first, second) = self.look().totals
        self.assertEqual((first.worker, first.requests, first.handoffs), (1, 13, 7))
        self.assertEqual((first.given, first.cpu), (2, 1.5))
        self.assertEqual((second.worker, second.requests), (2, 0))

    def test_ticks(self) -> None:
        """Once started the history looks at every period and tells; a failure does not end that."""
        told: list[float] = []

        def looked() -> None:
            told.append(self.reactor.seconds())
            if len(told) == 1:
                raise ValueError("it cannot be shown")

        self.history._looked = looked
        self.history.start()
        self.reactor.pump([PERIOD] * 3)
        self.history.stop()
        self.reactor.pump([PERIOD])
        self.assertEqual(told, [PERIOD, 2 * PERIOD, 3 * PERIOD])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class JournalTests(TestCase):
    """The last events."""

    def test_bounded(self) -> None:
        """Only the last events are kept."""
        journal = Journal()
        for number in range(ENTRIES_KEPT + 3):
            journal.log.info("event {number}", number=number)
        self.assertEqual(len(journal.entries), ENTRIES_KEPT)
        self.assertEqual(journal.entries[0].text, "event 3")

    def test_entry(self) -> None:
        """An entry has level, text, the worker's number, and the time of the event."""
        journal = Journal()
        before = time.time()
        journal.log.warn("Worker {slot} is late.", slot=4)
        (entry,) = journal.entries
        self.assertEqual((entry.level, entry.text, entry.slot), ("warn", "Worker 4 is late.", 4))
        self.assertTrue(before <= entry.time <= time.time())

    def test_printable(self) -> None:
        """What the journal remembers is printable, for whatever shows it."""
        journal = Journal()
        journal.log.info("Changes in {names}.", names="\x1b[2J.py")
        self.assertEqual(journal.entries[0].text, r"Changes in \x1b[2J.py.")

    def test_details_are_left_out(self) -> None:
        """What is only for debugging is not kept."""
        journal = Journal()
        journal.log.emit(LogLevel.debug, "a detail")
        self.assertEqual(list(journal.entries), [])


class UsageTests(TestCase):
    """What /proc says."""

    def test_this_process(self) -> None:
        """Memory and processor time are those that the kernel tells otherwise, too."""
        before = time.process_time()
        usage = usage_of(os.getpid())
        assert usage is not None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.assertTrue(0 < usage.memory <= peak, (usage, peak))
        self.assertTrue(before - 0.05 <= usage.cpu <= time.process_time() + 0.05, usage)

    def test_nobody(self) -> None:
        """Of a process that does not exist nothing is known."""
        self.assertIsNone(usage_of(0))

    def test_proportion(self) -> None:
        """The proportional set of a process is not larger than its resident set."""
        usage = usage_of(os.getpid())
        found = proportional_memory(os.getpid())
        assert usage is not None and found is not None
        self.assertTrue(1 << 20 < found < usage.memory * 1.1, (found, usage))
        self.assertIsNone(proportional_memory(0))

    def test_descriptors(self) -> None:
        """One descriptor more is counted."""
        before = open_descriptors()
        assert before is not None
        number = os.dup(0)
        self.addCleanup(os.close, number)
        self.assertEqual(open_descriptors(), before + 1)
        self.assertLessEqual(before, descriptor_limit())
