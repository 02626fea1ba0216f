"""
What an application may ask of the cluster that serves it, from inside a worker.

``txsticky.current()`` is the worker's :class:`Here`, or None in a process that no cluster started,
so that an application can also run alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from .channel import FRAME_LIMIT
from .core.wire import Kind
from .errors import MessageTooLarge

if TYPE_CHECKING:
    from .worker import Worker

log = Logger()

#: The longest bus message with its topic, in bytes.
MESSAGE_LIMIT = FRAME_LIMIT - 16

Subscriber = Callable[[bytes], None]
_here: Here | None = None


def current() -> Here | None:
    """This worker, or None in a process that is not a worker of a cluster."""
    return _here


def install(here: Here | None) -> None:
    """Say which worker this process is."""
    global _here
    _here = here


class Here:
    """
    This worker, for the application in it.  All methods are to be called from the reactor's thread.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._subscribers: dict[str, list[Subscriber]] = {}

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
        """
        name = topic.encode()
        if len(name) + len(message) > MESSAGE_LIMIT:
            raise MessageTooLarge(size=len(message), limit=MESSAGE_LIMIT)
        self._worker.channel.send(Kind.PUBLISH, len(name).to_bytes(2, "big") + name + message)

    def subscribe(self, topic: str, callback: Subscriber) -> Callable[[], None]:
        """
        Call `callback(message)` for each message published to `topic` from now on.

        :returns: a function that ends the subscription.
        """
        callbacks = self._subscribers.setdefault(topic, [])
        if not callbacks:
            self._worker.channel.send(Kind.SUBSCRIBE, topic.encode())
        callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in callbacks:
                callbacks.remove(callback)
                if not callbacks and self._subscribers.get(topic) is callbacks:
                    del self._subscribers[topic]
                    self._worker.channel.send(Kind.UNSUBSCRIBE, topic.encode())

        return unsubscribe

    def message(self, body: bytes) -> None:
        """A bus message has come for this worker."""
        end = 2 + int.from_bytes(body[:2], "big")
        topic, message = body[2:end].decode(), body[end:]
        for callback in list(self._subscribers.get(topic, ())):
            try:
                callback(message)
            except Exception:
                log.failure("A subscriber of {topic} failed.", topic=topic)


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
