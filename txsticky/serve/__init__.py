"""
The interfaces that a worker serves applications by.

`loading` imports an application and tells its interface; `serving_for` finds the module that serves
the interface: `web`, `wsgi`, `protocol` or `asgi`. These modules are imported only when needed, and
none of them imports the reactor with itself, because the interface decides which reactor is
installed.
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
from .unread import leave_unread

#: Where each interface is served: the module's `serving` makes an application ready.
HOMES = {
    "web": f"{__name__}.web.resource",
    "wsgi": f"{__name__}.wsgi.serving",
    "asgi": f"{__name__}.asgi.serving",
    "protocol": f"{__name__}.protocol",
}


@attrs.frozen(kw_only=True)
class ServeSettings:
    """
    What the operator asks of serving, whatever the interface.

    :ivar slot: the worker's number.
    :ivar access_log: the file of the access log, `-` for the standard output, None for no log.
    :ivar handed_log: the access log, where the primary has opened it for the workers.
    :ivar keep_alive: seconds that a connection may idle between two requests; 0 closes it after
        each response.
    :ivar trusted: the peers whose X-Forwarded-For and X-Forwarded-Proto are believed.
    :ivar stall_timeout: seconds that a client may pause within a request that the gate cannot
        follow; 0 is without end.
    :ivar threads: how many WSGI requests run at a time.
    :ivar response_buffer: bytes of a WSGI response that may wait for its client before its thread
        waits.
    :ivar root_path: the path under which a proxy mounts the application, and which the proxy strips
        from each request (ASGI and WSGI).
    :ivar head_limit: the largest head of a request, in bytes; the gate refuses larger ones, so that
        the limit of a server inside must not be lower.
    """

    slot: int = 1
    access_log: str | None = None
    handed_log: HandedLog | None = None
    keep_alive: float = 60.0
    trusted: Trusted = attrs.Factory(Trusted)
    stall_timeout: float = 300.0
    threads: int = 64
    response_buffer: int = 1 << 20
    root_path: str = ""
    head_limit: int = 65536


class Serving(Protocol):
    """
    An application that is ready for connections.

    :ivar interface: `web`, `wsgi`, `protocol` or `asgi`.
    :ivar http: whether the protocols speak HTTP/1.1, so that a gate may watch request boundaries.
    :ivar events: whether the protocols take events (`core.http.events`) in the place of bytes.
    :ivar inside: what of a request's head the protocols do not understand.
    :ivar factory: makes the protocol for each connection.
    """

    interface: str
    http: bool
    events: bool
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

        The Deferred fires when the application is done, however long that takes: the caller waits
        no longer than `seconds`.

        :param seconds: the time for the stop. Requests that still run get a part of it at most
            (`core.lifecycle.timing.last_call`).
        """

    def finish(self) -> None:
        """Finish the application after the reactor has stopped."""

    def reopen_logs(self) -> None:
        """Reopen the log files by their names (log rotation)."""

    def close_politely(self, protocol: object) -> bool:
        """
        Ask a protocol's client to leave (WebSocket code 1001).

        :returns: whether the client was asked and the connection will close by itself; if not,
            nothing was done.
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

    :param app: the application, as `loading.load` returned it.
    :param interface: `web`, `wsgi`, `asgi`, `protocol`, or `auto` for what `loading.detect` tells.
    :param reactor: used in place of the global reactor, which is imported, and so installed, only
        in this call.
    :param target: the name of the application for error messages.
    :raises AppLoadError: the application does not speak the interface.
    """
    from .loading import check, detect

    if interface == "auto":
        interface = detect(app, target)
    else:
        check(app, interface, target)
    if interface == "asgi" and reactor is None:
        from .asgi.engine import install_asyncio_reactor

        install_asyncio_reactor()
    if reactor is None:
        from twisted.internet import reactor
    module = importlib.import_module(HOMES[interface])
    serving: Serving = module.serving(app, settings, reactor)
    leave_unread()
    return serving
