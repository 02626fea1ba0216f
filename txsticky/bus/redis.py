"""
The bus between machines, over Redis's own PUBLISH and SUBSCRIBE (the extra ``txsticky[redis]``).

The primary of each machine holds two connections to Redis, by txredisapi: one publishes, the other
subscribes to the topics that the machine's workers listen to. Topic ``T`` is the channel
``txsticky:DB:T``, because the channels of Redis know no databases. A message carries the mark of
the primary that published it: when it comes back there it is dropped, for it was delivered already.

While Redis cannot be reached, messages stay on the machine where they were published; they are not
sent later. A machine that hears nothing from Redis for a while tells its workers from when to when.
One whose messages did not go out tells the others how many of which topic, in the channel
``txsticky-lost:DB``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from ..core.redis_url import RedisAddress
from ..system.system import System
from .backplane import Shore
from .link import Link, RedisClient, RedisSubscriber
from .losses import Losses, Notice
from .reach import Reach

#: Bytes of published messages without an answer of Redis; beyond, messages are dropped.
UNANSWERED_LIMIT = 16 << 20
#: What a message without an answer costs beside its text, in bytes.
_PENDING = 1024
_MARK = 8


class RedisBackplane:
    """
    The way to other machines, over Redis (`backplane.Backplane`).

    :param address: the Redis server.
    :param system: the operating system.
    :param shore: gets what comes from other machines, and is told of outages.
    :ivar lost: messages that did not leave this machine.
    """

    def __init__(self, address: RedisAddress, system: System, shore: Shore) -> None:
        self.lost = 0
        self._wall = system.wall
        self._mark = system.random_bytes(_MARK)
        self._shore = shore
        self._prefix = b"txsticky:%d:" % address.db
        self._notices = b"txsticky-lost:%d" % address.db
        self._topics: set[bytes] = set()
        self._unanswered = 0
        self._losses = Losses()
        self._reach = Reach(
            address, system.wall, shore.outage, "Until it does, messages stay on this machine."
        )
        self._out = Link(RedisClient, address, system, self._ready, self._closed)
        self._in = Link(
            RedisSubscriber, address, system, self._resubscribe, self._reach.away, self._received
        )

    def start(self) -> None:
        """Connect, and stay connected."""
        self._reach.closed()
        self._out.start()
        self._in.start()

    def stop(self) -> Deferred[Any]:
        """Disconnect; the Deferred fires when that is done."""
        return gatherResults([self._out.stop(), self._in.stop()])

    def snapshot(self) -> dict[str, Any]:
        """When Redis was last heard (`backplane.Backplane`)."""
        return {"heard": self._in.heard}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know since when nothing is heard (`backplane.Backplane`)."""
        self._in.heard = state.get("heard", self._in.heard)

    # ------------------------------------------------------------------- publishing

    def publish(self, topic: bytes, message: bytes) -> None:
        """Publish a message of this machine, unless Redis cannot be reached or does not keep up."""
        redis, size = self._out.redis, len(topic) + len(message) + _PENDING
        if redis is None:
            self._lose(topic)
        elif self._unanswered > UNANSWERED_LIMIT:
            self._lose(topic)
            self._closed("it does not keep up")
        else:
            self._unanswered += size
            answer = redis.publish(self._prefix + topic, self._mark + message)
            answer.addCallbacks(self._passed_on, self._refused, [size], {}, [topic, size], {})

    def _lose(self, topic: bytes) -> None:
        self.lost += 1
        self._losses.add(topic, self._wall())

    def _closed(self, reason: str) -> None:
        self._reach.away(reason)
        self._reach.closed()

    def _passed_on(self, _: object, size: int) -> None:
        self._unanswered -= size
        if not self._unanswered:
            self._ready()

    def _refused(self, failure: Failure, topic: bytes, size: int) -> None:
        self._unanswered -= size
        self._lose(topic)
        if not failure.check(txredisapi.ConnectionError):  # which its link tells
            self._closed(failure.getErrorMessage())

    def _ready(self) -> None:
        """Tell the others what was lost: messages go out."""
        redis = self._out.redis
        if redis is None:
            return
        self._out.proven()
        self._reach.open()
        if not self._losses.empty:
            notice = self._losses.take()
            told = redis.publish(self._notices, self._mark + notice.to_json().encode())
            told.addErrback(lambda _: self._losses.put_back(notice))
        self._well()

    def _well(self) -> None:
        if self._in.redis is not None:
            self._reach.well(self.lost)

    # -------------------------------------------------------------------- listening

    def subscribe(self, topic: bytes) -> None:
        """Subscribe to a topic, now and after each reconnection."""
        self._topics.add(topic)
        if self._in.redis is not None:
            self._listen(self._prefix + topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Unsubscribe from a topic."""
        self._topics.discard(topic)
        if self._in.redis is not None:
            self._in.redis.unsubscribe([self._prefix + topic]).addErrback(self._complain)

    def _listen(self, channel: bytes) -> Deferred[Any]:
        # One channel a command: txredisapi expects one answer to a command.
        listens: Deferred[Any] = self._in.redis.subscribe([channel])
        return listens.addErrback(self._complain)

    def _resubscribe(self) -> None:
        """Listen to everything again; what came before the last answer may be missing."""
        since = self._in.heard
        self._in.proven()
        for topic in self._topics:
            self._listen(self._prefix + topic)
        self._listen(self._notices).addCallback(lambda _: self._listens(since))
        self._well()

    def _listens(self, since: float) -> None:
        if self._in.redis is not None:
            self._shore.gap(since, self._wall())

    def _complain(self, failure: Failure) -> None:
        """Log that Redis has refused a command; the end of a connection is logged by its link."""
        if not failure.check(txredisapi.ConnectionError):
            self._reach.away(failure.getErrorMessage())

    def _received(self, channel: bytes, message: bytes) -> None:
        mark, message = message[:_MARK], message[_MARK:]
        if mark == self._mark:
            return
        if channel == self._notices:
            self._noticed(message)
        else:
            self._shore.arrived(channel[len(self._prefix) :], message)

    def _noticed(self, text: bytes) -> None:
        try:
            told = Notice.from_json(text)
        except ValueError:  # of another program, or a version that is to come
            return
        told.tell(self._shore)
