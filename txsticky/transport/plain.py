"""Movable transports without a gate: for what is not HTTP, and for TLS."""

from __future__ import annotations

from typing import Any

from .movable import MovableServer, MovableUNIXServer


class PlainMixin:
    """
    A movable transport without a gate.

    :ivar connection: what the worker keeps of the connection; it is told `delivered` and `closed`.
    """

    connection: Any

    def caught_up(self) -> None:
        """Tell that all is delivered that the connection brought."""
        self.connection.delivered()

    def closed(self) -> None:
        """Tell that the connection is over."""
        self.connection.closed()


class PlainServer(PlainMixin, MovableServer):
    """A TCP connection without a gate."""


class PlainUNIXServer(PlainMixin, MovableUNIXServer):
    """A connection over a UNIX socket without a gate."""
