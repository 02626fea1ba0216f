"""The bindings of sticky keys to workers, as one worker makes and learns them."""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from ..core.lifetimes import Lifetimes
from ..core.messages.from_worker import Bind, Free
from ..core.routing.table import KEY_LIMIT
from ..errors import ChannelFull, KeyTooLong
from ..ipc.channel import Channel
from ..system.system import System
from .view import ClusterView

log = Logger()
#: The least seconds between two looks for keys that have ended.
_LOOK: Final = 1.0


class Bindings:
    """
    Binds and frees keys, and tells when every worker knows of it.

    :param view: has the worker's id and its replica of the table.
    :param channel: leads to the primary.
    :param clock: seconds, monotonic.
    :ivar unconfirmed: how many bindings of this worker the primary has not confirmed: responses
        wait for them.
    """

    def __init__(self, view: ClusterView, channel: Channel, clock: Callable[[], float]) -> None:
        self.unconfirmed = 0
        self._view = view
        self._channel = channel
        self._clock = clock
        self._waiting: collections.deque[Deferred[None]] = collections.deque()
        self._after: list[Callable[[], None]] = []

    # ---------------------------------------------------- what the application asks

    def bind(self, key: bytes) -> Deferred[None]:
        """
        Bind a key to this worker.

        :returns: fires once every worker knows the binding.
        :raises KeyTooLong: the key is longer than `KEY_LIMIT`.
        :raises ChannelFull: the primary does not read.
        """
        channel = self._channel
        if len(key) > KEY_LIMIT:
            raise KeyTooLong(size=len(key), limit=KEY_LIMIT)
        if channel.full:
            raise ChannelFull(waiting=channel.waiting)
        self.learn(key, self._view.id)
        if not channel.connected:
            return succeed(None)  # the primary is gone, and with it the way to other workers
        done: Deferred[None] = Deferred()
        self.unconfirmed += 1
        self._waiting.append(done)
        channel.send(Bind(key))
        return done

    def free(self, key: bytes) -> None:
        """
        Forget a key.

        If the primary does not read, other workers forget the key once it is no longer used.
        """
        self._view.free(key)
        if len(key) <= KEY_LIMIT and not self._channel.full:
            self._channel.send(Free(key))

    # ------------------------------------------------------ what the primary tells

    def learn(self, key: bytes, owner: int) -> None:
        """Take in that a key is bound to the worker with the id `owner`."""
        self._view.bind(key, owner, self._clock())

    def learn_all(self, keys: Collection[bytes], owner: int) -> None:
        """Take in that many keys are bound to the worker with the id `owner`."""
        self._view.bind_all(keys, owner, self._clock())

    def confirmed(self) -> None:
        """Take in that every worker knows the oldest binding that was unconfirmed."""
        self.unconfirmed -= 1
        self._waiting.popleft().callback(None)
        self._release()

    def orphaned(self) -> None:
        """Confirm everything: the primary is gone, and no confirmation can come."""
        self.unconfirmed = 0
        while self._waiting:
            self._waiting.popleft().callback(None)
        self._release()

    # ------------------------------------------------------------ what waits for it

    def when_confirmed(self, action: Callable[[], None]) -> None:
        """Call `action` once every binding made so far is confirmed; now if all are."""
        if self.unconfirmed:
            self._after.append(action)
        else:
            action()

    def _release(self) -> None:
        if self.unconfirmed:
            return
        after, self._after = self._after, []
        for action in after:
            try:
                action()
            except Exception:
                log.failure("A response could not be released.")


class Expiry:
    """
    Frees keys of this worker when the cookies expire that brought them.

    :param view: has the worker's id and its replica of the table.
    :param free: frees a key (`Bindings.free`).
    :param system: the clock and the reactor.
    """

    def __init__(self, view: ClusterView, free: Callable[[bytes], None], system: System) -> None:
        self._view = view
        self._free = free
        self._system = system
        self._lifetimes = Lifetimes()
        self._call: Any = None

    def set(self, key: bytes, seconds: float | None) -> None:
        """
        Say after how many seconds a key ends.

        :param seconds: None if it does not end by itself.
        """
        end = None if seconds is None else self._system.clock() + seconds
        self._lifetimes.set(key, end)
        self._wait()

    def _wait(self) -> None:
        end = self._lifetimes.next
        if end is None:
            return
        seconds = max(_LOOK, end - self._system.clock())
        if self._call is None or not self._call.active():
            self._call = self._system.reactor.callLater(seconds, self._look)
        elif seconds < self._call.getTime() - self._system.reactor.seconds():
            self._call.reset(seconds)

    def _look(self) -> None:
        now = self._system.clock()
        for key in self._lifetimes.take(now):
            if self._view.table.find(key, now) == self._view.id:  # else another has bound it since
                self._free(key)
        self._wait()
