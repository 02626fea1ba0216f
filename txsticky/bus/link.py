"""One connection to Redis, by txredisapi, which is made again whenever it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import txredisapi
from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from ..core.redis_url import RedisAddress
from ..system.system import System

#: Seconds between two PINGs, and for Redis to answer a command.
PING_INTERVAL = 15.0
REPLY_TIMEOUT = 10.0
#: Seconds before the next attempt to connect: after the first failure, after many, and how much of
#: that is chance, so that machines do not all come back at the same moment.
FIRST_DELAY = 0.2
LAST_DELAY = 2.0
CHANCE = 0.5


class RedisClient(txredisapi.RedisProtocol):  # type: ignore[misc]
    """txredisapi's protocol, which tells its link what happens."""

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Note that Redis is there."""
        self.factory.hears()
        super().dataReceived(data, unpause)

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


class Retry:
    """
    Tries again, after a growing time (Twisted's `backoffPolicy`).

    :param start: makes the attempt.
    """

    def __init__(self, system: System, start: Callable[[], None]) -> None:
        self._later = system.reactor.callLater
        self._start = start
        self._delay = backoffPolicy(
            FIRST_DELAY, LAST_DELAY - CHANCE, 2.0, lambda: system.rng.uniform(0.0, CHANCE)
        )
        self._failures = 0
        self._call: Any = None

    def soon(self) -> None:
        """Try again, in a while."""
        self._call = self._later(self._delay(self._failures), self._again)
        self._failures += 1

    def _again(self) -> None:
        self._call = None
        self._start()

    def proven(self) -> None:
        """Begin anew with the shortest time."""
        self._failures = 0

    def cancel(self) -> None:
        """Do not try again."""
        if self._call is not None:
            self._call.cancel()


class Link(Factory):
    """
    One connection to Redis, which is made again whenever it ends.

    Twisted's `ClientService` does not do: docs/design.rst says why.

    :param kind: makes the protocol, a `RedisClient`.
    :param system: the operating system.
    :param ready: called each time that the connection can be used.
    :param away: called with the reason each time that the connection has ended or an attempt to
        connect has failed.
    :param received: called with (channel, message) for each message to a `RedisSubscriber`.
    :ivar redis: the protocol, while the connection can be used; else None.
    :ivar refusal: what Redis has refused, when that is to end the connection; else empty.
    :ivar heard: when something last came over a connection that could be used, in seconds since the
        epoch; before the first one, when the link was made.
    """

    noisy = False
    #: Asked by txredisapi's protocols: whether they log for themselves.
    isLazy = False

    def __init__(
        self,
        kind: Callable[..., Any],
        address: RedisAddress,
        system: System,
        ready: Callable[[], None],
        away: Callable[[str], None],
        received: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        self.redis: Any = None
        self.received = received
        self._kind = kind
        self._address = address
        self._wall = system.wall
        self._ready = ready
        self._away = away
        self._endpoint = _endpoint(address, system.reactor)
        self._attempt: Deferred[Any] | None = None
        self._open: Any = None
        self._retry = Retry(system, self.start)
        self.refusal = ""
        self.heard = system.wall()
        self._stopped: Deferred[None] | None = None
        self._pings = LoopingCall(self._ping)
        self._pings.clock = system.reactor

    def start(self) -> None:
        """Connect, and stay connected."""
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
            self._retry.cancel()
            self._stopped.callback(None)
        return self._stopped

    def proven(self) -> None:
        """Begin anew with the shortest delay after the next failure: Redis does what it is told."""
        self._retry.proven()

    def leave(self, why: str) -> None:
        """End the connection, of which Redis has refused the use; it is made again later."""
        self.refusal = why
        self._open.transport.loseConnection()

    def hears(self) -> None:
        """Note that something has come from Redis, if the connection can be used."""
        if self.redis is not None:
            self.heard = self._wall()

    def buildProtocol(self, addr: object) -> Any:
        """Make the protocol of a connection (`IProtocolFactory`)."""
        redis = self._kind(
            charset=None,
            convertNumbers=False,
            replyTimeout=REPLY_TIMEOUT,
            username=self._address.username,
            password=self._address.password,
            dbid=self._address.db if self._address.stream else None,
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
        self._retry.soon()
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
