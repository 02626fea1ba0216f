"""
Serve an ASGI application by uvicorn's own protocol classes (the extra ``txsticky[asgi]``).

uvicorn parses HTTP and WebSocket on adopted connections, and runs the application and its lifespan.
It needs the asyncio reactor, with uvloop if that is installed.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.logger import Logger

from ...core.addresses import unmapped_host
from ...core.http.conversation import Conversation
from ...core.http.inside import Inside
from ...core.lifecycle.timing import last_call
from ...core.messages.handoff import Handoff
from ...errors import AppLoadError
from ...system.system import monotonic
from ...transport.gate import Gate
from ...transport.policy import Kept, Policy
from ...transport.write_batch import WriteBatch
from .. import ServeSettings
from ..accesslog import access_log_for
from ..loading import describe
from . import middleware
from .engine import (
    close_websocket,
    engine_settings,
    install_asyncio_reactor,
    protocol_class,
    websocket_class,
)
from .facade import FacadeFactory, FacadeHost
from .native import NativeHost
from .receiving import Receiving

log = Logger()


class AsgiServing:
    """
    An ASGI application (`serve.Serving`).

    :param app: the application.
    :param settings: the operator's settings.
    :param reactor: the asyncio reactor.
    :raises AppLoadError: the application is not an ASGI application, or uvicorn is not installed.
    """

    interface = "asgi"
    http = True
    events = False
    #: uvicorn with h11 takes a target in absolute form for a path.
    inside = Inside(websocket_only=True, absolute=False)

    def __init__(self, app: Any, settings: ServeSettings, reactor: IReactorCore) -> None:
        try:
            import uvicorn
        except ImportError as error:
            raise AppLoadError(
                target=describe(app),
                reason=f"ASGI needs uvicorn: pip install 'txsticky[asgi]' ({error})",
            ) from error
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop  # type: ignore[attr-defined]
        # Not the loop's clock: uvloop's stands still during an iteration.
        self._turn = WriteBatch(self._loop.call_soon, monotonic)
        self._access_log = access_log_for(settings, reactor)
        self._config = uvicorn.Config(
            app,
            loop="none",
            interface=_interface(app),  # type: ignore[arg-type]
            access_log=False,
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
            root_path=settings.root_path,
            **engine_settings(os.environ, settings.head_limit),
        )
        try:
            self._config.load()
        except Exception as error:
            raise AppLoadError(
                target=describe(app), reason=f"uvicorn cannot serve it: {error}"
            ) from error
        self._config.loaded_app = self._wrapped(self._config.loaded_app)
        self._config.ws_protocol_class = websocket_class(self._config.ws_protocol_class)
        self._protocol_class = protocol_class(self._config.http_protocol_class)
        self._server = uvicorn.Server(self._config)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._awake = asyncio.Event()
        self._lifespan: Any = None
        self._entering = middleware.route.set if self._access_log is not None else None
        #: For connections over TLS, which are transports of Twisted.
        self.factory: Any = FacadeFactory(self.protocol, self._entering)

    # ------------------------------------------------------------------ life

    def start(self) -> Deferred[None]:
        """
        Start the application's lifespan.

        The Deferred fails with the reason if the application cannot start.
        """
        return Deferred.fromFuture(asyncio.ensure_future(self._start(), loop=self._loop))

    async def _start(self) -> None:
        from .lifespan import Lifespan

        if self._access_log is not None:
            self._access_log.open()
        self._lifespan = Lifespan(self._config)
        await self._lifespan.startup()
        await self._server.on_tick(0)
        self._keep(self._loop.create_task(self._tick()))

    def _wrapped(self, app: Any) -> Any:
        settings = self._settings
        if settings.keep_alive <= 0:
            app = middleware.NoKeepAlive(app)
        if self._access_log is not None:
            app = middleware.Logged(app, self._access_log, self._config.root_path)
        if settings.trusted:
            app = middleware.Forwarded(app, settings.trusted)
        return Receiving(app)

    async def _tick(self) -> None:
        """Keep the Date header of responses up to date, while there are connections."""
        while True:
            self._awake.clear()
            await asyncio.sleep(1)
            if not self._server.server_state.connections:
                await self._awake.wait()  # a worker that idles is not woken every second
            await self._server.on_tick(0)

    def stop(self, seconds: float) -> Deferred[None]:
        """
        Close the remaining connections, and shut the application's lifespan down.

        :param seconds: see `Serving.stop`.
        """
        return Deferred.fromFuture(asyncio.ensure_future(self._stop(seconds), loop=self._loop))

    async def _stop(self, seconds: float) -> None:
        state = self._server.server_state
        for protocol in list(state.connections):
            try:
                if not close_websocket(protocol):
                    protocol.transport.close()  # the application hears that its client has left
            except Exception:
                log.failure("A connection could not be closed.")
        if state.tasks:
            _, late = await asyncio.wait(list(state.tasks), timeout=last_call(seconds))
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=last_call(seconds))
        if self._lifespan is not None:
            await self._lifespan.shutdown()
        for task in self._tasks:
            task.cancel()
        if self._access_log is not None:
            self._access_log.close()

    def finish(self) -> None:
        """
        Cancel the tasks that the application still runs, and wait for them.

        `asyncio.run` does the same at its end. The reactor has stopped.
        """
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    @property
    def busy(self) -> bool:
        """Whether the application is at work, even if its response was sent."""
        return bool(self._server.server_state.tasks)

    def reopen_logs(self) -> None:
        """Reopen the access log by its name."""
        if self._access_log is not None:
            self._access_log.reopen()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ----------------------------------------------------------- connections

    def adopt(
        self, sock: socket.socket, connection: Kept, desk: Policy, exchange: Conversation
    ) -> None:
        """
        Serve an adopted connection.

        :param sock: the connection; owned from here on.
        :param connection: what the worker keeps of it.
        :param desk: the worker's policy, for the gate.
        :param exchange: follows the conversation.
        """
        handoff = connection.handoff
        sock.setblocking(False)
        host = NativeHost(
            self._loop,
            self.protocol(),
            connection,
            _addresses(sock, handoff),
            handoff.how,
            self._entering,
            self._turn,
        )
        host.gate = Gate(host, desk, exchange, handoff.origin.peer[0], handoff.origin.secure)
        connection.made(host)
        self._keep(self._loop.create_task(self._connect(host, sock, connection)))

    def protocol(self) -> Any:
        """A protocol of uvicorn's for a new connection."""
        self._awake.set()
        return self._protocol_class(
            config=self._config,
            server_state=self._server.server_state,
            app_state=self._lifespan.state,
            _loop=self._loop,
        )

    async def _connect(self, host: NativeHost, sock: socket.socket, connection: Kept) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: host, sock)
        except Exception as error:
            log.debug("A connection could not be adopted: {error}", error=error)
            sock.close()
            host.gate.closed()
            connection.closed()

    def close_politely(self, protocol: Any) -> bool:
        """Close a WebSocket with code 1001, another connection after its response."""
        if isinstance(protocol, FacadeHost):
            protocol = protocol.protocol
        if close_websocket(protocol):
            return True
        protocol.shutdown()
        return True


