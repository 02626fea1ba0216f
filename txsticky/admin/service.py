"""
Opens what the operator wants of this house, and closes it again.

A cluster that is told to stop keeps the status port and the control socket for as long as it
drains, unless a successor, another program with the same options, asks for them when it starts.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from ..core.http.hosts import Hosts
from ..errors import ConfigError, ListenError, Unanswered
from ..ipc.outside import ask
from ..system.endpoints import open_port
from .control import listen
from .guests import Guests
from .history import History
from .state import ClusterState, Managed, look
from .steering import Steering

#: Seconds that a program which leaves has to free its status port.
PATIENCE: Final = 2.0


class Admin:
    """
    Status site and control socket of a cluster.

    :param cluster: its primary is there already; it need not have been started.
    :raises ListenError: one of them cannot be listened on; nothing stays open.
    """

    def __init__(self, cluster: Managed) -> None:
        self._cluster = cluster
        self._viewers: Any = None
        self._ports: list[Any] = []
        self._history = History(cluster.system, cluster.primary, self._looked)
        config = cluster.config
        try:
            if config.status is not None:
                self._serve(config.status)
            if config.control is not None:
                self._open_control(config.control)
        except BaseException:
            self.close()
            raise
        self._history.start()

    def close(self) -> Deferred[Any]:
        """Serve no more; fires when the ports are closed."""
        self._history.stop()
        closing = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports.clear()
        if self._viewers is not None:
            self._viewers.close()
        return DeferredList(closing)

    def _look(self) -> ClusterState:
        return look(self._cluster, self._history)

    def _looked(self) -> None:
        if self._viewers is not None:
            self._viewers.show()

    def _serve(self, status: str) -> None:
        """Open the status site."""
        # twisted.web and autobahn are loaded only if the page is wanted.
        from .web import GUESTS, Viewers, make_site, status_endpoint

        reactor = self._cluster.system.reactor
        self._viewers = Viewers(reactor, self._history, self._look)
        shown = f"{status} (--status)"
        try:
            endpoint = status_endpoint(status)
        except ConfigError as error:
            raise ListenError(endpoint=shown, reason=f"write {error.fields['hint']}") from None
        hosts = Hosts(self._cluster.config.status_host)
        site = make_site(self._viewers, self._look, hosts, lambda: self._give_up(opened, shown))
        guests = Guests(site, GUESTS)
        opened = taken_over(
            lambda: open_port(reactor, endpoint, guests, shown),
            lambda error: frees_status(error.fields.get("place"), error.fields.get("interface")),
        )
        self._ports.append(opened)

    def _open_control(self, path: str) -> None:
        """Open the control socket."""
        shown = f"{path} (--control)"
        steering = Steering(self._cluster, self._history, lambda: self._give_up(opened, shown))
        opened = taken_over(
            lambda: listen(path, steering.answer, self._cluster.system.reactor),
            lambda error: frees_control(path),
        )
        self._ports.append(opened)

    def _give_up(self, port: Any, shown: str) -> bool:
        """
        Close a port for a successor, if the cluster leaves.

        :returns: whether it is closed now; connections over it stay.
        """
        if port not in self._ports or not self._look().leaves:
            return False
        self._ports.remove(port)
        port.stopReading()
        port.connectionLost(Failure(ConnectionDone()))
        self._cluster.journal.log.info("A successor gets {shown}.", shown=shown)
        return True


def taken_over(
    open: Callable[[], IListeningPort], frees: Callable[[ListenError], bool]
) -> IListeningPort:
    """
    Open a port, if need be in place of a cluster that leaves.

    :param open: opens it.
    :param frees: asks whatever has the place for it; returns whether it is free now.
    :raises ListenError: it cannot be opened.
    """
    try:
        return open()
    except ListenError as error:
        if not frees(error):
            raise
    return open()


def frees_status(place: object, interface: object) -> bool:
    """
    Ask a cluster that leaves for its status port.

    :param place: the number of the port, or the path of a UNIX socket.
    :param interface: the address of the port.
    :returns: whether it is free now.
    """
    from .web import ASK_FOR_PORT

    if isinstance(place, int) and place:
        host = str(interface or "127.0.0.1")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        family, address = (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, place)
        sock = socket.socket(family)
    elif isinstance(place, str):
        sock, address = socket.socket(socket.AF_UNIX), place  # type: ignore[assignment]
    else:
        return False
    with sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(address)
            sock.sendall(ASK_FOR_PORT)
            return sock.recv(64).split(b" ")[1:2] == [b"200"]
        except OSError:
            return False


def frees_control(path: str) -> bool:
    """Ask a cluster that leaves for its control socket; returns whether it is free now."""
    try:
        return bool(ask(path, {"verb": "yield"})["ok"])
    except Unanswered:
        return False
