"""
What an application may ask of the cluster that serves it, from inside a worker.

``txsticky.current()`` is the worker's :class:`Here`, or None in a process that no cluster started,
so that an application can also run alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from .core.messages.frames import TOPIC_LIMIT
from .core.messages.from_worker import Publish, Subscribe, Unsubscribe
from .errors import BusOverrun, ChannelFull, MessageTooLarge, TooManyTopics
from .ipc.channel import FRAME_LIMIT

if TYPE_CHECKING:
    from .worker.worker import Worker

log = Logger()

#: The longest bus message with its topic, in bytes.
MESSAGE_LIMIT = FRAME_LIMIT - 16

#: How many topics a worker may listen to, and how many bytes their names may have together.
TOPICS = 100_000
TOPICS_SIZE = 16_000_000

Subscriber = Callable[[bytes], object]
Lost = Callable[[int], object]
_here: Here | None = None


def current() -> Here | None:
    """This worker, or None in a process that is not a worker of a cluster."""
    return _here


def install(here: Here | None) -> None:
    """Say which worker this process is."""
    global _here
    _here = here


# A process that the application forks is no worker: no reactor runs there, and what is said to the
# primary would be the worker's.
os.register_at_fork(after_in_child=lambda: install(None))


class Here:
    """
    This worker, for the application in it.  All methods are to be called from the reactor's thread.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._subscriptions: dict[str, dict[object, tuple[Subscriber, Lost | None]]] = {}
        self._names = 0  # bytes of the topics

    @property
    def id(self) -> int:
        """The number of this worker process, never used twice in the life of the cluster."""
        return self._worker.id

    @property
    def slot(self) -> int:
        """
        The number of the worker, 1 to N (``TXSTICKY_WORKER``); its successor after a reload has the
        same.
        """
        return self._worker.slot

    def pool(self) -> list[dict[str, Any]]:
        """
        The workers of the cluster, as last told: id, slot, state and live connections of each.
        """
        return [
            {"id": m.id, "slot": m.slot, "state": m.state.value, "live": m.live}
            for m in self._worker.pool.members
        ]

    # -------------------------------------------------------------- stickiness

    def mint(self, ident: str) -> str:
        """
        Make a session id that names this worker.

        :param ident: the id that the application would have used; unreserved URL characters (RFC
            3986, 2.3).
        :returns: the id with a signed tag; every request that carries it as its key comes to this
            worker.
        """
        return self._worker.router.signer.mint(self._worker.id, ident)

    def owner(self, value: str | bytes) -> int | None:
        """
        The id of the worker that a tagged value names; None if it is forged, or from another
        cluster life.
        """
        return self._worker.router.signer.read(value)

    def bind(self, key: str | bytes) -> Deferred[None]:
        """
        Bind a key that the application made to this worker.

        No response that is written after this call leaves before every worker knows the binding, so
        that no request with the key can be faster; the Deferred need not be waited for.

        :raises KeyTooLong: the key is longer than 4096 bytes; it is a `ValueError` as well.
        :raises ChannelFull: the primary does not read what this worker tells it.
        """
        return self._worker.bind(_bytes(key))

    def free(self, key: str | bytes) -> None:
        """Forget a key that was bound."""
        self._worker.free(_bytes(key))

    # --------------------------------------------------------------------- bus

    def publish(self, topic: str, message: bytes) -> None:
        """
        Send `message` to every subscriber of `topic` in every worker, this one included.

        Messages of one publisher arrive in their order.

        :raises MessageTooLarge: topic and message together are longer than `MESSAGE_LIMIT`.
        :raises BusOverrun: the primary is behind; nothing was sent. Try again later, or do without.
        """
        name = _topic(topic)
        if len(name) + len(message) > MESSAGE_LIMIT:
            raise MessageTooLarge(size=len(message), limit=MESSAGE_LIMIT)
        channel = self._worker.channel
        if channel.behind:
            raise BusOverrun(waiting=channel.waiting)
        channel.send(Publish(name, message))

    def subscribe(
        self, topic: str, callback: Subscriber, lost: Lost | None = None
    ) -> Callable[[], None]:
        """
        Call `callback(message)` for each message published to `topic` from now on.

        :param lost: called with a number when so many messages did not reach this worker, because
            it did not take them fast enough. They would have come before the next one that does.
        :returns: a function that ends the subscription.
        :raises TooManyTopics: this worker listens to `TOPICS` already, or their names would be
            longer than `TOPICS_SIZE` together.
        :raises ChannelFull: the primary does not read what this worker tells it.
        """
        name = _topic(topic)
        if topic not in self._subscriptions:
            self._listen(topic, name)
        subscriptions = self._subscriptions[topic]
        mine = object()
        subscriptions[mine] = (callback, lost)

        def unsubscribe() -> None:
            if subscriptions.pop(mine, None) and not subscriptions:
                del self._subscriptions[topic]
                self._names -= len(name)
                self._worker.channel.send(Unsubscribe(name))

        return unsubscribe

    def _listen(self, topic: str, name: bytes) -> None:
        channel = self._worker.channel
        if len(self._subscriptions) >= TOPICS or self._names + len(name) > TOPICS_SIZE:
            raise TooManyTopics(count=TOPICS, size=TOPICS_SIZE)
        if channel.full:
            raise ChannelFull(waiting=channel.waiting)
        self._subscriptions[topic] = {}
        self._names += len(name)
        channel.send(Subscribe(name))

    def message(self, name: bytes, message: bytes) -> None:
        """A bus message has come for this worker."""
        topic = name.decode()
        subscriptions = self._subscriptions.get(topic, {})
        for mine in list(subscriptions):
            if mine in subscriptions:  # else another one's callback has ended it
                _call(topic, subscriptions[mine][0], message)

    def lost(self, topic: str, count: int) -> None:
        """So many messages have not reached this worker."""
        for _, lost in list(self._subscriptions.get(topic, {}).values()):
            if lost is not None:
                _call(topic, lost, count)


def _call(topic: str, callback: Callable[[Any], object], argument: object) -> None:
    try:
        callback(argument)
    except Exception:
        log.failure("A subscriber of {topic} failed.", topic=topic)


def _topic(topic: str) -> bytes:
    name = topic.encode()
    if len(name) > TOPIC_LIMIT:
        raise ValueError(f"A topic of {len(name)} bytes is too long: it may have {TOPIC_LIMIT}.")
    return name


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
