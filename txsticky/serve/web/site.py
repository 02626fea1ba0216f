"""Sites of twisted.web with the operator's settings: txsticky's own, and those of applications."""

# twisted.web has few type hints.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

from twisted.web import http, server
from twisted.web.resource import IResource

from ...core.http.inside import ADDED
from .. import ServeSettings
from ..accesslog import AccessLog, log_line_of
from ..http1.idle import Idle, idles
from ..http1.web import RequestChannels
from .forwarded import ForwardedRequest
from .measured import MeasuredRequest


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
        super().__init__(
            resource,
            requestFactory=_forwarded(request, settings),
            timeout=settings.keep_alive,
            parsePOSTFormSubmission=parse_forms,
            reactor=reactor,
        )
        self._access_log = access_log
        self._first, self._idle = idles(reactor, settings.keep_alive)
        self._channels = RequestChannels(
            self, self._first, self._idle, keeps=settings.keep_alive > 0
        )

    def buildProtocol(self, addr: Any) -> Any:
        return self._channels(addr)

    def startFactory(self) -> None:
        # Twisted's own log is not written: its clock would wake an idle worker every second.
        pass

    def stopFactory(self) -> None:
        super().stopFactory()
        self._first.stop()
        self._idle.stop()

    def log(self, request: http.Request) -> None:
        if self._access_log is not None:
            self._access_log.write(log_line_of(request))


def takes_events(factory: object) -> TypeGuard[server.Site]:
    """Whether a factory is a Site that makes its protocols as twisted.web's does."""
    if not isinstance(factory, server.Site):
        return False
    kind, own = type(factory), vars(factory)
    return (
        kind.buildProtocol is server.Site.buildProtocol
        and kind.protocol is http.HTTPFactory.protocol
        and isinstance(own.get("buildProtocol"), RequestChannels | None)
        and "protocol" not in own
    )


def adapt_site(site: http.HTTPFactory, settings: ServeSettings, log: AccessLog | None) -> None:
    """
    Apply the settings to an application's own Site, whose own log and timeouts stay.

    Its protocols take bytes.
    """
    build = site.buildProtocol
    site.buildProtocol = (  # type: ignore[method-assign]
        lambda addr: allow_heads(build(addr), settings.head_limit)
    )
    _log_too(site, log)
    if isinstance(site, server.Site):
        site.requestFactory = _adapted(
            site.requestFactory, lambda base: _mixed(MeasuredRequest, _forwarded(base, settings))
        )


def adapt_events(site: server.Site, settings: ServeSettings, log: AccessLog | None) -> None:
    """Do what `adapt_site` does for a Site that `takes_events`, and have its protocols do so."""
    _log_too(site, log)
    if settings.trusted:
        site.requestFactory = _adapted(site.requestFactory, lambda base: _forwarded(base, settings))
    idle = Idle(site.reactor, site.timeOut)
    site.buildProtocol = RequestChannels(  # type: ignore[method-assign]
        site, idle, idle, keeps=True
    )


def allow_heads(protocol: Any, size: int) -> Any:
    """
    Let a protocol of twisted.web take request heads of any form up to a size.

    Its own limits are 16,384 bytes and 500 lines. Its channel has private names: ``_channel`` of a
    ``_GenericHTTPChannelProtocol``.

    :param protocol: what an HTTPFactory has built: its HTTPChannel, or what that is wrapped in.
    :param size: of a head, in bytes.
    :returns: the protocol.
    """
    channel = getattr(protocol, "_channel", protocol)
    if hasattr(channel, "totalHeadersSize"):
        channel.MAX_LENGTH = channel.totalHeadersSize = channel.maxHeaders = size + ADDED
    return protocol


def _log_too(site: http.HTTPFactory, log: AccessLog | None) -> None:
    """Have a Site write the access log beside its own."""
    if log is not None:
        own_log = site.log

        def both(request: http.Request) -> None:
            own_log(request)
            log.write(log_line_of(request))

        site.log = both  # type: ignore[method-assign]


def _forwarded(base: type[http.Request], settings: ServeSettings) -> type[http.Request]:
    """Have requests tell their clients as trusted proxies do, if there are any."""
    if not settings.trusted:
        return base
    return _mixed(ForwardedRequest, base, txsticky=settings)


def _mixed(
    mixin: type[http.Request], base: type[http.Request], **names: object
) -> type[http.Request]:
    return type(base.__name__, (mixin, base), names)


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
