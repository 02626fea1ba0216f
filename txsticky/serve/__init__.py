"""
How a worker speaks to its application.

`loading` imports it and tells its kind; `serving_for` finds the module that serves that kind:
`web`, `wsgi`, `protocol`, or `asgi`. They are imported only when needed, and none of them imports
the reactor with itself, because the kind decides which reactor is installed.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory

from ..core.http.inside import Inside
from ..core.routing.forwarded import Trusted
from ..system.logs.shared import HandedLog

#: Where each interface is served: the module's `serving` makes an application ready.
_HOMES = {
    "web": "web.resource",
    "wsgi": "web.wsgi",
    "asgi": "asgi.serving",
    "protocol": "protocol",
}


@attrs.frozen(kw_only=True)
class ServeSettings:
    """
    What the operator wants of any kind of serving.

    :ivar slot: the worker's number.
    :ivar access_log: its file, `-` for the standard output, None for no access log.
    :ivar handed_log: the access log, where the primary has opened it for the workers.
    :ivar keep_alive: seconds that a connection may idle between two requests; 0 closes it after
        each response.
    :ivar trusted: the peers whose X-Forwarded-For and X-Forwarded-Proto are believed.
    :ivar stall_timeout: seconds that a client may pause within a request, in what the gate cannot
        follow; 0 is without end.
    :ivar threads: how many WSGI requests run at a time.
    :ivar root_path: the path under which a proxy mounts the application, which it takes off the
        requests' paths (ASGI and WSGI).
    :ivar head_limit: the largest head of a request, in bytes: what is larger does not come here,
        so that no limit of a server's own should be lower.
    """

    slot: int = 1
    access_log: str | None = None
    handed_log: HandedLog | None = None
    keep_alive: float = 60.0
    trusted: Trusted = attrs.Factory(Trusted)
    stall_timeout: float = 300.0
    threads: int = 64
    root_path: str = ""
    head_limit: int = 65536


class Serving(Protocol):
    """
    An application, ready to be given connections.

    :ivar interface: `web`, `wsgi`, `protocol` or `asgi`.
    :ivar http: whether its protocols speak HTTP/1.1, so that a gate may watch request boundaries.
    :ivar inside: what of a request's head its protocols do not understand.
    :ivar factory: makes the protocol for each connection.
    """

    interface: str
    http: bool
    inside: Inside
    factory: IProtocolFactory

    @property
    def busy(self) -> bool:
        """Whether the application is at work, perhaps without a connection."""

    def start(self) -> Deferred[None] | None:
        """Start the application, once, before its first connection."""

    def stop(self, seconds: float) -> Deferred[None] | None:
        """
        Stop the application after its last connection; a second call does nothing more.

        The Deferred may stay unfired for as long as the application takes: put a bound to it.

        :param seconds: that bound. Requests that still run get a part of it at most
            (`core.timing.last_call`).
        """

    def finish(self) -> None:
        """Do what is left to be done when the reactor has stopped."""

    def reopen_logs(self) -> None:
        """Go over to new log files of the same names."""

    def close_politely(self, protocol: object) -> bool:
        """
        Ask the client at the other end of a protocol to go away (WebSocket code 1001).

        :return: whether it was asked, and the connection will close by itself; if not, nothing was
            done.
        """


def serving_for(
    app: object,
    interface: str,
    settings: ServeSettings,
    reactor: Any = None,
    target: str = "",
) -> Serving:
    """
    Make an application ready for connections.

    :param app: what `loading.load` returned.
    :param interface: `web`, `wsgi`, `asgi`, `protocol`, or `auto` to let `loading.detect` tell.
    :param reactor: the reactor in place of the installed one (which is imported, and so installed,
        only now).
    :param target: what the operator calls the application.
    :raises AppLoadError: the application is not of that kind.
    """
    from .loading import detect

    if interface == "auto":
        interface = detect(app, target)
    if interface == "asgi" and reactor is None:
        from .asgi.engine import install_asyncio_reactor

        install_asyncio_reactor()
    if reactor is None:
        from twisted.internet import reactor
    module = importlib.import_module(f"{__name__}.{_HOMES[interface]}")
    serving: Serving = module.serving(app, settings, reactor)
    return serving
