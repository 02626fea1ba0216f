"""
ASGI applications, by uvicorn's own protocol classes (the extra ``txsticky[asgi]``).

uvicorn parses HTTP and WebSocket, runs the application and the lifespan; the connections are
adopted ones.  It needs the asyncio reactor, with uvloop where that is installed.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger

from ..core.exchange import Exchange
from ..core.route import How
from ..errors import AppLoadError
from ..gate import Gate
from . import ServeSettings
from .accesslog import AccessLog, Entry
from .loading import describe
from .native import NativeHost

log = Logger()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

GOING_AWAY = 1001
#: Seconds that a lifespan may take to shut down.
SHUTDOWN_TIME = 5.0

#: How the connection that a request came by was routed, in the context of its task.
_how: contextvars.ContextVar[str] = contextvars.ContextVar("txsticky_how", default="-")


def install_asyncio_reactor() -> None:
    """
    Install the reactor that ASGI needs, if none is installed.

    :raises AppLoadError: another one is, because the application imported it.
    """
    installed = sys.modules.get("twisted.internet.reactor")
    if installed is not None:
        if hasattr(installed, "_asyncioEventloop"):
            return
        raise AppLoadError(
            target="as ASGI",
            reason="it imports Twisted's reactor, which was not the asyncio one yet;"
            " say --interface=asgi",
            details="",
        )
    from twisted.internet import asyncioreactor

    try:
        import uvloop
    except ImportError:
        loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)


class AsgiServing:
    """
    An ASGI application (`serve.Serving`).

    :param app: the application.
    :param settings: what the operator wants.
    :param reactor: the asyncio reactor.
    """

    interface = "asgi"
    http = True
    factory: Any = None

    def __init__(self, app: Any, settings: ServeSettings, reactor: IReactorCore) -> None:
        try:
            import uvicorn
        except ImportError as error:
            raise AppLoadError(
                target=describe(app),
                reason="ASGI needs uvicorn: pip install 'txsticky[asgi]'",
                details=str(error),
            ) from error
        self._access_log: AccessLog | None = None
        if settings.access_log is not None:
            self._access_log = AccessLog(settings.access_log, settings.slot, time.time)
        if self._access_log is not None or settings.debug_headers:
            app = Observed(app, self._access_log, settings.slot if settings.debug_headers else 0)
        if settings.trusted:
            app = Forwarded(app, settings.trusted)
        self._loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop  # type: ignore[attr-defined]
        self._config = uvicorn.Config(
            app,
            loop="none",
            ws=_websockets(),
            lifespan="auto",
            interface="auto",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=max(1, round(settings.keep_alive)),
            root_path=settings.root_path,
        )
        self._server = uvicorn.Server(self._config)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lifespan: Any = None
        self._state: dict[str, Any] = {}

    # ------------------------------------------------------------------ life

    def start(self) -> Deferred[None]:
        """Start the application's lifespan."""
        return Deferred.fromFuture(asyncio.ensure_future(self._start(), loop=self._loop))

    async def _start(self) -> None:
        if self._access_log is not None:
            self._access_log.open()
        self._config.load()
        self._lifespan = self._config.lifespan_class(self._config)
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise RuntimeError("its lifespan says that the startup failed")
        self._state = self._lifespan.state
        self._keep(self._loop.create_task(self._server.main_loop()))

    def stop(self) -> Deferred[None]:
        """Shut the application's lifespan down."""
        return Deferred.fromFuture(asyncio.ensure_future(self._stop(), loop=self._loop))

    async def _stop(self) -> None:
        self._server.should_exit = True
        if self._lifespan is not None:
            await asyncio.wait_for(self._lifespan.shutdown(), SHUTDOWN_TIME)
        if self._access_log is not None:
            self._access_log.close()

    def reopen_logs(self) -> None:
        """Go over to a new access log of the same name."""
        if self._access_log is not None:
            self._access_log.reopen()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ----------------------------------------------------------- connections

    def adopt(self, sock: socket.socket, connection: Any, desk: Any, exchange: Exchange) -> None:
        """
        Serve an adopted connection.

        :param sock: the connection; owned from here on.
        :param connection: what the worker keeps of it.
        :param desk: the worker's policy, for the gate.
        :param exchange: follows the conversation.
        """
        handoff = connection.handoff
        sock.setblocking(False)
        host = self._host(connection, _addresses(sock, handoff))
        host.gate = Gate(host, desk, exchange, handoff.peer[0], handoff.secure)
        self._keep(self._loop.create_task(self._connect(host, sock, connection)))

    def _host(self, connection: Any, extra: dict[str, Any]) -> NativeHost:
        protocol = self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config,
            server_state=self._server.server_state,
            app_state=self._state,
            _loop=self._loop,
        )
        how = How(connection.handoff.how).name
        return NativeHost(self._loop, protocol, connection, extra, lambda: _how.set(how))

    async def _connect(self, host: NativeHost, sock: socket.socket, connection: Any) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: host, sock)
        except Exception as error:
            # The client was gone before the transport was made, or the protocol refused it.
            log.debug("A connection was not taken: {error}", error=error)
            sock.close()
            connection.closed()

    def close_politely(self, protocol: Any) -> bool:
        """Close a WebSocket with code 1001, going away. Whether it will close by itself."""
        if hasattr(protocol, "conn") and getattr(protocol, "handshake_complete", False):
            if not protocol.close_sent:
                protocol.queue.put_nowait({"type": "websocket.disconnect", "code": GOING_AWAY})
                protocol.conn.send_close(GOING_AWAY)
                protocol.transport.write(b"".join(protocol.conn.data_to_send()))
            protocol.transport.close()
            return True
        if hasattr(protocol, "shutdown"):
            protocol.shutdown()
            return True
        return False


