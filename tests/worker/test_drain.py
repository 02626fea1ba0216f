"""How a worker leaves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import FakeSystem
from tests.worker.cases import view
from txsticky.core.lifecycle.timing import NEXT_REQUEST, QUIET, pinned_end, requests_end
from txsticky.worker import drain
from txsticky.worker.drain import LOOK, Drain


class FakeConnection:
    """A connection: idle, or one that lasts."""

    def __init__(self, lasts: bool = False, moves: bool = False) -> None:
        self.lasts = lasts
        self.moves = moves
        self.let: list[bool] = []
        self.closed = 0

    def let_go(self, final: bool) -> bool:
        """Go if idle."""
        self.let.append(final)
        return not self.lasts

    def insist(self) -> bool:
        """Move if it may."""
        return self.moves

    def close(self) -> None:
        """Close."""
        self.closed += 1


class DrainCase(SynchronousTestCase):
    """How worker 2 leaves; `told` is what its other parts are told, in order."""

    def setUp(self) -> None:
        self.told: list[Any] = []
        self.view = view()
        self.live: set[Any] = set()
        self.serving = SimpleNamespace(busy=False)
        self.system = FakeSystem()
        self.on_take_all = mock.Mock()
        self.listening = SimpleNamespace(
            awaited=0,
            stop=lambda final: self.told.append(("deaf", final, self.view.draining)),
            give_up_silent=lambda: self.told.append("give up"),
        )
        self.drain = Drain(
            give_post_back=lambda: self.told.append("give back"),
            view=self.view,
            live=self.live,
            serving=self.serving,  # type: ignore[arg-type]
            listening=self.listening,
            withdraw=lambda: self.told.append("withdraw"),
            take_all=self.on_take_all,
            end_within=lambda seconds: self.told.append(("within", seconds)),
            leave=lambda: self.told.append("leave"),
            system=self.system,
        )

    def connect(self, number: int = 1, lasts: bool = False) -> list[FakeConnection]:
        """So many connections."""
        made = [FakeConnection(lasts) for _ in range(number)]
        self.live.update(made)
        return made

    def wait(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        for _ in range(round(seconds * 8)):
            self.system.reactor.advance(0.125)

    def count(self, word: str) -> int:
        """How often something was told."""
        return self.told.count(word)


class BeginTests(DrainCase):
    """The beginning."""

    def test_begin(self) -> None:
        """A worker accepts no more before it drains, and lets every connection go."""
        (connection,) = self.connect()
        self.drain.begin(30.0, final=False)
        self.assertEqual(self.told, [("within", 30.0), "give back", ("deaf", False, False)])
        self.assertEqual((connection.let, self.view.draining), ([False], True))

    def test_twice(self) -> None:
        """When a worker is told again, connections are let go again; the rest is done once."""
        (connection,) = self.connect()
        self.drain.begin(30.0, final=False)
        self.drain.begin(1.0, final=True)
        self.assertEqual(self.told[-1], ("within", 1.0))
        self.assertEqual((connection.let, len(self.told)), ([False, True], 4))
        self.wait(1.0)
        self.assertGreaterEqual(self.count("leave"), 1)

    def test_final_stays(self) -> None:
        """Once the whole cluster stops, a worker that is told to leave again stops as well."""
        (connection,) = self.connect()
        self.drain.begin(30.0, final=True)
        self.drain.begin(10.0, final=False)
        self.assertEqual((self.view.final, connection.let), (True, [True, True]))

    def test_sessions(self) -> None:
        """Sessions end over the time for what is pinned; at once where the whole cluster stops."""
        ends: list[float] = []
        self.patch(drain, "end_sessions", ends.append)
        self.drain.begin(10.0, final=False)
        self.view.draining = False  # as if it were another worker
        self.drain.begin(10.0, final=True)
        self.assertEqual(ends, [pinned_end(10.0), 0])

    def test_lasting(self) -> None:
        """Connections that last are closed one by one, over the time for what is pinned."""
        connections = self.connect(4, lasts=True)
        self.drain.begin(10.0, final=False)
        closed = []
        for _ in range(4):
            self.system.reactor.advance(pinned_end(10.0) / 4 - 0.01)
            closed.append(sum(connection.closed for connection in connections))
            self.system.reactor.advance(0.01)
        self.assertEqual(closed, [1, 2, 3, 4])


class QuietTests(DrainCase):
    """When nothing is left."""

    def test_quiet(self) -> None:
        """A worker without a connection for a while is withdrawn, and not before."""
        self.drain.begin(30.0, final=False)
        self.wait(QUIET - 0.25)
        self.assertEqual(self.count("withdraw"), 0)
        self.wait(LOOK + 0.25)
        self.assertEqual(self.count("withdraw"), 1)

    def test_between(self) -> None:
        """A connection that comes between begins the while anew."""
        self.drain.begin(30.0, final=False)
        self.wait(QUIET - 0.25)
        self.connect()
        self.wait(LOOK)
        self.live.clear()
        self.drain.emptied()
        self.wait(QUIET - 0.25)
        self.assertEqual(self.count("withdraw"), 0)

    def test_between_two_looks(self) -> None:
        """A connection that comes and goes between two looks begins the while anew."""
        self.drain.begin(30.0, final=False)
        self.wait(0.75)
        self.connect()
        self.live.clear()
        self.drain.emptied()
        self.wait(QUIET - 0.125)
        self.assertEqual(self.count("withdraw"), 0)
        self.wait(0.5)
        self.assertEqual(self.count("withdraw"), 1)

    def test_busy_between(self) -> None:
        """An application that was at work between begins the while anew."""
        self.drain.begin(30.0, final=False)
        self.wait(0.75)
        self.serving.busy = True
        self.wait(0.5)
        self.serving.busy = False
        self.wait(1.125)
        self.assertEqual(self.count("withdraw"), 0)

    def test_stays(self) -> None:
        """A worker that was not told to leave stays, however long it is without a connection."""
        for look in (self.drain.emptied, self.drain.look, self.drain.look):
            self.wait(QUIET)
            look()
        self.assertEqual(self.told, [])

    def test_busy(self) -> None:
        """An application at work without a connection is waited for."""
        self.serving.busy = True
        self.drain.begin(30.0, final=False)
        self.wait(3 * QUIET)
        self.assertEqual(self.count("withdraw"), 0)
        self.serving.busy = False
        self.wait(QUIET + 2 * LOOK)
        self.assertGreaterEqual(self.count("withdraw"), 1)

    def test_last_part(self) -> None:
        """In the last part of its time a worker is withdrawn, and what lasts by then is closed."""
        (connection,) = self.connect()
        self.drain.begin(10.0, final=False)
        connection.lasts = True
        self.system.reactor.advance(pinned_end(10.0))
        self.assertEqual((self.count("withdraw"), connection.closed), (1, 1))

    def test_last_part_of_those_that_move(self) -> None:
        """WebSockets that may move have a part of the rest, and are closed then."""
        (connection,) = self.connect()
        self.drain.begin(10.0, final=False)
        connection.moves = True
        self.system.reactor.advance(pinned_end(10.0))
        self.assertEqual(connection.closed, 0)
        self.system.reactor.advance((requests_end(10.0) - pinned_end(10.0)) / 2)
        self.assertEqual(connection.closed, 1)

    def test_time_is_over(self) -> None:
        """When the time for requests is over the worker leaves, whatever is still open."""
        self.connect()
        self.drain.begin(5.0, final=False)
        self.system.reactor.advance(requests_end(5.0) - 0.01)
        self.assertEqual(self.count("leave"), 0)
        self.system.reactor.advance(0.01)
        self.assertEqual(self.count("leave"), 1)


class WithdrawnTests(DrainCase):
    """When nothing comes any more."""

    def test_leaves(self) -> None:
        """A worker that is withdrawn and holds nothing leaves."""
        self.connect()
        self.drain.begin(30.0, final=False)
        self.drain.withdrawn()
        self.assertEqual(self.count("leave"), 0)
        self.assertFalse(self.view.pool.reachable(2))
        self.live.clear()
        self.drain.emptied()
        self.assertEqual(self.count("leave"), 1)

    def test_mailbox(self) -> None:
        """What is in the mailbox of a withdrawn worker is taken first, and served."""
        self.on_take_all.side_effect = self.connect
        self.drain.begin(30.0, final=False)
        self.drain.withdrawn()
        self.assertEqual((self.on_take_all.call_count, self.count("leave")), (1, 0))

    def test_final(self) -> None:
        """When the whole cluster stops a worker leaves as soon as it holds nothing."""
        self.drain.begin(30.0, final=True)
        self.assertEqual((self.view.final, self.told[-1]), (True, "leave"))
        self.assertIn(("deaf", True, False), self.told)

    def test_final_and_busy(self) -> None:
        """At a final stop a worker leaves within half a second after its application is done."""
        self.serving.busy = True
        self.drain.begin(30.0, final=True)
        self.wait(1.125)
        self.serving.busy = False
        self.assertEqual(self.count("leave"), 0)
        self.wait(0.5)
        self.assertEqual(self.count("leave"), 1)

    def test_final_and_awaited(self) -> None:
        """At a final stop connections are waited for whose first request is not complete."""
        self.listening.awaited = 1
        self.drain.begin(30.0, final=True)
        self.wait(LOOK)
        self.assertEqual(self.count("leave"), 0)
        self.listening.awaited = 0
        self.wait(LOOK)
        self.assertGreaterEqual(self.count("leave"), 1)

    def test_final_and_silent(self) -> None:
        """Silent connections are given up after a while, also by a worker that left already."""
        for final in (False, True):
            self.drain.begin(30.0, final)
        self.system.reactor.advance(NEXT_REQUEST - 0.01)
        self.assertEqual(self.count("give up"), 0)
        self.system.reactor.advance(0.01)
        self.assertEqual(self.count("give up"), 1)

    def test_silent_elsewhere(self) -> None:
        """A worker that is replaced has none to give up."""
        self.drain.begin(30.0, final=False)
        self.wait(NEXT_REQUEST)
        self.assertEqual(self.count("give up"), 0)
