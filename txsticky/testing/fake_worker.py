"""A worker that is none, for tests of what an application asks of its worker."""

from __future__ import annotations

import collections
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from twisted.internet.task import Clock

from .. import api
from ..bus.client import BusClient
from ..config import Config
from ..core.messages.frames import Frame
from ..core.messages.from_worker import Bind, Publish
from ..core.routing.pool import Pool
from ..core.routing.table import Table
from ..system.system import System
from ..worker.bindings import Bindings
from ..worker.leader.leading import Leading
from ..worker.view import ClusterView

#: Seconds of the fake clock for which the worker leads.
_TERM = 60.0
#: How many keys may be bound, and for how long without use.
_KEYS, _TTL = 100_000, 86_400.0


class _Primary:
    """What the worker's parts take for the channel to their primary: it answers at once."""

    connected = True
    full = False

    def __init__(self, worker: FakeWorker) -> None:
        self._worker = worker
        self._messages: collections.deque[tuple[bytes, bytes]] = collections.deque()
        self._delivering = False

    @property
    def behind(self) -> bool:
        return self._worker.overrun

    @property
    def waiting(self) -> int:
        return 0

    def send(self, frame: Frame) -> None:
        match frame:
            case Publish(topic, message):
                self._worker.published.append((topic.decode(), message))
                self.deliver(topic, message)
            case Bind():
                self._worker.bindings.confirmed()

    def deliver(self, topic: bytes, message: bytes) -> None:
        """Give a message to the subscribers, after those that were published before."""
        self._messages.append((topic, message))
        if self._delivering:
            return
        self._delivering = True
        while self._messages:
            self._worker.bus.message(*self._messages.popleft())
        self._delivering = False


class _Departures:
    """The WebSockets of a worker: none has moved here, and what is left is kept."""

    def __init__(self) -> None:
        self.left: dict[int, bytes] = {}

    def leave(self, id: int, state: bytes) -> None:
        self.left[id] = state

    def behind(self, id: int) -> None:
        return None


class FakeWorker:
    """
    A worker that is none: within it, `txsticky.current` returns its `here`.

    What the application asks is checked as in a worker, and raises what it raises there. What it
    publishes reaches its own subscribers before `publish` returns::

        with FakeWorker() as worker:
            chat.join("ada")
            worker.deliver("room", b"hello")
        assert worker.published == [("room", b"ada has come")]

    :param id: the worker's id.
    :param slot: the worker's number.
    :param workers: how many workers `pool` shows, all of them ready.
    :ivar here: the worker, as the application sees it.
    :ivar published: what was published: (topic, message), in order.
    :ivar left: the last state that was left for each WebSocket (`Here.leave`), by its id.
    :ivar reloads: how many reloads were asked for.
    :ivar overrun: whether the bus is full, so that `publish` raises `BusOverrun`.
    """

    def __init__(self, id: int = 1, slot: int = 1, workers: int = 2) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.reloads = 0
        self.overrun = False
        self._before: api.Here | None = None
        self._clock = Clock()
        self._terms = 0
        system = System(self._clock, clock=self._clock.seconds)
        primary: Any = _Primary(self)
        self._primary = primary
        self._view = ClusterView(
            id=id,
            slot=slot,
            router=Config(workers=workers).router(bytes(16)),
            pool=_pool(id, slot, workers),
            table=Table(_KEYS, _TTL),
            changed=lambda: None,
        )
        self.bus = BusClient(primary, api.MESSAGE_LIMIT)
        self.bindings = Bindings(self._view, primary, self._clock.seconds)
        self._leading = Leading(system, primary)
        departures: Any = _Departures()
        self.left: dict[int, bytes] = departures.left
        self.here = api.Here(
            self._view, self.bindings, self.bus, self._leading, departures, _call, self._reload
        )

    def __enter__(self) -> Self:
        self._before = api.current()
        api.install(self.here)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resign()
        api.install(self._before)

    @property
    def bound(self) -> set[bytes]:
        """The keys that are bound to this worker."""
        return {key for key, owner in self._view.table.items() if owner == self._view.id}

    def deliver(self, topic: str, message: bytes) -> None:
        """Have a message come that another worker has published."""
        self._primary.deliver(topic.encode(), message)

    def lose(self, topic: str, count: int) -> None:
        """Have the subscribers of a topic told that so many messages are lost."""
        self.bus.lost(topic, count)

    def cut_off(self, since: float | None) -> None:
        """Have `Here.outage` tell that messages stay on this machine since then; None: they go."""
        self.bus.outage = since

    def miss(self, since: float, until: float) -> None:
        """Have all subscribers told that messages of other machines may be missing."""
        self.bus.missing(since, until)

    def lead(self) -> None:
        """Have this worker be the leader: what `on_leader` was given is called."""
        self._terms += 1
        self._leading.appointed(self._terms, self._clock.seconds() + _TERM)

    def resign(self) -> None:
        """Have this worker lead no more: what `on_leader` has begun is ended."""
        if self.here.leader:
            self._clock.advance(_TERM)

    def _reload(self) -> None:
        self.reloads += 1


def _pool(id: int, slot: int, workers: int) -> Pool:
    """Make a pool of ready workers, one of which has this id and number."""
    pool = Pool()
    slots = [slot, *(other for other in range(1, workers + 1) if other != slot)][:workers]
    for number, each in enumerate(slots):
        pool.add(id + number, each)
        pool.set_ready(id + number)
    return pool


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function: in a test, any thread may be the reactor's."""
    return function(*arguments)
