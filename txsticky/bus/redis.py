"""
The bus between machines, over Redis's own PUBLISH and SUBSCRIBE (the extra ``txsticky[redis]``).

The primary of each machine holds two connections to Redis, by txredisapi: one publishes, the other
subscribes to the topics that the machine's workers listen to. Topic ``T`` is the channel
``txsticky:DB:T``, because the channels of Redis know no databases. A message carries the mark of
the primary that published it: when it comes back there it is dropped, for it was delivered already.

While Redis cannot be reached, messages stay on the machine where they were published; they are not
sent later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import txredisapi
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..core.redis_url import RedisAddress

log = Logger()

#: Bytes of published messages without an answer of Redis; beyond, messages are dropped.
UNANSWERED_LIMIT = 16 << 20
#: Seconds between two PINGs, and for Redis to answer a command.
PING_INTERVAL = 15.0
REPLY_TIMEOUT = 10.0
#: Seconds before the next attempt to connect, after the first failure and after many.
FIRST_DELAY = 0.5
LAST_DELAY = 15.0
#: What a message without an answer costs beside its text, in bytes.
_PENDING = 1024
_MARK = 8


class RedisClient(txredisapi.RedisProtocol):  # type: ignore[misc]
    """txredisapi's protocol, which tells its link when and why the connection ends."""

    def connectionLost(self, why: Failure) -> None:
        """Tell the link why the connection has ended: what Redis refused, if anything."""
        lost = f"the connection was lost: {why.getErrorMessage().rstrip('.')}"
        reason = self.factory.refusal or lost
        super().connectionLost(why)
        self.factory.lost(reason)


