"""
Serve any protocol factory, and close WebSockets politely.

An autobahn `WebSocketServerFactory` needs no change: it compares the port in its URL with nothing,
and takes handshakes on whatever port the cluster listens on. Only its `externalPort`, if set, has
to be the port in the client's Host header, as without txsticky.
"""

from __future__ import annotations

import sys
from typing import Any, TypeGuard

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.http import HTTPFactory
from twisted.web.server import Site

from ..core.http.inside import Inside
from ..errors import AppLoadError
from . import ServeSettings
from .accesslog import AccessLog, access_log_for
from .loading import describe
from .web.site import adapt_events, adapt_site, takes_events

_GOING_AWAY = 1001
_log = Logger()


@attrs.define
class FactoryServing:
    """
    A protocol factory, served on Twisted's transports (`serve.Serving`).

    :ivar interface: `web`, `wsgi` or `protocol`.
    :ivar factory: the protocol factory.
    :ivar http: whether its protocols speak HTTP/1.1.
    :ivar events: whether its protocols take events (`serve.http1`) in the place of bytes.
    :ivar inside: what of a request's head its protocols do not understand.
    """

    interface: str
    factory: IProtocolFactory
    http: bool = attrs.field(kw_only=True)
    events: bool = attrs.field(default=False, kw_only=True)
    inside: Inside = attrs.field(default=Inside(), kw_only=True)
    _access_log: AccessLog | None = attrs.field(default=None, kw_only=True)
    _started: bool = attrs.field(default=False, init=False)

    @property
    def busy(self) -> bool:
        """False: whether a factory is at work, only its connections tell."""
        return False

    def start(self) -> Deferred[None] | None:
        """
        Start the factory as a listening port does (`startFactory` runs).

        :raises ConfigError: the access log cannot be opened.
        """
        if self._access_log is not None:
            self._access_log.open()
        self.factory.doStart()
        self._started = True
        return None

    def stop(self, seconds: float) -> Deferred[None] | None:
        """
        Stop the factory as a port that stops listening does (`stopFactory` runs).

        :param seconds: see `Serving.stop`.
        """
        if self._started:
            self._started = False
            self.factory.doStop()
        if self._access_log is not None:
            self._access_log.close()
        return None

    def finish(self) -> None:
        """Do nothing: a factory needs no finish."""

    def reopen_logs(self) -> None:
        """Reopen the access log by its name."""
        if self._access_log is not None:
            self._access_log.reopen()

    def close_politely(self, protocol: object) -> bool:
        """Close a WebSocket with code 1001 (`serve.protocol.close_politely`)."""
        return close_politely(protocol)


def serving(app: object, settings: ServeSettings, reactor: Any) -> FactoryServing:
    """
    Serve a protocol factory as a listening endpoint does.

    :raises AppLoadError: the application is not a protocol factory.
    """
    if not IProtocolFactory.providedBy(app):
        raise AppLoadError(
            target=describe(app), reason="with --interface=protocol it has to be a protocol factory"
        )
    log, events = None, False
    inner = _innermost(app)
    if isinstance(inner, HTTPFactory):
        log = access_log_for(settings, reactor)
        # What is wrapped in policies has protocols that take bytes.
        if takes_events(app):
            events = True
            adapt_events(app, settings, log)
        else:
            adapt_site(inner, settings, log)
    # A bare HTTPFactory may be a proxy, whose clients send targets in absolute form.
    inside = Inside(absolute=not isinstance(inner, Site))
    return FactoryServing(
        "protocol", app, http=speaks_http(app), events=events, inside=inside, access_log=log
    )


def speaks_http(factory: object) -> bool:
    """
    Tell whether a factory's protocols begin with HTTP/1.1, wrapped in policies or not.

    twisted.web's factories do, and so do autobahn's WebSocket servers: they upgrade from it.
    """
    inner = _innermost(factory)
    return isinstance(inner, HTTPFactory) or _is_autobahn(inner, "WebSocketServerFactory")


def _innermost(factory: object) -> object:
    while isinstance(factory, WrappingFactory):
        factory = factory.wrappedFactory
    return factory


def _is_autobahn(value: object, name: str) -> TypeGuard[Any]:
    """Whether a value is an instance of a class of autobahn. Does not import autobahn."""
    module = sys.modules.get("autobahn.websocket.protocol")
    return module is not None and isinstance(value, getattr(module, name))


def close_politely(protocol: object) -> bool:
    """
    Close a WebSocket with code 1001, "going away" (RFC 6455, 7.4.1), so that its client reconnects.

    The WebSockets of autobahn are known, also as a WebSocketResource, and those of
    `twisted.web.websocket`; TLS and policies may be around them. autobahn then waits for the
    client's close frame, for at most its `closeHandshakeTimeout`.

    :param protocol: the protocol of a transport.
    :returns: whether the connection will now close by itself. False, with nothing done, if the
        protocol is no WebSocket or its handshake is not complete.
    """
    while isinstance(protocol, ProtocolWrapper):
        protocol = protocol.wrappedProtocol
    if _is_autobahn(protocol, "WebSocketProtocol"):
        return _close_autobahn(protocol)
    # twisted.web.websocket swaps the HTTP channel's methods for those of its wire protocol, which
    # is the public WebSocketTransport at the same time.
    wire: Any = getattr(getattr(protocol, "connectionLost", None), "__self__", None)
    if not hasattr(wire, "sendTextMessage"):
        return False
    try:
        wire.loseConnection(_GOING_AWAY)
    except Exception as error:  # wsproto's, if the WebSocket is closing already
        _log.debug("A WebSocket takes no close frame: {error}", error=error)
        return False
    return True


def _close_autobahn(protocol: Any) -> bool:
    if protocol.state == protocol.STATE_OPEN:
        # sendClose() takes no code but 1000 and 3000 to 4999, which are the application's.
        protocol.sendCloseFrame(code=_GOING_AWAY, reasonUtf8=b"going away")
        return True
    return bool(protocol.state == protocol.STATE_CLOSING)
