"""Opens what the operator wants of this house, and closes it again."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred

from ..core.http.hosts import Hosts
from ..errors import ConfigError, ListenError
from ..system.endpoints import open_port
from .control import listen
from .guests import Guests
from .history import History
from .state import ClusterState, Managed, look
from .steering import Steering


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
                steering = Steering(cluster, self._history)
                port = listen(config.control, steering.answer, cluster.system.reactor)
                self._ports.append(port)
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
        site = Guests(make_site(self._viewers, self._look, hosts), GUESTS)
        self._ports.append(open_port(reactor, endpoint, site, shown))
