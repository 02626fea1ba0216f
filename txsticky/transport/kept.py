"""What a transport tells the worker of its connection."""

from __future__ import annotations

import socket
from typing import Any, Protocol

from ..core.messages.handoff import Handoff


class Kept(Protocol):
    """
    What the worker keeps of a connection, as its transport sees it.

    :ivar handoff: what came with the connection.
    """

    handoff: Handoff

    def made(self, transport: Any) -> None:
        """Take note of the transport, which is made but not yet connected."""

    def begun(self) -> None:
        """Take note that the transport's protocol is connected."""

    def delivered(self) -> None:
        """Take note that all bytes that another process has read are delivered."""

    def departing(self) -> None:
        """Take note that the conversation is over, and the descriptor being taken away."""

    def closed(self) -> None:
        """Take note that the connection is over."""

    def departed(self, sock: socket.socket, place: int, held: bytes) -> None:
        """
        Take over the connection, which has left its transport.

        :param sock: the connection.
        :param place: the id of the worker that it goes to, or the front desk's.
        :param held: the bytes that were read and not served.
        """
