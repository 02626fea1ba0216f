"""
python-socketio and Flask-SocketIO over several workers, with nothing else installed.

**Session ids.**  A worker that txsticky serves gives out Engine.IO and Socket.IO ids that carry its
signed tag, so that every request of a session finds it.  Nothing has to be done for that, however
the server is mounted.  Only a server whose `generate_id` the application has replaced wants a
line::

    txsticky.socketio.tag(sio)

The tag makes an id some 15 characters longer.  Neither the protocols nor their clients and servers
have a limit to its length or rely on it being 20; it goes into the query as it is, for it is made
of unreserved URL characters.

**Client managers.**  Rooms, broadcasts, emits to a client on another worker, `call()`, callbacks,
`disconnect`, `enter_room`, `leave_room` and `close_room` work across the workers, over the bus of
the cluster, with ::

    sio = socketio.AsyncServer(client_manager=txsticky.socketio.AsyncManager(), async_mode="asgi")

or, for a `socketio.Server` in a WSGI application, with :class:`Manager`.  (There it can only poll:
``async_mode="threading", transports=["polling"]``; and a poll that waits holds one of the threads,
so that it is for few clients.)  With ``--bus redis://…`` they span machines.  python-socketio's own
managers, such as `AsyncRedisManager`, work as well.

**Reloads.**  Sessions of a worker that drains are ended one after the other, without an error to
the application in the client, which connects again and finds another worker.

It takes python-socketio 5.15 or later.
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
