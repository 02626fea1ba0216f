"""The endpoints: what the operator has named with ``--listen``, opened and accepted on."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from ..config import Config
from ..core.listen import endpoint_string
from ..errors import ListenError
from ..system.endpoints import open_port
from ..transport.movable import spare
from .listeners import Listeners
from .upgrade.inherited_port import InheritedPort

log = Logger()


class _Listener(Factory):
    """Stands where an endpoint wants a factory; it never gets a connection."""

    noisy = False

    def logPrefix(self) -> str:
        """What the log says is starting on a port."""
        return "txsticky"


def listen_on(reactor: Any, listen: str, backlog: int) -> Any:
    """
    Listen on one endpoint.

    The endpoint opens the socket (and removes it, if it is a UNIX one); accepting is ours.

    :param reactor: opens it.
    :param listen: a `--listen`.
    :param backlog: how many connections may wait in the kernel.
    :returns: the port.
    :raises ListenError: it cannot be listened on (`open_port`).
    """
    factory = _Listener()
    port: Any = open_port(reactor, endpoint_string(listen, backlog), factory, listen)
    if getattr(port, "factory", None) is not factory:
        port.stopListening()
        raise ListenError(
            endpoint=listen,
            reason="it wraps the connections; use --tls-cert and --tls-key for TLS, and"
            " --proxy-protocol for PROXY",
        )
    port.stopReading()
    return port


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
        #: The ports, one for each `--listen`; None where it cannot be listened.
        self._ports: list[Any] = []

    def __len__(self) -> int:
        return len(self._ports)

    def open(self, inherited: Mapping[int, int], taking_over: bool = False) -> None:
        """
        Open every endpoint.

        :param inherited: the descriptors of those that are open already, by their numbers.
        :param taking_over: a cluster runs here already: it goes on without an endpoint that cannot
            be listened on rather than end.
        :raises ListenError: an endpoint cannot be listened on; `close` closes those that can.
        """
        for number, listen in enumerate(self._config.listen):
            if number in inherited:
                self._accept(number, listen, InheritedPort(inherited[number]))
                continue
            try:
                self._accept(number, listen, listen_on(self._reactor, listen, self._config.backlog))
            except ListenError as error:
                if not taking_over:
                    raise
                log.error("{error}", error=error)
                self._ports.append(None)

    def _accept(self, number: int, listen: str, port: Any) -> None:
        """Have what an endpoint has opened accepted on."""
        self._ports.append(port)
        sock = socket.socket(fileno=os.dup(port.fileno()))
        shared = self._config.shares(listen)
        spare(port)
        lent = not self._config.opens(listen)
        self._listeners.open(number, sock, shared, lent)

    def addresses(self) -> list[Any]:
        """What is listened on, as address objects in the order of `Config.listen`."""
        return [port.getHost() for _, port in self._opened()]

    def alone(self) -> list[Any]:
        """The addresses at which the primary alone accepts, though workers accept elsewhere."""
        if self._config.accept != "workers":
            return []
        return [
            port.getHost() for listen, port in self._opened() if not self._config.shares(listen)
        ]

    def snapshot(self) -> list[tuple[str, int]]:
        """``--listen`` and descriptor of each endpoint; -1 where it cannot be listened."""
        ports = zip(self._config.listen, self._ports, strict=True)
        return [(listen, -1 if port is None else port.fileno()) for listen, port in ports]

    def held(self) -> list[tuple[str, int | str]]:
        """``--listen`` of each endpoint that is listened on, and its port or its socket's path."""
        return [(listen, place_of(port.getHost())) for listen, port in self._opened()]

    def _opened(self) -> list[tuple[str, Any]]:
        """``--listen`` and port of each endpoint that is listened on."""
        ports = zip(self._config.listen, self._ports, strict=False)
        return [(listen, port) for listen, port in ports if port is not None]

    def close(self) -> Deferred[Any]:
        """
        Have clients refused by the system as soon as every endpoint is closed; fires then.

        Endpoints close in a later turn of the reactor. Until they have, the sockets are ours as
        well, and what comes is accepted: the system resets what waits at a socket that closes.
        """
        return self.let_go().addCallback(self._closed)

    def let_go(self) -> Deferred[Any]:
        """Close what the endpoints have opened, so that the sockets are ours alone; fires then."""
        closing = [maybeDeferred(port.stopListening) for _, port in self._opened()]
        self._ports = []
        return DeferredList(closing)

    def _closed(self, closed: Any) -> None:
        self._listeners.accept_all()
        self._listeners.close()


def place_of(address: Any) -> int | str:
    """Tell which port is listened on, or the path of which UNIX socket."""
    return os.fsdecode(address.name or b"") if hasattr(address, "name") else int(address.port)
