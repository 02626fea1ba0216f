"""Sites of twisted.web with the operator's settings: txsticky's own, and those of applications."""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web import http, server
from twisted.web.resource import IResource

from ...transport.movable import allow_heads
from .. import ServeSettings
from ..accesslog import AccessLog, log_line_of
from .forwarded import ForwardedRequest
from .measured import MeasuredRequest

#: Seconds for the first request of a connection to begin, unless connections may idle for longer.
_FIRST_TIMEOUT = 60.0


class LastRequest(http.Request):
    """The only request of its connection (a keep-alive of 0 seconds)."""

    def process(self) -> None:
        if isinstance(self.channel, http.HTTPChannel):
            self.channel.persistent = False
            self.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        super().process()


class TimedRequest(http.Request):
    """
    A request with separate timeouts for a pause within it and for the time until the next.

    twisted.web has one timeout for both: at 5 seconds it would also cut an upload that pauses. And
    15 seconds after the timeout it aborts the connection of a client that is still reading the last
    response. The gate decides how long that may take; until then the connection is only closing.
    """

    txsticky: ServeSettings

    def __init__(self, channel: http.HTTPChannel, *args: Any, **kwargs: Any) -> None:
        super().__init__(channel, *args, **kwargs)
        if isinstance(channel, http.HTTPChannel):
            channel.abortTimeout = None  # type: ignore[assignment]

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        if length != 0 and isinstance(self.channel, http.HTTPChannel):
            # Twice, so that the gate, where it can follow the request, acts first.
            self.channel.setTimeout(2 * self.txsticky.stall_timeout or None)

    def finish(self) -> None:
        channel = getattr(self, "channel", None)
        super().finish()
        if not isinstance(channel, http.HTTPChannel):
            return
        # No request in the channel: not a line of the next has come yet.
        keep_alive = self.txsticky.keep_alive
        if channel.persistent and not channel.requests and channel.timeOut != keep_alive:
            channel.setTimeout(keep_alive)


class StickySite(server.Site):
    """
    The Site around a Resource that is served.

    :param parse_forms: whether twisted.web reads a posted form into `request.args`.
    """

    displayTracebacks = False
    noisy = False

    def __init__(
        self,
        resource: IResource,
        settings: ServeSettings,
        access_log: AccessLog | None,
        reactor: Any,
        request: type[http.Request] = server.Request,
        parse_forms: bool = True,
    ) -> None:
        mixins: tuple[type[http.Request], ...] = (TimedRequest,)
        if settings.keep_alive <= 0:
            mixins = (LastRequest, TimedRequest)
        super().__init__(
            resource,
            requestFactory=_mixer(settings, *mixins)(request),
            timeout=max(settings.keep_alive, _FIRST_TIMEOUT),
            parsePOSTFormSubmission=parse_forms,
            reactor=reactor,
        )
        self._access_log = access_log
        self._head_limit = settings.head_limit

    def buildProtocol(self, addr: Any) -> Any:
        return allow_heads(super().buildProtocol(addr), self._head_limit)

    def log(self, request: http.Request) -> None:
        if self._access_log is not None:
            self._access_log.write(log_line_of(request))


def _mixer(
    settings: ServeSettings, *mixins: type[http.Request]
) -> Callable[[type[http.Request]], type[http.Request]]:
    """Return a function that mixes what the settings ask for into a class of requests."""
    mixins = (MeasuredRequest, *mixins)
    if settings.trusted:
        mixins = (ForwardedRequest, *mixins)

    def mix(base: type[http.Request]) -> type[http.Request]:
        return type(base.__name__, (*mixins, base), {"txsticky": settings})

    return mix


def adapt_site(site: http.HTTPFactory, settings: ServeSettings, log: AccessLog | None) -> None:
    """Apply the settings to an application's own Site, whose own log and timeouts stay."""
    build = site.buildProtocol
    site.buildProtocol = (  # type: ignore[method-assign]
        lambda addr: allow_heads(build(addr), settings.head_limit)
    )
    if log is not None:
        own_log = site.log

        def both(request: http.Request) -> None:
            own_log(request)
            log.write(log_line_of(request))

        site.log = both  # type: ignore[method-assign]
    if isinstance(site, server.Site):
        site.requestFactory = _adapted(site.requestFactory, _mixer(settings))


def _adapted(make: Any, mix: Callable[[type[http.Request]], type[http.Request]]) -> Any:
    """Adapt a `requestFactory`, which need not be a class."""
    if isinstance(make, type):
        return mix(make)

    mixed: dict[type[http.Request], type[http.Request]] = {}

    def make_and_mix(*arguments: Any) -> http.Request:
        request: http.Request = make(*arguments)
        kind = type(request)
        request.__class__ = mixed.get(kind) or mixed.setdefault(kind, mix(kind))
        return request

    return make_and_mix