def _websockets() -> Any:
    """uvicorn's newest engine if its library is installed, else whatever uvicorn finds."""
    try:
        import websockets.server  # noqa: F401
    except ImportError:
        return "auto"
    return "websockets-sansio"


def _addresses(sock: socket.socket, handoff: Any) -> dict[str, Any]:
    """What `get_extra_info` says: the client's address as the hand-off has it."""
    extra: dict[str, Any] = {"sockname": _pair(sock.getsockname())}
    if handoff.peer[0]:
        extra["peername"] = handoff.peer
    if handoff.secure:
        extra["sslcontext"] = True
    return extra


def _pair(name: Any) -> Any:
    return name[:2] if isinstance(name, tuple) else name


@attrs.define
class Observed:
    """
    Middleware: writes the access log, and the headers that say which worker this is.

    :param app: the application inside.
    :param access_log: where to write, or None.
    :param slot: the worker's number to tell in headers; 0 tells nothing.
    """

    app: App
    access_log: AccessLog | None
    slot: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        how = _how.get()
        status, length = 0, 0

        async def observed(message: MutableMapping[str, Any]) -> None:
            nonlocal status, length
            kind = message["type"]
            if kind in ("http.response.start", "websocket.accept"):
                status = message.get("status", 101)
                if self.slot:
                    message["headers"] = [
                        *message.get("headers", ()),
                        (b"x-txsticky-worker", b"%d" % self.slot),
                        (b"x-txsticky-route", how.encode()),
                    ]
            elif kind == "http.response.body":
                length += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            if self.access_log is not None:
                self.access_log.write(_entry(scope, status or 500, length, how))


def _entry(scope: Scope, status: int, length: int, how: str) -> Entry:
    headers = dict(scope["headers"])
    query = scope["query_string"]
    return Entry(
        client=scope["client"][0] if scope.get("client") else "-",
        method=scope.get("method", "GET").encode(),
        target=scope.get("raw_path", b"") + (b"?" + query if query else b""),
        version=b"HTTP/" + scope["http_version"].encode(),
        status=status,
        length=length,
        referer=headers.get(b"referer"),
        agent=headers.get(b"user-agent"),
        route=how,
    )


@attrs.define
class Forwarded:
    """
    Middleware: believes the client's address and scheme from trusted proxies.

    :param app: the application inside.
    :param trusted: the peers that are believed.
    """

    app: App
    trusted: Any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket"):
            self._name(scope)
        await self.app(scope, receive, send)

    def _name(self, scope: Scope) -> None:
        from ..core.forwarded import forwarded_for

        peer = scope["client"][0] if scope.get("client") else ""
        if peer not in self.trusted:
            return
        named = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        client = forwarded_for(named, peer, self.trusted)
        if client != peer:
            scope["client"] = (client, 0)
        protos = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
        if protos:
            secure = protos[-1].split(b",")[-1].strip().lower() in (b"https", b"wss")
            plain = "ws" if scope["type"] == "websocket" else "http"
            scope["scheme"] = plain + "s" if secure else plain


def serving(app: object, settings: ServeSettings, reactor: Any) -> AsgiServing:
    """
    Serve an ASGI application.

    :raises AppLoadError: uvicorn is not installed, or the reactor is not asyncio's.
    """
    install_asyncio_reactor()
    return AsgiServing(app, settings, reactor)
