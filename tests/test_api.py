"""What an application asks of its cluster: who am I, and whose is this."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

import txsticky
from tests.fakes import FakeReactor
from tests.shells import PATIENCE
from txsticky import api
from txsticky.api import Here, current, install
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.tag import Signer
from txsticky.errors import BusOverrun, WorkerEnds
from txsticky.ipc.reactor_thread import ReactorThread


class HereCase(SynchronousTestCase):
    """Worker 7, in slot 2, of two."""

    def setUp(self) -> None:
        pool = Pool()
        pool.add(3, 1)
        pool.set_ready(3)
        pool.add(7, 2)
        pool.report(3, live=5, taken=0, lag=0.0)
        self.signer = Signer(b"s" * 16)
        view: Any = SimpleNamespace(
            id=7, slot=2, pool=pool, router=SimpleNamespace(signer=self.signer)
        )
        self.bindings = mock.Mock()
        self.bus = mock.Mock()
        self.leading = mock.Mock()
        self.websockets = mock.Mock()
        self.websockets.behind.return_value = None
        self.reload = mock.Mock()
        parts = (view, self.bindings, self.bus, self.leading, self.websockets)
        self.reactor = FakeReactor()
        call = ReactorThread(self.reactor).call
        self.here, self.asked_by_none = Here(*parts, call, self.reload), Here(*parts, call)


class CurrentTests(HereCase):
    """The worker that an application finds."""

    def test_nowhere(self) -> None:
        """Outside of a worker there is none to ask."""
        self.assertIsNone(current())

    def test_here(self) -> None:
        """In a worker `current()` returns it."""
        self.addCleanup(install, None)
        install(self.here)
        self.assertIs(txsticky.current(), self.here)

    def test_leader(self) -> None:
        """A worker says whether it leads, and passes on what is to be done while it does."""
        self.leading.leads = True
        self.assertIs(self.here.leader, True)
        end = self.here.on_leader(max, min)
        self.leading.on_leader.assert_called_once_with(max, min)
        end()
        self.leading.on_leader.return_value.assert_called_once_with()

    def test_on_leader_before(self) -> None:
        """What an application asks for while it is loaded is asked for once it is in a worker."""
        self.patch(api, "_duties", [])
        self.addCleanup(install, None)
        txsticky.on_leader(max)
        self.leading.on_leader.assert_not_called()
        install(self.here)
        self.leading.on_leader.assert_called_once_with(max, None)
        txsticky.on_leader(min, sum)
        self.assertEqual(self.leading.on_leader.mock_calls[1:], [mock.call(min, sum)])

    def test_forked(self) -> None:
        """A process that a worker forks is none, and the worker stays one."""
        self.addCleanup(install, None)
        install(self.here)
        pid = os.fork()
        if not pid:
            os._exit(0 if current() is None else 1)
        self.assertEqual(os.waitpid(pid, 0), (pid, 0))
        self.assertIs(current(), self.here)

    def test_numbers(self) -> None:
        """A worker knows its numbers."""
        self.assertEqual((self.here.id, self.here.slot), (7, 2))

    def test_pool(self) -> None:
        """A worker knows the others as well, as far as it was told."""
        self.assertEqual(
            self.here.pool(),
            [
                {"id": 3, "slot": 1, "state": "ready", "live": 5},
                {"id": 7, "slot": 2, "state": "starting", "live": 0},
            ],
        )


class StickyTests(HereCase):
    """Which worker a value leads to."""

    def test_mint(self) -> None:
        """An id that is minted here leads here, and says what it said."""
        value = self.here.mint("sid-1")
        self.assertTrue(value.startswith("sid-1."))
        self.assertEqual((self.here.owner(value), self.here.owner(value.encode())), (7, 7))

    def test_others(self) -> None:
        """A value that was minted elsewhere leads there; one that was not minted, nowhere."""
        self.assertEqual(self.here.owner(self.signer.mint(3, "x")), 3)
        self.assertIsNone(self.here.owner("sid-1"))
        self.assertIsNone(self.here.owner(self.here.mint("x")[:-1] + "!"))

    def test_machine(self) -> None:
        """A value that another machine tagged leads nowhere here, and tells that machine."""
        value = Signer(b"s" * 16, "b").mint(7, "x")
        self.assertEqual((self.here.owner(value), self.here.machine_of(value)), (None, "b"))
        self.assertEqual(self.here.machine_of(self.here.mint("x")), "")
        self.assertIsNone(self.here.machine_of("b.x.7.0123456789"))

    def test_bind(self) -> None:
        """Keys may be text or bytes."""
        self.bindings.bind.side_effect = lambda key: Deferred()
        done = self.here.bind("grün")
        self.here.bind(b"\xff")
        self.assertNoResult(done)
        self.assertEqual(
            self.bindings.bind.call_args_list, [mock.call("grün".encode()), mock.call(b"\xff")]
        )

    def test_free(self) -> None:
        """A key that is freed may be text or bytes."""
        self.here.free("key")
        self.assertEqual(self.bindings.free.call_args, mock.call(b"key"))


class BusTests(HereCase):
    """The bus."""

    def test_publish(self) -> None:
        """What is published goes to the bus."""
        self.here.publish("news", b"hello")
        self.assertEqual(self.bus.publish.call_args, mock.call("news", b"hello"))

    def test_outage(self) -> None:
        """A publisher can ask whether its messages go out."""
        self.bus.outage = 5.0
        self.assertEqual(self.here.outage, 5.0)

    def test_subscribe_behind(self) -> None:
        """A WebSocket that has moved gets its topic behind what its former worker was given."""
        self.websockets.behind.return_value = (3, 14)
        self.here.subscribe("news", print, websocket=b"15")
        self.assertEqual(self.websockets.behind.call_args, mock.call(15))
        self.assertEqual(
            self.bus.subscribe.call_args, mock.call("news", print, None, (3, 14), gap=None)
        )

    def test_leave(self) -> None:
        """A state is left for the WebSocket that the header names."""
        self.here.leave("15", "at 92")
        self.assertEqual(self.websockets.leave.call_args, mock.call(15, b"at 92"))

    def test_staying(self) -> None:
        """The WebSocket that the header names stays, also if what is done meanwhile fails."""
        go = self.websockets.stay.return_value
        with self.assertRaises(ZeroDivisionError), self.here.staying("15"):
            self.websockets.stay.assert_called_once_with(15)
            go.assert_not_called()
            raise ZeroDivisionError
        go.assert_called_once_with()

    def test_reload(self) -> None:
        """A reload can be asked for where the primary knows what that is."""
        self.assertTrue(self.here.reload())
        self.assertEqual(self.reload.call_count, 1)
        self.assertFalse(self.asked_by_none.reload())

    def test_subscribe(self) -> None:
        """A subscription is the bus's, and so is the function that ends it."""
        end = self.here.subscribe("news", print, len, gap=divmod)
        self.assertEqual(
            self.bus.subscribe.call_args, mock.call("news", print, len, None, gap=divmod)
        )
        end()
        self.bus.subscribe.return_value.assert_called_once_with()


