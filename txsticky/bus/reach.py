"""Whether Redis can be reached: told to the log and to the workers, an outage once."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from ..core.redis_url import RedisAddress

log = Logger()


class Reach:
    """
    Tells when Redis cannot be reached, and when it can be again.

    :param address: the Redis server.
    :param wall: seconds since the epoch.
    :param outage: called with the time since which messages do not go out, or with None when they
        do again.
    :param meanwhile: what becomes of messages until then, as a sentence.
    """

    def __init__(
        self,
        address: RedisAddress,
        wall: Callable[[], float],
        outage: Callable[[float | None], object],
        meanwhile: str,
    ) -> None:
        self._address = address
        self._wall = wall
        self._outage = outage
        self._meanwhile = meanwhile
        self._closed = False
        #: What the log was told since the last outage ended.
        self._reasons: set[str] = set()

    def away(self, reason: str) -> None:
        """Log why Redis cannot be used, if the log does not say it yet."""
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.warn(
                "The bus does not reach Redis at {address} ({reason}). {meanwhile}",
                address=self._address,
                reason=reason,
                meanwhile=self._meanwhile,
            )

    def closed(self) -> None:
        """Tell that messages do not go out from now on."""
        if not self._closed:
            self._closed = True
            self._outage(self._wall())

    def open(self) -> None:
        """Tell that they go out again."""
        if self._closed:
            self._closed = False
            self._outage(None)

    def well(self, lost: int) -> None:
        """
        Log the end of an outage, if messages go out: they come in.

        :param lost: messages that have not left this machine so far.
        """
        if self._reasons and not self._closed:
            self._reasons.clear()
            log.info(
                "The bus reaches Redis again. Messages that have stayed on this machine: {lost}.",
                lost=lost,
            )
