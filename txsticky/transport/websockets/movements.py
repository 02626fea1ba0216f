"""The WebSockets of a worker that may move: their passports, and who goes on with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakValueDictionary

from ...core.http.head import Head, parse_head
from ...core.http.websocket.handshake import check_state
from ...core.http.websocket.passport import Passport
from ...core.replay import Replay
from ...core.routing.pool import Pool
from ...core.routing.router import Route, Router
from ...core.routing.table import Table
from ...system.system import System

#: Seconds between the departures of two WebSockets, so that neither this worker nor the next one
#: has to do with many at once.
PACE: Final = 0.001


class Surrounding(Protocol):
    """
    What a worker knows of its cluster.

    :ivar id: the worker's own id.
    :ivar final: whether the whole cluster stops.
    """

    id: int
    router: Router
    pool: Pool
    table: Table
    final: bool


class Given(Protocol):
    """The bus, as far as WebSockets that move have to do with it (`bus.client`)."""

    given: int

    @property
    def pending(self) -> bool:
        """Whether messages that another worker had not been given are still to come."""


class WebSockets:
    """
    What this worker knows of moves.

    :param view: the cluster, and whether the whole of it stops.
    :param always: whether WebSockets may move without their application's word.
    :param bus: counts the messages that were given to this worker.
    :param system: the clock and chance.
    :ivar always: the same.
    :ivar moved: how many have moved here.
    """

    def __init__(self, view: Surrounding, always: bool, bus: Given, system: System) -> None:
        self.always = always
        self.moved = 0
        self._view = view
        self._bus = bus
        self._system = system
        self._last = 0
        self._passports: WeakValueDictionary[int, Passport] = WeakValueDictionary()
        self._next_turn = 0.0

    def passport(self, handshake: bytes, client: str, replay: Replay | None) -> Passport:
        """
        Make the passport of a WebSocket that begins.

        :param handshake: the head of its request.
        :param client: the address of the client, as the peer of its connection.
        :param replay: with what it came, if it has moved here.
        """
        self._last += 1
        passport = Passport(self._last, handshake, client, replay)
        self._passports[self._last] = passport
        return passport

    def find(self, id: int) -> Passport | None:
        """The passport of a WebSocket of this worker; None if the WebSocket is over."""
        return self._passports.get(id)

    def behind(self, id: int) -> tuple[int, int] | None:
        """
        What the former worker of a WebSocket had been given of the bus.

        :returns: that worker's id, and how many messages since its drain began; None for a
            WebSocket that has not moved here.
        """
        passport = self.find(id)
        if passport is None or passport.replay is None:
            return None
        return passport.replay.source, passport.replay.given

    def leave(self, id: int, state: bytes) -> None:
        """
        Have a state go with a WebSocket when it moves, in the place of any that was left before.

        :raises ValueError: the state cannot go.
        """
        fault = check_state(state)
        if fault:
            raise ValueError(f"A WebSocket's state cannot go with it: {fault}.")
        passport = self.find(id)
        if passport is not None:
            passport.state = state

    def stay(self, id: int) -> Callable[[], None]:
        """
        Have a WebSocket stay here until what is returned is called; in any thread.

        One that is over is no error.
        """
        passport = self.find(id)
        return (lambda: None) if passport is None else passport.stay()

    # ------------------------------------------------------------------------ moves

    def arrived(self) -> None:
        """Count a WebSocket that has moved here."""
        self.moved += 1

    def turn(self) -> float:
        """Seconds until the next WebSocket may begin to leave."""
        now = self._system.clock()
        self._next_turn = max(now, self._next_turn + PACE)
        return self._next_turn - now

    @property
    def possible(self) -> bool:
        """Whether there is a worker that could go on, and no message of the bus is missing here."""
        return not (self._view.final or self._bus.pending) and bool(self._view.pool.takers())

    def heir(self, passport: Passport) -> int:
        """The worker that is to go on with a WebSocket; 0 if none can now."""
        view, system = self._view, self._system
        head = parse_head(passport.head, len(passport.head))
        if view.final or not isinstance(head, Head):
            return 0
        takers = view.pool.takers(but=view.id)
        decision = view.router.decide(
            head, passport.client, takers, view.table, system.clock(), system.rng
        )
        if not isinstance(decision, Route):
            return 0
        view.pool.reserve(decision.worker)
        return decision.worker

    def replay(self, passport: Passport) -> Replay:
        """What goes with a WebSocket that leaves."""
        return passport.leave(self._view.id, self._bus.given)
