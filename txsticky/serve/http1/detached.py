"""A connection whose bare socket an application has taken from its transport."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from ...core.http.steps import Deliver
from .exchange import SocketOwner


class Detached:
    """
    What the worker has in the place of a transport: the owner of its socket.

    :param owner: what has the socket.
    :param connection: what the worker keeps of the connection.
    """

    #: No protocol serves the connection.
    protocol = None

    def __init__(self, owner: SocketOwner, connection: Any) -> None:
        self._owner = owner
        self._connection = connection
        owner.over = self.over

    def live(self) -> bool:
        """Whether the socket is open."""
        return self._connection is not None

    def over(self) -> None:
        """Take note that the socket is closed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.closed()

    def let_go(self, final: bool) -> bool:
        """Return False: the socket may last, and is to be closed some time."""
        return False

    def loseConnection(self) -> None:
        """Have the socket closed politely."""
        self._owner.close()

    def abortConnection(self) -> None:
        """Have the socket closed at once."""
        self._owner.abort()


def detach(
    transport: Any, owner: SocketOwner, taken: Callable[[socket.socket, bytes], None]
) -> None:
    """
    Take the socket from a transport once all that was written has left.

    :param transport: a `GatedMixin`, behind a 101.
    :param owner: what has the socket from then on.
    :param taken: called with it and the bytes that were read and not delivered.
    """
    transport.pauseProducing()

    def take() -> None:
        step = transport.gate.exchange.next()  # behind a 101: all that came behind the request
        held = step.data if isinstance(step, Deliver) else b""
        connection = transport.connection
        transport.gate.closed()
        sock, unread = transport.detach()
        connection.transport = Detached(owner, connection)
        taken(sock, held + unread)

    transport.unregisterProducer()
    transport.flush(take)
