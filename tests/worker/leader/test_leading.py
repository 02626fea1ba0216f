"""What a worker does while it leads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeReactor, FakeSystem
from tests.raw_frames import Kind, decode_json
from tests.worker.cases import WorkerCase
from txsticky import api
from txsticky.core.routing.verdict import FRONT_DESK
from txsticky.worker import worker
from txsticky.worker.leader.leading import Leading


class LeadingCase(SynchronousTestCase):
    """A worker that may lead; `said` is what its application and the primary heard."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.said: list[Any] = []
        channel: Any = SimpleNamespace(send=lambda frame: self.said.append(frame.term))
        self.leading = Leading(FakeSystem(reactor=self.reactor), channel)

    def does(self, what: str, result: Any = None) -> Callable[[], Any]:
        """Make a function that is heard."""

        def function() -> Any:
            self.said.append(what)
            return result

        return function


class LeaseTests(LeadingCase):
    """Appointed for a time."""

    def test_none(self) -> None:
        """A worker that was not appointed does not lead."""
        self.leading.on_leader(self.does("start"))
        self.assertEqual((self.leading.leads, self.said), (False, []))

    def test_appointed(self) -> None:
        """What is to be done begins with the appointment."""
        self.leading.on_leader(self.does("start"), self.does("stop"))
        self.leading.appointed(1, 10.0)
        self.assertEqual((self.leading.leads, self.said), (True, ["start"]))

    def test_later(self) -> None:
        """What is asked for while the worker leads begins at once."""
        self.leading.appointed(1, 10.0)
        self.leading.on_leader(self.does("start"))
        self.assertEqual(self.said, ["start"])

    def test_renewed(self) -> None:
        """A renewed lease goes on, and nothing begins anew."""
        self.leading.on_leader(self.does("start"), self.does("stop"))
        self.leading.appointed(1, 10.0)
        self.reactor.advance(9.0)
        self.leading.appointed(1, 19.0)
        self.reactor.advance(9.0)
        self.assertEqual((self.leading.leads, self.said), (True, ["start"]))

    def test_over(self) -> None:
        """At the end of the lease the worker leads no more, and its application hears of it."""
        self.leading.on_leader(self.does("start"), self.does("stop"))
        self.leading.appointed(1, 10.0)
        self.reactor.advance(10.0)
        self.assertEqual((self.leading.leads, self.said), (False, ["start", "stop"]))

    def test_stopped_process(self) -> None:
        """A process that was stopped knows by its clock, before its event loop does anything."""
        self.leading.appointed(1, 10.0)
        self.reactor.rightNow += 60.0
        self.assertFalse(self.leading.leads)

    def test_again(self) -> None:
        """A worker appointed before it noticed the end ends what was begun, and begins it again."""
        self.leading.on_leader(self.does("start"), self.does("stop"))
        self.leading.appointed(1, 10.0)
        self.reactor.rightNow += 60.0
        self.leading.appointed(3, 70.0)
        self.assertEqual(self.said, ["start", "stop", "start"])
        self.assertTrue(self.leading.leads)

    def test_stale(self) -> None:
        """An appointment that was over when it came begins nothing."""
        self.leading.on_leader(self.does("start"), self.does("stop"))
        self.reactor.rightNow += 60.0
        self.leading.appointed(1, 50.0)
        self.reactor.advance(0)
        self.assertEqual((self.leading.leads, self.said), (False, []))

    def test_fast_timer(self) -> None:
        """A timer of the reactor that is early ends nothing."""
        self.leading.on_leader(self.does("start"), self.does("stop"))
        self.leading.appointed(1, 10.0)
        self.leading._look()
        self.assertEqual(self.said, ["start"])
        self.reactor.advance(10.0)
        self.assertEqual(self.said, ["start", "stop"])

    def test_unregistered(self) -> None:
        """A registration that is ended ends what it began, once, and begins nothing any more."""
        end = self.leading.on_leader(self.does("start"), self.does("stop"))
        self.leading.appointed(1, 10.0)
        end()
        end()
        self.leading.appointed(1, 19.0)
        self.assertEqual(self.said, ["start", "stop"])