class ThreadTests(HereCase):
    """Calls in a thread that is not the reactor's."""

    def setUp(self) -> None:
        super().setUp()
        self.pool = ThreadPoolExecutor(1)
        self.addCleanup(self.pool.shutdown)
        self.called_in: list[int] = []
        self.bus.publish.side_effect = lambda *_: self.called_in.append(threading.get_ident())
        # The reactor is told by another thread, and does it in its own.
        self.told: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self.patch(self.reactor, "callFromThread", lambda *told: self.told.put(told))

    def turn(self) -> None:
        """Have the reactor do the next that a thread has told it."""
        function, *arguments = self.told.get(timeout=PATIENCE)
        function(*arguments)

    def test_in_the_reactors_thread(self) -> None:
        """A call is done in the thread of the reactor, and waited for."""
        done = self.pool.submit(self.here.publish, "news", b"hello")
        self.turn()
        done.result(PATIENCE)
        self.assertEqual(self.called_in, [threading.get_ident()])

    def test_every_call(self) -> None:
        """No part is reached by another thread, whatever is called; mint and owner need none."""
        parts = (self.bindings, self.bus, self.leading, self.websockets, self.reload)
        calls: list[Callable[[], object]] = [
            lambda: self.here.publish("news", b""),
            lambda: self.here.subscribe("news", print)(),
            lambda: self.here.bind("key"),
            lambda: self.here.free("key"),
            lambda: self.here.on_leader(max)(),
            lambda: self.here.leave(1, "state"),
            self.here.reload,
            self.here.pool,
        ]
        for call in calls:
            for part in parts:
                part.reset_mock()
            done = self.pool.submit(call)
            told = self.told.get(timeout=PATIENCE)
            self.assertEqual([part.mock_calls for part in parts], [[]] * len(parts))
            told[0](*told[1:])
            while not done.done():
                with contextlib.suppress(queue.Empty):
                    told = self.told.get(timeout=0.001)
                    told[0](*told[1:])
            done.result()
        self.assertEqual(self.pool.submit(self.here.mint, "x").result(), self.here.mint("x"))

    def test_deferred(self) -> None:
        """A thread that binds a key goes on when every worker knows it."""
        confirmed: Deferred[None] = Deferred()
        self.bindings.bind.return_value = confirmed
        done = self.pool.submit(self.here.bind, "key")
        self.turn()
        self.assertFalse(done.done())
        confirmed.callback(None)
        self.assertIsNone(self.successResultOf(done.result(PATIENCE)))

    def test_error(self) -> None:
        """What the call raises is raised in the thread."""
        self.bus.publish.side_effect = BusOverrun(waiting=5)
        done = self.pool.submit(self.here.publish, "news", b"")
        self.turn()
        self.assertRaises(BusOverrun, done.result, PATIENCE)

    def test_the_end(self) -> None:
        """A thread that waits when the reactor stops is told so, and so is one that comes later."""
        waiting = self.pool.submit(self.here.publish, "news", b"")
        late = self.told.get(timeout=PATIENCE)
        ((phase, event, end, _),) = self.reactor.triggers[:1]
        self.assertEqual((phase, event), ("after", "shutdown"))
        end()
        self.assertRaises(WorkerEnds, waiting.result, PATIENCE)
        later = self.pool.submit(self.here.publish, "news", b"")
        self.assertRaises(WorkerEnds, later.result, PATIENCE)
        late[0](*late[1:])  # it has come to the reactor all the same
