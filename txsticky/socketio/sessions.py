"""
Engine.IO sessions in a worker: ids that name it, and their end when it drains.

Ids are tagged where they are made, in `BaseServer.generate_id` of python-engineio.  That one method
of the class serves every server, whatever the application wraps around it, asyncio or threads, and
the Socket.IO ids too.  To look for the servers in the application instead would mean to know every
framework's way to mount one.  The class is changed in workers alone, after the application has been
imported, and once more after it has started, for those that import late.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from twisted.logger import Logger

from ..api import current

log = Logger()

#: The servers that have made ids here: those that a drain has sessions to end of.
_servers: weakref.WeakSet[Any] = weakref.WeakSet()
_drains: set[asyncio.Future[None]] = set()


def tag(server: Any) -> None:
    """
    Let the ids of a server carry its worker's tag, whatever makes them.

    An application needs this only if it has replaced `generate_id`; ids have to be of unreserved
    URL characters then.  Outside of a worker it changes nothing.

    :param server: a server of python-socketio, python-engineio or Flask-SocketIO.
    """
    for inner in ("server", "eio"):  # Flask-SocketIO's, and python-socketio's
        server = getattr(server, inner, server)
    server.generate_id = functools.partial(_tagged, server, server.generate_id)


def tag_all() -> None:
    """Let the ids of all servers carry the tag, if python-engineio has been imported."""
    base = getattr(sys.modules.get("engineio.base_server"), "BaseServer", None)
    if base is None or hasattr(base.generate_id, "__wrapped__"):
        return
    make = base.generate_id

    @functools.wraps(make)
    def generate_id(self: Any) -> str:
        return _tagged(self, functools.partial(make, self))

    base.generate_id = generate_id


def _tagged(server: Any, make: Callable[[], str]) -> str:
    ident = make()
    here = current()
    if here is None:
        return ident
    _servers.add(server)
    return ident if here.owner(ident) == here.id else here.mint(ident)


def drain(seconds: float) -> None:
    """
    End the sessions of this worker, one after the other.

    A client connects again by itself when its WebSocket is closed, and when a poll is answered with
    400, as for a session that nobody knows.  The packet CLOSE would be more polite, but Python's
    client takes it for the end.

    :param seconds: over which they are spread.
    """
    for server in list(_servers):
        if server.is_asyncio_based():
            task = asyncio.ensure_future(_end_all(server, seconds))
            _drains.add(task)
            task.add_done_callback(_drains.discard)
        else:
            server.start_background_task(_end_all_in_thread, server, seconds)


async def _end_all(server: Any, seconds: float) -> None:
    sessions = list(server.sockets.values())
    for session in sessions:
        try:
            for step in _farewell(server, session):
                await step()
        except Exception:
            log.failure("A session could not be ended.")
        await server.sleep(seconds / len(sessions))


def _end_all_in_thread(server: Any, seconds: float) -> None:
    sessions = list(server.sockets.values())
    for session in sessions:
        try:
            for step in _farewell(server, session):
                step()
        except Exception:
            log.failure("A session could not be ended.")
        server.sleep(seconds / len(sessions))


def _farewell(server: Any, session: Any) -> Iterator[Callable[[], Any]]:
    """What ends a session; of an asyncio server's the results are to be awaited."""
    from engineio.packet import NOOP, Packet

    if session.upgraded:
        # The writer's sign that it is over: it closes the WebSocket.
        yield functools.partial(session.queue.put, None)
    elif not session.closed:
        yield functools.partial(session.send, Packet(NOOP))  # answers the poll that waits
        yield functools.partial(session.close, wait=False, abort=True)
        server.sockets.pop(session.sid, None)
