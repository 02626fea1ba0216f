"""What a worker knows of the WebSockets that may move."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.core.http.websocket.test_handshake import request
from tests.fakes import FakeReactor, FakeSystem
from txsticky.config import Config
from txsticky.core.replay import Replay
from txsticky.core.routing.pool import MemberState, Pool
from txsticky.core.routing.table import Table
from txsticky.transport.websockets.movements import PACE, WebSockets


class WebSocketsTests(SynchronousTestCase):
    """Worker 1 of three leaves."""

    def setUp(self) -> None:
        pool = Pool()
        for id in (1, 2, 3):
            pool.add(id, id)
            pool.set_ready(id)
            pool.let_move(id)
        pool.set_draining(1)
        self.bus = SimpleNamespace(given=7, pending=False)
        self.view: Any = SimpleNamespace(
            id=1,
            final=False,
            router=Config(sticky="cookie:who").router(b"s" * 16),
            pool=Pool.from_view(pool.view()),
            table=Table(10, 60),
        )
        self.system = FakeSystem(reactor=FakeReactor())
        self.websockets = WebSockets(self.view, False, self.bus, self.system)

    def heir(self, *lines: bytes) -> int:
        """Who goes on with a WebSocket whose handshake has these lines."""
        head = request(*lines).raw
        return self.websockets.heir(self.websockets.passport(head, "192.0.2.7", None))

    def test_always(self) -> None:
        """The operator's word, or that there is none, is known."""
        for always in (False, True):
            websockets = WebSockets(self.view, always, self.bus, self.system)
            self.assertIs(websockets.always, always)

    def test_arrived(self) -> None:
        """WebSockets that have moved here are counted."""
        for count in range(3):
            self.assertEqual(self.websockets.moved, count)
            self.websockets.arrived()

    def test_ids(self) -> None:
        """The WebSockets of a worker are numbered from 1 on."""
        passports = [self.websockets.passport(b"head", "", None) for _ in range(3)]
        self.assertEqual([passport.id for passport in passports], [1, 2, 3])
        self.assertEqual([self.websockets.find(id) for id in (1, 2, 3)], passports)

    def test_spread(self) -> None:
        """Without a key WebSockets are spread over the other workers."""
        self.assertEqual(sorted(self.heir() for _ in range(4)), [2, 2, 3, 3])

    def test_keys(self) -> None:
        """A key leads where its requests go, but for this worker and others that leave."""
        signer = self.view.router.signer
        for worker in (2, 3):
            self.assertEqual(self.heir(b"Cookie: who=" + signer.mint(worker, "a").encode()), worker)
        mine = b"Cookie: who=" + signer.mint(1, "a").encode()
        self.assertEqual(len({self.heir(mine) for _ in range(4)}), 1)
        self.assertNotEqual(self.heir(mine), 1)

    def test_never_this_one(self) -> None:
        """This worker gives no WebSocket to itself, though it does not leave."""
        self.view.pool.set_ready(1)
        for member in self.view.pool.members:
            member.moves = member.id == 1
        self.assertEqual(self.heir(), 0)
        self.assertTrue(self.view.pool.is_ready(1))

    def test_reserved(self) -> None:
        """The place in the next worker is reserved until the WebSocket is there."""
        with mock.patch.object(self.view.pool, "reserve") as reserved:
            worker = self.heir()
        self.assertEqual(reserved.mock_calls, [mock.call(worker)])

    def test_no_head(self) -> None:
        """A WebSocket whose handshake cannot be read goes nowhere."""
        passport = self.websockets.passport(b"no head\r\n\r\n", "192.0.2.7", None)
        self.assertEqual(self.websockets.heir(passport), 0)

    def test_decided(self) -> None:
        """The router is asked with the time and chance of this worker."""
        self.view.router = mock.Mock()
        self.assertEqual(self.heir(), 0)
        ((_, client, _, table, now, rng),) = (
            call.args for call in self.view.router.decide.mock_calls
        )
        self.assertEqual((client, now), ("192.0.2.7", self.system.clock()))
        self.assertIs(table, self.view.table)
        self.assertIs(rng, self.system.rng)

    def test_earlier_version(self) -> None:
        """A worker that does not know what to do with a WebSocket that moves gets none."""
        for member in self.view.pool.members:
            member.moves = member.id == 3
        self.assertEqual({self.heir() for _ in range(4)}, {3})
        for member in self.view.pool.members:
            member.moves = False
        self.assertEqual((self.heir(), self.websockets.possible), (0, False))

    def test_stop(self) -> None:
        """While the whole cluster stops no WebSocket moves, nor while the bus is behind here."""
        self.assertTrue(self.websockets.possible)
        self.bus.pending = True
        self.assertFalse(self.websockets.possible)
        self.bus.pending, self.view.final = False, True
        self.assertEqual((self.websockets.possible, self.heir()), (False, 0))

    def test_pace(self) -> None:
        """WebSockets leave one after the other."""
        turns = [self.websockets.turn() for _ in range(3)]
        for number, turn in enumerate(turns, 1):
            self.assertAlmostEqual(turn, number * PACE)

    def test_pace_later(self) -> None:
        """When time has passed a WebSocket leaves at once, and the next one after it."""
        self.websockets.turn()
        self.system.reactor.advance(10 * PACE)
        self.assertEqual(self.websockets.turn(), 0)
        self.assertAlmostEqual(self.websockets.turn(), PACE)

    def test_state(self) -> None:
        """A state is kept for as long as its WebSocket is there, and is one that can go."""
        passport = self.websockets.passport(b"head", "", None)
        self.websockets.leave(passport.id, b"at 5")
        replay = self.websockets.replay(passport)
        self.assertEqual((replay.state, replay.source, replay.given), (b"at 5", 1, 7))
        self.assertRaises(ValueError, self.websockets.leave, passport.id, b"\n")
        id = passport.id
        del passport
        gc.collect()
        self.assertIsNone(self.websockets.find(id))
        self.websockets.leave(id, b"too late")

    def test_stay(self) -> None:
        """A WebSocket stays when that is asked; to ask it of one that is over is no error."""
        passport = self.websockets.passport(b"head", "", None)
        go = self.websockets.stay(passport.id)
        self.assertTrue(passport.at_work)
        go()
        self.assertFalse(passport.at_work)
        self.websockets.stay(passport.id + 1)()

    def test_behind(self) -> None:
        """What the former worker was given is known of a WebSocket that has moved here."""
        moved = self.websockets.passport(b"", "", Replay(head=b"", source=9, given=4))
        stayed = self.websockets.passport(b"", "", None)
        self.assertEqual(self.websockets.behind(moved.id), (9, 4))
        self.assertIsNone(self.websockets.behind(stayed.id))
        self.assertIsNone(self.websockets.behind(100))

    def test_pool(self) -> None:
        """The pool tells its copies which workers take WebSockets; earlier versions skip that."""
        view = self.view.pool.view()
        self.assertEqual(view["moves"], [1, 2, 3])
        self.assertEqual({len(member) for member in view["members"]}, {5})
        del view["moves"]
        self.assertEqual(len(Pool.from_view(view).takers()), 0)
        self.assertEqual(
            {member.state for member in self.view.pool.takers().members}, {MemberState.READY}
        )
