"""
python-socketio and Flask-SocketIO over several workers, with nothing else installed.

**Session ids.** The Engine.IO and Socket.IO ids that a worker gives out carry the worker's signed
tag, so that every request of a session reaches that worker. Nothing has to be done for that,
however the server is mounted. Only a server whose `generate_id` the application has replaced needs
a line::

    txsticky.socketio.tag(sio)

The tag makes an id some 15 characters longer. Neither the protocols nor their clients and servers
limit the length of an id or rely on 20 characters. The id goes into the query as it is, because the
tag consists of unreserved URL characters.

**Client managers.** Rooms, broadcasts, emits to a client on another worker, `call()`, callbacks,
`disconnect`, `enter_room`, `leave_room` and `close_room` work across the workers, over the bus of
the cluster, with ::

    sio = socketio.AsyncServer(client_manager=txsticky.socketio.AsyncManager(), async_mode="asgi")

or, for a `socketio.Server` in a WSGI application (``async_mode="threading"``), with
:class:`Manager`. (WebSockets need the package simple-websocket there; without it clients poll, and
a poll that waits holds a thread.) With ``--bus redis://…`` the managers span machines.
python-socketio's own managers, such as `AsyncRedisManager`, work as well.

**Reloads.** A worker that drains ends its sessions one after the other. The client reports no error
to its application, connects again and reaches another worker.

python-socketio 5.15 or later is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .managers import AsyncManager, Manager
    from .sessions import tag

__all__ = ["AsyncManager", "Manager", "tag"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a worker looks in without python-socketio."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "sessions" if name == "tag" else "managers"
    return getattr(importlib.import_module(f".{home}", __name__), name)
