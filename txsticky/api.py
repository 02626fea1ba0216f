"""
What an application may ask of the cluster that serves it, from inside a worker.

``txsticky.current()`` is the worker's :class:`Here`, or None in a process that no cluster started,
so that an application can also run alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, succeed

from .bus.client import BusClient, Lost, Missing
from .bus.client import Subscriber as Subscriber
from .core.routing.pool import Pool
from .core.routing.router import Router
from .ipc.channel import FRAME_LIMIT

#: The longest bus message with its topic, in bytes.
MESSAGE_LIMIT = FRAME_LIMIT - 16

_here: Here | None = None
#: What `on_leader` was told before this process was a worker.
_duties: list[tuple[Callable[[], object], Callable[[], object] | None]] = []


def current() -> Here | None:
    """Return this worker, or None in a process that is not a worker of a cluster."""
    return _here


def install(here: Here | None) -> None:
    """Say which worker this process is."""
    global _here
    _here = here
    if here is not None:
        for start, stop in _duties:
            here.on_leader(start, stop)


def on_leader(start: Callable[[], object], stop: Callable[[], object] | None = None) -> None:
    """
    Have one worker do something, as `Here.on_leader`; can be called while an application is loaded.

    In a process that no cluster started nothing is called.
    """
    if _here is not None:
        _here.on_leader(start, stop)
    else:
        _duties.append((start, stop))


#: What `after_fork` was given, in a process that workers are to be forked from.
_held: list[Callable[[], object]] | None = None


def hold() -> None:
    """Keep what `after_fork` gets, until `release`: workers are going to be forked from here."""
    global _held
    _held = []


def release() -> None:
    """Call what was kept, in its order: this process is a worker now."""
    global _held
    held, _held = _held or [], None
    for function in held:
        function()


_Function = TypeVar("_Function", bound=Callable[[], object])


def after_fork(function: _Function) -> _Function:
    """
    Have a function called in each worker, for what processes cannot share.

    Such are connections to a database, threads, and clients with a connection of their own. With
    ``--preload`` the application is imported once, and the function is called in each worker that
    is forked afterwards, before the worker serves. In any other process it is called at once, so
    that the application behaves the same without ``--preload``, and on its own. It can be used as a
    decorator.

    :param function: takes no arguments. If it raises an exception, the worker does not start.
    :returns: the function.
    """
    if _held is None:
        function()
    else:
        _held.append(function)
    return function


# A process that the application forks is no worker: no reactor runs there, and what is said to the
# primary would be the worker's.
os.register_at_fork(after_in_child=lambda: install(None))


class Membership(Protocol):
    """
    What a worker knows of its cluster.

    :ivar id: the worker's id.
    :ivar slot: the worker's number.
    :ivar router: has the signer of tags.
    :ivar pool: the workers.
    """

    id: int
    slot: int
    router: Router
    pool: Pool


class Binder(Protocol):
    """The bindings of keys to workers."""

    def bind(self, key: bytes) -> Deferred[None]:
        """Bind a key to this worker; fires once every worker knows."""

    def free(self, key: bytes) -> None:
        """Forget a key."""


class Departures(Protocol):
    """The WebSockets of the worker that may move."""

    def leave(self, id: int, state: bytes) -> None:
        """Have a state go with a WebSocket."""

    def stay(self, id: int) -> Callable[[], None]:
        """Have a WebSocket stay until what is returned is called."""

    def behind(self, id: int) -> tuple[int, int] | None:
        """What the former worker of a WebSocket had been given of the bus."""


class Leader(Protocol):
    """Whether this worker leads, and what it does for that long (`worker.leading.Leading`)."""

    @property
    def leads(self) -> bool:
        """Whether this worker leads now."""

    def on_leader(
        self, start: Callable[[], object], stop: Callable[[], object] | None = None
    ) -> Callable[[], None]:
        """Begin something when this worker begins to lead, and end it then."""


class Here:
    """
    A worker, as the application in it sees it: `current` returns it.

    All methods can be called in any thread. In the reactor's they return at once; in another one,
    such as that of a WSGI request, when the reactor's thread has done it. They raise `WorkerEnds`
    if it does nothing more. Callbacks are called in the reactor's thread.

    :param view: what the worker knows of its cluster.
    :param bindings: binds keys.
    :param bus: leads to the bus.
    :param leading: knows who leads.
    :param websockets: the WebSockets that may move.
    :param call: calls a function in the reactor's thread, and returns what that does.
    :param reload: asks for a rolling reload; None if the primary, of an earlier version, has to be
        asked in another way.
    """

    def __init__(
        self,
        view: Membership,
        bindings: Binder,
        bus: BusClient,
        leading: Leader,
        websockets: Departures,
        call: Callable[..., Any],
        reload: Callable[[], None] | None = None,
    ) -> None:
        self._view = view
        self._bindings = bindings
        self._bus = bus
        self._leading = leading
        self._websockets = websockets
        self._call = call
        self._reload = reload

    @property
    def id(self) -> int:
        """The number of this worker process, never used twice in the life of the cluster."""
        return self._view.id

    @property
    def slot(self) -> int:
        """
        The number of the worker, 1 to N (``TXSTICKY_WORKER``).

        Its successor after a reload has the same number.
        """
        return self._view.slot

    def pool(self) -> list[dict[str, Any]]:
        """Return the cluster's workers, as last told: id, slot, state, live connections of each."""
        members = self._call(lambda: list(self._view.pool.members))
        return [
            {"id": m.id, "slot": m.slot, "state": m.state.value, "live": m.live} for m in members
        ]

    def reload(self) -> bool:
        """
        Ask for a rolling reload, as HUP does: each worker is replaced by one with the code of now.

        :returns: whether it could be asked for. Not if the primary is of an earlier version.
        """
        if self._reload is None:
            return False
        self._call(self._reload)
        return True

    # -------------------------------------------------------------- WebSockets

    def leave(self, websocket: str | bytes | int, state: str | bytes) -> None:
        """
        Leave a state for the application that goes on with a WebSocket in another worker.

        It comes in the header ``Txsticky-State`` of the handshake there. The last state that was
        left before the WebSocket moves is the one that counts; of a WebSocket that is over, or
        that never moves, nothing is kept.

        :param websocket: the value of the header ``Txsticky-Websocket`` of the handshake.
        :param state: visible ASCII characters and blanks.
        :raises ValueError: the state is longer than 4096 bytes, or has other characters.
        """
        self._call(self._websockets.leave, int(websocket), _bytes(state))

    @contextmanager
    def staying(self, websocket: str | bytes | int) -> Iterator[None]:
        """
        Keep a WebSocket in this worker while a message of its client is being answered.

        Once the worker leaves, a WebSocket that may move waits for the end of that, for as long as
        it has time. It is for answers that come later than in the call that was told the message:
        from a Deferred, a thread or a task.

        :param websocket: the value of the header ``Txsticky-Websocket`` of the handshake.
        """
        go = self._websockets.stay(int(websocket))
        try:
            yield
        finally:
            go()

    # ------------------------------------------------------------------ leader

    @property
    def leader(self) -> bool:
        """
        Whether this worker is the leader: one of the workers that are ready, and never two.

        It answers by the clock, at once in any thread: a process that was stopped
        (SIGSTOP), and in whose place another leads, gets False as soon as it runs again. Work that
        takes long asks before each step.
        """
        return self._leading.leads

    def on_leader(
        self, start: Callable[[], object], stop: Callable[[], object] | None = None
    ) -> Callable[[], None]:
        """
        Call `start` when this worker begins to lead, at once if it does already; `stop` at the end.

        Another worker begins only when `stop` has ended here (in a reload), when this process has
        ended, or when its lease is over. `start` may return a coroutine or a Deferred that lasts
        as long as this worker leads: it is cancelled before `stop` is called. What `stop` returns
        is waited for. Both are called in the reactor's thread; work that blocks belongs in a thread
        that `start` starts.

        :returns: a function that ends the registration, and what was begun.
        """
        end = self._call(self._leading.on_leader, start, stop)
        return lambda: self._call(end)

    # -------------------------------------------------------------- stickiness

    def mint(self, ident: str) -> str:
        """
        Make a session id that names this worker.

        :param ident: the id that the application would have used; unreserved URL characters (RFC
            3986, 2.3).
        :returns: the id with a signed tag; every request that carries it as its key comes to this
            worker.
        """
        return self._view.router.signer.mint(self._view.id, ident)

    def owner(self, value: str | bytes) -> int | None:
        """
        Return the id of the worker that a tagged value names.

        :returns: None if the value is forged, another machine's, or from another cluster life.
        """
        return self._view.router.signer.read(value)

    def machine_of(self, value: str | bytes) -> str | None:
        """
        Return the name of the machine (``--machine``) whose worker tagged a value.

        :returns: None if the value is forged, or from where the secret (``--secret-file``) is
            another; empty if it was tagged where the machine has no name.
        """
        return self._view.router.signer.machine_of(value)

    def bind(self, key: str | bytes) -> Deferred[None]:
        """
        Bind a key that the application made to this worker.

        No response that is written after this call leaves before every worker knows the binding, so
        that no request with the key can be faster; the Deferred need not be waited for. In a thread
        other than the reactor's it has fired when this returns.

        :raises KeyTooLong: the key is longer than 4096 bytes; it is a `ValueError` as well.
        :raises ChannelFull: the primary does not read what this worker tells it.
        """
        done = self._call(self._bindings.bind, _bytes(key))
        return done if isinstance(done, Deferred) else succeed(None)

    def free(self, key: str | bytes) -> None:
        """Forget a key that was bound."""
        self._call(self._bindings.free, _bytes(key))

    # --------------------------------------------------------------------- bus

    def publish(self, topic: str, message: bytes) -> None:
        """
        Send `message` to every subscriber of `topic` in every worker, this one included.

        Messages of one publisher arrive in their order.

        :raises MessageTooLarge: topic and message together are longer than `MESSAGE_LIMIT`.
        :raises ValueError: the topic is longer than 65,535 bytes.
        :raises BusOverrun: the primary is behind; nothing was sent. Try again later, or do without.
        """
        self._call(self._bus.publish, topic, message)

    @property
    def outage(self) -> float | None:
        """
        Since when what is published may not leave this machine, in seconds since the epoch.

        None while it does, and always with ``--bus local``. A message that is published in the
        moment in which Redis goes away may stay on this machine as well.
        """
        return self._bus.outage

    def subscribe(
        self,
        topic: str,
        callback: Subscriber,
        lost: Lost | None = None,
        *,
        gap: Missing | None = None,
        websocket: str | bytes | int | None = None,
    ) -> Callable[[], None]:
        """
        Call `callback(message)` for each message published to `topic` from now on.

        :param lost: called with a number when so many messages did not reach this worker, because
            it did not take them fast enough, or because they did not leave another machine. They
            would have come before the next one that does.
        :param gap: called with two times, in seconds since the epoch, when the way to other
            machines is open again: messages that they published in between may be missing here.
        :param websocket: for which WebSocket that is: the value of the header
            ``Txsticky-Websocket`` of its handshake. If it has moved here, the messages of the topic
            that its former worker had not been given come first, if that worker had subscribed.
        :returns: a function that ends the subscription.
        :raises ValueError: the topic is longer than 65,535 bytes.
        :raises TooManyTopics: this worker listens to 100,000 topics already, or their names would
            be longer than 16,000,000 bytes together.
        :raises ChannelFull: the primary does not read what this worker tells it.
        """
        end = self._call(self._subscribe, topic, callback, lost, gap, websocket)
        return lambda: self._call(end)

    def _subscribe(
        self,
        topic: str,
        callback: Subscriber,
        lost: Lost | None,
        gap: Missing | None,
        websocket: str | bytes | int | None,
    ) -> Callable[[], None]:
        behind = None if websocket is None else self._websockets.behind(int(websocket))
        return self._bus.subscribe(topic, callback, lost, behind, gap=gap)


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