def _interface(app: Any) -> str:
    """
    Tell the version of ASGI by the arguments that the application takes.

    :raises AppLoadError: the arguments are of neither version.
    """
    if callable(app):
        try:
            signature = inspect.signature(app)
        except (TypeError, ValueError):  # a builtin, which tells nothing
            return "asgi3"
        for version, count in (("asgi3", 3), ("asgi2", 1)):
            try:
                signature.bind(*[None] * count)
            except TypeError:
                continue
            return version
    raise AppLoadError(
        target=describe(app), reason="with --interface=asgi it has to be an ASGI application"
    )


def _addresses(sock: socket.socket, handoff: Handoff) -> dict[str, Any]:
    """Make what `get_extra_info` tells: the client's address as the hand-off has it."""
    origin = handoff.origin
    name = origin.host if origin.host[0] else sock.getsockname()
    if isinstance(name, tuple):
        name = unmapped_host(name[0]), name[1]
    extra: dict[str, Any] = {"sockname": name}
    if origin.peer[0]:
        extra["peername"] = origin.peer
    if origin.secure:
        extra["sslcontext"] = True
    return extra


def serving(app: object, settings: ServeSettings, reactor: Any) -> AsgiServing:
    """
    Serve an ASGI application.

    :raises AppLoadError: the application is not an ASGI application, uvicorn is not installed, or
        another reactor than the asyncio one is.
    """
    install_asyncio_reactor()
    return AsgiServing(app, settings, reactor)