class RedisSubscriber(RedisClient, txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """A `RedisClient` for the connection that subscribes."""

    def messageReceived(self, pattern: object, channel: bytes, message: bytes) -> None:
        """Pass a message on (txredisapi calls it)."""
        self.factory.received(channel, message)


class Link(Factory):
    """
    One connection to Redis, which is made again whenever it ends.

    Twisted's `ClientService` does not do: docs/design.rst says why.

    :param kind: makes the protocol, a `RedisClient`.
    :param ready: called each time that the connection can be used.
    :param away: called with the reason each time that the connection has ended or an attempt to
        connect has failed.
    :param received: called with (channel, message) for each message to a `RedisSubscriber`.
    :ivar redis: the protocol, while the connection can be used; else None.
    :ivar refusal: what Redis has refused, when that is to end the connection; else empty.
    """

    noisy = False
    #: Asked by txredisapi's protocols: whether they log for themselves.
    isLazy = False

    def __init__(
        self,
        kind: Callable[..., Any],
        address: RedisAddress,
        reactor: Any,
        ready: Callable[[], None],
        away: Callable[[str], None],
        received: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        self.redis: Any = None
        self.received = received
        self._kind = kind
        self._address = address
        self._reactor = reactor
        self._ready = ready
        self._away = away
        self._endpoint = _endpoint(address, reactor)
        self._attempt: Deferred[Any] | None = None
        self._open: Any = None
        self._retry: Any = None
        self._delay = FIRST_DELAY
        self.refusal = ""
        self._stopped: Deferred[None] | None = None
        self._pings = LoopingCall(self._ping)
        self._pings.clock = reactor

    def start(self) -> None:
        """Connect, and stay connected."""
        self._retry = None
        self._attempt = self._endpoint.connect(self)
        self._attempt.addCallbacks(self._connected, self._failed)

    def stop(self) -> Deferred[None]:
        """Disconnect; the Deferred fires when that is done."""
        self._stopped = Deferred()
        if self._attempt is not None:
            self._attempt.cancel()
        elif self._open is not None:
            self._open.transport.loseConnection()
        else:
            if self._retry is not None:
                self._retry.cancel()
            self._stopped.callback(None)
        return self._stopped

    def buildProtocol(self, addr: object) -> Any:
        """Make the protocol of a connection (`IProtocolFactory`)."""
        redis = self._kind(
            charset=None,
            convertNumbers=False,
            replyTimeout=REPLY_TIMEOUT,
            username=self._address.username,
            password=self._address.password,
        )
        redis.factory = self
        redis.whenConnected().addCallback(self._welcome)
        return redis

    def _connected(self, redis: Any) -> None:
        self._attempt = None
        self._open = redis

    def _welcome(self, redis: Any) -> None:
        """
        Ask for a first answer, which tells whether the connection can be used.

        At this point Redis has accepted a password; but whether TLS is in order, or a password is
        missing, only an answer tells.
        """
        redis.execute_command("PING").addCallbacks(
            lambda _: self._usable(redis), lambda failure: self._unwelcome(redis, failure)
        )

    def _unwelcome(self, redis: Any, failure: Failure) -> None:
        if failure.check(txredisapi.ResponseError):
            self.refusal = failure.getErrorMessage()
            redis.transport.loseConnection()

    def _usable(self, redis: Any) -> None:
        self._delay = FIRST_DELAY
        self.redis = redis
        self._pings.start(PING_INTERVAL, now=False)
        self._ready()

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        self._ended(failure.getErrorMessage().rstrip("."))

    def lost(self, reason: str) -> None:
        """Try again: the connection has ended, whether it could be used or not."""
        self._open = None
        if self.redis is not None:
            self.redis = None
            self._pings.stop()
        self.refusal = ""
        self._ended(reason)

    def _ended(self, reason: str) -> None:
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        self._retry = self._reactor.callLater(self._delay, self.start)
        self._delay = min(2 * self._delay, LAST_DELAY)
        self._away(reason)

    def _ping(self) -> None:
        """Ask for an answer, whose timeout ends a connection to a Redis that has silently gone."""
        self.redis.execute_command("PING").addErrback(lambda _: None)

    def stopTrying(self) -> None:
        """Go on: a password that was refused may be set right (txredisapi calls it)."""

    def connectionError(self, why: str) -> None:
        """Note that the password was refused (txredisapi calls it before it closes)."""
        self.refusal = why.removeprefix("Redis error: ")


def _endpoint(address: RedisAddress, reactor: Any) -> Any:
    if address.path:
        return UNIXClientEndpoint(reactor, address.path)
    endpoint = HostnameEndpoint(reactor, address.host, address.port)
    if address.secure:
        from twisted.internet.ssl import optionsForClientTLS

        return wrapClientTLS(optionsForClientTLS(address.host), endpoint)
    return endpoint


class RedisBackplane:
    """
    The way to other machines, over Redis (`hub.Backplane`).

    :param address: the Redis server.
    :param reactor: the primary's reactor.
    :param mark: 8 random bytes that no other primary has.
    :param arrived: called with (topic, message) for each message from another machine.
    :ivar lost: messages that did not leave this machine.
    """

    def __init__(
        self,
        address: RedisAddress,
        reactor: Any,
        mark: bytes,
        arrived: Callable[[bytes, bytes], None],
    ) -> None:
        self.lost = 0
        self._address = address
        self._mark = mark[:_MARK]
        self._arrived = arrived
        self._prefix = b"txsticky:%d:" % address.db
        self._topics: set[bytes] = set()
        self._unanswered = 0
        #: What the log was told of why Redis cannot be reached; empty when it can be.
        self._reasons: set[str] = set()
        self._out = Link(RedisClient, address, reactor, self._ready, self._away)
        self._in = Link(
            RedisSubscriber, address, reactor, self._resubscribe, self._away, self._received
        )

    def start(self) -> None:
        """Connect, and stay connected."""
        self._out.start()
        self._in.start()

    def stop(self) -> Deferred[Any]:
        """Disconnect; the Deferred fires when that is done."""
        return gatherResults([self._out.stop(), self._in.stop()])

    # ---------------------------------------------------------------- hub.Backplane

    def publish(self, topic: bytes, message: bytes) -> None:
        """Publish a message of this machine, unless Redis cannot be reached or does not keep up."""
        redis, size = self._out.redis, len(topic) + len(message) + _PENDING
        if redis is None:
            self.lost += 1
        elif self._unanswered > UNANSWERED_LIMIT:
            self.lost += 1
            self._away("it does not keep up")
        else:
            self._unanswered += size
            answer = redis.publish(self._prefix + topic, self._mark + message)
            answer.addCallbacks(self._passed_on, self._refused, [size], {}, [size], {})

    def _passed_on(self, _: object, size: int) -> None:
        self._unanswered -= size
        if not self._unanswered:
            self._ready()

    def _refused(self, failure: Failure, size: int) -> None:
        self._unanswered -= size
        self.lost += 1
        self._complain(failure)

    def subscribe(self, topic: bytes) -> None:
        """Subscribe to a topic, now and after each reconnection."""
        self._topics.add(topic)
        if self._in.redis is not None:
            self._listen(topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Unsubscribe from a topic."""
        self._topics.discard(topic)
        if self._in.redis is not None:
            self._in.redis.unsubscribe([self._prefix + topic]).addErrback(self._complain)

    # -------------------------------------------------------------------- links

    def _listen(self, topic: bytes) -> None:
        # One topic a command: txredisapi expects one answer to a command.
        self._in.redis.subscribe([self._prefix + topic]).addErrback(self._complain)

    def _resubscribe(self) -> None:
        for topic in self._topics:
            self._listen(topic)
        self._ready()

    def _received(self, channel: bytes, message: bytes) -> None:
        if message[:_MARK] != self._mark:
            self._arrived(channel[len(self._prefix) :], message[_MARK:])

    def _complain(self, failure: Failure) -> None:
        """Log that Redis has refused a command; the end of a connection is logged by its link."""
        if not failure.check(txredisapi.ConnectionError):
            self._away(failure.getErrorMessage())

    def _away(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.warn(
                "The bus does not reach Redis at {address} ({reason}). Until it does, messages stay"
                " on this machine.",
                address=self._address,
                reason=reason,
            )

    def _ready(self) -> None:
        if self._reasons and self._out.redis is not None and self._in.redis is not None:
            self._reasons.clear()
            log.info(
                "The bus reaches Redis again. Messages that have stayed on this machine: {lost}.",
                lost=self.lost,
            )
