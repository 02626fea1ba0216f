"""
What ASGI needs around uvicorn: the reactor, the choice of engines, the end of a WebSocket.

The environment variables are uvicorn's own: ``UVICORN_LOOP``, ``UVICORN_HTTP``, ``UVICORN_WS`` and
those in `SETTINGS` mean what its command line says of ``--loop``, ``--http``, ``--ws`` and so on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ...core.http.inside import ADDED
from ...core.lifecycle.timing import CLOSE_HANDSHAKE
from ...errors import AppLoadError
from .pylogging import Chatter

GOING_AWAY = 1001
#: Tasks that close WebSockets; the event loop keeps only weak references to tasks.
_closing: set[asyncio.Task[None]] = set()


def _flag(text: str) -> bool:
    return text.lower() in ("1", "true", "yes", "on", "t", "y")


#: Arguments of `uvicorn.Config` that an environment variable may set, and what reads its text.
SETTINGS: Mapping[str, Callable[[str], Any]] = {
    "http": str,
    "ws": str,
    "ws_max_size": int,
    "ws_ping_interval": float,
    "ws_ping_timeout": float,
    "ws_per_message_deflate": _flag,
    "lifespan": str,
    "h11_max_incomplete_event_size": int,
}


class WrongReactor(AppLoadError):
    """The application is ASGI and imports a reactor that is not asyncio's: say --interface=asgi."""


def install_asyncio_reactor() -> None:
    """
    Install the asyncio reactor unless it is installed, on uvloop if that is there.

    :raises WrongReactor: another reactor is installed, because the application imported it.
    """
    installed = sys.modules.get("twisted.internet.reactor")
    if installed is not None:
        if hasattr(installed, "_asyncioEventloop"):
            return
        raise WrongReactor()
    from twisted.internet import asyncioreactor

    loop = new_loop(os.environ.get("UVICORN_LOOP", "auto"))
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """
    Make an event loop.

    :param name: `auto`, `uvloop` or `asyncio`.
    """
    if name != "asyncio":
        try:
            from .uv import Loop
        except ImportError:
            pass
        else:
            return Loop()
    return asyncio.new_event_loop()


def engine_settings(environ: Mapping[str, str], head_limit: int = 65536) -> dict[str, Any]:
    """
    Read the arguments of `uvicorn.Config` that the environment sets.

    :param environ: the environment.
    :param head_limit: the largest head that h11 takes, in bytes, unless the environment sets it.
    :raises AppLoadError: a value cannot be read.
    """
    settings: dict[str, Any] = {"ws": "auto", "lifespan": "auto"}
    settings["h11_max_incomplete_event_size"] = head_limit + ADDED
    for name, read in SETTINGS.items():
        variable = f"UVICORN_{name.upper()}"
        if variable in environ:
            try:
                settings[name] = read(environ[variable])
            except ValueError as error:
                raise AppLoadError(target=f"with ${variable}", reason=str(error)) from None
    if settings["ws"] == "auto" and _has_sansio():
        # uvicorn's own choice may be an engine that reads in tasks of its own, which cost more.
        settings["ws"] = "websockets-sansio"
    return settings


def _has_sansio() -> bool:
    from uvicorn.config import WS_PROTOCOLS

    try:
        import websockets.server  # noqa: F401
    except ImportError:
        return False
    return "websockets-sansio" in WS_PROTOCOLS


def protocol_class(found: Any) -> Any:
    """
    Choose what makes the protocols of an application.

    :param found: uvicorn's choice. If that reads by httptools, it gets a memory; not in a version
        of uvicorn that is not known here.
    """
    if found.__module__ != "uvicorn.protocols.http.httptools_impl":
        return found
    try:
        from . import remembering
    except ImportError:
        return found
    return remembering.protocol_class(found)


def websocket_class(found: Any) -> Any:
    """
    Choose what makes the protocols of an application's WebSockets.

    :param found: uvicorn's choice; None if it takes no WebSockets. The engine on websockets' new
        implementation gets a logger that makes no record in vain.
    """
    if getattr(found, "__name__", "") != "WebSocketsSansIOProtocol":
        return found
    chatter = Chatter(logging.getLogger("uvicorn.error"), {})

    class Quiet(found):  # type: ignore[misc]
        """uvicorn's protocol, with another logger."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.logger = self.conn.logger = chatter

    return Quiet


def close_websocket(protocol: Any) -> bool:
    """
    Close a WebSocket with code 1001, "going away" (RFC 6455, 7.4.1), so that its client reconnects.

    All three engines of uvicorn are known. The connection then closes when the client has answered,
    or after `CLOSE_HANDSHAKE`: to close at once could reset the connection, and lose the code.

    :param protocol: the protocol of a connection.
    :returns: whether the protocol is an open WebSocket and will now close; if not, nothing was
        done.
    """
    if hasattr(protocol, "fail_connection"):  # the engine of websockets' old implementation
        if protocol.open:
            protocol.close_timeout = CLOSE_HANDSHAKE
            task = protocol.loop.create_task(protocol.close(GOING_AWAY))
            _closing.add(task)
            task.add_done_callback(_closing.discard)
        return True
    connection = getattr(protocol, "conn", None)
    if not getattr(protocol, "handshake_complete", False) or connection is None:
        return False
    closing = protocol.close_sent or getattr(protocol, "close_timer", None) is not None
    if closing or protocol.transport.is_closing():
        return True
    protocol.queue.put_nowait({"type": "websocket.disconnect", "code": GOING_AWAY})
    if hasattr(connection, "send_close"):
        connection.send_close(GOING_AWAY)
        farewell = b"".join(connection.data_to_send())
    else:
        from wsproto.events import CloseConnection

        farewell = connection.send(CloseConnection(code=GOING_AWAY))
    protocol.transport.write(farewell)
    if getattr(protocol, "read_paused", False):
        protocol.read_paused = False
        protocol.transport.resume_reading()
    # `close_sent` stays False: what the application still sends is then dropped without an error,
    # as after a client has gone.
    protocol.close_timer = protocol.loop.call_later(CLOSE_HANDSHAKE, protocol.transport.close)
    return True
