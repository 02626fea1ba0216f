"""python-socketio and Flask-SocketIO, by python-socketio's own client."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

from tests.applications.harness import ApplicationTestCase, one


class SocketIOCase(ApplicationTestCase):
    """A server that answers ``count`` with the count of a client's events, and its process."""

    #: What clients speak.
    TRANSPORTS: ClassVar[tuple[list[str], ...]]
    CLIENTS = 6

    def converse(self, transports: list[str]) -> int:
        """One client, which counts; returns the process that served it."""
        import socketio

        client = socketio.Client(reconnection=False)
        client.connect(self.cluster.url, transports=transports, wait_timeout=30)
        with contextlib.ExitStack() as stack:
            stack.callback(client.disconnect)
            answers: list[Any] = [client.call("count", timeout=30) for _ in range(5)]
        self.assertEqual([count for count, _ in answers], [1, 2, 3, 4, 5])
        pid = one(pid for _, pid in answers)
        assert isinstance(pid, int)
        return pid

    def lives(self) -> None:
        """Clients of each transport are served by one worker each, before and after a reload."""
        for transports in self.TRANSPORTS:
            before = {self.converse(transports) for _ in range(self.CLIENTS)}
            self.assertGreater(len(before), 1, "the clients are not spread")
        self.cluster.reload()
        for transports in self.TRANSPORTS:
            self.assertFalse(before & {self.converse(transports) for _ in range(3)})
        self.proved()


class AsgiTests(SocketIOCase):
    """python-socketio over ASGI."""

    application = "python-socketio, ASGI"
    packages = ("python-socketio[client]", "uvicorn", "websocket-client", "requests")
    served = "socketio_asgi:app"
    TRANSPORTS = (["polling"], ["websocket"], ["polling", "websocket"])
    done = "events of clients are counted in their sessions: polling, WebSocket, upgraded; a reload"

    def test_clients(self) -> None:
        """Sessions of each transport."""
        self.lives()


class FlaskTests(SocketIOCase):
    """Flask-SocketIO, with its threads."""

    application = "Flask-SocketIO, threading"
    packages = ("flask-socketio", "python-socketio[client]", "requests")
    served = "flask_socketio:app"
    TRANSPORTS = (["polling"],)
    done = "events of clients are counted by long polling; a reload"

    def test_clients(self) -> None:
        """Sessions over long polling."""
        self.lives()
