"""
Engine.IO sessions in a worker: ids with the worker's tag, and the end of sessions in a drain.

Ids are tagged where they are made, in `BaseServer.generate_id` of python-engineio. That method
makes the ids of every server, asyncio or threads, whatever the application wraps around it, and the
Socket.IO ids too. To look for servers in the application instead would take knowledge of every
framework's way to mount them. The class is changed in workers alone, after the application has been
imported, and again after it has started, for applications that import python-engineio late.
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

#: The servers that have made ids in this process; a drain ends their sessions.
_servers: weakref.WeakSet[Any] = weakref.WeakSet()
_drains: set[asyncio.Future[None]] = set()


def tag(server: Any) -> None:
    """
    Let the ids of a server carry its worker's tag.

    An application needs this only if it has replaced `generate_id`; its ids have to consist of
    unreserved URL characters. Outside of a worker ids are not changed.

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
    400, as for an unknown session. The packet CLOSE would be more polite, but python-socketio's
    client does not connect again after it.

    :param seconds: the time over which the ends are spread.
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
    """Yield the steps that end a session; the results of an asyncio server's are to be awaited."""
    from engineio.packet import NOOP, Packet

    if session.upgraded:
        # None ends the session's writer, which closes the WebSocket.
        yield functools.partial(session.queue.put, None)
    elif not session.closed:
        yield functools.partial(session.send, Packet(NOOP))  # answers the poll that waits
        yield functools.partial(session.close, wait=False, abort=True)
        server.sockets.pop(session.sid, None)
