"""
The bus between machines, over Redis's own PUBLISH and SUBSCRIBE (the extra ``txsticky[redis]``).

The primary of each machine holds two connections to Redis, by txredisapi: one publishes, one
listens to the topics that its workers listen to.  A topic ``T`` is the channel ``txsticky:DB:T``,
for Redis's channels know no databases.  A message carries the mark of the primary that sent it, so
that what comes back to its own machine is dropped: there it was delivered already.

When Redis is away, each machine hears itself alone.  What is published meanwhile does not leave it,
and is not made up for later.
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

#: Bytes that may have been published without an answer before further messages are dropped.
HIGH_WATER = 16 << 20
#: Seconds between two questions whether Redis is still there, and for it to answer anything.
PING_INTERVAL = 15.0
REPLY_TIMEOUT = 10.0
#: Seconds before a connection is made again, after one failure and after many.
FIRST_DELAY = 0.5
LAST_DELAY = 15.0
#: What a message costs that waits for its answer, in bytes, beside its text.
_PENDING = 1024
_MARK = 8


class Telling(txredisapi.RedisProtocol):  # type: ignore[misc]
    """txredisapi's protocol; it tells its link when and why it ends."""

    def connectionLost(self, why: Failure) -> None:
        """The connection has ended, because Redis refused something or for this reason."""
        lost = f"the connection was lost: {why.getErrorMessage().rstrip('.')}"
        reason = self.factory.refusal or lost
        super().connectionLost(why)
        self.factory.lost(reason)


class Listener(Telling, txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """The same for a connection that listens."""

    def messageReceived(self, pattern: object, channel: bytes, message: bytes) -> None:
        """A message has come (txredisapi's hook)."""
        self.factory.received(channel, message)


class Link(Factory):
    """
    One connection to Redis, made again whenever it ends.

    :param kind: makes the protocol, a `Telling`.
    :param ready: called each time that there is a connection.
    :param away: called with the reason each time that there is none any more, and if the first
        attempt fails.
    :param received: called with (channel, message) for what a `Listener` hears.
    """

    noisy = False
    #: txredisapi's protocols ask their factory whether they are to log for themselves.
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
        #: The protocol, while it can be used.
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
        #: What Redis has refused, if it is to be the end of the connection.
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
        """Disconnect; fires when that is done."""
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
        The connection is made, and the password accepted; whether TLS and a missing password are,
        the first answer says.
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
        """The connection has ended, whether it was usable or not."""
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
        """A connection whose other end has silently gone does not outlive its reply's timeout."""
        self.redis.execute_command("PING").addErrback(lambda _: None)

    def stopTrying(self) -> None:
        """txredisapi gives up when the password is refused. It may be set right: go on."""

    def connectionError(self, why: str) -> None:
        """The password was refused: txredisapi says so before it closes the connection."""
        self.refusal = why.removeprefix("Redis error: ")


def _endpoint(address: RedisAddress, reactor: Any) -> Any:
    if address.path:
        return UNIXClientEndpoint(reactor, address.path)
    endpoint = HostnameEndpoint(reactor, address.host, address.port)
    if address.secure:
        from twisted.internet.ssl import optionsForClientTLS

        return wrapClientTLS(optionsForClientTLS(address.host), endpoint)
    return endpoint


class RedisRelay:
    """
    The way to other machines (`bus.Relay`).

    :param address: the Redis server.
    :param reactor: the primary's reactor.
    :param mark: 8 random bytes that no other primary has.
    :param arrived: called with (topic, message) for each message from another machine.
    :ivar lost: messages that could not be passed on.
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
        #: Why Redis is away, as far as the log knows; empty when it is not.
        self._reasons: set[str] = set()
        self._out = Link(Telling, address, reactor, self._ready, self._away)
        self._in = Link(Listener, address, reactor, self._resubscribe, self._away, self._received)

    def start(self) -> None:
        """Connect, and stay connected."""
        self._out.start()
        self._in.start()

    def stop(self) -> Deferred[Any]:
        """Disconnect; fires when that is done."""
        return gatherResults([self._out.stop(), self._in.stop()])

    # ---------------------------------------------------------------- bus.Relay

    def publish(self, topic: bytes, message: bytes) -> None:
        """Pass a message of this machine on, if Redis is there and keeps up."""
        # What one that waits for its answer costs, however short its message is.
        redis, size = self._out.redis, len(topic) + len(message) + _PENDING
        if redis is None:
            self.lost += 1
        elif self._unanswered > HIGH_WATER:
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
        """Listen to a topic."""
        self._topics.add(topic)
        if self._in.redis is not None:
            self._listen(topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Listen to it no longer."""
        self._topics.discard(topic)
        if self._in.redis is not None:
            self._in.redis.unsubscribe([self._prefix + topic]).addErrback(self._complain)

    # -------------------------------------------------------------------- links

    def _listen(self, topic: bytes) -> None:
        # One a command: txredisapi expects one answer to each.
        self._in.redis.subscribe([self._prefix + topic]).addErrback(self._complain)

    def _resubscribe(self) -> None:
        for topic in self._topics:
            self._listen(topic)
        self._ready()

    def _received(self, channel: bytes, message: bytes) -> None:
        if message[:_MARK] != self._mark:
            self._arrived(channel[len(self._prefix) :], message[_MARK:])

    def _complain(self, failure: Failure) -> None:
        """Redis refuses a command; that a connection has ended, its link says."""
        if not failure.check(txredisapi.ConnectionError):
            self._away(failure.getErrorMessage())

    def _away(self, reason: str) -> None:
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.warn(
                "The bus does not reach Redis at {address} ({reason}): until it does, messages stay"
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
