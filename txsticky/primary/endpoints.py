"""The endpoints: what the operator has named with ``--listen``, opened and accepted on."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.protocol import Factory

from ..config import Config, endpoint_string
from ..errors import ListenError
from ..system.endpoints import open_port
from ..transport.movable import spare
from .listeners import Listeners
from .upgrade.inherited_port import InheritedPort


class _Listener(Factory):
    """Stands where an endpoint wants a factory; it never gets a connection."""

    noisy = False

    def logPrefix(self) -> str:
        """What the log says is starting on a port."""
        return "txsticky"


class Endpoints:
    """
    The endpoints of a cluster.

    :param config: names them.
    :param reactor: opens them.
    :param listeners: accept on them.
    """

    def __init__(self, config: Config, reactor: Any, listeners: Listeners) -> None:
        self._config = config
        self._reactor = reactor
        self._listeners = listeners
        self._ports: list[Any] = []

    def __len__(self) -> int:
        return len(self._ports)

    def open(self, inherited: Mapping[int, int]) -> None:
        """
        Open every endpoint.

        :param inherited: the descriptors of those that are open already, by their numbers.
        :raises ListenError: an endpoint cannot be listened on; `close` closes those that can.
        """
        for number, listen in enumerate(self._config.listen):
            if number in inherited:
                port: Any = InheritedPort(inherited[number])
            else:
                port = self._listen(listen)
            self._accept(number, listen, port)

    def _listen(self, listen: str) -> Any:
        """
        Listen on one endpoint.

        The endpoint opens the socket (and removes it, if it is a UNIX one); accepting is ours.
        """
        factory = _Listener()
        endpoint = endpoint_string(listen, self._config.backlog)
        port: Any = open_port(self._reactor, endpoint, factory, listen)
        if getattr(port, "factory", None) is not factory:
            port.stopListening()
            raise ListenError(
                endpoint=listen,
                reason="it wraps the connections; use --tls-cert and --tls-key for TLS, and"
                " --proxy-protocol for PROXY",
            )
        port.stopReading()
        return port

    def _accept(self, number: int, listen: str, port: Any) -> None:
        """Have what an endpoint has opened accepted on."""
        self._ports.append(port)
        sock = socket.socket(fileno=os.dup(port.fileno()))
        shared = self._config.shares(listen)
        if shared:
            spare(port)
        self._listeners.open(number, sock, shared)

    def addresses(self) -> list[Any]:
        """What is listened on, as address objects in the order of `Config.listen`."""
        return [port.getHost() for port in self._ports]

    def alone(self) -> list[Any]:
        """The addresses at which the primary alone accepts, though workers accept elsewhere."""
        if self._config.accept != "workers":
            return []
        return [
            address
            for listen, address in zip(self._config.listen, self.addresses(), strict=True)
            if not self._config.shares(listen)
        ]

    def snapshot(self) -> list[tuple[str, int]]:
        """``--listen`` and descriptor of each endpoint."""
        ports = zip(self._config.listen, self._ports, strict=True)
        return [(listen, port.fileno()) for listen, port in ports]

    def close(self) -> Deferred[Any]:
        """Have clients refused by the system from here on; fires when every endpoint is closed."""
        self._listeners.close()
        closing = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports = []
        return DeferredList(closing)