class LeaveTests(LeadingCase):
    """The post is given back."""

    def test_resigns(self) -> None:
        """A worker that leaves ends what it does, and only then gives the post back."""
        stopped: Deferred[None] = Deferred()
        self.leading.on_leader(self.does("start"), self.does("stop", stopped))
        self.leading.appointed(4, 10.0)
        left = self.leading.leave()
        self.assertEqual((self.said, self.leading.leads), (["start", "stop"], True))
        self.leading.appointed(4, 20.0)
        self.assertEqual(self.said, ["start", "stop"])
        self.reactor.advance(12.0)
        self.assertTrue(self.leading.leads)
        stopped.callback(None)
        self.assertEqual((self.said, self.leading.leads), (["start", "stop", 4], False))
        self.successResultOf(left)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_once(self) -> None:
        """A worker that is told twice to leave gives the post back once."""
        self.leading.appointed(4, 10.0)
        self.leading.leave()
        self.successResultOf(self.leading.leave())
        self.assertEqual(self.said, [4])

    def test_never_led(self) -> None:
        """A worker that never led has nothing to give back."""
        self.leading.on_leader(self.does("start"), self.does("stop"))
        self.successResultOf(self.leading.leave())
        self.assertEqual(self.said, [])

    def test_crossed(self) -> None:
        """An appointment that crosses with the leave is given back, and begins nothing."""
        stopped: Deferred[None] = Deferred()
        self.leading.on_leader(self.does("start"), self.does("stop", stopped))
        self.leading.appointed(4, 10.0)
        self.leading.leave()
        self.leading.appointed(5, 10.0)
        self.assertEqual(self.said, ["start", "stop", 5])
        stopped.callback(None)
        self.leading.appointed(6, 10.0)
        self.assertEqual((self.said[3:], self.leading.leads), ([4, 6], False))

    def test_leaves_first(self) -> None:
        """Nothing that is asked for while the worker leaves begins."""
        stopped: Deferred[None] = Deferred()
        self.leading.on_leader(self.does("start"), self.does("stop", stopped))
        self.leading.appointed(4, 10.0)
        self.leading.leave()
        self.leading.on_leader(self.does("another"))
        self.assertNotIn("another", self.said)

    def test_lost(self) -> None:
        """A worker without a primary leads no more, at once: another cluster may be started."""
        self.leading.on_leader(self.does("start"), self.does("stop"))
        self.leading.appointed(4, 10.0)
        self.leading.lose()
        self.assertEqual((self.said, self.leading.leads), (["start", "stop"], False))
        self.successResultOf(self.leading.leave())
        self.assertEqual(self.said, ["start", "stop"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class DutyTests(LeadingCase):
    """What begins and ends."""

    def test_lasting(self) -> None:
        """What lasts is cancelled, and the end waits for it."""
        cancelled: list[object] = []
        lasting: Deferred[None] = Deferred(cancelled.append)
        self.leading.on_leader(lambda: lasting, self.does("stop"))
        self.leading.appointed(1, 10.0)
        self.leading.leave()
        self.assertEqual((cancelled, self.said), ([lasting], ["stop", 1]))

    def test_coroutine(self) -> None:
        """A coroutine that awaits Deferreds is cancelled at the end of the lease."""
        waiting: Deferred[None] = Deferred()

        async def job() -> None:
            try:
                await waiting
            finally:
                self.said.append("tidied")

        self.leading.on_leader(job)
        self.leading.appointed(1, 10.0)
        self.leading.leave()
        self.assertEqual(self.said, ["tidied", 1])

    def test_asyncio(self) -> None:
        """A coroutine of asyncio is cancelled at the end of the lease, in its event loop."""

        async def job() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                self.said.append("tidied")

        async def stop() -> None:
            await asyncio.sleep(0)
            self.said.append("stop")

        async def main() -> None:
            self.leading.on_leader(job, stop)
            self.leading.appointed(1, 10.0)
            await asyncio.sleep(0)
            self.assertEqual(self.said, [])
            await self.leading.leave().asFuture(asyncio.get_running_loop())

        asyncio.run(main())
        self.assertEqual(self.said, ["tidied", "stop", 1])

    def test_failures(self) -> None:
        """A failure is logged, and keeps nothing else from its turn."""
        self.leading.on_leader(lambda: 1 / 0, lambda: {}["stop"])
        self.leading.on_leader(self.does("start"), self.does("stop"))
        self.leading.appointed(1, 10.0)
        self.leading.leave()
        self.assertEqual(self.said, ["start", "stop", 1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_begins_after_its_end(self) -> None:
        """What ends slowly begins anew only when it has ended."""
        stopped: Deferred[None] = Deferred()
        self.leading.on_leader(self.does("start"), self.does("stop", stopped))
        self.leading.appointed(1, 10.0)
        self.reactor.advance(10.0)
        self.leading.appointed(2, 30.0)
        self.assertEqual(self.said, ["start", "stop"])
        stopped.callback(None)
        self.assertEqual(self.said, ["start", "stop", "start"])


class LeadingWorkerTests(WorkerCase):
    """A whole worker, the test being its primary."""

    def lead(self, term: int = 1, seconds: float = 20.0) -> None:
        """Appoint the worker."""
        self.say_json(Kind.LEAD, term=term, until=self.reactor.seconds() + seconds)

    def resigned(self) -> list[int]:
        """The terms that the worker has given back."""
        return [decode_json(body)["term"] for body in self.heard(Kind.RESIGN)]

    def test_appointable(self) -> None:
        """A worker says that it can be appointed."""
        self.begin()
        (ready,) = self.heard(Kind.READY)
        self.assertIs(decode_json(ready)["appointable"], True)

    def test_leads(self) -> None:
        """A worker leads when the primary says so."""
        self.begin()
        here = api.current()
        assert here is not None
        self.assertFalse(here.leader)
        self.lead()
        self.assertTrue(here.leader)

    def test_drains(self) -> None:
        """A leader gives the post back when it drains."""
        self.begin()
        self.lead(term=3)
        self.drain()
        self.assertEqual(self.resigned(), [3])

    def test_quits(self) -> None:
        """A leader that leaves at once gives the post back, and its end waits for its duties."""
        self.begin()
        stopped: Deferred[None] = Deferred()
        here = api.current()
        assert here is not None
        here.on_leader(lambda: None, lambda: stopped)
        self.lead(term=3)
        self.worker.quit()
        self.reactor.settle()
        self.assertEqual((self.resigned(), self.reactor.running), ([], True))
        stopped.callback(None)
        self.reactor.settle()
        self.assertEqual((self.resigned(), self.reactor.running), ([3], False))

    def test_orphaned(self) -> None:
        """Without a primary a worker does not lead."""
        self.begin()
        here = api.current()
        assert here is not None
        self.lead()
        self.patch(worker, "discard_output", lambda: None)
        self.boxes[FRONT_DESK].close()
        self.primary.close()
        self.reactor.settle()
        self.assertFalse(here.leader)

    def test_older_primary(self) -> None:
        """A primary that appoints none is named in the log, where a leader is asked for."""
        self.worker.leading.appoints = False
        self.begin()
        (ready,) = self.heard(Kind.READY)
        self.assertNotIn("appointable", decode_json(ready), "it would be too much for it")
        here = api.current()
        assert here is not None
        with capturedLogs() as logs:
            here.on_leader(lambda: None)
        self.assertFalse(here.leader)
        self.assertIn("appoints no leader", logs[0]["log_format"])
